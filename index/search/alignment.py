"""Whole seizures beside each other: dynamic time warping over their clips' embeddings.

"The same course of signs" is more than "one similar moment": every clip of both videos takes part, in order, and each
may wait for the other. Sakoe and Chiba's symmetric form (1978): a step in both videos counts twice, so the weights of
any path add up to the clips of both, and the score is a weighted mean of cosines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BOTH, _DOWN, _RIGHT = 0, 1, 2
MOST_CLIPS = 360
"""An hour, on either side: seizures last minutes, and the work grows with the product of both."""
_MOST_BYTES, _A_CELL_BYTES = 2**26, 16


class Alignments:
    """The best path through each table of cosines between a query's Q clips and a video's M.

    Args:
        cosines_QM: (Q, M) a video; Q the same for all, M not.

    Attributes:
        similarities: (V,) float64, of each video, in [-1, 1].
    """

    def __init__(self, cosines_QM: Sequence[NDArray[np.float32]]) -> None:
        self._cosines = cosines_QM
        self.similarities = np.empty(len(cosines_QM))
        lengths = np.array([table.shape[1] for table in cosines_QM], np.int64)
        order = np.argsort(lengths, kind="stable")  # those of a length together: the shorter ones are filled up
        while len(order):
            rows = cosines_QM[0].shape[0]
            sizes = (rows + 1) * (lengths[order] + 1) * np.arange(1, len(order) + 1) * _A_CELL_BYTES
            part, order = np.split(order, [max(int(np.searchsorted(sizes, _MOST_BYTES, "right")), 1)])
            total, _ = _totals([cosines_QM[number] for number in part])
            self.similarities[part] = total[rows, lengths[part], np.arange(len(part))] / (rows + lengths[part])

    def path(self, number: int) -> list[tuple[int, int]]:
        """Pairs (query clip, video clip) of a video's path, from the first of both to the last of both.

        Of equally good paths it is the one that steps in both.
        """
        rows, columns = self._cosines[number].shape
        total, cosines = _totals([self._cosines[number]])
        return _path(total[:, :, 0].tolist(), cosines[:, :, 0].tolist(), rows, columns)


def _totals(tables: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The best weighted sums up to each cell, (Q + 1, M + 1, V), and the cosines, (Q, M, V), of the longest M."""
    rows, columns = tables[0].shape[0], max(table.shape[1] for table in tables)
    cosines = np.zeros((rows, columns, len(tables)))
    for number, table in enumerate(tables):
        cosines[:, : table.shape[1], number] = table
    # Videos are the last axis: one step of the recursion serves all of them.
    total = np.full((rows + 1, columns + 1, len(tables)), -np.inf)
    total[0, 0] = 0
    for i in range(rows):
        for j in range(columns):
            here = cosines[i, j]
            straight = np.maximum(total[i, j + 1], total[i + 1, j]) + here
            total[i + 1, j + 1] = np.maximum(total[i, j] + 2 * here, straight)
    return total, cosines


def _path(total: list[list[float]], cosines: list[list[float]], rows: int, columns: int) -> list[tuple[int, int]]:
    path = []
    i, j = rows, columns
    while i and j:
        path.append((i - 1, j - 1))
        here = cosines[i - 1][j - 1]
        steps = (total[i - 1][j - 1] + 2 * here, total[i - 1][j] + here, total[i][j - 1] + here)
        step = steps.index(max(steps))
        i -= step in (_BOTH, _DOWN)
        j -= step in (_BOTH, _RIGHT)
    return path[::-1]
