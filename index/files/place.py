"""Small files that all hosts of a workspace must agree on: the key, the list of the erased, notes, what serves.

They lie in the workspace's folder, or, of a shared one, on object storage under the same names.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from index.errors import Locked
from index.files.bucket import bucket
from index.files.durable import small_file, sync_folder, write_text_atomically
from index.files.failures import naming_failed_writes, unreadable
from index.files.locks import exclusive_lock
from index.workspace import Workspace

_MOST_BYTES = 2**27
"""Of a list of two million who were erased."""
_PATIENCE_S, _AGAIN_S = 30.0, 0.05


@contextmanager
def changing(workspace: Workspace, path: Path) -> Iterator[None]:
    """The right to change what such a file says, for one process at a time, and for moments: others wait.

    Raises:
        Locked: If another process has had it for too long.
    """
    what, lock = f"the right to change `{path.name}`", path.with_name(f".{path.name}.lock")
    until = time.monotonic() + _PATIENCE_S
    with ExitStack() as held, naming_failed_writes():
        while True:
            try:
                if workspace.bucket:
                    held.enter_context(bucket(workspace.bucket).lease(_name(workspace, lock), what))
                else:
                    held.enter_context(exclusive_lock(lock, what))
                break
            except Locked:
                if time.monotonic() >= until:
                    raise
                time.sleep(_AGAIN_S)
        yield


def read(workspace: Workspace, path: Path) -> bytes | None:
    """What a file of the workspace holds; None where there is none.

    Raises:
        DamagedData: If it can't be read, is no plain file, or is larger than any that is written there.
    """
    if workspace.bucket:
        return bucket(workspace.bucket).read(_name(workspace, path))
    try:
        return small_file(path, _MOST_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        said = f"`{path.name}` can't be read ({type(error).__name__})"
        raise unreadable(error, f"the workspace's file {said}: look at it, or bring it back from a backup") from None


def write(workspace: Workspace, path: Path, text: str) -> None:
    """Put a file in place, whole.

    Raises:
        DiskFull: If no space is left; the old file stays.
    """
    if workspace.bucket:
        bucket(workspace.bucket).write(_name(workspace, path), text.encode())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    for torn in path.parent.glob(f".{path.name}.*.tmp"):  # as a kill within its writing leaves it
        torn.unlink(missing_ok=True)
    write_text_atomically(path, text)


@naming_failed_writes()
def create(workspace: Workspace, path: Path, data: bytes) -> None:
    """Put a file for its owner alone, unless there is one: of several who try, all find what the first one put.

    Raises:
        DiskFull: If no space is left; there is no such file then.
    """
    if workspace.bucket:
        bucket(workspace.bucket).create(_name(workspace, path), data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)


def remove(workspace: Workspace, path: Path) -> None:
    """Remove a file; one that is not there is no error."""
    if workspace.bucket:
        bucket(workspace.bucket).remove([_name(workspace, path)])
    elif path.exists():
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def names(workspace: Workspace, folder: Path) -> list[str]:
    """Names of the files of a folder, sorted."""
    if workspace.bucket:
        paths = bucket(workspace.bucket).sizes(_name(workspace, folder))
        return sorted(path.rsplit("/", 1)[1] for path in paths)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _name(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.root).as_posix()
