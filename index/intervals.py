"""How sure a mean is, where values come in groups: a patient's values are no independent witnesses of one another.

Drawing patients with replacement gives intervals that are too narrow where there are few of them: of 15 patients, an
interval meant to hold the truth 95 times of 100 holds it 90 times, and 31 to 77 times where nearly everything is right
(`tests/index/test_intervals.py` measures both ways). The two methods here do not depend on draws, and neither has an
interval without width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
"""97.5 % quantile of a normal distribution."""

Groups = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]


def share(sums: Groups, counts: Groups) -> tuple[float, float]:
    """95 % interval of a mean of values between 0 and 1.

    Wilson's interval on the effective number of values (Kish: what as many independent ones would tell as these do,
    grouped as they are), with Korn and Graubard's correction for few groups. So that the spread between groups can't
    vanish, half a group of ones and half a group of zeros are added to it.

    Args:
        sums: (G,) of each group's values.
        counts: (G,) how many values each has, at least one.

    Returns:
        From and to; 0 and 1 with fewer than two groups.
    """
    sums, counts = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    groups, values = len(sums), float(counts.sum())
    if groups < 2:
        return 0.0, 1.0
    size, mean = values / groups, float(sums.sum()) / values
    weights = np.append(np.ones(groups), (0.5, 0.5))
    smoothed_sums, smoothed_counts = np.append(sums, (size, 0.0)), np.append(counts, (size, size))
    smoothed = float((weights * smoothed_sums).sum() / (weights * smoothed_counts).sum())
    squares = float((weights * (smoothed_sums - smoothed_counts * smoothed) ** 2).sum())
    variance = groups / (groups - 1) * squares / float((weights * smoothed_counts).sum()) ** 2
    effective = min(smoothed * (1 - smoothed) / variance, values) * (Z / t_quantile(groups - 1)) ** 2
    return wilson(mean, effective)


def wilson(mean: float, number: float) -> tuple[float, float]:
    """95 % interval of a share that so many independent values have."""
    squared = Z * Z / number
    middle = (mean + squared / 2) / (1 + squared)
    half = Z / (1 + squared) * math.sqrt(max(mean * (1 - mean), 0.0) / number + squared / (4 * number))
    return max(min(middle - half, mean), 0.0), min(max(middle + half, mean), 1.0)  # of 1.0 not 0.9999999999999999


def difference(gains: Groups, counts: Groups) -> tuple[float, float]:
    """95 % interval of a mean of values between -1 and 1, such as what one row is right more often than another.

    Student's t over the groups; a group that gains all and one that loses all are added, half of each, so that rows
    which agree everywhere are not called equal beyond doubt.

    Args:
        gains: (G,) sum of each group's values.
        counts: (G,) how many values each has, at least one.

    Returns:
        From and to; -1 and 1 with fewer than two groups.
    """
    gains, counts = np.asarray(gains, np.float64), np.asarray(counts, np.float64)
    groups, values = len(gains), float(counts.sum())
    if groups < 2:
        return -1.0, 1.0
    mean = float(gains.sum()) / values
    squares = groups / (groups - 1) * float(((gains - counts * mean) ** 2).sum()) + (values / groups) ** 2
    half = t_quantile(groups - 1) * math.sqrt(squares) / values
    return max(mean - half, -1.0), min(mean + half, 1.0)


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's distribution, to 0.003 (Abramowitz and Stegun, 26.7.5).

    SciPy has it to all digits; what builds an index would have to load it for this alone.
    """
    if freedom < len(_FEW):
        return _FEW[freedom]
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / freedom + second / freedom**2 + third / freedom**3


_FEW = (math.inf, 12.7062, 4.3027, 3.1824, 2.7764)
