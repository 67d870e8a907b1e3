"""How the audit log lies on the disk, and what is read from it: whether it is whole, and who saw a patient's data."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from index.errors import DamagedData, StateError
from index.files.durable import is_plain
from index.tables.blocklist import key_to_compare, patient_hash, workspace_key
from index.workspace import Workspace

START = "0" * 64
"""What stands for the hash before the first line's."""
MAC = ', "mac": "'
"""Between what a line says and its hash."""
TAIL = len(MAC) + 64 + len('"}\n')
"""Characters of a line from there on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One read, change or refusal.

    Attributes:
        caller: identity of who asked.
        method: full name of what was called.
        code: gRPC status name of the answer.
        request_id: as the caller was told.
        patients: pseudonyms of whose data the answer holds or the change concerns; hashed as it is written.
        model: ids of encoder and head.
        generation: the index that was read.
        peer: address that the call came from: what IHE ATNA calls the network access point.
        behalf: address that `peer` says it asks for: the browser's, where `peer` is the review page.
        count: how many calls the line stands for.
    """

    caller: str
    method: str
    code: str
    request_id: str
    patients: Iterable[str] = ()
    model: str = ""
    generation: str = ""
    peer: str = ""
    behalf: str = ""
    count: int = 1


class Log(Protocol):
    """What a server needs of an audit log."""

    async def write(self, entry: Entry) -> None:
        """Write an entry, before what it speaks of is answered."""

    def write_soon(self, entry: Entry) -> None:
        """Write an entry of what is not answered."""

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries now."""

    def sync(self) -> None:
        """Bring what was written to the disk."""

    def close(self) -> None:
        """Sync, and give up the file."""


class NoLog:
    """Writes nothing: of a workspace that can't be written, on a server that only this machine can reach."""

    async def write(self, entry: Entry) -> None:
        """Do nothing."""

    def write_soon(self, entry: Entry) -> None:
        """Do nothing."""

    def append(self, entries: Iterable[Entry]) -> None:
        """Do nothing."""

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What checking a log found.

    Attributes:
        lines: how many, all of them in their place.
        last: the last one's hash. Noted elsewhere, it shows later that nothing was cut off the end.
    """

    lines: int
    last: str


def verify(workspace: Workspace, noted: str = "") -> Verified:
    """Check every line of a workspace's log.

    Args:
        workspace: whose log.
        noted: hash of a line that was the last one once; it must still be there.

    Raises:
        DamagedData: If a line was changed, dropped, inserted or moved, or the noted one is missing; the message says
            which line is the first that is wrong.
        StateError: If there is no log.
    """
    key, mac, lines = key_to_compare(workspace), START, 0
    seen = not noted
    for name, number, line in _lines(workspace):
        text, said = line[:-TAIL], line[-TAIL:]
        mac = mac_of(key, mac, text)
        if said != f'{MAC}{mac}"}}\n':
            raise DamagedData(
                f"line {number} of {name} is not what was written after the line before it: lines were changed, "
                "dropped, put in or moved there"
            )
        lines += 1
        seen = seen or mac == noted
    if not seen:
        raise DamagedData("the noted line is not in the log: lines were cut off its end")
    return Verified(lines, mac)


def of_patient(workspace: Workspace, patient_id: str) -> list[dict[str, Any]]:
    """The access report: every line that names a patient, oldest first. See `verify` for whether they are genuine."""
    hashed = patient_hash(workspace_key(workspace), patient_id)[:32]
    return [values for _, _, line in _lines(workspace) if hashed in line and (values := json.loads(line))]


def folder_of(workspace: Workspace) -> Path:
    """Where a workspace's log lies."""
    return workspace.root / "audit"


def _lines(workspace: Workspace) -> Iterator[tuple[str, int, str]]:
    segments = segments_of(folder_of(workspace))
    if not segments:
        raise StateError("there is no audit log: `semiome serve` writes one")
    for path in segments:
        if not is_plain(path):
            raise DamagedData(f"{path.name} of the audit log is no plain file: move it away, and look at it")
        with path.open(encoding="utf-8", errors="replace", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith("\n") and path == segments[-1]:
                    return  # a kill cut it as it was written: it was never acknowledged
                yield path.name, number, line


def segments_of(folder: Path) -> list[Path]:
    """The files of a log, oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdigit())


def mac_of(key: bytes, before: str, text: str) -> str:
    """Hash of a line, and by it of all before."""
    return hmac.new(key, f"audit/{before}/{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
