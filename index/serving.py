"""The snapshot that serves: loaded once, exchanged for a newer one by replacing a single reference."""

from __future__ import annotations

from index.errors import StateError
from index.generation import load_generation
from index.search import Snapshot
from index.store import Store
from index.workspace import Workspace, current


class Serving:
    """Holds the current snapshot of a workspace.

    A caller takes `snapshot` once and works on it to the end; `refresh` never touches one that is in use.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._store = Store(workspace)
        self._videos_version = self._store.videos_version()
        self.snapshot = Snapshot(load_generation(workspace.generations), self._store.videos())

    def refresh(self) -> bool:
        """Take up a newly published generation, or changed labels and tags.

        Returns:
            Whether the snapshot was exchanged.

        Raises:
            StateError: nothing is published any more; the old snapshot keeps serving.
            DamagedData: the new generation is not whole; the old snapshot keeps serving.
        """
        name = current(self._workspace.generations)
        if name is None:
            raise StateError("no index is published")
        version = self._store.videos_version()
        if name == self.snapshot.name and version == self._videos_version:
            return False
        generation = self.snapshot.generation
        if name != self.snapshot.name:
            generation = load_generation(self._workspace.generations, name)
        self.snapshot = Snapshot(generation, self._store.videos())
        self._videos_version = version
        return True
