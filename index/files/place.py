"""Where the shared part of a workspace lies: in a folder, or on object storage (`index.files.bucket`).

The key, the list of the erased, receipts, tables and generations are files below one root, under the same names in both
kinds. A file is there whole or not at all, and what several processes may not do at once is decided by a lease. Both
pass one suite of tests; this is the only module that chooses between them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from index.errors import Locked
from index.files.durable import small_file, sync_folder, sync_tree, write_atomically
from index.files.failures import naming_failed_writes, unreadable
from index.files.locks import exclusive_lock

_MOST_BYTES = 2**27
"""Largest file read whole: a list of two million erased patients."""
_PATIENCE_S, _AGAIN_S = 30.0, 0.05
Check = Callable[[], None]
"""Raises `Locked` once a lease has been lost."""


def place_of(root: Path, url: str) -> Place:
    """The shared part of a workspace.

    Args:
        root: the workspace's folder on this host.
        url: `s3://bucket/prefix` where the shared part lies there; empty where it lies in `root`.

    Raises:
        StateError: If the extra that reads object storage is not installed, or the storage can't be reached.
    """
    if not url:
        return Folder(root)
    from index.files.bucket import bucket  # brings the library for object storage

    return bucket(url)


class Place(ABC):
    """Files below one root, each whole or absent.

    Attributes:
        address: URL or absolute path of the root, as LanceDB wants it.
        remote: whether the files lie where processes of several hosts reach them, and each host searches copies.
    """

    address: str
    remote: bool

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none.

        Raises:
            DamagedData: If it can't be read, is no plain file, or is larger than any that is written so.
        """

    @abstractmethod
    def write(self, name: str, data: bytes | Path) -> None:
        """Put a file of these bytes, or a copy of this file, in place of any that is there.

        Raises:
            DiskFull: If no space is left; the old file stays.
        """

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Put a file that its owner alone may read, unless there is one.

        Returns:
            Whether it was put; of several that try at once, one succeeds.
        """

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove files; a missing one is no error."""

    @abstractmethod
    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each file below a prefix, by name."""

    @abstractmethod
    def folders(self, prefix: str) -> list[str]:
        """Names right below a prefix that have something below them."""

    @abstractmethod
    def download(self, name: str, path: Path) -> None:
        """Copy a file into a new one on this host.

        Raises:
            StateError: If it has gone.
        """

    @abstractmethod
    def lease(self, name: str, what: str) -> AbstractContextManager[Check]:
        """The right to do something, for one process at a time; the system takes it from one that dies.

        Args:
            name: of the lock's file.
            what: the right, in words, for the error.

        Yields:
            A function to call before each write; it raises `Locked` once the lease has been lost.

        Raises:
            Locked: If another process has it.
        """

    @abstractmethod
    def stamp(self, name: str) -> object:
        """What tells one file of a name from another without reading it; None where that costs more than reading."""

    @abstractmethod
    def settle(self, prefix: str, settled: dict[Path, int]) -> None:
        """Make what other libraries wrote below a prefix survive a power cut.

        Args:
            prefix: what their names begin with.
            settled: what is known to survive; kept up to date.
        """

    @abstractmethod
    def reached(self) -> AbstractContextManager[None]:
        """Within it, what other libraries raise of the place becomes an error of our own, without an address."""

    def keeps_conditions(self) -> bool | None:
        """Whether of two that create the same file at once just one succeeds; None where the system vouches for it."""
        return None

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """The right to change one file, for one process at a time, and for moments: others wait.

        Raises:
            Locked: If another process has had it for too long.
        """
        folder, _, file = name.rpartition("/")
        lock, until = f"{folder}/.{file}.lock".lstrip("/"), time.monotonic() + _PATIENCE_S
        with ExitStack() as held, naming_failed_writes():
            while True:
                try:
                    held.enter_context(self.lease(lock, f"the right to change `{file}`"))
                    break
                except Locked:
                    if time.monotonic() >= until:
                        raise
                    time.sleep(_AGAIN_S)
            yield

    def names(self, prefix: str) -> list[str]:
        """Names of the files right below a prefix, sorted."""
        below = (name.removeprefix(f"{prefix}/") for name in self.sizes(prefix))
        return sorted(name for name in below if "/" not in name)


class Folder(Place):
    """Files below a folder of this host."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Of `a:b` or `~` each library makes something else.
        self.address = str(root.absolute())
        self.remote = False

    def read(self, name: str) -> bytes | None:
        try:
            return small_file(self._root / name, _MOST_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            says = f"`{Path(name).name}` can't be read ({type(error).__name__})"
            raise unreadable(
                error, f"the workspace's file {says}: look at it, or bring it back from a backup"
            ) from None

    def write(self, name: str, data: bytes | Path) -> None:
        path = self._root / name
        if isinstance(data, Path) and path.exists() and path.samefile(data):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        for torn in path.parent.glob(f".{path.name}.*.tmp"):  # as a kill within its writing leaves it
            torn.unlink(missing_ok=True)

        def fill(temporary: Path) -> None:
            if isinstance(data, Path):
                shutil.copyfile(data, temporary)
            else:
                temporary.write_bytes(data)

        write_atomically(path, fill)

    @naming_failed_writes()
    def create(self, name: str, data: bytes) -> bool:
        path = self._root / name
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
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def remove(self, names: Iterable[str]) -> None:
        for path in (self._root / name for name in names):
            if path.exists():
                path.unlink(missing_ok=True)
                sync_folder(path.parent)

    def sizes(self, prefix: str) -> dict[str, int]:
        # Behind links too: a generation may have been moved to another disk.
        walk = os.walk(self._root / prefix, followlinks=True)
        files = (Path(folder) / name for folder, _, names in walk for name in names)
        sizes = {}
        for path in files:
            with suppress(FileNotFoundError):  # gone meanwhile
                if path.is_file():
                    sizes[path.relative_to(self._root).as_posix()] = path.stat().st_size
        return sizes

    def folders(self, prefix: str) -> list[str]:
        folder = self._root / prefix
        return [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []

    def download(self, name: str, path: Path) -> None:
        with path.open("xb") as copy, (self._root / name).open("rb") as stream:
            shutil.copyfileobj(stream, copy)

    @contextmanager
    def lease(self, name: str, what: str) -> Iterator[Check]:
        with naming_failed_writes(), exclusive_lock(self._root / name, what):
            yield lambda: None

    def stamp(self, name: str) -> object:
        try:
            facts = (self._root / name).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.errno
        return facts.st_ino, facts.st_size, facts.st_mtime_ns

    def settle(self, prefix: str, settled: dict[Path, int]) -> None:
        sync_tree(self._root / prefix, settled)

    @contextmanager
    def reached(self) -> Iterator[None]:
        yield
