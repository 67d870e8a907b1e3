"""Errors of the system, and of libraries in their words, as errors of our own."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from index.errors import CannotRead, CannotWrite, DamagedData, DiskFull, OutOfMemory, SemiomeError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_WHY = {
    errno.EROFS: "the file system is read-only: mount it so that it can be written, or write elsewhere",
    errno.EACCES: "permission denied: this account may not use it so",
    errno.EPERM: "operation not permitted: this account may not change that, or it is marked as immutable",
    errno.EMFILE: "too many open files in this process: raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many open files on this machine",
    errno.EFBIG: "a file would be larger than is allowed here: raise the limit (`ulimit -f`)",
    errno.EIO: "input/output error: look at the disk and the system's log",
    errno.ESTALE: "the network file system has lost its connection to the file",
    errno.ENOLCK: "the file system has no locks left, or none at all: put the workspace on a local disk",
    errno.EOPNOTSUPP: "the file system does not support what a workspace needs: put it on a local disk",
    errno.ENODEV: "the device is gone",
    errno.ENXIO: "the device is gone",
}
"""Why the system does not let a process write, by its number of the error."""
_NO_MEMORY = (os.strerror(errno.ENOMEM), "can't start new thread", "failed to map segment from shared object")


def unreadable(error: Exception, says: str) -> CannotRead | DamagedData:
    """The error of our own for a file that can't be read: damage, unless this account may just not read it."""
    return CannotRead() if may_not_read(error) else DamagedData(says)


def may_not_read(error: BaseException) -> bool:
    """Whether the system, also in a library's words, says that this account may not."""
    return isinstance(error, PermissionError | CannotRead) or os.strerror(errno.EACCES) in str(error)


def out_of_memory(error: BaseException) -> OutOfMemory | None:
    """The error of our own for what the system, or a library in its words, says where memory or threads end."""
    text = str(error)
    ended = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return OutOfMemory() if ended or any(words in text for words in _NO_MEMORY) else None


def failed_write(error: BaseException) -> CannotWrite | None:
    """The error of our own for what the system, or a library in its words, says of a write; None for anything else."""
    code = getattr(error, "errno", None)
    if code is None:
        text = str(error)
        said = [code for code in (*_FULL, *_WHY) if os.strerror(code) in text]
        code = max(said, key=lambda code: len(os.strerror(code)), default=None)  # one begins as another does
    if code in _FULL:
        return DiskFull()
    if code not in _WHY:
        return None
    path = getattr(error, "filename", None) or ""
    return CannotWrite(f"{_WHY[code]}; everything acknowledged before is kept", os.fsdecode(path))


@contextmanager
def naming_failed_writes() -> Iterator[None]:
    """Turn whatever a full or read-only disk, missing permission or want of descriptors raises into our own error.

    Raises:
        DiskFull: If no space is left, or no quota.
        CannotWrite: If the system does not let this process write for another reason.
    """
    try:
        yield
    except SemiomeError:
        raise
    except Exception as error:  # each library has its own class for it
        if named := failed_write(error):
            raise named from None
        raise
