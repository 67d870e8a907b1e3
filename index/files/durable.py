"""Files that are either whole or absent: write aside, fsync, rename; and their digests."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from index.errors import (
    InvalidInput,
)
from index.files.failures import naming_failed_writes
from index.files.locks import exclusive_lock
from index.processors import usable_cores

_PART_BYTES = 1 << 26


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path, synced: dict[Path, int]) -> None:
    """Fsync every file and folder below `root` that is new or changed, whatever the clock says.

    Args:
        root: the folder at the top.
        synced: times of modification of what has been synced, in ns, by path; brought up to date.
    """
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            modified = path.stat().st_mtime_ns
            if synced.get(path) != modified:
                sync_file(path)
                synced[path] = modified
        sync_folder(Path(folder))  # there are few, and the same tick of the clock may bring another name


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place: readers see the old or the new whole.

    Raises:
        DiskFull: If no space is left; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming_failed_writes():
        try:
            write(temporary)
            sync_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def is_plain(path: Path, most_bytes: int | None = None) -> bool:
    """Whether there is a file of that name, no larger than that: no folder, and no pipe that might be waited for."""
    try:
        facts = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(facts.st_mode) and (most_bytes is None or facts.st_size <= most_bytes)


def small_file(path: Path, most_bytes: int = 2**20) -> bytes:
    """What a file holds that is known to be small: no pipe is waited for, and no memory taken for a large one.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it can't be read.
        ValueError: If it is no plain file, or larger.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most_bytes:
            raise ValueError("not a small file")
        return stream.read(most_bytes)


def write_text_atomically(path: Path, text: str) -> None:
    """Write a text with `write_atomically`."""
    write_atomically(path, lambda temporary: _write_text(temporary, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that is there as a whole or not at all: filled under another name, synced, renamed.

    Raises:
        InvalidInput: If it is there already, and not empty.
        Locked: If another process is making it.
        DiskFull: If no space is left, within the block too.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InvalidInput(f"{folder.name} is there already: name a new folder")
    building = folder.with_name(f".{folder.name}.tmp")
    lock = folder.with_name(f".{folder.name}.lock")
    with naming_failed_writes(), exclusive_lock(lock, f"the making of {folder.name}"):
        try:
            shutil.rmtree(building, ignore_errors=True)  # as a kill leaves it
            building.parent.mkdir(parents=True, exist_ok=True)
            building.mkdir(mode=0o700)  # exports, backups and previews hold patients
            yield building
            sync_tree(building, {})
            building.rename(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            lock.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of_file(path: Path) -> str:
    """Hex digest of a large file on every core: the SHA-256 of the SHA-256 digests of its 64 MiB parts."""
    size = path.stat().st_size

    def digest(start: int) -> bytes:
        with path.open("rb", buffering=0) as stream:
            stream.seek(start)
            left, digest, buffer = min(_PART_BYTES, size - start), hashlib.sha256(), memoryview(bytearray(1 << 20))
            while left > 0:
                read = stream.readinto(buffer[: min(len(buffer), left)])
                if not read:
                    break
                digest.update(buffer[:read])
                left -= read
            return digest.digest()

    with ThreadPoolExecutor(usable_cores()) as pool:
        return hashlib.sha256(b"".join(pool.map(digest, range(0, size, _PART_BYTES)))).hexdigest()
