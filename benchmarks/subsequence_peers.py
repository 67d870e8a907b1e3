"""Libraries that align a query with any part of a long series, where they are installed.

    pip install tslearn dtaidistance

Neither is in the lock: Semiome is compared with them and uses neither. Stumpy is not among them: it compares series of
one dimension, or each of many by itself, without stretching time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from figures import say
from numpy.typing import NDArray

Match = Callable[[NDArray[np.float32], NDArray[np.float32], int], list[tuple[int, int]]]
"""First and last row of a series (N, K) for each of the k best stretches that are like a query (Q, K), best first."""


def subsequence_peers() -> dict[str, Match]:
    """Those that are installed; what is missing is said."""
    found: dict[str, Match] = {}
    try:
        from tslearn.metrics import dtw_subsequence_path
    except ImportError:
        say("tslearn is not installed: pip install tslearn")
    else:

        def by_tslearn(query: NDArray[np.float32], series: NDArray[np.float32], k: int) -> list[tuple[int, int]]:
            path, _ = dtw_subsequence_path(query, series)  # the best one alone, whatever k is
            return [(int(path[0][1]), int(path[-1][1]))][:k]

        found["tslearn, the best alone"] = by_tslearn
    try:
        from dtaidistance.subsequence.dtw import subsequence_alignment
    except ImportError:
        say("dtaidistance is not installed: pip install dtaidistance")
    else:

        def by_dtaidistance(query: NDArray[np.float32], series: NDArray[np.float32], k: int) -> list[tuple[int, int]]:
            alignment = subsequence_alignment(query.astype(np.float64), series.astype(np.float64), use_c=True)
            if k == 1:
                return [tuple(map(int, alignment.best_match().segment))]
            return [tuple(map(int, match.segment)) for match in alignment.kbest_matches_fast(k=k)]

        found["dtaidistance"] = by_dtaidistance
    return found
