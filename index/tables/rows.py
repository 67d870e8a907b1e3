"""Rows of the store's tables: some columns, a part at a time, or clips in order, each row's hash checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from index.errors import DamagedData
from index.tables.clip_table import ClipTable
from index.tables.schema import CLIP_COLUMNS, CLIP_FIELDS, check_rows, vectors_of

_ORDER = [("patient_id", "ascending"), ("video_id", "ascending"), ("clip_index", "ascending"), ("clip_id", "ascending")]


@dataclass(frozen=True, slots=True)
class StoredClips:
    """Clips of one encoder at one table version, sorted by patient, video and clip number.

    Attributes:
        encoder_id: whose embeddings these are.
        table_version: LanceDB version of the clip table.
        clips: one for each row.
        vectors: (N, D) float32, unit length.
    """

    encoder_id: str
    table_version: int
    clips: ClipTable
    vectors: NDArray[np.float32]


def select(table: Any, columns: list[str] | None, where: str | None = None) -> pa.Table:  # noqa: ANN401
    """Columns, by default all, of the rows for which `where`, made by `index.tables.schema`, holds.

    Raises:
        DamagedData: If Lance can't make sense of its own files.
    """
    with _naming_panics():
        return table.to_table(columns, where)


def batches(table: Any, columns: list[str], where: str | None = None) -> Iterator[pa.RecordBatch]:  # noqa: ANN401
    """Select rows, a part at a time.

    Raises:
        DamagedData: If Lance can't make sense of its own files.
    """
    with _naming_panics():
        yield from table.to_batches(columns, where)


@contextmanager
def _naming_panics() -> Iterator[None]:
    """A flipped bit may make LanceDB panic; what comes of it here is of classes that can't be imported."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ in ("RustPanic", "PanicException"):
            raise DamagedData("LanceDB can't make sense of what is stored: `semiome doctor` says more") from error
        raise


def read_rows(table: Any, encoder_id: str, where: str | None) -> StoredClips:  # noqa: ANN401
    """Clips of one table version in order, without a second copy of their vectors.

    Raises:
        DamagedData: If a row is not what was written.
    """
    keys = select(table, list(CLIP_FIELDS), where)
    order = pc.sort_indices(keys, sort_keys=_ORDER)
    place = np.empty(keys.num_rows, np.int64)
    place[order.to_numpy()] = np.arange(keys.num_rows)
    vectors = np.empty((keys.num_rows, table.schema.field("vector").type.list_size), np.float32)
    at = 0
    for batch in batches(table, [*CLIP_COLUMNS, "vector"], where):
        check_rows(batch)
        stop = at + batch.num_rows
        if not batch.column("clip_id").equals(keys.column("clip_id").slice(at, batch.num_rows).combine_chunks()):
            raise DamagedData("LanceDB gave one table version's rows in two orders")
        vectors[place[at:stop]] = vectors_of(batch)
        at = stop
    if at != keys.num_rows:
        raise DamagedData(f"expected {keys.num_rows} stored clips, LanceDB gave {at}")
    return StoredClips(encoder_id, int(table.version), ClipTable.of_columns(keys.take(order)), vectors)
