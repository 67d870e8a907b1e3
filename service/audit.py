"""The audit log: who read or was refused what, in lines that can't be changed, dropped or swapped unseen.

Each line carries a keyed hash (HMAC-SHA-256 with the workspace's key) of itself and of the line before, so that the
last one vouches for all. Workers take turns by a lock on the file; a line is written before the answer is sent, and
brought to the disk within a second. Patients stand in it as keyed hashes, as they do in receipts: a report on a patient
is made from their pseudonym, and an erased patient's pseudonym is in no line.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from index.erased import key_to_compare, patient_hash, workspace_key
from index.errors import DamagedData, StateError
from index.files import naming_failed_writes, sync_folder
from index.workspace import Workspace

_SEGMENT_BYTES = 64 * 2**20
_START = "0" * 64
_MAC = ', "mac": "'
_TAIL = len(_MAC) + 64 + len('"}\n')
_MAX_REMEMBERED = 100_000


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
        generation: that was read.
    """

    caller: str
    method: str
    code: str
    request_id: str
    patients: Iterable[str] = ()
    model: str = ""
    generation: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """What checking a log found.

    Attributes:
        lines: how many, all of them in their place.
        last: the last one's hash. Noted elsewhere, it shows later that nothing was cut off the end.
    """

    lines: int
    last: str


class Log(Protocol):
    """What a server needs of an audit log."""

    async def write(self, entry: Entry) -> None:
        """Write an entry, before what it speaks of is answered."""

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries."""

    def sync(self) -> None:
        """Bring what was written to the disk."""

    def close(self) -> None:
        """Sync, and give up the file."""


class NoLog:
    """Writes nothing: of a workspace that can't be written, on a server that only this machine can reach."""

    async def write(self, entry: Entry) -> None:
        """See `Log`."""

    def append(self, entries: Iterable[Entry]) -> None:
        """See `Log`."""

    def sync(self) -> None:
        """See `Log`."""

    def close(self) -> None:
        """See `Log`."""


class AuditLog:
    """Appends to a workspace's log. One for each process; threads may share it."""

    def __init__(self, workspace: Workspace) -> None:
        """Open the log and check that its last line is whole.

        Raises:
            DamagedData: it is not: `semiome audit verify` says more.
            CannotWrite: If the system does not let this process write to it.
        """
        self._folder = folder_of(workspace)
        self._key = workspace_key(workspace)
        self._lock = threading.Lock()
        self._hashes: dict[str, str] = {}
        self._descriptor = -1
        self._path = self._folder
        self._size = -1
        self._mac = _START
        self._unsynced = False
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        with self._lock, naming_failed_writes():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._reopen()

    async def write(self, entry: Entry) -> None:
        """Write an entry, together with those of other calls that are answered in the same moment.

        Raises:
            DiskFull: it could not be written, and what it speaks of must not be answered.
        """
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((entry, written))
        if len(self._waiting) == 1:
            loop.call_soon(self._write_waiting)
        await written

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        error: Exception | None = None
        try:
            self.append([entry for entry, _ in waiting])
        except Exception as failure:  # noqa: BLE001  whatever it is, those who wait are told
            error = failure
        for _, written in waiting:
            if written.done():  # its caller has gone; the line stays
                continue
            if error is None:
                written.set_result(None)
            else:
                written.set_exception(error)

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries; when this returns they survive the end of this process.

        Raises:
            DiskFull: they could not be written, and what they speak of must not be answered.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        said = [self._values(entry, at) for entry in entries]
        with self._lock, naming_failed_writes():
            while True:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
                size = os.fstat(self._descriptor).st_size
                if size < _SEGMENT_BYTES:
                    break
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                self._reopen()  # another worker has filled it
            try:
                if size != self._size:  # another worker has written
                    self._mac = self._last_mac(size)
                mac, lines = self._mac, []
                for text in said:
                    mac = _mac(self._key, mac, text)
                    lines.append(f'{text}{_MAC}{mac}"}}\n')
                data = "".join(lines).encode()
                written = os.write(self._descriptor, data)
                if written < len(data):
                    os.ftruncate(self._descriptor, size)
                    raise OSError(28, os.strerror(28))  # ENOSPC: half a line must not stay
                self._size, self._mac, self._unsynced = size + written, mac, True
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            if self._size >= _SEGMENT_BYTES:
                self._reopen()

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with self._lock:
            if self._unsynced:
                os.fsync(self._descriptor)
                self._unsynced = False

    def close(self) -> None:
        """Sync, and give up the file."""
        self.sync()
        with self._lock:
            os.close(self._descriptor)

    def _values(self, entry: Entry, at: str) -> str:
        values = {
            "at": at,
            "caller": entry.caller,
            "method": entry.method,
            "code": entry.code,
            "request_id": entry.request_id,
            "patients": sorted({self._hash(patient) for patient in entry.patients}),
            "model": entry.model,
            "generation": entry.generation,
        }
        return json.dumps(values)[:-1]

    def _hash(self, patient: str) -> str:
        found = self._hashes.get(patient)
        if found is None:
            if len(self._hashes) >= _MAX_REMEMBERED:
                self._hashes.clear()
            found = self._hashes[patient] = patient_hash(self._key, patient)[:32]
        return found

    def _reopen(self) -> None:
        """Open the newest segment, or begin the next one where it is full. A worker may have done so already."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
        with (self._folder / ".segments").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            segments = _segments(self._folder)
            path = segments[-1] if segments else self._folder / "000001.jsonl"
            if segments and _size_of_whole_lines(path) >= _SEGMENT_BYTES:
                path = self._folder / f"{int(path.stem) + 1:06d}.jsonl"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            sync_folder(self._folder)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._path = descriptor, path
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            self._size = os.fstat(descriptor).st_size
            self._mac = self._last_mac(self._size)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _last_mac(self, size: int) -> str:
        """Of this segment, or of the one before where this one is empty. A line that a kill has cut is taken off."""
        size = _healed(self._descriptor, size)
        if size:
            return _mac_of(os.pread(self._descriptor, _TAIL, size - _TAIL))
        before = [path for path in _segments(self._folder) if path < self._path]
        if not before:
            return _START
        with before[-1].open("rb") as stream:
            stream.seek(max(before[-1].stat().st_size - _TAIL, 0))
            return _mac_of(stream.read())


def _size_of_whole_lines(path: Path) -> int:
    """Of a segment, once a line that a kill has cut is taken off; nobody writes to it meanwhile."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return _healed(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _healed(descriptor: int, size: int) -> int:
    """Take off a segment's last line where a kill has cut it; returns the size that is left."""
    window = 4096
    while True:
        start = max(size - window, 0)
        tail = os.pread(descriptor, window, start)[: size - start]
        end = tail.rfind(b"\n") + 1
        if end or not start:
            break
        window *= 4
    if start + end < size:
        os.ftruncate(descriptor, start + end)
    return start + end


def _mac_of(tail: bytes) -> str:
    return tail.decode("ascii", "replace")[len(_MAC) : len(_MAC) + 64]


def verify(workspace: Workspace, noted: str = "") -> Verified:
    """Check every line of a workspace's log.

    Args:
        workspace: whose.
        noted: hash of a line that was the last one once; it must still be there.

    Raises:
        DamagedData: a line was changed, dropped, put in or moved, or the noted one is not there; the message says
            which line is the first that is wrong.
        StateError: there is no log.
    """
    key, mac, lines = key_to_compare(workspace), _START, 0
    seen = not noted
    for name, number, line in _lines(workspace):
        text, said = line[:-_TAIL], line[-_TAIL:]
        mac = _mac(key, mac, text)
        if said != f'{_MAC}{mac}"}}\n':
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
    segments = _segments(folder_of(workspace))
    if not segments:
        raise StateError("there is no audit log: `semiome serve` writes one")
    for path in segments:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.endswith("\n") and path == segments[-1]:
                    return  # a kill cut it as it was written: it was never acknowledged
                yield path.name, number, line


def _segments(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdigit())


def _mac(key: bytes, before: str, text: str) -> str:
    return hmac.new(key, f"audit/{before}/{text}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
