"""Aligning a query's clips with every stretch of many videos.

Subsequence alignment, slope-limited as by Sakoe and Chiba (1978) and open at both ends of the recording: a step goes
one clip on in both, or two in one of them, so that time is stretched by a factor of two at most either way, and a path
always moves on. Every query clip weighs the same, so that a similarity is a mean of cosines. These are of vectors by
what tells them apart (`index.vectors.whitening`): what all clips have in common, a person in a bed, says nothing of
where to look, and what their rooms look like hardly more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.phases import ROUNDED_S
from index.search.snapshot import RowSet, Snapshot

_PIECE_ROWS, _LEAST_PIECE_ROWS, _PIECE_CELLS = 2**15, 2**11, 2**20
"""Rows that are compared at once: fewer with a long query, so that no table is large."""
_ENDS_A_MOMENT = 32
_FAR_S = 1e6
"""Longer than any video."""
MOST_OVERLAP = 0.5
"""Largest share of the shorter of two moments of a video that may lie in both."""


class Stretch(NamedTuple):
    """A part of a video, and how similar it is to the query.

    Attributes:
        similarity: mean of the aligned clips' cosines.
        rows: of its clips, each the first that leaves no gap before the next.
    """

    similarity: float
    rows: tuple[int, ...]


class Endings(NamedTuple):
    """The best stretch that ends at each of some rows.

    Attributes:
        rows: (C,) in order; no run of clips that follow each other is cut.
        begins_s: (C,) when each clip begins, on one axis of time on which runs lie far apart.
        ends_s: (C,) when it ends, on the same.
        before: (C,) place of the clip that comes before it in a stretch; -1 where there is none.
        similarity: (C,) of the stretch that ends there to the whole query, -inf where none can.
        first: (C,) place of the clip that it begins with.
    """

    rows: NDArray[np.int64]
    begins_s: NDArray[np.float64]
    ends_s: NDArray[np.float64]
    before: NDArray[np.int64]
    similarity: NDArray[np.float64]
    first: NDArray[np.int64]

    def stretch(self, last: int) -> Stretch:
        """The one that ends at a place."""
        places = [last]
        while places[-1] != self.first[last]:
            places.append(int(self.before[places[-1]]))
        return Stretch(float(self.similarity[last]), tuple(self.rows[places[::-1]].tolist()))


def endings(
    snapshot: Snapshot, asked_QK: NDArray[np.float32], allowed: RowSet, in_time: Callable[[], None]
) -> Iterator[Endings]:
    """The best stretch that ends at each row that may be found, in pieces that cut no run of clips.

    Args:
        snapshot: what is searched.
        asked_QK: the query's clips, whitened as the snapshot's rows are.
        allowed: which rows.
        in_time: called before each piece, to raise what ends the work.
    """
    cells = max(_PIECE_CELLS // len(asked_QK), _LEAST_PIECE_ROWS)
    for rows, follows in _pieces(snapshot, allowed, min(cells, _PIECE_ROWS)):
        in_time()
        begins, ends = snapshot.spans(rows) + _FAR_S * np.cumsum(~follows)
        before = _before(begins, ends)
        cosines_QC = asked_QK @ snapshot.whitened(rows).T
        yield Endings(rows, begins, ends, before, *_best_ending_at(cosines_QC, before))


def _before(begins: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.int64]:
    """The clip that comes before each in a stretch: the first that leaves no gap between them; -1 where there is none.

    Of clips that do not overlap it is the one before.
    """
    found = np.searchsorted(ends, begins - ROUNDED_S)
    return np.where(found < np.arange(len(found)), found, -1)


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


def _best_ending_at(
    cosines_QC: NDArray[np.float32], before_C: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How similar the best stretch that ends at each clip is to the whole query, and the clip that it begins with."""
    queries, count = cosines_QC.shape
    here = cosines_QC.astype(np.float64)
    rows = np.arange(count)
    both_C = np.where(before_C >= 0, before_C[before_C], -1)
    pairs = np.where(before_C >= 0, (here + here[:, before_C]) / 2, -np.inf)  # a query clip on two, by their mean
    total, first = _larger((here[0], rows), (pairs[0], before_C))
    before: tuple[NDArray[np.float64], NDArray[np.int64]] = (np.full(count, 0.0), rows + 1)
    for number in range(1, queries):
        one = _moved(total, first, before_C)
        two = _moved(total, first, both_C)
        steps = [(one[0] + here[number], one[1]), (two[0] + pairs[number], two[1])]
        squeezed = here[number - 1] + here[number]  # two query clips on one row
        if number == 1:
            steps.append((squeezed, rows))
        else:
            last = _moved(*before, before_C)
            steps.append((last[0] + squeezed, last[1]))
        before = total, first
        total, first = _larger(*steps)
    return total / queries, first


def _moved(
    total: NDArray[np.float64], first: NDArray[np.int64], from_C: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What stands at another clip for each clip; -inf where there is none."""
    return np.where(from_C >= 0, total[from_C], -np.inf), first[from_C]


def _larger(
    *steps: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The best of several steps to each row; of equals the first."""
    total, first = steps[0]
    for other, begins in steps[1:]:
        better = other > total
        total, first = np.where(better, other, total), np.where(better, begins, first)
    return total, first


def apart(found: Endings, k: int) -> list[Stretch]:
    """The best k stretches of a piece of which no two overlap by more than half of the shorter one."""
    similarity = found.similarity
    wanted = k * _ENDS_A_MOMENT
    while True:
        ends = np.arange(len(similarity))
        if wanted < len(ends):
            ends = np.argpartition(-similarity, wanted)[:wanted]
        ends = ends[np.lexsort((ends, -similarity[ends]))]
        ends = ends[similarity[ends] > -np.inf]
        firsts = found.first[ends]
        begin_s, end_s = found.begins_s[firsts], found.ends_s[ends]
        until = np.searchsorted(found.begins_s, end_s - ROUNDED_S)  # the clips from there on begin after it
        kept: list[Stretch] = []
        at_place: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for last, *span, first, stop in zip(*(a.tolist() for a in (ends, begin_s, end_s, firsts, until)), strict=True):
            if len(kept) == k:
                break
            begin, end = span
            if not any(
                too_much(begin, end, *other) for place in range(first, stop) for other in at_place.get(place, ())
            ):
                kept.append(found.stretch(last))
                for place in range(first, stop):
                    at_place[place].append((begin, end))
        if len(kept) == k or wanted >= len(similarity):
            return kept
        wanted *= 4


def too_much(begin: float, end: float, other_begin: float, other_end: float) -> bool:
    """Whether two stretches, in seconds, share more than half of the shorter one."""
    shared = min(end, other_end) - max(begin, other_begin)
    return shared > MOST_OVERLAP * min(end - begin, other_end - other_begin) + ROUNDED_S


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
