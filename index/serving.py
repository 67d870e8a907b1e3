"""The snapshot that serves: loaded once, exchanged for a newer one by replacing a single reference."""

from __future__ import annotations

from index.errors import StateError
from index.generation import load_generation
from index.sharing import fetch
from index.snapshot import Snapshot
from index.store import Store
from index.workspace import Workspace, current


class Serving:
    """Holds the current snapshot of a workspace.

    A caller takes `snapshot` once and works on it to the end; `refresh` never touches one that is in use, and one that
    nobody holds any more goes with all that it has mapped.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._store = Store(workspace)
        fetch(workspace)
        self._store.table_names()  # of all that may be missing, the store comes first
        generation = load_generation(workspace.generations)
        self._state = self._now(generation.manifest.generation, generation.manifest.encoder_id)
        self.snapshot = self._take_up(Snapshot(generation, {}))

    def refresh(self) -> bool:
        """Take up a newly published generation, rows committed or removed since, or changed labels and tags.

        Returns:
            Whether the snapshot was exchanged.

        Raises:
            StateError: nothing is published any more; the old snapshot keeps serving.
            DamagedData: the new generation is not whole; the old snapshot keeps serving.
        """
        exchanged = self._refresh_rows()  # whatever becomes of a newer index: who was erased is found no more
        fetch(self._workspace)
        name = current(self._workspace.generations)
        if name is None:
            raise StateError("no index is published")
        if name == self.snapshot.name:
            return exchanged
        generation = load_generation(self._workspace.generations, name)
        state = self._now(name, generation.manifest.encoder_id)
        self.snapshot = self._take_up(Snapshot(generation, {}))
        self._state = state
        return True

    def _refresh_rows(self) -> bool:
        old = self.snapshot
        state = self._now(old.name, old.encoder_id)
        if state == self._state:
            return False
        self.snapshot = self._take_up(old)
        self._state = state
        return True

    def _take_up(self, base: Snapshot) -> Snapshot:
        """The generation of a snapshot with what is stored now."""
        generation = base.generation
        changes = self._store.changes(base.encoder_id, generation.clips, generation.manifest.table_version)
        return Snapshot(generation, self._store.videos(), changes)

    def _now(self, name: str, encoder_id: str) -> tuple[str, int, int]:
        """Versions, read before what they are of: something newer is then taken up once more, never missed."""
        return name, self._store.version(encoder_id), self._store.videos_version()
