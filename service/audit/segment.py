"""One file of the audit log: opened, held, healed of a line that a kill has cut, put back where it was taken away."""

from __future__ import annotations

import fcntl
import os
from contextlib import closing, suppress
from pathlib import Path

from index.errors import DamagedData
from index.files.durable import is_plain
from service.audit.trail import MAC

_LONGEST_LINE = 2**24


class Plain:
    """A file of the log, to read and append; made where there is none."""

    def __init__(self, path: Path) -> None:
        if os.path.lexists(path) and not is_plain(path):  # a pipe would be waited for
            raise DamagedData(f"{path.name} of the audit log is no plain file: move it away, and look at it")
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


def locked(descriptor: int) -> bool:
    """Whether the log is held now, for this process alone."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def size_of_whole_lines(path: Path) -> int:
    """Keyed hash that ends a segment which no process writes to, once a line that a kill has cut is taken off."""
    with closing(Plain(path)) as segment:
        fcntl.flock(segment.descriptor, fcntl.LOCK_EX)
        return healed(segment.descriptor, os.fstat(segment.descriptor).st_size)


def healed(descriptor: int, size: int) -> int:
    """Take off a segment's last line where a kill has cut it; returns the size that is left."""
    window = 4096
    while True:
        start = max(size - window, 0)
        tail = os.pread(descriptor, window, start)[: size - start]
        end = tail.rfind(b"\n") + 1
        if end or not start:
            break
        if window > _LONGEST_LINE:
            raise DamagedData(
                "the newest file of the audit log is cut off or changed at its end: move it elsewhere and find out why"
            )
        window *= 4
    if start + end < size:
        os.ftruncate(descriptor, start + end)
    return start + end


def mac_of_last(tail: bytes) -> str:
    """Hash that the last line of a segment ends with."""
    return tail.decode("ascii", "replace")[len(MAC) : len(MAC) + 64]


def is_in_place(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))  # noqa: PTH116  for each answer
    except FileNotFoundError:
        return False


def write_again(descriptor: int, path: Path) -> None:
    """Write what an open file holds under a name that was taken from it, unless there is such a file."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with closing(Plain(temporary)) as copy:
        try:
            os.ftruncate(copy.descriptor, 0)
            data = memoryview(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            while data:
                data = data[os.write(copy.descriptor, data) :]
            os.fsync(copy.descriptor)
            with suppress(FileExistsError):  # another worker has done it
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
