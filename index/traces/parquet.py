"""A Parquet file without the patient: rows that are theirs go, other values keep their types."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.feather as pf
import pyarrow.parquet as pq

from index.traces.structured import Values, rows_without_patient


class NotUnderstood(Exception):
    """The patient is named where only a file's owner can take them out: a nested value, a column's name, metadata."""


def parquet_without_patient(data: bytes, values: Values) -> bytes:
    """The file's bytes without the patient; the very same object where nothing has to change.

    Raises:
        ValueError: If it can't be read.
        NotUnderstood: If it names the patient where it can't be changed here.
    """
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from None
    names = [field.name for field in table.schema if _is_text(field.type) or pa.types.is_integer(field.type)]
    columns = {name: table.column(name).to_pylist() for name in names}
    rows = [["" if value is None else str(value) for value in row] for row in zip(*columns.values(), strict=True)]
    kept = rows_without_patient(names, rows, values)
    for place, name in enumerate(names):
        field = table.schema.field(name)
        if pa.types.is_integer(field.type):
            continue
        new = [
            value if row is None or row[place] == old[place] else row[place]
            for row, old, value in zip(kept, rows, columns[name], strict=True)
        ]
        if new != columns[name]:
            table = table.set_column(table.column_names.index(name), field, pa.array(new, pa.string()).cast(field.type))
    changed = any(new is not old for new, old in zip(kept, rows, strict=True))
    if changed:
        table = table.filter(pa.array([row is not None for row in kept]))
    if any(mention.certain for text in _texts(table) for mention in values.names.find(text)):
        raise NotUnderstood
    if not changed:
        return data
    written = io.BytesIO()
    pq.write_table(table, written, compression="zstd")
    return written.getvalue()


def texts_of_arrow(data: bytes) -> Iterator[str]:
    """All that an Arrow or Feather file says.

    Raises:
        ValueError: If it can't be read.
    """
    try:
        yield from _texts(pf.read_table(io.BytesIO(data)))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from None


def _texts(table: pa.Table) -> Iterator[str]:
    yield str(table.schema.metadata or "")
    yield from table.column_names
    for column in table.columns:
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            yield from (_text(value) for value in column.to_pylist() if value is not None)


def _text(value: Any) -> str:  # noqa: ANN401
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
