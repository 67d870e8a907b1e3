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


class Alignments:
    """The best path through each table of cosines between a query's Q clips and a video's M.

    Args:
        cosines_QM: (Q, M) a video; Q the same for all, M not.

    Attributes:
        similarities: (V,) float64, of each video, in [-1, 1].
    """

    def __init__(self, cosines_QM: Sequence[NDArray[np.float32]]) -> None:
        self._lengths = np.array([table.shape[1] for table in cosines_QM], np.int64)
        if not len(self._lengths):
            self.similarities = np.empty(0)
            return
        rows, columns = cosines_QM[0].shape[0], int(self._lengths.max())
        cosines = np.zeros((rows, columns, len(cosines_QM)))
        for number, table in enumerate(cosines_QM):
            cosines[:, : table.shape[1], number] = table
        # Videos are the last axis: one step of the recursion serves all of them.
        total = np.full((rows + 1, columns + 1, len(cosines_QM)), -np.inf)
        total[0, 0] = 0
        for i in range(rows):
            for j in range(columns):
                here = cosines[i, j]
                straight = np.maximum(total[i, j + 1], total[i + 1, j]) + here
                total[i + 1, j + 1] = np.maximum(total[i, j] + 2 * here, straight)
        self._cosines, self._total = cosines, total
        self.similarities = total[rows, self._lengths, np.arange(len(self._lengths))] / (rows + self._lengths)

    def path(self, number: int) -> list[tuple[int, int]]:
        """Pairs (query clip, video clip) of a video's path, from the first of both to the last of both.

        Of equally good paths it is the one that steps in both.
        """
        rows, columns = self._cosines.shape[0], int(self._lengths[number])
        return _path(self._total[:, :, number].tolist(), self._cosines[:, :, number].tolist(), rows, columns)


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
