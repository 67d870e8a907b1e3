"""Snapshots made in memory, and what searching them must give: plain loops over every clip."""

from functools import cache

import numpy as np

from index.query import GroupBy
from index.search.snapshot import Snapshot
from index.tables.clip_table import ClipTable
from index.tables.rows import StoredClips
from index.tables.store import Changes
from index.vectors.brute_force import Vectors
from index.vectors.faiss_index import FLAT, Effort, FlatIndex, IvfIndex
from index.vectors.generation import Generation, GenerationManifest

TABLE_VERSION, LATER_VERSION = 3, 5


def generation_of(cohort, kind=FLAT, width=8):
    """A generation of (video, embedded clips); an approximate index looks everywhere, so that it misses nothing."""
    clips, vectors = in_order(cohort, width)
    vectors = Vectors(vectors)
    index = FlatIndex(vectors) if kind == FLAT else IvfIndex.build(kind, vectors)
    effort = None
    if kind != FLAT:
        effort = index.effort = Effort(index.cells, len(vectors))
    manifest = GenerationManifest(
        "000001-test", "enc1", TABLE_VERSION, len(clips), 0, 0, width, kind, effort, 1.0, (1.0, 1.0), 0.95, 0, "", {}
    )
    return Generation(manifest, index, vectors, clips)


def snapshot_of(cohort, kind=FLAT, *, later=(), gone=(), width=8):
    """A snapshot of a generation, of videos stored after it, and of clips that are gone.

    Args:
        cohort: what the generation was built from.
        kind: of index.
        later: (video, embedded clips) stored after it.
        gone: ids of clips that are not stored any more.
        width: D.
    """
    generation = generation_of(cohort, kind, width)
    videos = {video.video_id: video for video, _ in (*cohort, *later)}
    clips, vectors = in_order(later, width)
    rows = np.array([row for row, clip in enumerate(generation.clips) if clip.clip_id in set(gone)], np.int64)
    return Snapshot(generation, videos, Changes(StoredClips("enc1", LATER_VERSION, clips, vectors), rows))


def in_order(cohort, width):
    """Clips and vectors as an index holds them."""
    embedded = [e for _, clips in cohort for e in clips]
    embedded.sort(key=lambda e: (e.clip.patient_id, e.clip.video_id, e.clip.clip_index))
    vectors = np.array([e.vector for e in embedded], np.float32).reshape(len(embedded), width)
    return ClipTable.of([e.clip for e in embedded]), vectors


def reference(cohort, query_vectors, allowed, k, group_by, mean_of=1):
    """(group, similarity) of the k best groups.

    Args:
        cohort: (video, embedded clips) of all that is stored.
        query_vectors: (Q, D).
        allowed: given a video and a clip, whether it may be found.
        k: how many.
        group_by: what a hit stands for.
        mean_of: clips that make a group's similarity.
    """
    groups = {}
    for video, embedded in cohort:
        for e in embedded:
            if allowed(video, e.clip):
                score = float(np.max(query_vectors @ e.vector))
                groups.setdefault(key(e.clip, group_by), []).append((score, e.clip))
    if group_by is GroupBy.CLIP:
        every = sorted((found[0] for found in groups.values()), key=lambda one: -one[0])
        return [(clip.clip_id, score) for score, clip in apart(every)[:k]]
    means = {
        group: float(np.mean([score for score, _ in apart(sorted(found, key=lambda one: -one[0]))[:mean_of]]))
        for group, found in groups.items()
    }
    return sorted(means.items(), key=lambda item: -item[1])[:k]


def apart(found):
    """Those of some (similarity, clip), best first, that show no second that one before them shows."""
    kept = []
    for score, clip in found:
        if not any(shares(clip, other) for _, other in kept):
            kept.append((score, clip))
    return kept


def shares(clip, other):
    """Whether two clips show some of the same seconds."""
    return clip.video_id == other.video_id and abs(clip.start_s - other.start_s) < 10


def once(clips):
    """Those of a video's clips that show every second of it once, but for what the last one shows twice."""
    kept = []
    for e in clips:
        end = kept[-1].clip.start_s + 10 if kept else 0.0
        if e.clip.start_s >= end or (e is clips[-1] and e.clip.start_s + 10 - end >= 1):
            kept.append(e)
    return kept


def aligned(query_vectors, vectors):
    """The best weighted mean of cosines along any path from the first clips of both to the last, by recursion."""
    cosines = query_vectors @ np.array(vectors).T

    @cache
    def best(i, j):
        here = float(cosines[i, j])
        if i == j == 0:
            return 2 * here
        steps = []
        if i and j:
            steps.append(best(i - 1, j - 1) + 2 * here)
        if i:
            steps.append(best(i - 1, j) + here)
        if j:
            steps.append(best(i, j - 1) + here)
        return max(steps)

    rows, columns = cosines.shape
    return best(rows - 1, columns - 1) / (rows + columns)


def key(clip, group_by):
    """What a clip's group is called."""
    return {GroupBy.CLIP: clip.clip_id, GroupBy.VIDEO: clip.video_id, GroupBy.PATIENT: clip.patient_id}[group_by]


def grouped(result, group_by):
    """(group, similarity) of a result."""
    return [(key(n.clip, group_by), n.similarity) for n in result.neighbours]


def assert_same(found, wanted):
    """The same groups in the same order; those equally similar to within rounding may change places."""
    assert len(found) == len(wanted)
    np.testing.assert_allclose([s for _, s in found], [s for _, s in wanted], atol=1e-5)
    similarity = dict(wanted)
    for (group, at), (other, _) in zip(found, wanted, strict=True):
        assert group == other or abs(similarity.get(group, at) - at) < 1e-5
    assert len({group for group, _ in found}) == len(found)
