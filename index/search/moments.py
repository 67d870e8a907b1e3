"""Where in long recordings the same course of signs turns up: a query's clips against every stretch of every video.

Subsequence alignment, slope-limited as by Sakoe and Chiba (1978) and open at both ends of the recording: a step goes
one clip on in both, or two in one of them, so that time is stretched by a factor of two at most either way, and a path
always moves on. Every query clip weighs the same, so that a similarity is a mean of cosines. These are of vectors less
the mean of all: what all clips have in common, a person in a bed, says nothing of where to look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput
from index.phases import counted_clips
from index.query import MAX_K, ClipQuery, Filter, VideoQuery
from index.records import Moment
from index.search.alignment import MOST_CLIPS
from index.search.snapshot import RowSet, Snapshot

_PIECE_ROWS, _LEAST_PIECE_ROWS, _PIECE_CELLS = 2**15, 2**11, 2**20
"""Rows that are compared at once: fewer with a long query, so that no table is large."""
_MOST_PAIRS = 20_000
"""Most query clips times moments, whose pairs are an answer's size."""
_ENDS_A_MOMENT = 32
_LEAST_SPREAD = 1e-6
_MOST_OVERLAP = 0.5
"""Largest share of the shorter of two moments of a video that may lie in both."""


class _Stretch(NamedTuple):
    """Rows from the first to the last, and how similar they are to the query."""

    similarity: float
    first: int
    last: int


def find_moments(
    snapshot: Snapshot,
    query: ClipQuery | VideoQuery,
    k: int,
    where: Filter,
    *,
    include_own_patient: bool = False,
    in_time: Callable[[], None] = lambda: None,
) -> tuple[Moment, ...]:
    """The stretches of stored videos that are most similar to a clip, or to a video's seizure, most similar first.

    Two of one video overlap by no more than half of the shorter one.

    Args:
        snapshot: what is searched.
        query: a stored clip or video; of a video with a known onset the clips of the seizure count.
        k: number of moments.
        where: what their videos must be.
        include_own_patient: also find moments of the query's patient, never of its own video.
        in_time: called from time to time, to raise what ends the work.

    Raises:
        InvalidInput: If k is out of bounds, or too many for so long a query, or the query is longer than an
            hour.
        NotFound: If the query is not stored.
    """
    if not 1 <= k <= MAX_K:
        raise InvalidInput(f"expected k of 1 to {MAX_K}, got {k}", field="k")
    own, rows = _rows_of(snapshot, query)
    if k * len(rows) > _MOST_PAIRS and k > 1:
        most = max(_MOST_PAIRS // len(rows), 1)
        raise InvalidInput(f"expected k of at most {most} for a query of {len(rows)} clips, got {k}", field="k")
    patient = snapshot.patient_ids[snapshot.patient_of_row[rows[0]]]
    allowed = snapshot.row_set(where, "" if include_own_patient else patient, own)
    centre = _Centre.of(snapshot, rows)
    found: list[_Stretch] = []
    piece_rows = min(max(_PIECE_CELLS // len(rows), _LEAST_PIECE_ROWS), _PIECE_ROWS)
    for part, follows in _pieces(snapshot, allowed, piece_rows):
        in_time()
        similarity, first = _best_ending_at(centre.cosines(_vectors(snapshot, part)), follows)
        found += _apart(similarity, first, k, part)
    best = sorted(found, key=lambda stretch: (-stretch.similarity, stretch.first))[:k]
    moments = []
    for stretch in best:
        in_time()
        moments.append(_moment(snapshot, centre, rows, stretch))
    return tuple(moments)


def _rows_of(snapshot: Snapshot, query: ClipQuery | VideoQuery) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the query's video, and those that are searched for."""
    rows = snapshot.rows_of(query)
    if isinstance(query, ClipQuery):
        return snapshot.rows_of_group(int(rows[0]), patient=False), rows
    video = snapshot.videos.get(query.video_id)
    chosen = rows[counted_clips(video, snapshot.clips(rows))]
    if len(chosen) > MOST_CLIPS:
        raise InvalidInput(
            f"a video of more than {MOST_CLIPS} clips can't be searched for as a whole: give its seizure an onset and "
            "an end, or choose one of its clips"
        )
    return rows, chosen


@dataclass(frozen=True, slots=True)
class _Centre:
    """The query's clips, less the mean of all, and how to compare others with them.

    Attributes:
        queries_QD: of unit length.
        mean_D: of all.
    """

    queries_QD: NDArray[np.float32]
    mean_D: NDArray[np.float32]

    @classmethod
    def of(cls, snapshot: Snapshot, rows: NDArray[np.int64]) -> _Centre:
        centred = snapshot.vectors(rows) - snapshot.mean
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        return cls(centred / np.maximum(lengths, _LEAST_SPREAD), snapshot.mean)

    def cosines(self, vectors_CD: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Q, C) cosines to vectors of unit length, without making those less the mean."""
        products = np.concatenate([self.queries_QD, self.mean_D[None]]) @ vectors_CD.T
        of_mean, square = products[-1], float(self.mean_D @ self.mean_D)
        lengths = np.sqrt(np.maximum(1 - 2 * of_mean + square, _LEAST_SPREAD**2))
        cosines: NDArray[np.float32] = (products[:-1] - self.queries_QD @ self.mean_D[:, None]) / lengths
        return cosines


def _pieces(
    snapshot: Snapshot, allowed: RowSet, piece_rows: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Rows that may be found, in pieces that cut no run of clips, and which of them follow the one before."""
    rows = np.flatnonzero(allowed.admits(np.arange(len(snapshot))))
    follows = np.zeros(len(rows), np.bool_)
    next_row, next_clip = np.diff(rows) == 1, np.diff(snapshot.clip_indexes(rows)) == 1
    follows[1:] = next_row & next_clip & (np.diff(snapshot.video_of_row[rows]) == 0)
    begins = np.append(np.flatnonzero(~follows), len(rows))
    start = 0
    while begins[start] < len(rows):
        stop = max(int(np.searchsorted(begins, begins[start] + piece_rows, "right")) - 1, start + 1)
        yield rows[begins[start] : begins[stop]], follows[begins[start] : begins[stop]]
        start = stop


def _vectors(snapshot: Snapshot, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """(C, D) of rows in order; without a copy where they are one piece of the generation."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first == len(rows) - 1 and last < len(snapshot.generation.clips):
        return snapshot.generation.vectors.all[first : last + 1]
    return snapshot.vectors(rows)


def _best_ending_at(
    cosines_QC: NDArray[np.float32], follows_C: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How similar the best stretch that ends at each row is to the whole query, and the row where it begins."""
    queries, count = cosines_QC.shape
    here = cosines_QC.astype(np.float64)
    rows = np.arange(count)
    both = follows_C.copy()  # whether the two rows before a row are its predecessors
    both[1:] &= follows_C[:-1]
    pairs = np.full_like(here, -np.inf)  # a query clip on two rows, by their mean
    pairs[:, 1:] = np.where(follows_C[1:], (here[:, 1:] + here[:, :-1]) / 2, -np.inf)
    total, first = _larger((here[0], rows), (pairs[0], rows - 1))
    before: tuple[NDArray[np.float64], NDArray[np.int64]] = (np.full(count, 0.0), rows + 1)
    for number in range(1, queries):
        one = _shifted(total, first, 1, follows_C)
        two = _shifted(total, first, 2, both)
        steps = [(one[0] + here[number], one[1]), (two[0] + pairs[number], two[1])]
        squeezed = here[number - 1] + here[number]  # two query clips on one row
        if number == 1:
            steps.append((squeezed, rows))
        else:
            last = _shifted(*before, 1, follows_C)
            steps.append((last[0] + squeezed, last[1]))
        before = total, first
        total, first = _larger(*steps)
    return total / queries, first


def _shifted(
    total: NDArray[np.float64], first: NDArray[np.int64], by: int, may_C: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What stood so many rows before each row, where they are its predecessors."""
    moved, begins = np.full(len(total), -np.inf), np.zeros(len(first), np.int64)
    moved[by:] = np.where(may_C[by:], total[:-by], -np.inf)
    begins[by:] = first[:-by]
    return moved, begins


def _larger(
    *steps: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The best of several steps to each row; of equals the first."""
    total, first = steps[0]
    for other, begins in steps[1:]:
        better = other > total
        total, first = np.where(better, other, total), np.where(better, begins, first)
    return total, first


def _apart(
    similarity: NDArray[np.float64], first: NDArray[np.int64], k: int, rows: NDArray[np.int64]
) -> list[_Stretch]:
    """The best k stretches of a piece of which no two overlap by more than half of the shorter one."""
    wanted = k * _ENDS_A_MOMENT
    while True:
        ends = np.arange(len(similarity))
        if wanted < len(ends):
            ends = np.argpartition(-similarity, wanted)[:wanted]
        ends = ends[np.lexsort((ends, -similarity[ends]))]
        kept: list[_Stretch] = []
        for last in ends.tolist():
            if similarity[last] == -np.inf or len(kept) == k:
                break
            stretch = _Stretch(float(similarity[last]), int(rows[first[last]]), int(rows[last]))
            if not any(_overlaps(stretch, other) for other in kept):
                kept.append(stretch)
        if len(kept) == k or wanted >= len(similarity):
            return kept
        wanted *= 4


def _overlaps(one: _Stretch, other: _Stretch) -> bool:
    shared = min(one.last, other.last) - max(one.first, other.first) + 1
    return shared > _MOST_OVERLAP * min(one.last - one.first + 1, other.last - other.first + 1)


def _moment(snapshot: Snapshot, centre: _Centre, query_rows: NDArray[np.int64], stretch: _Stretch) -> Moment:
    rows = np.arange(stretch.first, stretch.last + 1)
    clips, asked = snapshot.clips(rows), snapshot.clips(query_rows)
    video = snapshot.videos[clips[0].video_id]
    cosines = centre.cosines(snapshot.vectors(rows)).astype(np.float64)
    pairs = tuple((asked[q].clip_id, clips[c].clip_id) for q, c in _path(cosines))
    return Moment(
        video_id=video.video_id,
        patient_id=video.patient_id,
        label=video.label,
        start_s=round(video.start_s + clips[0].start_s, 3),
        end_s=round(video.start_s + clips[-1].start_s + clips[-1].valid_seconds, 3),
        onset_s=video.onset_s,
        similarity=stretch.similarity,
        pairs=pairs,
    )


def _path(cosines_QM: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (query clip, clip) of the best path from the first row of a stretch to its last."""
    queries, count = cosines_QM.shape
    best = np.full((queries + 1, count + 1), -np.inf)  # of the query clips and rows before these numbers
    best[0, 0] = 0.0
    chosen = np.zeros((queries, count), np.int64)
    for q in range(queries):
        here = cosines_QM[q]
        ways = np.full((3, count), -np.inf)
        ways[0] = best[q, :-1] + here
        ways[1, 1:] = best[q, :-2] + (here[:-1] + here[1:]) / 2
        if q > 0:
            ways[2] = best[q - 1, :-1] + cosines_QM[q - 1] + here
        chosen[q] = ways.argmax(axis=0)
        best[q + 1, 1:] = ways.max(axis=0)
    path = []
    q, c = queries - 1, count - 1
    while q >= 0:
        path.append((q, c))
        way = chosen[q, c]
        if way == 1:
            path.append((q, c - 1))
        elif way == 2:
            path.append((q - 1, c))
        q, c = q - 1 - (way == 2), c - 1 - (way == 1)
    return path[::-1]
