"""The one writer of a store: whole videos, in idempotent upserts, acknowledged once they are on disk."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from index.errors import DamagedData, InvalidInput, StateError
from index.records import EmbeddedClip, Video, check_clip, check_crop, check_video
from index.tables.compaction import compact
from index.tables.rows import select
from index.tables.schema import (
    LATER_COLUMNS,
    PATIENTS,
    VIDEOS,
    clips_schema,
    id_predicate,
    row_of_video,
    row_sha256,
    vectors_of,
)
from index.tables.store import Store
from index.workspace import classes_of

UNIT_TOLERANCE = 1e-3


@contextmanager
def committing(store: Store, encoder_id: str, width: int) -> Iterator[Committer]:
    """The one writer of a store, for the clips of one encoder.

    Args:
        store: which; its tables are made where they are missing.
        encoder_id: the table's encoder.
        width: D of its embeddings.

    Raises:
        Locked: If another process is committing.
        DiskFull: If no space is left, within the block too.
    """
    with store.writing() as still_mine:
        names = store.table_names() if store.exists() else []
        database = store.database()
        wanted = {"videos": VIDEOS, "patients": PATIENTS, f"clips_{encoder_id}": clips_schema(width)}
        for name, schema in wanted.items():
            if name not in names:
                still_mine()
                with store.reached():
                    # One that was taken for dead within this moment may have made it too: it writes no more.
                    database.create_table(name, schema=schema, exist_ok=True)
        _add_later_columns(store)
        yield Committer(store, encoder_id, width, still_mine)


def _add_later_columns(store: Store) -> None:
    """Give the videos table of an earlier version the columns that it lacks, empty."""
    present = store.open_table("videos").schema.names
    if missing := [VIDEOS.field(name) for name in LATER_COLUMNS if name not in present]:
        store.writable("videos").add_columns(missing)


class Committer:
    """Writes whole videos: all clips of one, or none. Made by `committing` only."""

    def __init__(self, store: Store, encoder_id: str, width: int, still_mine: Callable[[], None]) -> None:
        self._store = store
        self._encoder_id = encoder_id
        self._width = width
        self._still_mine = still_mine
        self._load()

    def _load(self) -> None:
        store, encoder_id, width = self._store, self._encoder_id, self._width
        self._clips = store.writable(f"clips_{encoder_id}")
        found = self._clips.schema.field("vector").type.list_size
        if found != width:
            raise StateError(f"the clip table of encoder {encoder_id} holds vectors of {found}, got {width}")
        rows = select(store.clip_table(encoder_id), ["clip_id", "video_id", "row_sha256"])
        columns = (rows.column(name).to_pylist() for name in ("clip_id", "video_id", "row_sha256"))
        self._known: dict[str, dict[str, str]] = {}
        for clip_id, video_id, digest in zip(*columns, strict=True):
            self._known.setdefault(video_id, {})[clip_id] = digest
        patients = select(store.open_table("patients"), None).to_pylist()
        self._keys: dict[str, str] = {row["patient_id"]: row["patient_key"] for row in patients}
        self._videos = store.videos()  # no other process writes while this one may
        self._classes = classes_of(store.workspace)

    def reload(self) -> None:
        """Learn again what is stored, after a commit of which it is not known whether it came through."""
        with self._store.reached():
            self._load()

    def commit(self, videos: Sequence[tuple[Video, Sequence[EmbeddedClip]]]) -> int:
        """Store videos with their clips; returns when they are on disk.

        A clip that is stored already, unchanged, is not written again. Clips of an earlier content of the same
        video are removed.

        Returns:
            How many clips were written.

        Raises:
            InvalidInput: If a vector has the wrong width, a value that is not finite, or not unit length; or a field
                of a video or clip is out of its bounds; or a label is none of the workspace's classes.
        """
        for video, clips in videos:
            self._check(video)
            for embedded in clips:
                check_clip(embedded.clip, video.source_sha256)
                check_crop(embedded.crop)
                if (embedded.clip.video_id, embedded.clip.patient_id) != (video.video_id, video.patient_id):
                    raise InvalidInput(
                        f"clip {embedded.clip.clip_id} is of another video or patient than it is stored for"
                    )
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
            self._still_mine()
            with self._store.reached():
                self._clips.delete(id_predicate("clip_id", stale))
        if rows:
            self._write(self._clips, list(rows.values()))
        self.update_videos([video for video, _ in videos])
        for video_id, now in wanted.items():
            self._known[video_id] = {key: row["row_sha256"] for key, row in now.items()}
        self._store.settle()
        return len(rows)

    def _check(self, video: Video) -> None:
        check_video(video)
        self._classes.check([video.label])

    def update_videos(self, videos: Sequence[Video]) -> int:
        """Store what is known of videos, vectors untouched.

        A video whose patient is corrected moves with all encoders' clips, so that none is left under the wrong one.

        Returns:
            How many rows were new or different.
        """
        for video in videos:
            self._check(video)
        self._add_patients({video.patient_id for video in videos})
        changed = [video for video in videos if self._videos.get(video.video_id) != video]
        if changed:
            known = {name: video.patient_id for name, video in self._videos.items()}
            moved = [v for v in changed if known.get(v.video_id, v.patient_id) != v.patient_id]
            if moved:
                self._move({video.video_id: video for video in moved})
            rows = [{**row_of_video(video), "patient_key": self._keys[video.patient_id]} for video in changed]
            self._upsert(self._store.writable("videos"), "video_id", pa.Table.from_pylist(rows, VIDEOS))
            self._videos |= {video.video_id: video for video in changed}
            self._store.settle()
        return len(changed)

    def reassign(self, video: Video) -> int:
        """Correct whose video this is: its clips keep their vectors and get the patient of `video`.

        Returns:
            How many clips were rewritten.
        """
        self._add_patients({video.patient_id})
        moved = self._move({video.video_id: video})
        self.update_videos([video])
        return moved

    def _move(self, videos: dict[str, Video]) -> int:
        """Give every clip of these videos, of whatever encoder, the patient of its video."""
        moved = 0
        for encoder_id in self._store.encoder_ids():
            own = encoder_id == self._encoder_id
            table = self._store.clip_table(encoder_id)
            names = ("clip_id", "video_id", "patient_id")
            columns = (select(table, list(names)).column(name).to_pylist() for name in names)
            wrong = [
                clip
                for clip, video, patient in zip(*columns, strict=True)
                if video in videos and videos[video].patient_id != patient
            ]
            if not wrong:
                continue
            rows_table = select(table, None, where=id_predicate("clip_id", wrong))
            rows = []
            for row, vector in zip(
                rows_table.drop_columns(["vector"]).to_pylist(), vectors_of(rows_table), strict=True
            ):
                patient = videos[row["video_id"]].patient_id
                new = {**row, "patient_id": patient, "patient_key": self._keys[patient]}
                rows.append({**new, "row_sha256": row_sha256(new, vector), "vector": vector})
            self._write(self._clips if own else self._store.writable(f"clips_{encoder_id}"), rows)
            if own:
                for row in rows:
                    self._known[row["video_id"]][row["clip_id"]] = row["row_sha256"]
            moved += len(rows)
        self._store.settle()
        return moved

    def _write(self, table: Any, rows: list[dict[str, Any]]) -> None:  # noqa: ANN401
        """Upsert clip rows, numbered by the version that they make.

        Version numbers are never reused: a row is newer than an index if and only if its number is.
        """
        number = int(table.version) + 1
        numbered = [{**row, "commit_number": number} for row in rows]
        self._upsert(table, "clip_id", pa.Table.from_pylist(numbered, table.schema))
        if int(table.version) != number:
            raise DamagedData("another process wrote to the store at the same time: build the index again")

    def compact(self) -> None:
        """Merge the small files that many commits leave."""
        compact(self._store, self._still_mine)
        self._clips.checkout_latest()

    def erased(self, patient_ids: set[str]) -> set[str]:
        """Those of these patients who have been erased by now."""
        return self._store.erased(patient_ids)

    def _add_patients(self, patient_ids: set[str]) -> None:
        if self.erased(patient_ids):
            raise StateError("a patient of these videos was erased from this workspace and is not taken in again")
        new = sorted(patient_ids - self._keys.keys())
        if new:
            rows = [{"patient_id": patient, "patient_key": secrets.token_hex(16)} for patient in new]
            self._upsert(self._store.writable("patients"), "patient_id", pa.Table.from_pylist(rows, PATIENTS))
            self._keys |= {row["patient_id"]: row["patient_key"] for row in rows}

    def _row(self, video: Video, embedded: EmbeddedClip) -> dict[str, Any]:
        clip, vector = embedded.clip, np.asarray(embedded.vector, np.float32)
        if vector.shape != (self._width,):
            raise InvalidInput(
                f"expected a vector ({self._width},), got {vector.shape}: this table holds encoder "
                f"{self._encoder_id}, encode with the same one"
            )
        if not np.isfinite(vector).all() or abs(float(np.linalg.norm(vector)) - 1) > UNIT_TOLERANCE:
            raise InvalidInput(f"clip {clip.clip_id}: expected a finite vector of unit length")
        row = {
            **asdict(clip),
            "patient_key": self._keys[clip.patient_id],
            "source_sha256": video.source_sha256,
            "crop": embedded.crop,
        }
        return {**row, "row_sha256": row_sha256(row, vector), "vector": vector}

    def _upsert(self, table: Any, key: str, rows: pa.Table) -> None:  # noqa: ANN401
        self._still_mine()
        with self._store.reached():
            result = table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)
        done = result.num_inserted_rows + result.num_updated_rows
        if done != rows.num_rows:
            raise DamagedData(f"expected LanceDB to write {rows.num_rows} rows, it wrote {done}")
