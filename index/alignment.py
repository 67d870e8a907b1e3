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


def align(cosines_QM: Sequence[NDArray[np.float32]]) -> list[tuple[float, list[tuple[int, int]]]]:
    """The best path through each table of cosines between a query's Q clips and a video's M.

    Args:
        cosines_QM: (Q, M) a video; Q the same for all, M not.

    Returns:
        For each video its similarity in [-1, 1], and the pairs (query clip, video clip) of the path, from the first of
        both to the last of both; of equally good paths the one that steps in both.
    """
    if not cosines_QM:
        return []
    lengths = [table.shape[1] for table in cosines_QM]
    rows, columns = cosines_QM[0].shape[0], max(lengths)
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
    found = []
    for number, length in enumerate(lengths):
        similarity = total[rows, length, number] / (rows + length)
        found.append((float(similarity), _path(total[:, :, number], cosines[:, :, number], rows, length)))
    return found


def _path(total: NDArray[np.float64], cosines: NDArray[np.float64], rows: int, columns: int) -> list[tuple[int, int]]:
    path = []
    i, j = rows, columns
    while i and j:
        path.append((i - 1, j - 1))
        here = cosines[i - 1, j - 1]
        step = int(np.argmax((total[i - 1, j - 1] + 2 * here, total[i - 1, j] + here, total[i, j - 1] + here)))
        i -= step in (_BOTH, _DOWN)
        j -= step in (_BOTH, _RIGHT)
    return path[::-1]
