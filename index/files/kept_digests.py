"""Digests of video files, kept between jobs: a night's recordings need not be read again to learn that they are stored.

A small SQLite database in the workspace. Each digest belongs to a state of a file, which is hashed itself, so that no
path is kept; with any erasure all of the database goes. It survives the death of a process, and need not survive a
power cut. One that is damaged is as good as none.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from index.errors import Locked
from index.files.side_file import remove_side_file, side_file

_TABLE = "create table if not exists files (state primary key, patient_id, sha256, kept_at)"
_END_BYTES = 2**16
_SETTLED_S = 2.0
"""A file that was changed so recently may be changed again without its times showing it."""
_KEPT_FOR_S = 400 * 86_400.0


class KeptDigests:
    """What is kept in a database. Threads and processes may share it; where it can't be used, nothing fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def find(self, path: Path, state: Sequence[object]) -> str | None:
        """The digest of a file in a state, if it is kept.

        Args:
            path: the file.
            state: what tells one content of it from another without reading it: its path, inode, size, times.
        """
        if not self._path.is_file():
            return None
        with suppress(sqlite3.Error, OSError), self._open() as database:
            asked = "select sha256 from files where state = ?"
            row = database.execute(asked, (_key(path, state),)).fetchone()
            return None if row is None else str(row[0])
        return None

    def keep(self, path: Path, state: Sequence[object], changed_ns: int, sha256: str, patient_id: str) -> None:
        """Keep a digest, unless the file has been changed just now.

        Args:
            path: the file.
            state: see `find`.
            changed_ns: when it was changed last.
            sha256: its digest.
            patient_id: whose it is.
        """
        if time.time() - changed_ns / 1e9 < _SETTLED_S:
            return
        with suppress(sqlite3.Error, OSError), self._open() as database:
            values = (_key(path, state), patient_id, sha256, time.time())
            database.execute("insert or replace into files values (?, ?, ?, ?)", values)

    def patients(self) -> set[str]:
        """Whose digests are kept.

        Raises:
            Locked: If another process has the database for long: who is in it must not be passed over.
        """
        if not self._path.is_file():
            return set()
        try:
            with self._open() as database:
                return {str(row[0]) for row in database.execute("select distinct patient_id from files")}
        except sqlite3.OperationalError:
            raise Locked("another process is writing digests of files: try again") from None
        except sqlite3.DatabaseError:  # damaged, and removed for that
            return set()

    def forget(self, erased: Collection[str]) -> None:
        """Remove the database where it holds anything of patients who were erased; else what was kept a year ago.

        Raises:
            Locked: If another process has it for long.
            OSError: If it can't be removed.
        """
        if not self._path.is_file():
            return
        if not self.patients().isdisjoint(erased):
            remove_side_file(self._path)
            return
        with suppress(sqlite3.Error, OSError), self._open() as database:
            database.execute("delete from files where kept_at < ?", (time.time() - _KEPT_FOR_S,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._lock, side_file(self._path, _TABLE) as database:
            yield database


def _key(path: Path, state: Sequence[object]) -> str:
    """Hash of a file's state and of its beginning and end."""
    digest = hashlib.sha256(repr(tuple(map(str, state))).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_END_BYTES))
        stream.seek(max(stream.seek(0, 2) - _END_BYTES, 0))
        digest.update(stream.read(_END_BYTES))
    return digest.hexdigest()
