"""What a caller who may not read embeddings is told of them: rounded similarities, of few hits, to stored clips only.

Exact similarities to enough known clips give an embedding away by solving linear equations. A coarse step, a short list
of hits, no queries by vector and a day's quota of queries keep what can be put together below a cosine of one half
(tests/service/test_multilateration.py does the attack).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput
from index.query import Query, VectorQuery
from index.records import Neighbour
from service.roles import EXACT, Caller, require

STEP = 0.05
MAX_HITS = 50


def check_query(caller: Caller, query: Query) -> None:
    """Queries by vector are for those who may read embeddings.

    Raises:
        PermissionRefused: the caller may not.
    """
    if isinstance(query, VectorQuery):
        require(caller, EXACT, "a query by vector")


def check_hits(caller: Caller, hits: int) -> None:
    """Only so many hits for those who see rounded similarities.

    Raises:
        InvalidInput: more were asked for.
    """
    if hits > MAX_HITS and not caller.sees_exactly:
        raise InvalidInput(f"expected at most {MAX_HITS} hits for your role, got {hits}", field="options.k")


def check_pages(caller: Caller) -> None:
    """Pages lead to the 1,000 nearest: further than `MAX_HITS`.

    Raises:
        PermissionRefused: the caller may not go so far.
    """
    require(caller, EXACT, "an answer in pages")


def shown(caller: Caller, neighbours: Iterable[Neighbour]) -> tuple[Neighbour, ...]:
    """Hits as a caller may see them."""
    return tuple(neighbours) if caller.sees_exactly else tuple(map(_rounded, neighbours))


def shown_values(caller: Caller, similarities: NDArray[np.float32]) -> list[float]:
    """As `shown`, for similarities alone."""
    values: list[float] = similarities.tolist()
    return values if caller.sees_exactly else list(map(rounded, values))


def rounded(similarity: float) -> float:
    """To the nearest step."""
    return round(round(similarity / STEP) * STEP, 2)


def _rounded(neighbour: Neighbour) -> Neighbour:
    matches = tuple(replace(match, similarity=rounded(match.similarity)) for match in neighbour.matches)
    return replace(neighbour, similarity=rounded(neighbour.similarity), matches=matches)
