"""95 % intervals of a row's figures over patients, by methods that keep what they promise with 15 of them.

Each is a share of something, or made of shares: accuracy of the videos; sensitivity and specificity of the videos of a
class; F1 of the videos that are of a class or are called so. AUROC has Newcombe's interval. `tests/trainer/judging/
test_intervals.py` draws cohorts of 15 and counts how often the truth lies inside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from index.intervals import share, t_quantile

Flags = NDArray[np.bool_]
Interval = tuple[float, float]


def share_over_patients(right: Flags, patient: NDArray[np.intp]) -> Interval:
    """Give the interval of a share of videos.

    Args:
        right: (V,) those that count for it.
        patient: (V,) number of each video's patient.
    """
    _, place = np.unique(patient, return_inverse=True)
    return share(np.bincount(place, weights=right), np.bincount(place))


def f1_over_patients(said: Flags, there: Flags, patient: NDArray[np.intp]) -> Interval:
    """Give the interval of F1.

    F1 rises with the share of right ones among the videos that are of the class or are said to be: of a share s it is
    2 s / (1 + s), and so are its bounds.
    """
    either = said | there
    if not either.any():
        return 0.0, 1.0
    low, high = share_over_patients((said & there)[either], patient[either])
    return 2 * low / (1 + low), 2 * high / (1 + high)


def mean_of_independent(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """Give the interval of the mean of figures of different patients, from that of each (Zou and Donner)."""
    mean = sum(values) / len(values)
    below, above = (
        math.hypot(*(value - interval[side] for value, interval in zip(values, intervals, strict=True))) / len(values)
        for side in (0, 1)
    )
    return mean - below, mean + above


def auroc_over_patients(
    value: float,
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
    patient: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Interval:
    """Give the areas under a ROC curve that are not improbable given the one found (Newcombe's method 5).

    The numbers of videos are reduced to what as many independent ones would tell, by the spread between patients
    (DeLong, Obuchowski), and at least to the effective number of patients.

    Args:
        value: the area found.
        positive: (M,) probabilities of the positive videos.
        negative: (N,) those of the negative ones.
        patient: numbers of their patients, (M,) and (N,).
    """
    clusters = [np.unique(of_class, return_inverse=True)[1] for of_class in patient]
    patients = sum(int(place.max()) + 1 for place in clusters)
    if min(int(place.max()) + 1 for place in clusters) < 2:
        return 0.0, 1.0
    above, below = _share_below(positive, negative), 1 - _share_below(negative, positive)
    variance = 0.0
    least = 1.0
    for of_class, place in zip((above, below), clusters, strict=True):
        parts, sizes = of_class - value, np.bincount(place)
        groups, videos = len(sizes), len(place)
        variance += groups / (groups - 1) * float((np.bincount(place, weights=parts) ** 2).sum()) / videos**2
        least = min(least, videos / float((sizes**2).sum()))
    numbers = len(positive), len(negative)
    alone = _newcombe(value, *numbers)
    part = min(max(alone / variance, least), 1.0) if variance > 0 else least
    quantile = t_quantile(patients - 2)
    few = max(numbers[0] * part, 1.0), max(numbers[1] * part, 1.0)
    return tuple(_bound(value, few, quantile, end) for end in (0.0, 1.0))  # type: ignore[return-value]


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the others that are lower than each value; equal ones count half."""
    others = np.sort(others)
    ends = np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")
    return ends / (2 * len(others))


def _newcombe(area: float, positive: float, negative: float) -> float:
    """Variance of an area found, if it is this one."""
    middle = (positive + negative) / 2 - 1
    spread = 1 + middle * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * spread / (positive * negative)


def _bound(value: float, numbers: tuple[float, float], quantile: float, end: float) -> float:
    """The area nearest to `end` that is no further from the one found than so many standard deviations of its own."""
    inside, outside = value, end
    for _ in range(60):
        middle = (inside + outside) / 2
        if abs(middle - value) <= quantile * math.sqrt(_newcombe(middle, *numbers)):
            inside = middle
        else:
            outside = middle
    return inside
