"""Aligning a query's clips with every stretch of many videos.

Subsequence alignment, slope-limited as by Sakoe and Chiba (1978) and open at both ends of the recording: a step goes
one clip on in both, or two in one of them, so that time is stretched by a factor of two at most either way, and a path
always moves on. Every query clip weighs the same, so that a similarity is a mean of cosines. These are of vectors less
the mean of all: what all clips have in common, a person in a bed, says nothing of where to look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.search.snapshot import RowSet, Snapshot

_PIECE_ROWS, _LEAST_PIECE_ROWS, _PIECE_CELLS = 2**15, 2**11, 2**20
"""Rows that are compared at once: fewer with a long query, so that no table is large."""
_ENDS_A_MOMENT = 32
_LEAST_SPREAD = 1e-6
MOST_OVERLAP = 0.5
"""Largest share of the shorter of two moments of a video that may lie in both."""


class Stretch(NamedTuple):
    """Rows from the first to the last, and how similar they are to the query."""

    similarity: float
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Centre:
    """The query's clips, less the mean of all, and how to compare others with them.

    Attributes:
        queries_QD: of unit length.
        mean_D: of all.
    """

    queries_QD: NDArray[np.float32]
    mean_D: NDArray[np.float32]

    @classmethod
    def of(cls, snapshot: Snapshot, rows: NDArray[np.int64]) -> Centre:
        """That of some rows."""
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


def endings(
    snapshot: Snapshot, centre: Centre, allowed: RowSet, in_time: Callable[[], None]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
    """The best stretch that ends at each row that may be found, in pieces that cut no run of clips.

    Args:
        snapshot: what is searched.
        centre: the query's clips.
        allowed: which rows.
        in_time: called before each piece, to raise what ends the work.

    Yields:
        rows, in order; how similar the stretch that ends there is to the whole query, -inf where none can; and at which
        of these rows it begins.
    """
    cells = max(_PIECE_CELLS // len(centre.queries_QD), _LEAST_PIECE_ROWS)
    for rows, follows in _pieces(snapshot, allowed, min(cells, _PIECE_ROWS)):
        in_time()
        yield rows, *_best_ending_at(centre.cosines(_vectors(snapshot, rows)), follows)


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


def apart(similarity: NDArray[np.float64], first: NDArray[np.int64], k: int, rows: NDArray[np.int64]) -> list[Stretch]:
    """The best k stretches of a piece of which no two overlap by more than half of the shorter one."""
    wanted = k * _ENDS_A_MOMENT
    while True:
        ends = np.arange(len(similarity))
        if wanted < len(ends):
            ends = np.argpartition(-similarity, wanted)[:wanted]
        ends = ends[np.lexsort((ends, -similarity[ends]))]
        kept: list[Stretch] = []
        at_row: dict[int, list[Stretch]] = defaultdict(list)
        for last in ends.tolist():
            if similarity[last] == -np.inf or len(kept) == k:
                break
            stretch = Stretch(float(similarity[last]), int(rows[first[last]]), int(rows[last]))
            covered = range(stretch.first, stretch.last + 1)
            if not any(_overlaps(stretch, other) for row in covered for other in at_row.get(row, ())):
                kept.append(stretch)
                for row in covered:
                    at_row[row].append(stretch)
        if len(kept) == k or wanted >= len(similarity):
            return kept
        wanted *= 4


def _overlaps(one: Stretch, other: Stretch) -> bool:
    shared = min(one.last, other.last) - max(one.first, other.first) + 1
    return shared > MOST_OVERLAP * min(one.last - one.first + 1, other.last - other.first + 1)


def aligned_pairs(cosines_QM: NDArray[np.float64]) -> list[tuple[int, int]]:
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
