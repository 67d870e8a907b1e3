"""What an erasure under way must not forget: a note without the patient's id, which goes when all is done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from index.errors import DamagedData
from index.tables.blocklist import patient_hash, workspace_key
from index.workspace import ERASURES, Workspace


@dataclass(slots=True)
class Pending:
    """What an erasure under way must not forget.

    Attributes:
        patient_hash: keyed hash of the patient's id.
        patient_key: random; empty where no row was left when it began.
        started_at: UTC, ISO 8601.
        video_ids: theirs; once the rows are gone nothing else tells.
        needles: bytes that must be nowhere afterwards, in hex.
        sources: digests of their files.
        also: folders outside the workspace that were gone through.
        inferred: films that may be theirs by what stood around them when they were first looked at.
        places: what has been done.
        asking: all is done but what people have to decide.
    """

    patient_hash: str
    patient_key: str
    started_at: str
    video_ids: list[str] = field(default_factory=list)
    needles: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    inferred: list[str] = field(default_factory=list)
    places: list[dict[str, Any]] = field(default_factory=list)
    asking: bool = False


def unfinished(workspace: Workspace, *, asking: bool = False) -> list[str]:
    """When each erasure began that was interrupted, or, of those, that has an answer to wait for."""
    names = [name for name in workspace.place.names(ERASURES) if name.startswith(".pending-")]
    notes = (Note(workspace, name).read() for name in names if name.endswith(".json"))
    return [note.started_at for note in notes if note is not None and note.asking == asking]


class Note:
    """Where an erasure under way stands, for the process that resumes it."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._place, self._name = workspace.place, f"{ERASURES}/{name}"
        self.places = {workspace.erasures / name, Path(self._name)}

    def read(self) -> Pending | None:
        """What it says; None where there is none.

        Raises:
            DamagedData: If it can't be read.
        """
        data = self._place.read(self._name)
        try:
            return None if data is None else Pending(**json.loads(data))
        except (ValueError, TypeError):
            raise DamagedData(
                f"{Path(self._name).name} can't be read: remove it, and erase the patient again"
            ) from None

    def write(self, pending: Pending) -> None:
        """Put what is pending in place of what it said."""
        self._place.write(self._name, json.dumps(asdict(pending)).encode())

    def remove(self) -> None:
        """Remove it: all is done."""
        self._place.remove([self._name])


class Done:
    """Keeps what has been done in the note, once each."""

    def __init__(self, pending: Pending, note: Note) -> None:
        self._pending, self._note = pending, note

    def __call__(self, place: str, action: str) -> None:
        """Note what was done with a place."""
        entry = {"place": place, "action": action}
        if entry not in self._pending.places:
            self._pending.places.append(entry)
            self._note.write(self._pending)


def note_of(workspace: Workspace, patient_id: str) -> Note:
    """The note of a patient's erasure, whether or not there is one."""
    return Note(workspace, f".pending-{patient_hash(workspace_key(workspace), patient_id)[:16]}.json")
