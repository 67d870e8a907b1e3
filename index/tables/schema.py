"""The rows of the store: their columns, their digests, and the one way values become SQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.errors import DamagedData, InvalidInput
from index.records import Video

_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
_TIMES = ("start_s", "end_s", "onset_s", "seizure_end_s")
"""Where a video lies in its file, and the seizure in that."""
VIDEOS = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("patient_key", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("recorded_at", pa.string(), nullable=False),
        pa.field("semiology", pa.list_(pa.string()), nullable=False),
        pa.field("camera", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("clip_count", pa.int32(), nullable=False),
        pa.field("salvaged", pa.bool_(), nullable=False),
        pa.field("crop", pa.string(), nullable=False),
        pa.field("metadata", pa.string(), nullable=True),
        *(pa.field(name, pa.float64(), nullable=True) for name in _TIMES),
    ]
)
LATER_COLUMNS = ("metadata", *_TIMES)
"""Columns of the videos table that workspaces of earlier versions don't have."""
PATIENTS = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
        pa.field("patient_key", pa.string(), nullable=False),
    ]
)
NO_PICTURE = "none"
"""Beginning of a clip's `crop` where no picture was seen in it: such a row is kept, and never searched."""
WITH_PICTURE = f"NOT (crop LIKE '{NO_PICTURE}%')"
"""SQL for the clips that are searched, learned from and judged."""
CLIP_FIELDS = ("clip_id", "video_id", "patient_id", "clip_index", "start_s", "valid_seconds")
"""Those of `index.records.Clip`."""
_HASHED = ("clip_id", "video_id", "patient_id", "patient_key", "clip_index", "start_s", "valid_seconds")
CLIP_COLUMNS = (*_HASHED, "source_sha256", "crop", "commit_number", "row_sha256")
"""All but the vector."""


def clips_schema(width: int) -> pa.Schema:
    """Schema of the clip table of an encoder of this width."""
    return pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
            pa.field("video_id", pa.string(), nullable=False),
            pa.field("patient_id", pa.string(), nullable=False),
            pa.field("patient_key", pa.string(), nullable=False),
            pa.field("clip_index", pa.int32(), nullable=False),
            pa.field("start_s", pa.float64(), nullable=False),
            pa.field("valid_seconds", pa.float64(), nullable=False),
            pa.field("source_sha256", pa.string(), nullable=False),
            pa.field("crop", pa.string(), nullable=False),
            pa.field("commit_number", pa.int64(), nullable=False),
            pa.field("row_sha256", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), width), nullable=False),
        ]
    )


def row_of_video(video: Video) -> dict[str, Any]:
    """A video as a row of its table, but for the key of its patient."""
    metadata = json.dumps(dict(video.metadata), ensure_ascii=False) if video.metadata else None
    return {**asdict(video), "semiology": list(video.semiology), "metadata": metadata}


def video_of_row(row: Mapping[str, Any]) -> Video:
    """The reverse of `row_of_video`.

    Raises:
        InvalidInput: If its metadata can't be read, as only another program may have written it.
    """
    try:
        metadata = json.loads(row.get("metadata") or "{}").items()
    except (ValueError, AttributeError):
        raise InvalidInput("expected metadata as a JSON object of texts", field="metadata") from None
    described = {"semiology": tuple(row["semiology"]), "metadata": tuple(sorted(metadata))}
    return Video(**{**row, **described, "start_s": row.get("start_s") or 0.0})


def id_predicate(column: str, ids: Sequence[str]) -> str:
    """SQL for "this column is one of these"; the one place where values become SQL.

    Raises:
        InvalidInput: If an id holds anything but letters, digits, dots, underscores and hyphens.
    """
    for value in ids:
        if not value or not value.replace(".", "").replace("_", "").replace("-", "").isalnum():
            raise InvalidInput(f"expected an id of letters, digits, dots, underscores or hyphens, got {value[:64]!r}")
    quoted = ", ".join(f"'{value}'" for value in ids)
    return f"{column} IN ({quoted})" if ids else "false"


def vectors_of(rows: pa.Table | pa.RecordBatch) -> NDArray[np.float32]:
    """(N, D) of the column `vector`."""
    column = rows.column("vector")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(rows.num_rows, column.type.list_size), np.float32)


def row_sha256(row: Mapping[str, Any], vector: NDArray[np.float32]) -> str:
    """Digest of a clip row: LanceDB checks nothing it reads. Which commit wrote it does not count."""
    return _digest([row[name] for name in (*_HASHED, "source_sha256", "crop")], vector)


def damaged_rows(rows: pa.Table | pa.RecordBatch) -> list[str]:
    """Ids of the clips whose rows are not what was written; `rows` has all columns."""
    columns = [rows.column(name).to_pylist() for name in (*_HASHED, "source_sha256", "crop")]
    stored = rows.column("row_sha256").to_pylist()
    damaged = []
    for *values, digest, vector in zip(*columns, stored, vectors_of(rows), strict=True):
        if _digest(values, vector) != digest:
            damaged.append(str(values[0]))
    return damaged


def _digest(values: Sequence[Any], vector: NDArray[np.float32]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=True).encode() + vector.tobytes()).hexdigest()


def check_rows(rows: pa.Table | pa.RecordBatch) -> None:
    """Refuse clip rows that are not what was written.

    Raises:
        DamagedData: If rows are not what was written; the message says how many, and names the first.
    """
    if damaged := damaged_rows(rows):
        raise DamagedData(
            f"{len(damaged)} stored clips are not what was written ({', '.join(damaged[:3])}, …): "
            "`semiome doctor` says more"
        )
