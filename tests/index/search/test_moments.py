"""Moments: equal to a plain reference, found where they were hidden, and never of what may not be found."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from index.errors import InvalidInput, NotFound
from index.phases import apart
from index.query import ANYTHING, ClipQuery, Options, SearchFilter, VideoQuery
from index.records import Clip, EmbeddedClip, Video, clip_id
from index.search import subsequence
from index.search.loader import SnapshotLoader
from index.search.moments import course_of, course_of_upload, find_moments, similarity_along
from index.search.search import search
from index.workspace import Workspace
from tests.conftest import commit, publish_all

WIDTH = 8


def source_of(name):
    return hashlib.sha256(name.encode()).hexdigest()


def video(name, patient, vectors, skip=(), stride=10.0, **fields):
    """A video with these vectors, but for the clips that are skipped, as those that show no picture are.

    With a stride its last clip begins half a stride after the one before.
    """
    source = source_of(name)
    starts = [stride * i for i in range(len(vectors))]
    if stride < 10 and len(starts) > 1:
        starts[-1] -= stride / 2
    clips = [
        EmbeddedClip(
            Clip(clip_id(source, name, starts[i]), name, patient, i, starts[i], 10.0), np.asarray(vector, np.float32)
        )
        for i, vector in enumerate(vectors)
        if i not in skip
    ]
    described = {"duration_s": starts[-1] + 10.0, "clip_count": len(vectors), **fields}
    return Video(name, patient, source, **described), clips


def unit(values):
    values = np.asarray(values, np.float64)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def snapshot_of(folder, cohort, later=()):
    workspace = Workspace(folder)
    commit(workspace, cohort)
    publish_all(workspace)
    if later:
        commit(workspace, list(later))
    return SnapshotLoader(workspace).snapshot


def seen(snapshot, rows):
    """Rows as moments see them, by the definition: less the mean, each of the leading directions of equal weight."""
    built = snapshot.generation.vectors.all.astype(np.float64)
    if len(built) < 64:
        built = snapshot.vectors(np.arange(len(snapshot))).astype(np.float64)
    mean = built.mean(axis=0)
    found = snapshot.vectors(rows) - mean
    directions = min(64, built.shape[1], len(built) // 8)
    if directions >= min(8, built.shape[1]):
        _, spread, axes = np.linalg.svd(built - mean, full_matrices=False)
        found = found @ (axes[:directions] / spread[:directions, None] * np.sqrt(len(built))).T
    return unit(found)


def all_ends(snapshot, query, own, without_patient=""):
    """(similarity, video, numbers of its clips, new seconds of the last) of the best stretch that ends at each clip."""
    vectors = seen(snapshot, np.arange(len(snapshot)))
    rows = snapshot.rows_of(query)
    rows = rows[apart([snapshot.clip(int(row)) for row in rows])]
    asked = vectors[rows]
    ends = []
    for name, of in sorted(snapshot.videos.items()):
        if name == own or of.patient_id == without_patient:
            continue
        try:
            theirs = snapshot.rows_of(VideoQuery(name))
        except NotFound:
            continue
        clips = [snapshot.clip(int(row)) for row in theirs]
        cosine = asked @ vectors[theirs].T

        def before(c, clips=clips):
            """The earliest clip from which on no clip is missing and no second goes by unseen until this one."""
            if c == 0 or clips[c].clip_index != clips[c - 1].clip_index + 1:
                return None
            found = c - 1
            start = clips[c].start_s
            while (
                found > 0
                and clips[found].clip_index == clips[found - 1].clip_index + 1
                and clips[found - 1].start_s + 10 >= start
            ):
                found -= 1
            return found

        def best(q, c, cosine=cosine, before=before):
            """(total, clips backwards) of the best path that ends at a query clip and a clip."""
            one = before(c)
            two = None if one is None else before(one)
            here = cosine[q, c]
            if q == 0:
                paths = [(here, (c,))]
                if one is not None:
                    paths.append(((here + cosine[0, one]) / 2, (c, one)))
                return max(paths, key=lambda path: path[0])
            paths = []
            if one is not None:
                total, path = best(q - 1, one)
                paths.append((total + here, (c, *path)))
            if two is not None:
                total, path = best(q - 1, two)
                paths.append((total + (here + cosine[q, one]) / 2, (c, one, *path)))
            if q == 1:
                paths.append((cosine[0, c] + here, (c,)))
            elif one is not None:
                total, path = best(q - 2, one)
                paths.append((total + cosine[q - 1, c] + here, (c, *path)))
            return max(paths, key=lambda path: path[0], default=(-np.inf, ()))

        for c, clip in enumerate(clips):
            total, path = best(len(rows) - 1, c)
            if total > -np.inf:
                follows = c > 0 and clip.clip_index == clips[c - 1].clip_index + 1
                new = min(10.0, clip.start_s - clips[c - 1].start_s) if follows else 10.0
                ends.append((total / len(rows), name, tuple(clips[at] for at in path[::-1]), new))
    return ends


def reference(snapshot, query, k, patient, own, *, include_own_patient=False):
    """The same of the k best that overlap by no more than half, by the definition alone."""
    ends = all_ends(snapshot, query, own, "" if include_own_patient else patient)
    kept = []
    for end in sorted(ends, key=lambda end: -end[0]):
        _, name, clips, _ = end
        begin, until = clips[0].start_s, clips[-1].start_s + 10
        shared = []
        for _, other, theirs, _ in kept:
            if other == name:
                a, b = theirs[0].start_s, theirs[-1].start_s + 10
                shared.append((min(until, b) - max(begin, a)) / min(until - begin, b - a))
        if all(one <= 0.5 for one in shared) and len(kept) < k:
            kept.append(end)
    return kept


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    query_clips=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 9) | st.integers(30, 60), min_size=1, max_size=4),
    k=st.integers(1, 6),
    own=st.booleans(),
    strides=st.lists(st.sampled_from([10.0, 10.0, 5.0, 4.0, 2.0]), min_size=5, max_size=5),
)
def test_what_is_found_is_what_the_definition_finds(tmp_path_factory, seed, query_clips, lengths, k, own, strides):
    random = np.random.default_rng(seed)
    cohort = [video("q", "p0", unit(random.normal(size=(query_clips, WIDTH))), stride=strides[-1])]
    for number, length in enumerate(lengths):
        skip = {2} if length > 5 and number % 2 else set()
        vectors = unit(random.normal(size=(length, WIDTH)))
        cohort.append(video(f"v{number}", f"p{number % 3}", vectors, skip, strides[number]))
    snapshot = snapshot_of(tmp_path_factory.mktemp("moments"), cohort[:-1], later=cohort[-1:])

    found = find_moments(snapshot, VideoQuery("q"), k, ANYTHING, include_own_patient=own)

    expected = reference(snapshot, VideoQuery("q"), k, "p0", "q", include_own_patient=own)
    assert [one.similarity for one in found] == pytest.approx([end[0] for end in expected], abs=1e-5)
    clips = [snapshot.clip(int(row)) for row in snapshot.rows_of(VideoQuery("q"))]
    asked = [clips[place].clip_id for place in apart(clips)]
    for one, (_, name, theirs, _) in zip(found, expected, strict=True):
        assert (one.video_id, one.start_s, one.end_s) == (name, theirs[0].start_s, theirs[-1].start_s + 10)
        assert list(dict.fromkeys(pair.query_clip_id for pair in one.pairs)) == asked
        assert list(dict.fromkeys(pair.clip_id for pair in one.pairs)) == [clip.clip_id for clip in theirs]


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    query_clips=st.integers(1, 4),
    length=st.integers(1, 12),
    stride=st.sampled_from([10.0, 5.0, 4.0]),
    gap=st.booleans(),
    start_s=st.sampled_from([0.0, 12.5]),
)
def test_the_similarity_along_a_video_is_that_of_the_best_stretch_over_each_clip(
    tmp_path_factory, seed, query_clips, length, stride, gap, start_s
):
    random = np.random.default_rng(seed)
    asked = video("q", "p0", unit(random.normal(size=(query_clips, WIDTH))))
    skip = {length // 2} if gap and length > 2 else set()
    long = video("v", "p1", unit(random.normal(size=(length, WIDTH))), skip, stride)
    snapshot = snapshot_of(tmp_path_factory.mktemp("along"), [asked, (replace(long[0], start_s=start_s), long[1])])

    starts, similarity = similarity_along(snapshot, course_of(snapshot, VideoQuery("q")), "v")

    clips = [snapshot.clip(int(row)) for row in snapshot.rows_of(VideoQuery("v"))]
    assert starts.tolist() == [start_s + clip.start_s for clip in clips]
    ends = [end for end in all_ends(snapshot, VideoQuery("q"), "q") if end[1] == "v"]
    over = [
        [total for total, _, path, _ in ends if path[0].clip_index <= clip.clip_index <= path[-1].clip_index]
        for clip in clips
    ]
    expected = [max(totals, default=np.nan) for totals in over]
    np.testing.assert_allclose(similarity, expected, atol=1e-5)


def test_the_similarity_along_a_video_that_is_not_stored_is_refused(tmp_path):
    snapshot = snapshot_of(tmp_path, [video("q", "p0", unit(np.ones((2, WIDTH))))])

    with pytest.raises(NotFound):
        similarity_along(snapshot, course_of(snapshot, VideoQuery("q")), "absent")


def test_a_course_that_is_not_stored_finds_what_the_same_clips_find_when_they_are(tmp_path):
    random = np.random.default_rng(3)
    cohort = [video("q", "p0", unit(random.normal(size=(3, WIDTH))))]
    cohort += [video(f"v{n}", f"p{n}", unit(random.normal(size=(9, WIDTH)))) for n in range(3)]
    snapshot = snapshot_of(tmp_path, cohort)
    clips, vectors = snapshot.clips_of(VideoQuery("q"))

    known = course_of_upload(snapshot, clips, vectors, "p0", "q")
    unknown = course_of_upload(snapshot, clips, vectors, "", "")

    assert find_moments(snapshot, known, 5, ANYTHING) == find_moments(snapshot, VideoQuery("q"), 5, ANYTHING)
    best = find_moments(snapshot, unknown, 1, ANYTHING)[0]
    assert (best.video_id, round(best.similarity, 4)) == ("q", 1.0)  # whose it is is not known


QUIET = (("background", "yes"),)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10_000),
    query_clips=st.integers(1, 4),
    quiet=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 2), st.sampled_from([10.0, 4.0])), max_size=6),
)
def test_how_unusual_a_moment_is_is_what_counting_in_background_gives(tmp_path_factory, seed, query_clips, quiet):
    random = np.random.default_rng(seed)
    cohort = [
        video("q", "p0", unit(random.normal(size=(query_clips, WIDTH)))),
        *(video(f"v{n}", f"p{n}", unit(random.normal(size=(5, WIDTH)))) for n in range(3)),
    ]
    for number, (length, patient, stride) in enumerate(quiet):
        vectors = unit(random.normal(size=(length, WIDTH)))
        cohort.append(video(f"b{number}", f"p{patient}", vectors, stride=stride, metadata=QUIET))
    snapshot = snapshot_of(tmp_path_factory.mktemp("background"), cohort)
    query = VideoQuery("q")

    found = find_moments(snapshot, query, 5, ANYTHING, include_own_patient=True)

    places = [end for end in all_ends(snapshot, query, "q") if end[1].startswith("b")]
    apart = [end for end in reference(snapshot, query, 10**6, "", "q") if end[1].startswith("b")]
    patient_of = {name: of.patient_id for name, of in snapshot.videos.items()}
    for one in found:
        others = {"p0", "p1", "p2"} - {one.patient_id, "p0"}
        for rate, patients in ((one.per_hour_patient, {one.patient_id}), (one.per_hour_others, others)):
            hours = sum(end[3] for end in places if patient_of[end[1]] in patients) / 3600
            count = sum(patient_of[end[1]] in patients and end[0] >= one.similarity - 1e-5 for end in apart)
            if not hours:
                assert rate is None
                continue
            assert (rate.hours, rate.per_hour) == (pytest.approx(hours), pytest.approx(count / hours))
            low, high = chi2.ppf(0.025, 2 * count) / 2 if count else 0, chi2.ppf(0.975, 2 * count + 2) / 2
            assert (rate.low * hours, rate.high * hours) == (pytest.approx(low), pytest.approx(high))


def test_moments_that_are_as_frequent_in_background_are_left_out_when_that_is_asked(tmp_path):
    random = np.random.default_rng(2)
    course = unit(random.normal(size=(3, WIDTH)))
    near = unit(course + 0.2 * random.normal(size=(3, WIDTH)))
    cohort = [
        video("query", "p0", course),
        video("same", "p1", course),
        video("near", "p1", near),
        *(video(f"q{n}", "p2", near, metadata=QUIET) for n in range(10)),
        *(video(f"r{n}", "p2", unit(random.normal(size=(40, WIDTH))), metadata=QUIET) for n in range(10)),
    ]
    snapshot = snapshot_of(tmp_path, cohort)
    where = SearchFilter(patient_ids=frozenset({"p1"}))

    every = find_moments(snapshot, VideoQuery("query"), 2, where)
    rare = find_moments(snapshot, VideoQuery("query"), 2, where, max_per_hour=1)

    assert [one.video_id for one in every] == ["same", "near"]
    assert [one.video_id for one in rare] == ["same"]
    assert (every[0].per_hour, every[0].per_hour_patient) == (0, None)
    assert every[1].per_hour == pytest.approx(10 / every[1].per_hour_others.hours)
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="rate per hour"):
            find_moments(snapshot, VideoQuery("query"), 2, where, max_per_hour=wrong)


COURSE = unit(np.random.default_rng(7).normal(size=(6, WIDTH)))


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    """A seizure of six clips, hidden in recordings as it is, twice as slow, and twice as fast."""
    random = np.random.default_rng(1)

    def quiet(count):
        return unit(random.normal(size=(count, WIDTH)))

    slow, fast = np.repeat(COURSE, 2, axis=0), COURSE[[1, 3, 5]]
    cohort = [
        video("query", "p0", COURSE, label="TLE"),
        video(
            "as-it-is", "p1", np.concatenate([quiet(7), COURSE, quiet(5)]), start_s=100.0, onset_s=172.0, label="TLE"
        ),
        video("slow", "p2", np.concatenate([quiet(4), slow, quiet(4)])),
        video("fast", "p3", np.concatenate([quiet(9), fast, quiet(3)])),
        video("own", "p0", np.concatenate([quiet(2), COURSE, quiet(2)])),
        video("torn", "p4", np.concatenate([quiet(2), COURSE, quiet(2)]), skip={4}),
        *(video(f"quiet{n}", f"p{n + 5}", quiet(20)) for n in range(8)),
    ]
    return snapshot_of(tmp_path_factory.mktemp("hidden"), cohort)


def test_a_seizure_is_found_where_it_lies_at_its_own_pace_or_twice_as_slow_or_fast(hidden):
    found = find_moments(hidden, VideoQuery("query"), 5, ANYTHING)

    first, second = found[:2]
    assert (first.video_id, first.start_s, first.end_s) == ("as-it-is", 170.0, 230.0)  # seconds of the file
    assert (first.patient_id, first.label, first.onset_s) == ("p1", "TLE", 172.0)
    assert first.similarity == pytest.approx(1, abs=1e-5)
    assert [pair.query_clip_id for pair in first.pairs] == [
        clip_id(source_of("query"), "query", 10.0 * n) for n in range(6)
    ]
    assert (second.video_id, second.similarity) == ("slow", pytest.approx(1, abs=1e-5))
    assert 40 <= second.start_s <= 50  # the first clip is there twice, and so is the last
    assert 150 <= second.end_s <= 160
    assert any(one.video_id == "fast" and one.start_s <= 90 and one.end_s >= 120 for one in found[2:])
    assert all(one.similarity < 0.9 for one in found[2:])
    assert "own" not in {one.video_id for one in found}


def test_the_own_patient_is_found_when_asked_for_and_the_query_itself_never(hidden):
    found = find_moments(hidden, VideoQuery("query"), 50, ANYTHING, include_own_patient=True)

    assert {one.video_id for one in found[:3]} == {"as-it-is", "slow", "own"}
    assert "query" not in {one.video_id for one in found}


def test_only_what_the_filter_admits_is_found_and_nothing_across_what_is_missing(hidden):
    where = SearchFilter(video_ids=frozenset({"slow", "torn"}))

    found = find_moments(hidden, VideoQuery("query"), 50, where)

    assert {one.video_id for one in found} == {"slow", "torn"}
    assert all(one.end_s <= 40 or one.start_s >= 50 for one in found if one.video_id == "torn")
    by_video = {}
    for one in found:
        by_video.setdefault(one.video_id, []).append((one.start_s, one.end_s))
    for stretches in by_video.values():
        for number, (a, b) in enumerate(stretches):
            for c, d in stretches[:number]:
                assert min(b, d) - max(a, c) <= 0.5 * min(b - a, d - c)


def test_a_lone_clip_and_the_clips_of_a_known_seizure_are_what_is_searched_for(hidden, tmp_path):
    lone = find_moments(hidden, ClipQuery(clip_id(source_of("query"), "query", 20.0)), 3, ANYTHING)
    assert (lone[0].video_id, lone[0].start_s, lone[0].end_s) == ("as-it-is", 190.0, 200.0)
    random = np.random.default_rng(3)
    around = np.concatenate([unit(random.normal(size=(3, WIDTH))), COURSE[:3], unit(random.normal(size=(3, WIDTH)))])
    cohort = [
        video("query", "p0", around, onset_s=30.0, seizure_end_s=60.0),
        video("other", "p1", np.concatenate([unit(random.normal(size=(5, WIDTH))), COURSE[:3]])),
    ]
    (best,) = find_moments(snapshot_of(tmp_path / "w", cohort), VideoQuery("query"), 1, ANYTHING)
    assert (best.start_s, best.end_s, len(best.pairs)) == (50.0, 80.0, 3)


def test_what_the_query_shows_is_not_found_and_nothing_twice_however_often_it_is_stored(tmp_path):
    """Recordings are stored whole and in parts: the same seconds of a file are the same moment."""
    random = np.random.default_rng(4)
    night, other = (unit(random.normal(size=(30, WIDTH))) for _ in range(2))
    night[4:10] = other[10:16] = other[20:26] = COURSE

    def part(name, patient, file, vectors, start, stop):
        made, clips = video(name, patient, vectors[start:stop], start_s=10.0 * start, end_s=10.0 * stop)
        source = source_of(file)
        renamed = [
            EmbeddedClip(replace(one.clip, clip_id=clip_id(source, name, one.clip.start_s)), one.vector)
            for one in clips
        ]
        return replace(made, source_sha256=source), renamed

    cohort = [
        part("seizure", "p0", "night", night, 4, 10),
        part("night", "p0", "night", night, 0, 30),
        part("other", "p1", "other", other, 0, 30),
        part("other-seizure", "p1", "other", other, 9, 18),
    ]
    snapshot = snapshot_of(tmp_path, cohort[:3], later=cohort[3:])

    found = find_moments(snapshot, VideoQuery("seizure"), 20, ANYTHING, include_own_patient=True)
    clips = search(snapshot, VideoQuery("seizure"), 100, Options(include_own_patient=True)).neighbours

    assert [(one.patient_id, one.start_s, one.end_s) for one in found[:2]] == [("p1", 100, 160), ("p1", 200, 260)]
    assert all(one.similarity < 0.99 for one in found[2:])
    assert all(one.end_s <= 40 or one.start_s >= 100 for one in found if one.patient_id == "p0")
    assert {one.clip.start_s for one in clips if one.clip.video_id == "night"} == {
        *(10.0 * number for number in range(30) if not 4 <= number < 10)
    }


def test_pieces_and_few_ends_at_once_change_nothing(hidden, monkeypatch):
    whole = find_moments(hidden, VideoQuery("query"), 20, ANYTHING)
    monkeypatch.setattr(subsequence, "_PIECE_ROWS", 7)
    monkeypatch.setattr(subsequence, "_ENDS_A_MOMENT", 1)

    pieces = find_moments(hidden, VideoQuery("query"), 20, ANYTHING)

    assert [(one.video_id, one.start_s, one.end_s) for one in pieces] == [
        (one.video_id, one.start_s, one.end_s) for one in whole
    ]


def test_a_long_query_is_answered_soon_and_asks_for_no_more_pairs_than_an_answer_holds(tmp_path):
    random = np.random.default_rng(5)
    course = unit(random.normal(size=(300, WIDTH)))
    slow = np.concatenate([np.repeat(course[:150], 2, axis=0), course[150:]])
    snapshot = snapshot_of(tmp_path, [video("query", "p0", course), video("slow", "p1", slow)])

    (found,) = find_moments(snapshot, VideoQuery("query"), 1, ANYTHING)

    assert found.start_s in {0.0, 10.0}  # the first clip is there twice
    assert found.end_s == 4500.0
    asked = [clip_id(source_of("query"), "query", 10.0 * n) for n in range(300)]
    whole = [asked[n // 2] for n in range(300)] + asked[150:]
    assert [pair.query_clip_id for pair in found.pairs] == whole[-len(found.pairs) :]
    assert len(found.pairs) == (4500 - found.start_s) / 10
    assert found.similarity == pytest.approx(1, abs=1e-5)
    with pytest.raises(InvalidInput, match="k of at most 66 for a query of 300 clips, got 67"):
        find_moments(snapshot, VideoQuery("query"), 67, ANYTHING)


def test_work_ends_when_its_time_is_over(hidden):
    calls = []

    def in_time():
        calls.append(1)
        if len(calls) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        find_moments(hidden, VideoQuery("query"), 5, ANYTHING, in_time=in_time)


def test_wrong_wishes_are_refused(hidden, tmp_path):
    for k in (0, 1001):
        with pytest.raises(InvalidInput, match="k of 1 to 1000"):
            find_moments(hidden, VideoQuery("query"), k, ANYTHING)
    with pytest.raises(NotFound):
        find_moments(hidden, VideoQuery("absent"), 1, ANYTHING)
    long = snapshot_of(tmp_path / "w", [video("long", "p0", unit(np.random.default_rng(0).normal(size=(361, WIDTH))))])
    with pytest.raises(InvalidInput, match="more than 360 clips"):
        find_moments(long, VideoQuery("long"), 1, ANYTHING)
