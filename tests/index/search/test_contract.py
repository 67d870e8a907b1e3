"""Every kind of index, with rows stored after it and rows gone from it, answers as a plain loop over all clips does."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.phases import counted_clips
from index.query import (
    AllOf,
    AnyOf,
    ClipQuery,
    ExamplesQuery,
    GroupBy,
    Not,
    Options,
    SearchFilter,
    VectorQuery,
    VideoQuery,
)
from index.search.search import search, search_batch
from index.vectors.faiss_index import KINDS
from tests.conftest import make_video
from tests.index.reference import aligned, assert_same, grouped, once, reference, shares, snapshot_of

leaf = st.builds(
    SearchFilter,
    labels=st.frozensets(st.sampled_from(["TLE", "exTLE"])),
    semiology=st.frozensets(st.just("Semiology-versive")),
    excluded_patient_ids=st.frozensets(st.sampled_from(["p1", "p2"])),
    patient_ids=st.frozensets(st.sampled_from(["p1", "p3", "p4"])),
    excluded_video_ids=st.frozensets(st.sampled_from(["v1-0", "v3-1"])),
    cameras=st.frozensets(st.sampled_from(["room-0", "room-1"])),
    recorded_from=st.sampled_from(["", "2024-02-01"]),
)
filters = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, max_size=2).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=2).map(tuple)),
    ),
    max_leaves=3,
)


def seizure(random):
    """When it is, of two videos in three."""
    onset = float(random.integers(0, 30))
    known = ({}, {"onset_s": onset}, {"onset_s": onset, "seizure_end_s": onset + float(random.integers(1, 30))})
    return known[int(random.integers(3))]


def build(kind, seed, strides=(10, 10, 6, 2)):
    """A snapshot, and all that is stored in it; clips of some videos overlap."""
    random = np.random.default_rng(seed)
    cohort = [
        make_video(
            *(p, v, int(random.integers(1, 6)), random),
            **{"camera": f"room-{v % 2}", "stride": float(random.choice(strides)), **seizure(random)},
        )
        for p in range(5)
        for v in range(3)
    ]
    split = int(random.integers(9, 16))
    first, later = cohort[:split], cohort[split:]
    gone = {e.clip.clip_id for _, clips in first for e in clips if random.random() < 0.15}
    there = [(video, [e for e in clips if e.clip.clip_id not in gone]) for video, clips in cohort]
    snapshot = snapshot_of(first, kind, later=later, gone=gone)
    return snapshot, [(video, clips) for video, clips in there if clips], random


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k=st.integers(1, 70),
    group_by=st.sampled_from(GroupBy),
    mean_of=st.integers(1, 4),
    whole_video=st.booleans(),
    own=st.booleans(),
    exact=st.booleans(),
    where=filters,
)
def test_a_search_equals_a_loop_over_all_clips(kind, seed, k, group_by, mean_of, whole_video, own, exact, where):
    snapshot, cohort, random = build(kind, seed)
    video, embedded = cohort[int(random.integers(len(cohort)))]
    asked = once(embedded) if whole_video else embedded[:1]
    query = VideoQuery(video.video_id) if whole_video else ClipQuery(embedded[0].clip.clip_id)
    mean_of = 1 if group_by is GroupBy.CLIP else mean_of

    result = search(snapshot, query, k, Options(where, group_by, mean_of, own, exact))

    vectors = np.stack([e.vector for e in asked])

    def allowed(v, clip):
        shown = any(shares(clip, e.clip) for e in (embedded if whole_video else asked))
        return where.admits(v) and not shown and (own or v.patient_id != video.patient_id)

    assert_same(grouped(result, group_by), reference(cohort, vectors, allowed, k, group_by, mean_of))
    for neighbour in result.neighbours:
        if mean_of > 1:
            assert abs(np.mean([match.similarity for match in neighbour.matches]) - neighbour.similarity) < 1e-6
            assert 1 <= len(neighbour.matches) <= mean_of
        else:
            assert neighbour.matches == ()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12), own=st.booleans(), exact=st.booleans(), where=filters)
def test_an_aligned_search_equals_the_best_path_by_recursion(kind, seed, k, own, exact, where):
    snapshot, cohort, random = build(kind, seed)
    video, embedded = cohort[int(random.integers(len(cohort)))]

    def compared(v, clips, other):
        """The clips that are aligned: those of the seizure where both onsets are known."""
        if v.onset_s is None or other.onset_s is None:
            return once(clips)
        return [clips[number] for number in counted_clips(v, [e.clip for e in clips])]

    options = Options(where, GroupBy.VIDEO, include_own_patient=own, exact=exact, aligned=True)
    result = search(snapshot, VideoQuery(video.video_id), k, options)

    wanted = {
        v.video_id: aligned(
            np.stack([e.vector for e in compared(video, embedded, v)]), [e.vector for e in compared(v, clips, video)]
        )
        for v, clips in cohort
        if where.admits(v) and v.video_id != video.video_id and (own or v.patient_id != video.patient_id)
    }
    assert_same(grouped(result, GroupBy.VIDEO), sorted(wanted.items(), key=lambda item: -item[1])[:k])
    clips_of = {v.video_id: (v, clips) for v, clips in cohort}
    for neighbour in result.neighbours:
        pairs = [(match.query_clip_id, match.clip.clip_id) for match in neighbour.matches]
        other, clips = clips_of[neighbour.clip.video_id]
        theirs = [e.clip.clip_id for e in compared(other, clips, video)]
        ours = [e.clip.clip_id for e in compared(video, embedded, other)]
        steps = [(ours.index(a), theirs.index(b)) for a, b in pairs]
        assert steps[0] == (0, 0)
        assert steps[-1] == (len(ours) - 1, len(theirs) - 1)
        moves = {(c - a, d - b) for (a, b), (c, d) in pairwise(steps)}
        assert moves <= {(0, 1), (1, 0), (1, 1)}
        weights = [sum(move) for move in np.diff([(-1, -1), *steps], axis=0).tolist()]
        score = sum(w * m.similarity for w, m in zip(weights, neighbour.matches, strict=True)) / sum(weights)
        assert abs(score - neighbour.similarity) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), positives=st.integers(1, 4), negatives=st.integers(0, 3), own=st.booleans())
def test_examples_are_asked_by_their_means(kind, seed, positives, negatives, own):
    snapshot, cohort, random = build(kind, seed)
    order = random.permutation(len(cohort))[: positives + negatives]
    likes, dislikes = ([cohort[n] for n in part] for part in (order[:positives], order[positives:]))
    query = ExamplesQuery(
        tuple(VideoQuery(video.video_id) for video, _ in likes),
        tuple(ClipQuery(clips[0].clip.clip_id) for _, clips in dislikes),
    )

    result = search(snapshot, query, 70, Options(include_own_patient=own))

    vector = np.mean([e.vector for _, clips in likes for e in clips], axis=0)
    if dislikes:
        vector = vector - 0.5 * np.mean([clips[0].vector for _, clips in dislikes], axis=0)
    vector /= np.linalg.norm(vector)
    used = [e.clip for _, clips in likes for e in clips] + [clips[0].clip for _, clips in dislikes]
    patient = likes[0][0].patient_id

    def allowed(v, clip):
        return not any(shares(clip, other) for other in used) and (own or v.patient_id != patient)

    assert_same(grouped(result, GroupBy.CLIP), reference(cohort, vector[None], allowed, 70, GroupBy.CLIP))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [Options(), Options(group_by=GroupBy.VIDEO), Options(exact=True)])
def test_a_batch_is_its_searches(kind, options):
    snapshot, cohort, random = build(kind, 7)
    queries = [ClipQuery(e.clip.clip_id) for _, clips in cohort for e in clips]
    queries += [VectorQuery(random.normal(size=8), "enc1", patient) for patient in ("", "p2", "absent")]

    for found, query in zip(search_batch(snapshot, queries, 7, options), queries, strict=True):
        wanted = search(snapshot, query, 7, options)
        assert_same(grouped(found, options.group_by), grouped(wanted, options.group_by))
        assert [(n.label, n.query_clip_id) for n in found.neighbours] == [
            (n.label, n.query_clip_id) for n in wanted.neighbours
        ]
