"""How sure a mean is: 95 % intervals by drawing with replacement."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def over_groups(
    sums: NDArray[Any], counts: NDArray[np.integer[Any]], random: np.random.Generator, draws: int
) -> tuple[Any, Any]:
    """Interval of the mean of all values, whole groups drawn: values of one patient are no independent witnesses.

    Args:
        sums: (G,) or (G, F) of each group's values.
        counts: (G,) how many values each has.
        random: source of random numbers.
        draws: number of draws.

    Returns:
        2.5 % and 97.5 % quantiles, each a number or (F,).
    """
    drawn = random.integers(0, len(sums), (draws, len(sums)))
    values = counts[drawn].sum(axis=1)
    means = sums[drawn].sum(axis=1) / (values if sums.ndim == 1 else values[:, None])
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high
