"""Which past seizures look like this one: nearest clips, videos and patients of one snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput, SemiomeError
from index.phases import apart, counted_clips
from index.processors import usable_cores
from index.query import (
    MAX_K,
    PLAIN,
    ClipQuery,
    GroupBy,
    Options,
    Query,
    VectorQuery,
)
from index.records import Match, Neighbour, SearchAnswer
from index.search.alignment import MOST_CLIPS, Alignments
from index.search.overlap import best_apart, first_apart, overlapping
from index.search.resolution import ResolvedQuery, resolved, unit_vectors
from index.search.snapshot import Snapshot

_A_ROW_FOUND = 10
"""Rows that are compared in the time in which the index finds one: measured of a ten-clip query and 100,000 clips."""
_A_ROW_GATHERED = 3
"""The same for one of a group, which lies anywhere."""
_ALIGNED_A_HIT = 8
"""Videos that are aligned for each one asked for, unless all are."""
_LEAST_ALIGNED = 64


class _Hit(NamedTuple):
    """A row, what it scores, and the (row, similarity, query number) of all that made the score."""

    row: int
    similarity: float
    made_by: tuple[tuple[int, float, int], ...]


def search(snapshot: Snapshot, query: Query, k: int = 10, options: Options = PLAIN) -> SearchAnswer:
    """The k nearest clips, videos or patients, most similar first; of equally similar ones the earlier row first.

    k hits are returned when k exist. With an exact index, or `options.exact`, equal to comparing with every clip.

    Raises:
        InvalidInput: If k or the vector is out of bounds, or the vector is of another encoder.
        NotFound: If a clip or video of the query is not stored.
    """
    if not 1 <= k <= MAX_K:
        raise InvalidInput(f"expected k of 1 to {MAX_K}, got {k}", field="k")
    asked = resolved(snapshot, query, options)
    if len(asked.vectors_QD) == 1 and options.group_by is GroupBy.CLIP and not options.exact:  # what most searches are
        plain = snapshot.nearest(asked.vectors_QD, min(k, asked.allowed.total), asked.allowed)
        if plain is not None and not overlapping(snapshot, plain[1]).any():
            return _plain_results(snapshot, *plain, asked.clip_ids or ("",))[0]
    find = _aligned if options.aligned else _nearest
    return _answer(snapshot, asked, find(snapshot, asked, k, options), options)


def search_batch(
    snapshot: Snapshot, queries: Sequence[Query], k: int = 10, options: Options = PLAIN
) -> list[SearchAnswer]:
    """Many searches at once, on every core; results in the order of the queries."""
    if options == PLAIN and all(map(_is_of_one_vector, queries)):
        step = 256
        parts = [queries[start : start + step] for start in range(0, len(queries), step)]
        return [result for part in parts for result in _plain_batch(snapshot, part, k)]
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(lambda query: search(snapshot, query, k, options), queries))


def search_each(
    snapshot: Snapshot, queries: Sequence[Query], k: int = 10, options: Options = PLAIN
) -> list[SearchAnswer | SemiomeError]:
    """Search as `search_batch` does, but a query that fails gives its error and spoils no other."""

    def one(query: Query) -> SearchAnswer | SemiomeError:
        try:
            return search(snapshot, query, k, options)
        except SemiomeError as error:
            return error

    try:
        return list(search_batch(snapshot, queries, k, options))
    except SemiomeError:
        return [one(query) for query in queries]


def _is_of_one_vector(query: Query) -> bool:
    return isinstance(query, ClipQuery) or (isinstance(query, VectorQuery) and np.ndim(query.vector) == 1)


def _plain_batch(snapshot: Snapshot, queries: Sequence[Query], k: int) -> list[SearchAnswer]:
    """Queries of one vector each, with nothing but their own patients to leave out."""
    nearest = nearest_rows(snapshot, queries, k)
    if nearest is None:
        return [search(snapshot, query, k) for query in queries]
    clip_ids = [query.clip_id if isinstance(query, ClipQuery) else "" for query in queries]
    return _plain_results(snapshot, nearest.similarities, nearest.rows, clip_ids)


class NearestRows(NamedTuple):
    """What plain searches find, as numbers.

    Attributes:
        similarities: (Q, k), decreasing.
        rows: (Q, k) of the snapshot.
        patients: whose each query is; empty where that is not known.
    """

    similarities: NDArray[np.float32]
    rows: NDArray[np.int64]
    patients: list[str]


def nearest_rows(snapshot: Snapshot, queries: Sequence[Query], k: int) -> NearestRows | None:
    """The k nearest rows of other patients to stored clips and single vectors, in one pass over the index.

    Returns:
        None where one by one with `search` is the way.

    Raises:
        InvalidInput: If k or a vector is out of bounds.
        NotFound: If a clip is not stored.
    """
    if not all(map(_is_of_one_vector, queries)):
        return None
    if not 1 <= k <= MAX_K:
        raise InvalidInput(f"expected k of 1 to {MAX_K}, got {k}", field="k")
    clip_ids = [query.clip_id if isinstance(query, ClipQuery) else "" for query in queries]
    vectors = np.empty((len(queries), snapshot.width), np.float32)
    patients = [""] * len(queries)
    stored = [number for number, query in enumerate(queries) if isinstance(query, ClipQuery)]
    rows = snapshot.rows_of_clips([clip_ids[number] for number in stored])
    vectors[stored] = snapshot.vectors(rows)
    for number, patient in zip(stored, snapshot.patient_of_row[rows].tolist(), strict=True):
        patients[number] = snapshot.patient_ids[patient]
    for number, query in enumerate(queries):
        if isinstance(query, VectorQuery):
            vectors[number], patients[number] = unit_vectors(snapshot, query)[0], query.patient_id
    nearest = snapshot.nearest_apart(vectors, k, patients)
    if nearest is None or (nearest[1] < 0).any():
        return None
    similarities, rows = nearest
    again = np.flatnonzero(overlapping(snapshot, rows))
    if len(again):
        deeper = snapshot.nearest_apart(vectors[again], k * _most_for_one(snapshot), [patients[n] for n in again])
        if deeper is None:
            return None
        for number, found, at in zip(again.tolist(), *deeper, strict=True):
            there = at >= 0
            kept = first_apart(snapshot, at[there], k)
            if len(kept) < k:
                return None
            similarities[number], rows[number] = found[there][kept], at[there][kept]
    return NearestRows(np.clip(similarities, -1.0, 1.0), rows, patients)


def _most_for_one(snapshot: Snapshot) -> int:
    """How many rows may stand for one that is kept: itself, and those before and after that it overlaps with."""
    return 1 + 2 * snapshot.overlap


def _plain_results(
    snapshot: Snapshot, similarities: NDArray[np.float32], rows: NDArray[np.int64], clip_ids: Sequence[str]
) -> list[SearchAnswer]:
    """Results of queries of one vector each; their k hits (Q, k) are clips, best first."""
    k = rows.shape[1]
    clips = snapshot.clips(rows.ravel())
    values = np.clip(similarities, -1.0, 1.0).ravel().tolist()
    hits = [
        Neighbour(clip, snapshot.label_of(clip), value, clip_ids[number // k])
        for number, (clip, value) in enumerate(zip(clips, values, strict=True))
    ]
    return [SearchAnswer(snapshot.provenance, tuple(hits[n * k : (n + 1) * k])) for n in range(len(rows))]


def _nearest(snapshot: Snapshot, asked: ResolvedQuery, k: int, options: Options) -> list[_Hit]:
    """Through the index, as deep as it takes; else by comparing with everything."""
    groups = _groups(snapshot, options.group_by)
    available = asked.allowed.total
    if not available:
        return []
    depth = 0 if options.exact else min(k, available)
    scored: dict[int, _Hit] = {}
    gathered = 0
    queries = len(asked.vectors_QD)
    deepest = max(available // (_A_ROW_FOUND * queries), MAX_K if queries == 1 else 0)
    while depth and depth <= deepest:
        found = snapshot.nearest(asked.vectors_QD, depth, asked.allowed)
        if found is None:
            break
        similarities, rows = found
        heads = _heads(similarities, rows, groups)
        if options.mean_of > 1:
            new = [group for group in heads if group not in scored]
            rows_of = [_allowed_rows(snapshot, asked, heads[group].row, options) for group in new]
            gathered += sum(map(len, rows_of))
            if gathered * _A_ROW_GATHERED > available:
                break
            scored |= zip(new, _of_groups(snapshot, asked, rows_of, options), strict=True)
            heads = scored
        hits = sorted(heads.values(), key=lambda hit: (-hit.similarity, hit.row))
        if groups is None and snapshot.overlap:
            hits = [hits[place] for place in first_apart(snapshot, np.array([hit.row for hit in hits], np.int64), k)]
        hits = hits[:k]
        # What no query has returned yet is at most as similar as the worst that the deepest one returned.
        unseen = float(similarities[:, -1].max())
        whole = groups is None and not snapshot.overlap
        sure = len(hits) == k and (whole or hits[-1].similarity > unseen)
        if depth == available or sure:
            return hits
        depth *= 4
        if depth > available // 2:  # a full comparison is cheaper than so deep a search
            break
    return _by_comparing(snapshot, asked, k, options, groups)


def _groups(snapshot: Snapshot, group_by: GroupBy) -> NDArray[np.int32] | None:
    return {
        GroupBy.CLIP: None,
        GroupBy.VIDEO: snapshot.video_of_row,
        GroupBy.PATIENT: snapshot.patient_of_row,
    }[group_by]


def _heads(
    similarities: NDArray[np.float32], rows: NDArray[np.int64], groups: NDArray[np.int32] | None
) -> dict[int, _Hit]:
    """The best row of each group that was found, best first."""
    heads: dict[int, _Hit] = {}
    order = np.lexsort((rows.ravel(), -similarities.ravel()))
    flat_rows, flat_similarities = rows.ravel()[order].tolist(), similarities.ravel()[order].tolist()
    depth = rows.shape[1]
    for row, similarity, flat in zip(flat_rows, flat_similarities, order.tolist(), strict=True):
        if row >= 0:
            group = row if groups is None else int(groups[row])
            if group not in heads:
                heads[group] = _Hit(row, similarity, ((row, similarity, flat // depth),))
    return heads


def _allowed_rows(snapshot: Snapshot, asked: ResolvedQuery, row: int, options: Options) -> NDArray[np.int64]:
    """Allowed rows of a row's group."""
    rows = snapshot.rows_of_group(row, patient=options.group_by is GroupBy.PATIENT)
    return rows[asked.allowed.admits(rows)]


def _of_groups(
    snapshot: Snapshot, asked: ResolvedQuery, rows_of: Sequence[NDArray[np.int64]], options: Options
) -> list[_Hit]:
    """What all these rows of each group make together."""
    if not rows_of:
        return []
    scores = snapshot.vectors(np.concatenate(rows_of)) @ asked.vectors_QD.T
    best, which = scores.max(axis=1), scores.argmax(axis=1)
    parts = np.cumsum([len(rows) for rows in rows_of])[:-1]
    return [
        _mean_of_best(snapshot, rows, scores_of, which_of, options.mean_of)
        for rows, scores_of, which_of in zip(rows_of, np.split(best, parts), np.split(which, parts), strict=True)
    ]


def _mean_of_best(
    snapshot: Snapshot, rows: NDArray[np.int64], scores: NDArray[np.float32], which: NDArray[np.int64], mean_of: int
) -> _Hit:
    best = np.lexsort((rows, -scores))
    if snapshot.overlap:
        best = best[first_apart(snapshot, rows[best], mean_of)]
    best = best[:mean_of]
    made_by = tuple((int(rows[n]), float(scores[n]), int(which[n])) for n in best)
    return _Hit(made_by[0][0], float(np.mean([similarity for _, similarity, _ in made_by])), made_by)


def _by_comparing(
    snapshot: Snapshot, asked: ResolvedQuery, k: int, options: Options, groups: NDArray[np.int32] | None
) -> list[_Hit]:
    """The same by comparing with every row."""
    scores, which = snapshot.scores(asked.vectors_QD, asked.allowed)
    rows = np.flatnonzero(scores > -np.inf)
    if groups is None or options.mean_of > 1:
        rows = best_apart(snapshot, rows, scores[rows])
    if groups is None:
        if len(rows) > k:
            rows = rows[scores[rows] >= np.partition(scores[rows], -k)[-k]]
        order = rows[np.lexsort((rows, -scores[rows]))][:k]
        return [_Hit(int(r), float(scores[r]), ((int(r), float(scores[r]), int(which[r])),)) for r in order]
    order = rows[np.lexsort((rows, -scores[rows], groups[rows]))]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    stops = np.append(starts[1:], len(order))
    tops = np.minimum(stops, starts + options.mean_of)
    sums = np.concatenate([[0.0], np.cumsum(scores[order], dtype=np.float64)])
    means = (sums[tops] - sums[starts]) / (tops - starts)
    hits = []
    for number in np.lexsort((order[starts], -means))[:k]:
        made = order[starts[number] : tops[number]]
        hits.append(_mean_of_best(snapshot, made, scores[made], which[made], options.mean_of))
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.row))


def _aligned(snapshot: Snapshot, asked: ResolvedQuery, k: int, options: Options) -> list[_Hit]:
    """Videos by the alignment of their clips with the query's; candidates are those with the most similar clips.

    Where the onset of both is known, their seizures are aligned, and else all that is in them.
    """
    count = len(snapshot.video_ids) if options.exact else max(k * _ALIGNED_A_HIT, _LEAST_ALIGNED)
    whole, seizures = [], []
    for hit in _nearest(snapshot, asked, count, options):
        rows = snapshot.rows_of_group(hit.row, patient=False)
        rows = rows[np.argsort(snapshot.clip_indexes(rows), kind="stable")]
        video = snapshot.videos.get(snapshot.clip(hit.row).video_id)
        if asked.seizure is not None and video is not None and video.onset_s is not None:
            seizures.append(rows[counted_clips(video, snapshot.clips(rows))])
        else:
            whole.append(rows[apart(snapshot.clips(rows))])
    hits = [
        *_aligned_with(snapshot, asked, asked.whole, whole, k),
        *_aligned_with(snapshot, asked, asked.seizure or (), seizures, k),
    ]
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.row))[:k]


def _aligned_with(
    snapshot: Snapshot, asked: ResolvedQuery, clips: Sequence[int], rows_of: Sequence[NDArray[np.int64]], k: int
) -> list[_Hit]:
    """The k videos, of some rows each, that go best with some of the query's clips."""
    rows_of = [rows for rows in rows_of if len(rows) <= MOST_CLIPS]
    if not rows_of:
        return []
    tables = [asked.vectors_QD[list(clips)] @ snapshot.vectors(rows).T for rows in rows_of]
    aligned = Alignments(tables)
    scores = aligned.similarities
    among = np.partition(scores, -k)[-k] if len(scores) > k else -np.inf
    hits = []
    for number in np.flatnonzero(scores >= among).tolist():
        rows, table = rows_of[number], tables[number]
        made_by = tuple(
            (int(rows[theirs]), float(table[ours, theirs]), clips[ours]) for ours, theirs in aligned.path(number)
        )
        best = max(made_by, key=lambda pair: pair[1])
        hits.append(_Hit(best[0], float(scores[number]), made_by))
    return hits


def _answer(snapshot: Snapshot, asked: ResolvedQuery, hits: Sequence[_Hit], options: Options) -> SearchAnswer:
    together = options.aligned or options.mean_of > 1
    made = [one for hit in hits for one in (hit.made_by if together else hit.made_by[:1])]
    clips = iter(snapshot.clips(np.array([row for row, _, _ in made], np.int64)))
    neighbours = []
    for hit in hits:
        matches = tuple(
            Match(next(clips), min(max(similarity, -1.0), 1.0), asked.clip_ids[query] if asked.clip_ids else "")
            for _, similarity, query in (hit.made_by if together else hit.made_by[:1])
        )
        head = max(matches, key=lambda one: one.similarity)
        neighbours.append(
            Neighbour(
                clip=head.clip,
                label=snapshot.label_of(head.clip),
                similarity=min(max(hit.similarity, -1.0), 1.0),
                query_clip_id=head.query_clip_id,
                matches=matches if together else (),
            )
        )
    return SearchAnswer(snapshot.provenance, tuple(neighbours))
