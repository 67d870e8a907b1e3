"""The snapshot that serves: loaded once, exchanged for a newer one by replacing a single reference."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from index.errors import StateError
from index.records import Video
from index.search.snapshot import Snapshot
from index.semiology import Classes
from index.tables.blocklist import ErasedList
from index.tables.store import Changes, Store
from index.vectors.generation import Generation, load_generation
from index.vectors.publication import fetch
from index.workspace import Workspace, classes_of, current


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was read: a generation, and what the store held beside it."""

    generation: Generation
    videos: Mapping[str, Video]
    changes: Changes
    classes: Classes


class SnapshotLoader:
    """Holds the current snapshot of a workspace, without the patients on the list of the erased.

    A caller takes `snapshot` once and works on it to the end; `refresh` never touches one that is in use, and one that
    is held no more goes with all that it has mapped. Reading a store may take long, or hang with its disk;
    `withhold_erased` reads the list alone, and takes out of what is loaded all who have been put on it since.

    Attributes:
        snapshot: what serves.
        erasures: how often the list has changed since the start; counted once the snapshot is exchanged.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._store = Store(workspace)
        self._exchanging = threading.Lock()
        self._erased = ErasedList(workspace)
        self.erasures = 0
        fetch(workspace)
        self._store.table_names()  # of all that may be missing, the store comes first
        generation = load_generation(workspace.generations)
        self._state = self._now(generation.manifest.generation, generation.manifest.encoder_id)
        self._take_up(generation)

    def refresh(self) -> bool:
        """Take up a newly published generation, rows committed or removed since, or changed labels and tags.

        Returns:
            Whether the snapshot was exchanged.

        Raises:
            StateError: If nothing is published any more; the old snapshot keeps serving.
            DamagedData: If the new generation is not whole; the old snapshot keeps serving.
        """
        exchanged = self.refresh_rows()  # whatever becomes of a newer index: who was erased is found no more
        return self.refresh_generation() or exchanged

    def refresh_rows(self) -> bool:
        """Pick up changed rows, labels and erasures of the generation that serves; see `refresh`."""
        exchanged = self.withhold_erased()
        old = self.snapshot
        state = self._now(old.name, old.encoder_id)
        if state == self._state:
            return exchanged
        self._take_up(old.generation)
        self._state = state
        return True

    def refresh_generation(self) -> bool:
        """Pick up a newly published generation; see `refresh`."""
        fetch(self._workspace)
        name = current(self._workspace.generations)
        if name is None:
            raise StateError("no index is published")
        if name == self.snapshot.name:
            return False
        generation = load_generation(self._workspace.generations, name)
        state = self._now(name, generation.manifest.encoder_id)
        self._take_up(generation)
        self._state = state
        return True

    def erased_is_new(self) -> bool:
        """Whether the list of the erased is another one than was read; one look at a file's facts."""
        return self._erased.is_new()

    def withhold_erased(self) -> bool:
        """Read the list of the erased, and exchange the snapshot where it says something else.

        Returns:
            Whether the snapshot was exchanged.

        Raises:
            DamagedData: If the list can't be read; the old one stays.
        """
        with self._exchanging:
            if not self._erased.read():
                return False
            self._exchange()
            self.erasures += 1
            return True

    def erased_facts(self) -> object:
        """What tells one list of the erased from another, see `ErasedList.facts`."""
        return self._erased.facts()

    def is_erased(self, patient_id: str) -> bool:
        """Whether a patient is on the list, as it was read last."""
        return bool(self._erased.withheld([patient_id]))

    def _take_up(self, generation: Generation) -> None:
        """The generation with what is stored now."""
        manifest = generation.manifest
        changes = self._store.changes(manifest.encoder_id, generation.clips, manifest.table_version)
        loaded = _Loaded(generation, self._store.videos(), changes, classes_of(self._workspace))
        with self._exchanging:
            self._loaded = loaded
            self._exchange()

    def _exchange(self) -> None:
        """What is loaded, without the erased, is what serves. In memory alone."""
        loaded = self._loaded
        clips, changes, videos = loaded.generation.clips, loaded.changes, loaded.videos
        known = {*clips.patient_ids, *changes.added.clips.patient_ids, *(one.patient_id for one in videos.values())}
        if erased := self._erased.withheld(known):
            videos = {name: video for name, video in videos.items() if video.patient_id not in erased}
            changes = changes.without_patients(erased, clips)
        self.snapshot = Snapshot(loaded.generation, videos, changes, loaded.classes)

    def _now(self, name: str, encoder_id: str) -> tuple[str, int, int, Classes]:
        """Versions, read before what they are of: something newer is then taken up once more, never missed."""
        store = self._store
        return name, store.version(encoder_id), store.videos_version(), classes_of(self._workspace)
