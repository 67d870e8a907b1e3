"""Clips of long videos that are embedded while the video is not yet stored: a killed job resumes where it stopped.

A small SQLite database beside the store, which takes whole videos alone. It survives the death of the process, and need
not survive a power cut: what it lacks is embedded again. One that is damaged is as good as none.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import numpy as np

from index.errors import InvalidInput, Locked, StateError
from index.files.side_file import remove_side_file, side_file
from index.records import Clip, EmbeddedClip, check_clip
from index.workspace import Workspace

LEAST_CLIPS = 60
"""Clips of a video so short are not kept: they are soon embedded again."""
_KEPT_FOR = timedelta(days=30)
_CLIP = ("clip_id", "video_id", "patient_id", "clip_index", "start_s", "valid_seconds")
_COLUMNS = ("encoder_id", "source_sha256", "kept_at", *_CLIP, "crop", "vector")
_TABLE = f"create table if not exists clips ({', '.join(_COLUMNS)}, primary key (encoder_id, video_id, clip_index))"


class Unfinished:
    """What is kept in a workspace. Threads may share it; of processes one writes, which holds the lock of the store.

    Where it can't be written, nothing is kept and nothing fails.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.unfinished
        self._lock = threading.Lock()

    def keep(self, encoder_id: str, source_sha256: str, embedded: EmbeddedClip) -> None:
        """Keep a clip of a video."""
        clip = embedded.clip
        values = (
            *(encoder_id, source_sha256, datetime.now(UTC).isoformat()),
            *(getattr(clip, name) for name in _CLIP),
            *(embedded.crop, embedded.vector.astype("<f4").tobytes()),
        )
        with suppress(sqlite3.Error, OSError), self._open() as database:
            database.execute(f"insert or replace into clips values ({', '.join('?' * len(values))})", values)  # noqa: S608

    def clips(self, encoder_id: str, video_id: str, source_sha256: str) -> list[EmbeddedClip]:
        """The clips of a video that are kept, from its first on, without a gap."""
        where, asked = "encoder_id = ? and video_id = ? and source_sha256 = ?", (encoder_id, video_id, source_sha256)
        columns = ", ".join((*_CLIP, "crop", "vector"))
        found: list[EmbeddedClip] = []
        with suppress(sqlite3.Error, OSError, InvalidInput, ValueError, TypeError):
            if not self._path.is_file():
                return []
            with self._open() as database:
                rows = database.execute(f"select {columns} from clips where {where} order by clip_index", asked)  # noqa: S608
                for *clip, crop, vector in rows:
                    embedded = EmbeddedClip(Clip(*clip), np.frombuffer(vector, "<f4"), crop)
                    check_clip(embedded.clip, source_sha256)
                    if embedded.clip.clip_index != len(found):
                        break
                    found.append(embedded)
        return found

    def drop(self, video_ids: Collection[str]) -> None:
        """Forget videos, since they are stored or removed."""
        self._delete("video_id", video_ids)

    def drop_patients(self, patient_ids: Collection[str]) -> None:
        """Forget all videos of some patients, since they were erased; and what has waited for a month."""
        self._delete("patient_id", patient_ids)
        if self._path.is_file():
            before = (datetime.now(UTC) - _KEPT_FOR).isoformat()
            with suppress(sqlite3.Error, OSError), self._open() as database:
                database.execute("delete from clips where kept_at < ?", (before,))

    def erase(self, patient_id: str) -> None:
        """Forget a patient, or fail: an erasure must not say that something is gone which is not.

        Raises:
            Locked: If another process has the file.
            StateError: If it can't be written.
        """
        if not self._path.is_file():
            return
        try:
            with self._open() as database:
                database.execute("delete from clips where patient_id = ?", (patient_id,))
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise Locked("another process is writing clips of unfinished videos: try again") from None
            raise StateError(f"{self._path.name} can't be rewritten: check its owner and mode, or remove it") from None
        except sqlite3.DatabaseError:  # damaged, and removed for that
            return

    def patients(self) -> set[str]:
        """Whose clips are kept."""
        with suppress(sqlite3.Error, OSError):
            if self._path.is_file():
                with self._open() as database:
                    return {row[0] for row in database.execute("select distinct patient_id from clips")}
        return set()

    def _delete(self, column: str, values: Collection[str]) -> None:
        if not values or not self._path.is_file():
            return
        with suppress(sqlite3.Error, OSError), self._open() as database:
            for value in values:
                database.execute(f"delete from clips where {column} = ?", (value,))  # noqa: S608
            left = database.execute("select count(*) from clips").fetchone()[0]
        if not left:
            remove_side_file(self._path)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock, side_file(self._path, _TABLE) as database:
            yield database
