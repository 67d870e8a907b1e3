"""Counting overlapping clips once: of those that show the same seconds of a video the most similar one is found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.phases import ROUNDED_S
from index.search.snapshot import Snapshot

_FAR_S = 1e6
"""Longer than any video: on one axis of time, one comes after the other."""


def first_apart(snapshot: Snapshot, rows: NDArray[np.int64], k: int) -> list[int]:
    """Places of the first k of some rows, best first, that overlap with no row before them that is kept."""
    if not snapshot.overlap:
        return list(range(min(k, len(rows))))
    begins, ends = _on_one_axis(snapshot, rows)
    kept: list[int] = []
    for place in range(len(rows)):
        if len(kept) == k:
            break
        shared = np.minimum(ends[kept], ends[place]) - np.maximum(begins[kept], begins[place])
        if not (shared > ROUNDED_S).any():
            kept.append(place)
    return kept


def with_overlapping(snapshot: Snapshot, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Some rows, and all others that show some of the same seconds of a video."""
    if not snapshot.overlap:
        return rows
    found = [rows]
    for row in rows:
        of_video = snapshot.rows_of_group(int(row), patient=False)
        (begins, ends), ((begin,), (end,)) = snapshot.spans(of_video), snapshot.spans(np.array([row]))
        found.append(of_video[(begins < end - ROUNDED_S) & (ends > begin + ROUNDED_S)])
    return np.unique(np.concatenate(found))


def overlapping(snapshot: Snapshot, rows_QK: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(Q,) whether any two of a query's rows overlap."""
    if not snapshot.overlap or rows_QK.shape[1] < 2:
        return np.zeros(len(rows_QK), np.bool_)
    rows = np.sort(rows_QK, axis=1)
    begins, ends = (part.reshape(rows.shape) for part in _on_one_axis(snapshot, rows.ravel()))
    found: NDArray[np.bool_] = (begins[:, 1:] < ends[:, :-1] - ROUNDED_S).any(axis=1)
    return found


def best_apart(snapshot: Snapshot, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Those of some rows that are kept, in order, where best first each is kept that overlaps with none before it.

    Args:
        snapshot: whose rows.
        rows: in increasing order.
        scores: one for each; of equal ones the earlier row is the better.
    """
    if not snapshot.overlap:
        return rows
    begins, ends = _on_one_axis(snapshot, rows)
    kept = np.zeros(len(rows), np.bool_)
    left = np.arange(len(rows))
    while len(left):  # those that are better than all that they overlap with are kept, which decides on these
        best = np.ones(len(left), np.bool_)
        pairs = []
        for step in range(1, len(left)):
            met = np.flatnonzero(begins[left[step:]] < ends[left[:-step]] - ROUNDED_S)
            if not len(met):
                break
            pairs.append((met, met + step))
            first = scores[left[met]] >= scores[left[met + step]]
            best[np.where(first, met + step, met)] = False
        kept[left[best]] = True
        out = best.copy()
        for one, other in pairs:
            out[other[best[one]]] = True
            out[one[best[other]]] = True
        left = left[~out]
    return rows[kept]


def _on_one_axis(snapshot: Snapshot, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2, N) when each row's clip begins and ends, where one video follows the other."""
    times: NDArray[np.float64] = snapshot.spans(rows) + _FAR_S * snapshot.video_of_row[rows]
    return times
