"""A store's tables as they are read: through Lance, the library that LanceDB keeps its tables with.

LanceDB itself takes four times as long to import, most of it for clients that are not used here, so only what writes
loads it (`index.tables.store`). Both see the same files and versions. A table is opened for each read, at its newest
version, and an opened one stays at that version.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import lance

from index.errors import DamagedData, StateError
from index.workspace import STORE, Workspace


class Tables:
    """The tables of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._place = workspace.place
        self.address = f"{self._place.address}/{STORE}"

    @property
    def remote(self) -> bool:
        """Whether writers on several hosts can reach them."""
        return self._place.remote

    def exists(self) -> bool:
        """Whether anything was ever written."""
        return bool(self._place.folders(STORE))

    def names(self) -> list[str]:
        """All tables whose creation was finished, sorted.

        Raises:
            StateError: If there is no store.
            DamagedData: If a table has lost its versions, or is gone.
        """
        if not self.exists():
            raise StateError("this workspace has no store yet: run `semiome encode` first")
        created = [name for name in self._folders() if self._was_created(name)]
        if any(name.startswith("clips_") for name in created):  # which is made last
            for name in ("videos", "patients"):
                if name not in created:
                    raise DamagedData(f"table {name} of the store is gone: bring the store back from a backup")
        return created

    def open(self, name: str) -> Any:  # noqa: ANN401  lance's types are not checked here
        """A table at its newest version, to read.

        Raises:
            StateError: If the object storage can't be reached.
        """
        with self.reached():
            return lance.dataset(f"{self.address}/{name}.lance")

    def sizes(self, table: str, part: str = "") -> dict[str, int]:
        """Bytes of a table's files, or of those in one of its folders, by name."""
        return self._place.sizes("/".join(filter(None, (STORE, f"{table}.lance", part))))

    def settle(self, settled: dict[Path, int]) -> None:
        """Make all that was written survive a power cut, see `Place.settle`."""
        self._place.settle(STORE, settled)

    def reached(self) -> AbstractContextManager[None]:
        """Within it, what Lance raises of object storage becomes an error of our own, without an address.

        Raises:
            StateError: If the storage does not answer, or refuses access.
        """
        return self._place.reached()

    def _folders(self) -> list[str]:
        """Names of everything that looks like a table, sorted."""
        return sorted(name.removesuffix(".lance") for name in self._place.folders(STORE) if name.endswith(".lance"))

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
