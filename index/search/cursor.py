"""Where in a ranking the next page begins, as an opaque text that fits one snapshot and one query only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from index.errors import InvalidInput, StateError
from index.query import MAX_K, Query, VectorQuery

_MAX_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class Mark:
    """What a cursor belongs to.

    Attributes:
        generation: that was searched.
        table_version: that was looked at beside it.
        asked: digest of query and options.
    """

    generation: str
    table_version: int
    asked: str


def digest(query: Query, options: object) -> str:
    """Of all that decides a ranking; the order within a filter's sets does not."""
    if isinstance(query, VectorQuery):
        vector = np.ascontiguousarray(query.vector, np.float32).tobytes()
        query_text = f"{query.encoder_id}/{query.patient_id}/{hashlib.sha256(vector).hexdigest()}"
    else:
        query_text = repr(query)
    return hashlib.sha256(f"{query_text} {_ordered(options)}".encode()).hexdigest()[:16]


def write(mark: Mark, offset: int) -> str:
    """The cursor of the hits from `offset` on."""
    return base64.urlsafe_b64encode(json.dumps({**asdict(mark), "offset": offset}).encode()).decode()


def read(cursor: str, mark: Mark) -> int:
    """Where a page begins.

    Raises:
        InvalidInput: If it is no cursor, or one of another query.
        StateError: If it is of another generation, or of another state of the store.
    """
    try:
        if len(cursor) > _MAX_CHARACTERS:
            raise ValueError
        values = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
        found = Mark(str(values["generation"]), int(values["table_version"]), str(values["asked"]))
        offset = int(values["offset"])
        if not 0 < offset < MAX_K:
            raise ValueError
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError):
        raise InvalidInput("expected the cursor of a page before, got something else", field="page_token") from None
    if found.asked != mark.asked:
        raise InvalidInput("the cursor is of another query: ask the same query for every page", field="page_token")
    if (found.generation, found.table_version) != (mark.generation, mark.table_version):
        raise StateError("the index or the store has changed since the first page: begin again without a cursor")
    return offset


def _ordered(value: object) -> str:
    if isinstance(value, frozenset):
        return repr(sorted(value))
    if hasattr(value, "__dataclass_fields__"):
        fields = ", ".join(_ordered(getattr(value, name)) for name in value.__dataclass_fields__)
        return f"{type(value).__name__}({fields})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_ordered, value))})"
    return repr(value)
