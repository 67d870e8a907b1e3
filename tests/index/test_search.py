"""Search equals a plain NumPy reference, whatever is asked."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import EncoderMismatch, InvalidInput, NotFound
from index.faiss_index import FlatIndex
from index.generation import Generation, GenerationManifest
from index.query import ClipQuery, GroupBy, SearchFilter, VectorQuery, VideoQuery
from index.search import Snapshot
from index.serving import Serving
from tests.conftest import WIDTH, make_cohort, make_video, publish_all, unit


def snapshot_of(cohort):
    clips = tuple(e.clip for _, embedded in cohort for e in embedded)
    vectors = np.stack([e.vector for _, embedded in cohort for e in embedded])
    manifest = GenerationManifest("000001-test", "enc1", 1, len(clips), 0, 0, WIDTH, "flat", 1.0, 0, "", {})
    return Snapshot(Generation(manifest, FlatIndex.build(vectors), clips), {v.video_id: v for v, _ in cohort})


def reference(cohort, query_vectors, allowed, k, group_by):
    """(group, similarity) of the k best groups, by brute force."""
    best = {}
    for video, embedded in cohort:
        for e in embedded:
            if not allowed(video, e.clip):
                continue
            group = {GroupBy.CLIP: e.clip.clip_id, GroupBy.VIDEO: video.video_id, GroupBy.PATIENT: video.patient_id}
            similarity = float(np.max(query_vectors @ e.vector))
            best[group[group_by]] = max(best.get(group[group_by], -2.0), similarity)
    return sorted(best.items(), key=lambda item: -item[1])[:k]


def grouped(result, group_by):
    def key(clip):
        return {GroupBy.CLIP: clip.clip_id, GroupBy.VIDEO: clip.video_id, GroupBy.PATIENT: clip.patient_id}[group_by]

    return [(key(n.clip), n.similarity) for n in result.neighbours]


def assert_same(found, wanted):
    assert [group for group, _ in found] == [group for group, _ in wanted]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in wanted], atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 70),
    group_by=st.sampled_from(GroupBy),
    whole_video=st.booleans(),
    own=st.booleans(),
    labels=st.frozensets(st.sampled_from(["TLE", "exTLE"])),
    excluded=st.frozensets(st.sampled_from(["p1", "p2", "p3"])),
)
def test_search_equals_brute_force(seed, k, group_by, whole_video, own, labels, excluded):
    random = np.random.default_rng(seed)
    cohort = [make_video(p, v, int(random.integers(1, 6)), random) for p in range(5) for v in range(3)]
    video, embedded = cohort[int(random.integers(len(cohort)))]
    asked = embedded if whole_video else embedded[:1]
    where = SearchFilter(labels=labels, excluded_patient_ids=excluded)

    result = snapshot_of(cohort).search(
        VideoQuery(video.video_id) if whole_video else ClipQuery(embedded[0].clip.clip_id),
        k,
        where=where,
        group_by=group_by,
        include_own_patient=own,
    )

    ids = {e.clip.clip_id for e in asked}
    wanted = reference(
        cohort,
        np.stack([e.vector for e in asked]),
        lambda v, clip: where.admits(v) and clip.clip_id not in ids and (own or v.patient_id != video.patient_id),
        k,
        group_by,
    )
    assert_same(grouped(result, group_by), wanted)


def test_the_query_patient_is_never_among_the_neighbours_by_default():
    cohort = make_cohort()

    result = snapshot_of(cohort).search(ClipQuery(cohort[0][1][0].clip.clip_id), 60)

    assert len(result.neighbours) == 48
    assert "p0" not in {n.clip.patient_id for n in result.neighbours}


def test_a_vector_of_a_known_patient_excludes_them_too():
    cohort = make_cohort()
    vector = unit(np.random.default_rng(1))

    result = snapshot_of(cohort).search(VectorQuery(vector * 50, "enc1", "p2"), 60)

    assert "p2" not in {n.clip.patient_id for n in result.neighbours}
    assert max(n.similarity for n in result.neighbours) <= 1
    wanted = reference(cohort, vector[None], lambda v, _: v.patient_id != "p2", 60, GroupBy.CLIP)
    assert_same(grouped(result, GroupBy.CLIP), wanted)


def test_a_hit_names_the_clip_of_the_query_it_resembles():
    cohort = make_cohort()
    video, embedded = cohort[0]

    for n in snapshot_of(cohort).search(VideoQuery(video.video_id), 5).neighbours:
        vector = next(e.vector for _, clips in cohort for e in clips if e.clip == n.clip)
        nearest = max(embedded, key=lambda e: float(e.vector @ vector))
        assert n.query_clip_id == nearest.clip.clip_id


def test_hits_carry_the_label_of_their_video():
    cohort = make_cohort()
    labels = {video.video_id: video.label for video, _ in cohort}

    result = snapshot_of(cohort).search(ClipQuery(cohort[0][1][0].clip.clip_id), 60)

    assert all(n.label == labels[n.clip.video_id] for n in result.neighbours)


@pytest.mark.parametrize(
    ("where", "admits"),
    [
        (SearchFilter(semiology=frozenset({"Semiology-version"})), lambda v: "Semiology-version" in v.semiology),
        (SearchFilter(patient_ids=frozenset({"p1", "p3"})), lambda v: v.patient_id in {"p1", "p3"}),
        (SearchFilter(recorded_from="2024-03-02"), lambda v: v.recorded_at >= "2024-03-02"),
        (SearchFilter(recorded_until="2024-03-02"), lambda v: v.recorded_at < "2024-03-02"),
    ],
)
def test_filters_admit_what_they_say(where, admits):
    cohort = make_cohort()
    wanted = {v.video_id for v, _ in cohort if admits(v) and v.patient_id != "p0"}

    result = snapshot_of(cohort).search(ClipQuery(cohort[0][1][0].clip.clip_id), 60, where=where)

    assert {n.clip.video_id for n in result.neighbours} == wanted


def test_a_video_without_a_date_is_in_no_range():
    video, _ = make_video(0, 0, 1, np.random.default_rng(0), recorded_at="")

    assert not SearchFilter(recorded_until="2030-01-01").admits(video)
    assert not SearchFilter(recorded_from="1990-01-01").admits(video)


def test_when_nothing_is_allowed_the_answer_is_empty():
    cohort = make_cohort(patients=1)

    assert snapshot_of(cohort).search(ClipQuery(cohort[0][1][0].clip.clip_id)).neighbours == ()


@pytest.mark.parametrize(
    ("recorded_at", "bounds", "admitted"),
    [
        ("2024-06-15T10:00:00", {"recorded_from": "20240615"}, True),
        ("2024-06-15T10:00:00", {"recorded_from": "2024-W24-6"}, True),
        ("2024-06-15T10:00:00", {"recorded_until": "20240101"}, False),
        ("2024-06-15T10:00:00", {"recorded_from": "2024-06-15 11:00"}, False),
        ("2024-06-15T10:00:00+02:00", {"recorded_from": "2024-06-15T08:30:00"}, False),
        ("2024-06-15T10:00:00+02:00", {"recorded_until": "2024-06-15T08:30:00"}, True),
    ],
)
def test_times_are_compared_as_times(recorded_at, bounds, admitted):
    video, _ = make_video(0, 0, 1, np.random.default_rng(0), recorded_at=recorded_at)

    assert SearchFilter(**bounds).admits(video) is admitted


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_k_out_of_bounds_is_refused(k):
    cohort = make_cohort()
    with pytest.raises(InvalidInput, match="k of 1 to 1000"):
        snapshot_of(cohort).search(ClipQuery(cohort[0][1][0].clip.clip_id), k)


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (np.ones(3), "expected a vector of 8 values, got 3"),
        (np.array([np.nan] * 8), "finite"),
        (np.array([np.inf] * 8), "finite"),
        (np.zeros(8), "zero length"),
        (np.full(8, 1e-30), "zero length"),
        (np.ones((1, 8)), "expected a vector of 8 values"),
    ],
)
def test_a_bad_vector_is_refused(vector, says):
    with pytest.raises(InvalidInput, match=says):
        snapshot_of(make_cohort()).search(VectorQuery(vector, "enc1"))


def test_a_vector_of_another_encoder_is_refused_by_name():
    with pytest.raises(EncoderMismatch, match="encoder other, but encoder enc1 is in use"):
        snapshot_of(make_cohort()).search(VectorQuery(np.ones(8), "other"))
    with pytest.raises(InvalidInput, match="expected the id of the encoder"):
        snapshot_of(make_cohort()).search(VectorQuery(np.ones(8), ""))


@pytest.mark.parametrize("query", [ClipQuery("absent"), VideoQuery("absent")])
def test_an_unknown_id_is_not_found(query):
    with pytest.raises(NotFound, match="'absent' is not in generation 000001-test"):
        snapshot_of(make_cohort()).search(query)


@pytest.mark.parametrize("fields", [{"labels": frozenset({"tle"})}, {"recorded_from": "yesterday"}])
def test_a_bad_filter_is_refused(fields):
    with pytest.raises(InvalidInput):
        SearchFilter(**fields)


def test_an_index_refuses_what_faiss_would_misread():
    index = FlatIndex.build(np.eye(4, dtype=np.float32))

    with pytest.raises(InvalidInput, match=r"expected vectors \(Q, 4\), got \(1, 3\)"):
        index.search(np.ones((1, 3), np.float32), 1)
    with pytest.raises(InvalidInput, match="finite"):
        index.search(np.full((1, 4), np.nan, np.float32), 1)


def test_searches_from_many_threads_agree():
    snapshot, query = snapshot_of(cohort := make_cohort()), None
    query = ClipQuery(cohort[3][1][2].clip.clip_id)
    wanted, found = snapshot.search(query, 20), []

    threads = [threading.Thread(target=lambda: found.append(snapshot.search(query, 20))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 16


def test_serving_takes_up_a_new_generation_and_new_labels(stored, cohort):
    from dataclasses import replace

    from tests.conftest import commit

    serving = Serving(stored)
    old = serving.snapshot
    assert serving.refresh() is False
    extra = make_video(7, 0, 4, np.random.default_rng(7))
    commit(stored, [extra])
    assert serving.refresh() is True  # its label is known, its clips are not indexed yet
    with pytest.raises(NotFound):
        serving.snapshot.search(VideoQuery("v7-0"))
    publish_all(stored)
    assert serving.refresh() is True
    assert len(serving.snapshot.search(VideoQuery("v7-0"), 100).neighbours) == 60
    commit(stored, [(replace(cohort[0][0], label="exTLE"), cohort[0][1])])
    assert serving.refresh() is True
    assert serving.snapshot.videos["v0-0"].label == "exTLE"
    assert old.videos["v0-0"].label == "TLE"  # a snapshot in use never changes
    assert len(old.generation.clips) == 60
