"""Search equals a plain NumPy reference, whatever is asked."""

import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

from index.errors import EncoderMismatch, InvalidInput, NotFound
from index.query import AllOf, AnyOf, ClipQuery, GroupBy, Not, Options, SearchFilter, VectorQuery, VideoQuery
from index.search.loader import SnapshotLoader
from index.search.search import search
from index.vectors.brute_force import Allowed, Vectors
from index.vectors.faiss_index import ONE_BIT, FlatIndex, IvfIndex
from tests.conftest import commit, make_cohort, make_video, publish_all, unit
from tests.index.reference import assert_same, grouped, reference, snapshot_of


def test_the_query_patient_is_never_among_the_neighbours_by_default():
    cohort = make_cohort()

    result = search(snapshot_of(cohort), ClipQuery(cohort[0][1][0].clip.clip_id), 60)

    assert len(result.neighbours) == 48
    assert "p0" not in {n.clip.patient_id for n in result.neighbours}


def test_a_vector_of_a_known_patient_excludes_them_too():
    cohort = make_cohort()
    vector = unit(np.random.default_rng(1))

    result = search(snapshot_of(cohort), VectorQuery(vector * 50, "enc1", "p2"), 60)

    assert "p2" not in {n.clip.patient_id for n in result.neighbours}
    assert max(n.similarity for n in result.neighbours) <= 1
    wanted = reference(cohort, vector[None], lambda v, _: v.patient_id != "p2", 60, GroupBy.CLIP)
    assert_same(grouped(result, GroupBy.CLIP), wanted)


def test_a_hit_names_the_clip_of_the_query_it_resembles():
    cohort = make_cohort()
    video, embedded = cohort[0]

    for n in search(snapshot_of(cohort), VideoQuery(video.video_id), 5).neighbours:
        vector = next(e.vector for _, clips in cohort for e in clips if e.clip == n.clip)
        nearest = max(embedded, key=lambda e: float(e.vector @ vector))
        assert n.query_clip_id == nearest.clip.clip_id


def test_hits_carry_the_label_of_their_video():
    cohort = make_cohort()
    labels = {video.video_id: video.label for video, _ in cohort}

    result = search(snapshot_of(cohort), ClipQuery(cohort[0][1][0].clip.clip_id), 60)

    assert all(n.label == labels[n.clip.video_id] for n in result.neighbours)


@pytest.mark.parametrize(
    ("where", "admits"),
    [
        (SearchFilter(semiology=frozenset({"Semiology-versive"})), lambda v: "Semiology-versive" in v.semiology),
        (SearchFilter(patient_ids=frozenset({"p1", "p3"})), lambda v: v.patient_id in {"p1", "p3"}),
        (SearchFilter(recorded_from="2024-03-02"), lambda v: v.recorded_at >= "2024-03-02"),
        (SearchFilter(recorded_until="2024-03-02"), lambda v: v.recorded_at < "2024-03-02"),
        (SearchFilter(metadata=frozenset({("ward", "Ward 1")})), lambda v: ("ward", "Ward 1") in v.metadata),
        (
            SearchFilter(metadata=frozenset({("ward", "Ward 0"), ("ward", "Ward 1"), ("night", "yes")})),
            lambda v: ("night", "yes") in v.metadata,
        ),
        (SearchFilter(metadata=frozenset({("ward", "Ward 1"), ("bed", "3")})), lambda v: False),
    ],
)
def test_filters_admit_what_they_say(where, admits):
    cohort = make_cohort()
    wanted = {v.video_id for v, _ in cohort if admits(v) and v.patient_id != "p0"}

    result = search(snapshot_of(cohort), ClipQuery(cohort[0][1][0].clip.clip_id), 60, Options(where))

    assert {n.clip.video_id for n in result.neighbours} == wanted


def test_a_video_without_a_date_is_in_no_range():
    video, _ = make_video(0, 0, 1, np.random.default_rng(0), recorded_at="")

    assert not SearchFilter(recorded_until="2030-01-01").admits(video)
    assert not SearchFilter(recorded_from="1990-01-01").admits(video)


def test_when_nothing_is_allowed_the_answer_is_empty():
    cohort = make_cohort(patients=1)

    assert search(snapshot_of(cohort), ClipQuery(cohort[0][1][0].clip.clip_id)).neighbours == ()


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
        search(snapshot_of(cohort), ClipQuery(cohort[0][1][0].clip.clip_id), k)


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (np.ones(3), "expected a vector of 8 values, got 3"),
        (np.array([np.nan] * 8), "finite"),
        (np.array([np.inf] * 8), "finite"),
        (np.zeros(8), "zero length"),
        (np.full(8, 1e-30), "zero length"),
        (np.ones((2, 3)), "expected a vector of 8 values, got 3"),
        (np.ones((0, 8)), "expected a vector of 8 values"),
    ],
)
def test_a_bad_vector_is_refused(vector, says):
    with pytest.raises(InvalidInput, match=says):
        search(snapshot_of(make_cohort()), VectorQuery(vector, "enc1"))


def test_a_vector_of_another_encoder_is_refused_by_name():
    with pytest.raises(EncoderMismatch, match="encoder 0123456789abcdef, but encoder enc1 is in use"):
        search(snapshot_of(make_cohort()), VectorQuery(np.ones(8), "0123456789abcdef"))
    with pytest.raises(InvalidInput, match="expected the id of the encoder"):
        search(snapshot_of(make_cohort()), VectorQuery(np.ones(8), ""))


@pytest.mark.parametrize("query", [ClipQuery("absent"), VideoQuery("absent")])
def test_an_unknown_id_is_not_found(query):
    with pytest.raises(NotFound, match="is not stored for encoder enc1"):
        search(snapshot_of(make_cohort()), query)


@pytest.mark.parametrize("wrap", [lambda one: one, Not, lambda one: AnyOf((SearchFilter(), AllOf((one,))))])
def test_a_bad_filter_is_refused(wrap):
    with pytest.raises(InvalidInput):
        SearchFilter(recorded_from="yesterday")
    snapshot = snapshot_of(make_cohort())
    with pytest.raises(InvalidInput, match="expected TLE or exTLE or nothing"):
        search(snapshot, VideoQuery("v0-0"), 3, Options(wrap(SearchFilter(labels=frozenset({"TLE", "tle"})))))
    assert search(snapshot, VideoQuery("v0-0"), 3, Options(wrap(SearchFilter(labels=frozenset({"TLE"}))))) is not None


def test_an_index_refuses_what_faiss_would_misread():
    vectors = Vectors(np.eye(4, dtype=np.float32))
    for index in (FlatIndex(vectors), IvfIndex.build(ONE_BIT, vectors)):
        with pytest.raises(InvalidInput, match=r"expected vectors \(Q, 4\), got \(1, 3\)"):
            index.search(np.ones((1, 3), np.float32), 1, Allowed(4))
        with pytest.raises(InvalidInput, match="finite"):
            index.search(np.full((1, 4), np.nan, np.float32), 1, Allowed(4))


def test_searches_from_many_threads_agree():
    snapshot, query = snapshot_of(cohort := make_cohort()), None
    query = ClipQuery(cohort[3][1][2].clip.clip_id)
    wanted, found = search(snapshot, query, 20), []

    threads = [threading.Thread(target=lambda: found.append(search(snapshot, query, 20))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 16


def test_serving_finds_at_once_what_is_stored_changed_and_removed(stored, cohort):
    serving = SnapshotLoader(stored)
    old = serving.snapshot
    assert serving.refresh() is False

    extra = make_video(7, 0, 4, np.random.default_rng(7))
    commit(stored, [extra])
    assert serving.refresh() is True
    query = VideoQuery("v7-0")
    assert len(search(serving.snapshot, query, 100).neighbours) == 60
    neighbours = search(serving.snapshot, ClipQuery(cohort[0][1][0].clip.clip_id), 100).neighbours
    assert sum(n.clip.video_id == "v7-0" for n in neighbours) == 4

    commit(stored, [(replace(cohort[0][0], label="exTLE"), cohort[0][1])])
    assert serving.refresh() is True
    assert serving.snapshot.videos["v0-0"].label == "exTLE"
    assert old.videos["v0-0"].label == "TLE"  # a snapshot in use never changes

    shorter, clips = make_video(7, 0, 2, np.random.default_rng(8), source_sha256="f" * 64)
    commit(stored, [(shorter, clips)])  # another content: two other clips instead of four
    assert serving.refresh() is True
    rows = serving.snapshot.rows_of(query)
    assert {serving.snapshot.clip(int(row)).clip_id for row in rows} == {e.clip.clip_id for e in clips}

    publish_all(stored)
    assert serving.refresh() is True
    assert len(serving.snapshot.generation.clips) == 62
    assert len(search(serving.snapshot, query, 100).neighbours) == 60
    assert len(old.generation.clips) == 60


def test_a_replaced_clip_is_found_as_it_is_now(stored, cohort):
    serving = SnapshotLoader(stored)
    video, clips = cohort[4]
    turned = [replace(e, vector=-e.vector) for e in clips]
    commit(stored, [(video, turned)])
    serving.refresh()

    result = search(serving.snapshot, VectorQuery(turned[0].vector, "enc1"), 100)

    assert result.neighbours[0].clip == clips[0].clip
    assert result.neighbours[0].similarity == pytest.approx(1)
    assert len(result.neighbours) == 60
    assert len({n.clip.clip_id for n in result.neighbours}) == 60


def test_a_generation_that_nobody_searches_is_let_go(stored):
    serving = SnapshotLoader(stored)
    held = weakref.ref(serving.snapshot.generation.index)
    search(serving.snapshot, VectorQuery(np.ones(8), "enc1"), 3, Options(SearchFilter(labels=frozenset({"TLE"}))))
    publish_all(stored)

    serving.refresh()

    assert held() is None


@pytest.mark.parametrize(
    "fields",
    [
        {"mean_of": 0},
        {"mean_of": 2},
        {"aligned": True},
        {"aligned": True, "group_by": GroupBy.VIDEO, "mean_of": 2},
    ],
)
def test_options_that_contradict_each_other_are_refused(fields):
    with pytest.raises(InvalidInput):
        Options(**fields)


def test_an_alignment_needs_a_video():
    options = Options(group_by=GroupBy.VIDEO, aligned=True)
    with pytest.raises(InvalidInput, match="stored video"):
        search(snapshot_of(make_cohort()), VectorQuery(np.ones(8), "enc1"), 5, options)


def test_the_same_course_of_signs_beats_one_similar_moment():
    """Two videos have the query's signs, one of them in its order; a third has one of them exactly."""
    signs = np.eye(8, dtype=np.float32)
    random = np.random.default_rng(0)

    def video(patient, order, noise):
        made, clips = make_video(patient, 0, len(order), random)
        vectors = [signs[n] + noise * unit(random) for n in order]
        vectors = [(v / np.linalg.norm(v)).astype(np.float32) for v in vectors]
        return made, [replace(e, vector=v) for e, v in zip(clips, vectors, strict=True)]

    cohort = [
        video(0, [0, 1, 2, 3], 0.0),
        video(1, [0, 0, 1, 2, 2, 3], 0.5),
        video(2, [3, 2, 1, 0], 0.5),
        video(3, [5, 6, 1, 7], 0.0),
    ]
    snapshot, query = snapshot_of(cohort), VideoQuery("v0-0")

    moments = search(snapshot, query, 3, Options(group_by=GroupBy.VIDEO)).neighbours
    courses = search(snapshot, query, 3, Options(group_by=GroupBy.VIDEO, aligned=True)).neighbours

    assert moments[0].clip.video_id == "v3-0"
    assert courses[0].clip.video_id == "v1-0"
    pairs = [(m.query_clip_id, m.clip.clip_index) for m in courses[0].matches]
    ours = [e.clip.clip_id for e in cohort[0][1]]
    assert [(ours.index(a), b) for a, b in pairs] == [(0, 0), (0, 1), (1, 2), (2, 3), (2, 4), (3, 5)]
