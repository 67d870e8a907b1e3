"""The store: clips with their embeddings, videos and patients, in LanceDB tables. The only file that knows LanceDB.

One clip table per encoder id. What can change without a new embedding (label, tags, date, camera) stands in the
videos table alone, so that there is one truth and a new label rewrites no vector. Rows are written by one process at
a time, in idempotent upserts, and acknowledged once they are on disk. `patient_key` is random: it, and opaque clip
ids, are the only values that ever stand in a predicate, because LanceDB keeps predicates in its transaction files.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.files import exclusive_lock, naming_a_full_disk, sync_tree
from index.records import Clip, EmbeddedClip, Video
from index.workspace import Workspace

_PRIMARY_KEY = {b"lance-schema:unenforced-primary-key": b"true"}
_VIDEO_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
        pa.field("patient_id", pa.string(), nullable=False),
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
    ]
)
_PATIENT_SCHEMA = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False, metadata=_PRIMARY_KEY),
        pa.field("patient_key", pa.string(), nullable=False),
    ]
)
_UNIT_TOLERANCE = 1e-3
_COARSE_S = 2.0
"""File systems keep times this coarsely."""


def _clip_schema(width: int) -> pa.Schema:
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
            pa.field("row_sha256", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), width), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class StoredClips:
    """All clips of one encoder at one table version, sorted by patient, video and clip number.

    Attributes:
        encoder_id: whose embeddings these are.
        table_version: LanceDB version of the clip table.
        clips: one for each row.
        vectors: (N, D) float32, unit length.
    """

    encoder_id: str
    table_version: int
    clips: tuple[Clip, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """What a video's stored clips were made of, and whose they are."""

    source_sha256: str
    crop: str
    patient_id: str


class Store:
    """Reads what is stored; `committing` gives the one writer.

    Every read opens the tables anew and so sees the newest version.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def encoder_ids(self) -> tuple[str, ...]:
        """Encoders that have a clip table."""
        return tuple(name.removeprefix("clips_") for name in self._table_names() if name.startswith("clips_"))

    def videos(self) -> dict[str, Video]:
        """All videos by id."""
        if "videos" not in self._table_names():
            return {}
        rows = self._open("videos").to_arrow().to_pylist()
        return {row["video_id"]: Video(**{**row, "semiology": tuple(row["semiology"])}) for row in rows}

    def videos_version(self) -> int:
        """Version of the videos table: changes whenever a label or tag does. 0 when there is none."""
        return int(self._open("videos").version) if "videos" in self._table_names() else 0

    def encoded(self, encoder_id: str) -> dict[str, EncodedVideo]:
        """What the clips of this encoder were made of, by video id."""
        if f"clips_{encoder_id}" not in self._table_names():
            return {}
        names = ["video_id", "source_sha256", "crop", "patient_id"]
        table = _select(self._clip_table(encoder_id), names)
        columns = (table.column(name).to_pylist() for name in names)
        return {video_id: EncodedVideo(*values) for video_id, *values in zip(*columns, strict=True)}

    def clips(self, encoder_id: str) -> StoredClips:
        """Every clip of an encoder at the newest version, each row's hash checked.

        Raises:
            NotFound: the encoder has no clips.
            DamagedData: a row is not what was written.
        """
        if f"clips_{encoder_id}" not in self._table_names():
            raise NotFound(f"no clips of encoder {encoder_id} are stored: run `semiome encode` first")
        handle = self._clip_table(encoder_id)
        version = int(handle.version)
        rows = handle.to_arrow()
        rows = rows.sort_by([("patient_id", "ascending"), ("video_id", "ascending"), ("clip_index", "ascending")])
        vectors = _vectors(rows)
        fields = rows.drop_columns(["vector"]).to_pylist()
        _check_rows(fields, vectors)
        clips = tuple(
            Clip(
                clip_id=row["clip_id"],
                video_id=row["video_id"],
                patient_id=row["patient_id"],
                clip_index=row["clip_index"],
                start_s=row["start_s"],
                valid_seconds=row["valid_seconds"],
            )
            for row in fields
        )
        return StoredClips(encoder_id, version, clips, vectors)

    @contextmanager
    def committing(self, encoder_id: str, width: int) -> Iterator[Committer]:
        """The one writer of a workspace, for the clips of one encoder.

        Args:
            encoder_id: whose table.
            width: D of its embeddings.

        Raises:
            Locked: another process is committing.
            DiskFull: within the block too.
        """
        with (
            naming_a_full_disk(),
            exclusive_lock(self._workspace.commit_lock, "the right to write to this workspace's store"),
        ):
            self._workspace.store.mkdir(parents=True, exist_ok=True)
            names = self._table_names()
            database = self._database()
            for name, schema in (
                ("videos", _VIDEO_SCHEMA),
                ("patients", _PATIENT_SCHEMA),
                (f"clips_{encoder_id}", _clip_schema(width)),
            ):
                if name not in names:
                    database.create_table(name, schema=schema)
            yield Committer(self, encoder_id, width)

    def _database(self) -> Any:  # noqa: ANN401  lancedb has no types
        return lancedb.connect(str(self._workspace.store))

    def _table_names(self) -> list[str]:
        if not self._workspace.store.is_dir():
            raise StateError("this workspace has no store yet: run `semiome encode` first")
        names: list[str] = []
        token = None
        while True:
            page = self._database().list_tables(page_token=token)
            names += page.tables
            token = page.page_token
            if not token:
                return [name for name in names if self._was_created(name)]

    def _was_created(self, name: str) -> bool:
        """Whether a table's first version was finished; a crash or a full disk in its creation leaves none.

        Raises:
            DamagedData: it holds data and no version.
        """
        folder = self._workspace.store / f"{name}.lance"
        if any((folder / "_versions").glob("*.manifest")):
            return True
        if any((folder / "data").glob("*")):
            raise DamagedData(f"table {name} of the store has lost its versions: bring the store back from a backup")
        return False

    def _open(self, name: str) -> Any:  # noqa: ANN401
        return self._database().open_table(name)

    def _clip_table(self, encoder_id: str) -> Any:  # noqa: ANN401
        return self._open(f"clips_{encoder_id}")


class Committer:
    """Writes whole videos: all clips of one, or none. Made by `Store.committing` only."""

    def __init__(self, store: Store, encoder_id: str, width: int) -> None:
        self._store = store
        self._workspace = store._workspace
        self._encoder_id = encoder_id
        self._width = width
        self._clips = store._clip_table(encoder_id)
        found = self._clips.schema.field("vector").type.list_size
        if found != width:
            raise StateError(f"the clip table of encoder {encoder_id} holds vectors of {found}, got {width}")
        rows = _select(self._clips, ["clip_id", "video_id", "row_sha256"])
        columns = (rows.column(name).to_pylist() for name in ("clip_id", "video_id", "row_sha256"))
        self._known: dict[str, dict[str, str]] = {}
        for clip_id, video_id, row_sha256 in zip(*columns, strict=True):
            self._known.setdefault(video_id, {})[clip_id] = row_sha256
        patients = store._open("patients").to_arrow().to_pylist()
        self._keys: dict[str, str] = {row["patient_id"]: row["patient_key"] for row in patients}
        self._videos = store.videos()  # nobody else writes while this one may

    def commit(self, videos: Sequence[tuple[Video, Sequence[EmbeddedClip]]]) -> int:
        """Store videos with their clips; returns when they are on disk.

        A clip that is stored already, unchanged, is not written again. Clips of an earlier content of the same
        video are removed.

        Returns:
            How many clips were written.

        Raises:
            InvalidInput: a vector has the wrong width, a value that is not finite, or not unit length.
        """
        started = time.time() - _COARSE_S
        self._add_patients({video.patient_id for video, _ in videos})
        wanted = {
            video.video_id: {embedded.clip.clip_id: self._row(video, embedded) for embedded in clips}
            for video, clips in videos
        }
        rows: dict[str, dict[str, Any]] = {}
        stale: list[str] = []
        for video_id, now in wanted.items():
            known = self._known.get(video_id, {})
            rows |= {key: row for key, row in now.items() if known.get(key) != row["row_sha256"]}
            stale += [key for key in known if key not in now]
        if stale:
            self._clips.delete(id_predicate("clip_id", stale))
        if rows:
            self._upsert(self._clips, "clip_id", pa.Table.from_pylist(list(rows.values()), self._clips.schema))
        self.update_videos([video for video, _ in videos])
        for video_id, now in wanted.items():
            self._known[video_id] = {key: row["row_sha256"] for key, row in now.items()}
        sync_tree(self._workspace.store, newer_than_s=started)
        return len(rows)

    def update_videos(self, videos: Sequence[Video]) -> int:
        """Store what is known of videos, vectors untouched.

        Returns:
            How many rows were new or different.
        """
        started = time.time() - _COARSE_S
        changed = [video for video in videos if self._videos.get(video.video_id) != video]
        if changed:
            rows = [{**asdict(video), "semiology": list(video.semiology)} for video in changed]
            self._upsert(self._store._open("videos"), "video_id", pa.Table.from_pylist(rows, _VIDEO_SCHEMA))
            self._videos |= {video.video_id: video for video in changed}
            sync_tree(self._workspace.store, newer_than_s=started)
        return len(changed)

    def reassign(self, video: Video) -> int:
        """Correct whose video this is: its clips keep their vectors and get the patient of `video`.

        Returns:
            How many clips were rewritten.
        """
        table = _select(self._clips, None, where=id_predicate("clip_id", list(self._known[video.video_id])))
        vectors = _vectors(table)
        clips = []
        for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True):
            clip = Clip(
                clip_id=row["clip_id"],
                video_id=row["video_id"],
                patient_id=video.patient_id,
                clip_index=row["clip_index"],
                start_s=row["start_s"],
                valid_seconds=row["valid_seconds"],
            )
            clips.append(EmbeddedClip(clip, vector, row["crop"]))
        return self.commit([(video, clips)])

    def compact(self) -> None:
        """Merge the small files that many commits leave."""
        started = time.time() - _COARSE_S
        self._clips.optimize()
        self._store._open("videos").optimize()
        sync_tree(self._workspace.store, newer_than_s=started)

    def _add_patients(self, patient_ids: set[str]) -> None:
        new = sorted(patient_ids - self._keys.keys())
        if new:
            rows = [{"patient_id": patient, "patient_key": secrets.token_hex(16)} for patient in new]
            self._upsert(self._store._open("patients"), "patient_id", pa.Table.from_pylist(rows, _PATIENT_SCHEMA))
            self._keys |= {row["patient_id"]: row["patient_key"] for row in rows}

    def _row(self, video: Video, embedded: EmbeddedClip) -> dict[str, Any]:
        clip, vector = embedded.clip, np.asarray(embedded.vector, np.float32)
        if vector.shape != (self._width,):
            raise InvalidInput(
                f"expected a vector ({self._width},), got {vector.shape}: this table holds encoder "
                f"{self._encoder_id}, encode with the same one"
            )
        if not np.isfinite(vector).all() or abs(float(np.linalg.norm(vector)) - 1) > _UNIT_TOLERANCE:
            raise InvalidInput(f"clip {clip.clip_id}: expected a finite vector of unit length")
        row = {
            **asdict(clip),
            "patient_key": self._keys[clip.patient_id],
            "source_sha256": video.source_sha256,
            "crop": embedded.crop,
        }
        return {**row, "row_sha256": _row_sha256(row, vector), "vector": vector}

    def _upsert(self, table: Any, key: str, rows: pa.Table) -> None:  # noqa: ANN401
        result = table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)
        done = result.num_inserted_rows + result.num_updated_rows
        if done != rows.num_rows:
            raise DamagedData(f"expected LanceDB to write {rows.num_rows} rows, it wrote {done}")


def id_predicate(column: str, ids: Sequence[str]) -> str:
    """SQL for "this column is one of these"; the one place where values become SQL.

    Raises:
        InvalidInput: an id holds anything but letters, digits, dots, underscores and hyphens.
    """
    for value in ids:
        if not value or not value.replace(".", "").replace("_", "").replace("-", "").isalnum():
            raise InvalidInput(f"expected an id of letters, digits, dots, underscores or hyphens, got {value[:64]!r}")
    quoted = ", ".join(f"'{value}'" for value in ids)
    return f"{column} IN ({quoted})" if ids else "false"


def _select(table: Any, columns: list[str] | None, where: str | None = None) -> pa.Table:  # noqa: ANN401
    query = table.search()
    if columns is not None:
        query = query.select(columns)
    if where is not None:
        query = query.where(where)
    return query.to_arrow()


def _vectors(rows: pa.Table) -> NDArray[np.float32]:
    column = rows.column("vector").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(rows.num_rows, column.type.list_size), np.float32)


def _row_sha256(row: Mapping[str, Any], vector: NDArray[np.float32]) -> str:
    names = ("clip_id", "video_id", "patient_id", "patient_key", "clip_index", "start_s", "valid_seconds")
    text = json.dumps([row[name] for name in (*names, "source_sha256", "crop")], ensure_ascii=True)
    return hashlib.sha256(text.encode() + vector.tobytes()).hexdigest()


def _check_rows(rows: Sequence[Mapping[str, Any]], vectors: NDArray[np.float32]) -> None:
    damaged = [
        row["clip_id"]
        for row, vector in zip(rows, vectors, strict=True)
        if _row_sha256(row, vector) != row["row_sha256"]
    ]
    if damaged:
        raise DamagedData(
            f"{len(damaged)} stored clips are not what was written ({', '.join(damaged[:3])}, …): "
            "restore the store from a backup, or encode their videos again"
        )
