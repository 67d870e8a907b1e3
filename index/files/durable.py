"""Files that are either whole or absent: write aside, fsync, rename; digests; the committer's lock."""

from __future__ import annotations

import atexit
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from index.errors import (
    CannotRead,
    CannotWrite,
    DamagedData,
    DiskFull,
    InvalidInput,
    Locked,
    OutOfMemory,
    SemiomeError,
)
from index.processors import usable_cores

_PART_BYTES = 1 << 26
_FULL = (errno.ENOSPC, errno.EDQUOT)
TEMPORARY = ".tmp-"
"""A workspace's folders for temporary files, where the system has none, begin so."""
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
        root: of the tree.
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
    """As `write_atomically`, for a text."""
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


@contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[None]:
    """Hold an advisory lock on `path` for the length of the block; the system drops it when the process dies.

    Raises:
        Locked: If another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
