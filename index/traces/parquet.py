"""A Parquet file without the patient: rows that are theirs go, other values keep their types."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from index.traces.structured import Values, rows_without_patient


def parquet_without_patient(data: bytes, values: Values) -> bytes:
    """The file's bytes without the patient; the very same object where nothing has to change.

    Raises:
        ValueError: If it can't be read.
    """
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(str(error)) from None
    names = [field.name for field in table.schema if _holds_ids(field.type)]
    columns = {name: table.column(name).to_pylist() for name in names}
    rows = [["" if value is None else str(value) for value in row] for row in zip(*columns.values(), strict=True)]
    kept = rows_without_patient(names, rows, values)
    if all(new is old for new, old in zip(kept, rows, strict=True)):
        return data
    for place, name in enumerate(names):
        if pa.types.is_integer(table.schema.field(name).type):
            continue
        new = [
            value if row is None or row[place] == old[place] else row[place]
            for row, old, value in zip(kept, rows, columns[name], strict=True)
        ]
        field = table.schema.field(name)
        table = table.set_column(table.column_names.index(name), field, pa.array(new, field.type))
    written = io.BytesIO()
    pq.write_table(table.filter(pa.array([row is not None for row in kept])), written, compression="zstd")
    return written.getvalue()


def _holds_ids(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))
