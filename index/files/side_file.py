"""Small SQLite databases beside the store whose content can be made again: none need survive a power cut or damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_WAIT_S = 10.0


@contextmanager
def side_file(path: Path, table: str) -> Iterator[sqlite3.Connection]:
    """The database for the length of the block, whose changes are kept at its end; removed where it is damaged.

    Args:
        path: of the database; made where it is missing.
        table: SQL that makes its table.

    Raises:
        sqlite3.OperationalError: If another process has it, or it can't be written.
        sqlite3.DatabaseError: If it was damaged.
    """
    with closing(sqlite3.connect(path, timeout=_WAIT_S)) as database:
        try:
            database.execute("pragma secure_delete = on")
            database.execute("pragma synchronous = off")
            database.execute(table)
            path.chmod(0o600)
            with database:
                yield database
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.OperationalError):
                remove_side_file(path)
            raise


def remove_side_file(path: Path) -> None:
    """Remove the database with all that belongs to it."""
    for name in (path.name, f"{path.name}-journal", f"{path.name}-wal", f"{path.name}-shm"):
        one = path.with_name(name)
        if one.is_file() or one.is_symlink():
            one.unlink(missing_ok=True)
