"""A store's tables as they are read: through Lance, the library that LanceDB keeps its tables with.

LanceDB itself takes four times as long to import, most of it for clients that are not used here, so only what writes
loads it (`index.tables.store`). Both see the same files and versions. A table is opened for each read, at its newest
version, and an opened one stays at that version.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lance

from index.errors import DamagedData, StateError
from index.files.bucket import bucket, named
from index.workspace import Workspace


class Tables:
    """The tables of one workspace, in its folder or on object storage."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def shared(self) -> bool:
        """Whether they lie on object storage."""
        return bool(self._workspace.bucket)

    @property
    def address(self) -> str:
        """URL of the folder they lie in, or its absolute path: of `a:b` or `~` each library makes something else."""
        place = self._workspace.store
        return f"{self._workspace.bucket}/{place.name}" if self.shared else str(place.absolute())

    def exists(self) -> bool:
        """Whether a store was ever written."""
        return bool(self._folders()) if self.shared else self._workspace.store.is_dir()

    def names(self) -> list[str]:
        """All tables whose creation was finished, sorted.

        Raises:
            StateError: If there is no store.
            DamagedData: If a table has lost its versions, or is gone.
        """
        if not self.exists():
            raise StateError("this workspace has no store yet: run `semiome encode` first")
        found = [name for name in self._folders() if self._was_created(name)]
        if any(name.startswith("clips_") for name in found):  # which is made last
            for name in ("videos", "patients"):
                if name not in found:
                    raise DamagedData(f"table {name} of the store is gone: bring the store back from a backup")
        return found

    def open(self, name: str) -> Any:  # noqa: ANN401  lance's types are not checked here
        """A table at its newest version, to read.

        Raises:
            StateError: If the object storage can't be reached.
        """
        with self.reached():
            return lance.dataset(f"{self.address}/{name}.lance")

    def sizes(self, table: str, part: str = "") -> dict[str, int]:
        """Bytes of a table's files, or of those in one of its folders, by name."""
        below = f"{table}.lance/{part}" if part else f"{table}.lance"
        if self.shared:
            return bucket(self._workspace.bucket).sizes(f"{self._workspace.store.name}/{below}")
        files = (path for path in (self._workspace.store / below).rglob("*") if path.is_file())
        return {str(path.relative_to(self._workspace.store)): path.stat().st_size for path in files}

    @contextmanager
    def reached(self) -> Iterator[None]:
        """Turn what Lance raises of an object storage, with its address, into an error without.

        Raises:
            StateError: If it does not answer, or refuses access.
        """
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            if self.shared:
                raise named(error) from None
            raise

    def _folders(self) -> list[str]:
        """Names of everything that looks like a table, sorted."""
        if self.shared:
            found = bucket(self._workspace.bucket).folders(self._workspace.store.name)
        else:
            found = [path.name for path in self._workspace.store.iterdir() if path.is_dir()]
        return sorted(name.removesuffix(".lance") for name in found if name.endswith(".lance"))

    def _was_created(self, name: str) -> bool:
        """Whether a table's first version was finished; a crash or a full disk in its creation leaves none.

        Raises:
            DamagedData: If it holds data and no version.
        """
        if any(path.endswith(".manifest") for path in self.sizes(name, "_versions")):
            return True
        if self.sizes(name, "data"):
            raise DamagedData(f"table {name} of the store has lost its versions: bring the store back from a backup")
        return False
