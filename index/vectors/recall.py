"""How much of the truth an approximate index finds, and how hard it has to look for that: measured, not assumed.

Queries are rows of the index, each without its own patient, as searches are: so no query finds itself or its own
video, and finding nothing but near copies counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.intervals import share
from index.tables.clip_table import ClipTable
from index.vectors.brute_force import Allowed, Vectors, nearest
from index.vectors.faiss_index import TUNED_FOR as K
from index.vectors.faiss_index import Effort, Index, IvfIndex

_QUERIES_TO_TUNE, _QUERIES_TO_MEASURE = 600, 500
_CANDIDATES = (4, 3, 2, 6, 8, 16)
"""Likely ones first: what costs more than the best so far is not tried."""
_CODES_A_CANDIDATE = 200
"""Reading a vector from its file and comparing it (3 µs) takes as long as comparing this number of codes."""
_MARGIN = 0.01
"""Margin above the target that is tuned to, since what is tuned on flatters."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of the true nearest 10 that an index found.

    Attributes:
        value: 1.0 where no query has a neighbour.
        low: 95 % interval, resampled over queries.
        high: 95 % interval.
        queries: how many were asked.
    """

    value: float
    low: float
    high: float
    queries: int


class HeldOut:
    """Queries and what is truly nearest to them."""

    def __init__(
        self, vectors: Vectors, clips: ClipTable, rows: NDArray[np.int64], progress: Callable[[int, int], None]
    ) -> None:
        self._vectors = vectors
        runs = [clips.rows_of_patient(clips.patient_ids[clips.patient_of_row[row]]) for row in rows]
        allowed = [Allowed(len(clips), without=run) for run in runs]
        self._asked = [(row, one, min(K, one.total)) for row, one in zip(rows, allowed, strict=True) if one.total]
        self._least: list[float] = []
        step = 64
        for start in range(0, len(self._asked), step):
            progress(start, len(self._asked))
            part = self._asked[start : start + step]
            queries = vectors.rows([row for row, _, _ in part])
            similarities, _ = nearest(queries, vectors, K, [one for _, one, _ in part])
            self._least += [float(found[k - 1]) for found, (_, _, k) in zip(similarities, part, strict=True)]
        progress(len(self._asked), len(self._asked))

    @property
    def count(self) -> int:
        """Queries that have a neighbour."""
        return len(self._asked)

    def recall(self, index: Index) -> Recall:
        """What the index finds of it."""
        shares = []
        for (row, allowed, k), least in zip(self._asked, self._least, strict=True):
            query = self._vectors.rows([row])
            _, rows = index.search(query, k, allowed)
            # By similarity, not by row: of clips equally near, any will do.
            similarities = self._vectors.rows(rows[0][rows[0] >= 0]) @ query[0]
            shares.append(float((similarities >= least - 1e-5).sum()) / k)
        if not shares:
            return Recall(1.0, 1.0, 1.0, 0)
        low, high = share(np.array(shares), np.ones(len(shares)))
        return Recall(float(np.mean(shares)), low, high, len(shares))


def tuned_recall(
    index: Index,
    vectors: Vectors,
    clips: ClipTable,
    target: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Recall:
    """Set the least effort that reaches the target on some queries, then measure on others.

    Args:
        index: an `IvfIndex` is tuned; of others the recall is measured.
        vectors: the vectors of its rows.
        clips: the clips of its rows.
        target: recall to reach.
        progress: told (queries done, in all) while the truth is looked up.
    """
    chosen = np.random.default_rng(0).permutation(len(clips))[: _QUERIES_TO_TUNE + _QUERIES_TO_MEASURE]
    for_tuning = min(_QUERIES_TO_TUNE, len(chosen) // 2) if isinstance(index, IvfIndex) else 0
    if isinstance(index, IvfIndex):
        _tune(index, HeldOut(vectors, clips, chosen[:for_tuning], lambda done, total: None), target + _MARGIN)
    return HeldOut(vectors, clips, chosen[for_tuning:][:_QUERIES_TO_MEASURE], progress).recall(index)


def _tune(index: IvfIndex, queries: HeldOut, target: float) -> None:
    """The cheapest effort that reaches the target; the greatest where none does."""
    best = index.effort = Effort(index.cells, max(_CANDIDATES))
    if not queries.count:
        return  # of one patient alone nothing can be measured
    for candidates in _CANDIDATES:
        affordable = (_cost(index, best) - _cost(index, Effort(0, candidates))) / index.rows_a_cell
        most = min(int(affordable), index.cells)
        too_few, cells = 0, min(1, most)
        while cells > too_few and not _reaches(index, queries, target, Effort(cells, candidates)):
            too_few, cells = cells, min(cells * 2, most)
        while cells - too_few > max(cells // 8, 1):
            middle = (too_few + cells) // 2
            if _reaches(index, queries, target, Effort(middle, candidates)):
                cells = middle
            else:
                too_few = middle
        if cells > too_few:
            best = min(best, Effort(cells, candidates), key=lambda effort: _cost(index, effort))
    index.effort = best


def _reaches(index: IvfIndex, queries: HeldOut, target: float, effort: Effort) -> bool:
    index.effort = effort
    return queries.recall(index).value >= target


def _cost(index: IvfIndex, effort: Effort) -> float:
    """Codes looked at, or as long as they would take."""
    return effort.cells * index.rows_a_cell + effort.candidates * K * _CODES_A_CANDIDATE
