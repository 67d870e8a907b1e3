"""Locks that the system drops when their holder dies, and temporary folders that go with their process."""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from index.errors import CannotWrite, Locked
from index.files.failures import failed_write, naming_failed_writes

TEMPORARY = ".tmp-"
"""A workspace's folders for temporary files, where the system has none, begin so."""


def open_lock(path: Path) -> int:
    """A descriptor of a lock's file. A folder, a pipe or a link that has its name holds nothing, and is moved aside."""
    for last in (False, True):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        except OSError as error:
            if last or error.errno not in {errno.EISDIR, errno.ELOOP, errno.ENXIO}:
                raise
        else:
            if last or stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
        with suppress(FileNotFoundError):  # another process has done it
            path.rename(path.with_name(f"{path.name}.aside-{os.getpid()}-{time.monotonic_ns()}"))
    raise AssertionError


def ensure_temporary_folder(root: Path) -> None:
    """Libraries write temporary files late, after hours of work: where the system has no room, one is made in `root`.

    It goes with this process; what a killed one left is removed here.

    Raises:
        CannotWrite: If there is none in `root` either.
    """
    for left in root.glob(f"{TEMPORARY}*"):
        if (descriptor := _lock_of(left)) is not None:  # else its process lives
            shutil.rmtree(left, ignore_errors=True)
            os.close(descriptor)
    named = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  asked about, not written to
    if os.access(named, os.W_OK | os.X_OK):
        return
    with naming_failed_writes():
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=root)).absolute()
        held = _lock_of(folder)
    os.environ["TMPDIR"], tempfile.tempdir = str(folder), None

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)

    atexit.register(remove)


def _lock_of(folder: Path) -> int | None:
    """A descriptor that holds a folder as long as it is open; None where another process holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def make_folder(folder: Path) -> None:
    """Make a folder that a person named, and those above it, unless it is there.

    Raises:
        CannotWrite: If it can't be made, or is a file.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = os.strerror(error.errno or 0)
        raise failed_write(error) or CannotWrite(f"no folder can be made there ({said})", str(folder)) from None


@contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[None]:
    """Hold an advisory lock on `path` for the length of the block; the system drops it when the process dies.

    Raises:
        Locked: If another process holds it.
    """
    make_folder(path.parent)
    descriptor = open_lock(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Locked(
                f"{what} is held by process {holder}: wait until it has finished, then run this again"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
