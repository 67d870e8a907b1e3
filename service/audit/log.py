"""The audit log: who read or was refused what, in lines that can't be changed, dropped or swapped unseen.

Each line carries a keyed hash (HMAC-SHA-256 with the workspace's key) of itself and of the line before, so that the
last one vouches for all. Workers take turns by a lock on the file; a line is written before the answer is sent, and
brought to the disk within a second. Patients stand in it as keyed hashes, as they do in receipts: a report on a patient
is made from their pseudonym, and an erased patient's pseudonym is in no line.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from index.errors import DamagedData, ServiceError
from index.files.durable import sync_folder
from index.files.failures import naming_failed_writes
from index.tables.blocklist import patient_hash, workspace_key
from index.workspace import KEY, Workspace
from service.audit.reserve import Ballast
from service.audit.segment import Plain, healed, is_in_place, locked, mac_of_last, size_of_whole_lines, write_again
from service.audit.trail import MAC, START, TAIL, Entry, folder_of, mac_of, segments_of
from service.errors import type_and_place

_SEGMENT_BYTES = 64 * 2**20
_MAX_REMEMBERED = 100_000
_IP_ADDRESS = 2
"""Number in DICOM's audit messages of the kinds of network access points (PS3.15, A.5)."""
_TRIED = b" " * 4096
_PATIENCE_S = 10.0
"""Another worker holds the log for as long as a write takes; one that was stopped just then holds it on."""

_logger = logging.getLogger(__name__)


_Waiting = tuple[Entry, asyncio.Future[None] | None]


class _Busy(ServiceError):
    """Another thread or process holds the log."""

    def __init__(self) -> None:
        super().__init__("UNAVAILABLE", "the audit log can't be written now: try again shortly")


class AuditLog:
    """Appends to a workspace's log. One for each process; threads may share it."""

    def __init__(self, workspace: Workspace) -> None:
        """Open the log and check that its last line is whole.

        Raises:
            DamagedData: If it is not; `semiome audit verify` says more.
            CannotWrite: If the system does not let this process write to it.
        """
        self._folder = folder_of(workspace)
        if os.path.lexists(self._folder) and not self._folder.is_dir():
            raise DamagedData("the audit log's folder `audit` is something else: move it away, and look at it")
        self._ballast = Ballast(self._folder / ".ballast")
        if segments_of(self._folder) and workspace.place.read(KEY) is None:
            raise DamagedData(
                "the workspace's key is gone, and the audit log can't go on without it: "
                "bring the file `key` back from a backup"
            )
        self._key = workspace_key(workspace)
        self._lock = threading.Lock()
        self._hashes: dict[str, str] = {}
        self._descriptor = -1
        self._path = self._folder
        self._size = -1
        self._mac = START
        self._unsynced = False
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Future[None] | None = None
        with self._lock, naming_failed_writes():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._reopen()

    async def write(self, entry: Entry) -> None:
        """Write an entry, together with those of other calls that are answered in the same moment.

        Raises:
            DiskFull: If it could not be written; what it speaks of must not be answered.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._write_soon(entry, written)
        await written

    def write_soon(self, entry: Entry) -> None:
        """Write an entry of what is not answered; a failure is logged alone."""
        self._write_soon(entry, None)

    def _write_soon(self, entry: Entry, written: asyncio.Future[None] | None) -> None:
        self._waiting.append((entry, written))
        if len(self._waiting) == 1 and self._writing is None:
            asyncio.get_running_loop().call_soon(self._write_waiting)

    def _write_waiting(self) -> None:
        """In the event loop, which waits for no other process: where one holds the log, a thread does."""
        waiting, self._waiting = self._waiting, []
        try:
            self.append([entry for entry, _ in waiting], patience_s=0.0)
        except _Busy:
            entries = [entry for entry, _ in waiting]
            self._writing = asyncio.get_running_loop().run_in_executor(None, self.append, entries)
            self._writing.add_done_callback(partial(self._caught_up, waiting))
        except Exception as failure:  # noqa: BLE001  whatever it is, raised where it is awaited
            _tell(waiting, failure)
        else:
            _tell(waiting, None)

    def _caught_up(self, waiting: list[_Waiting], done: asyncio.Future[None]) -> None:
        self._writing = None
        _tell(waiting, asyncio.CancelledError() if done.cancelled() else done.exception())
        if self._waiting:
            self._write_waiting()

    def append(self, entries: Iterable[Entry], patience_s: float = _PATIENCE_S) -> None:
        """Write entries; when this returns they survive the end of this process.

        Args:
            entries: entries, in their order.
            patience_s: how long another thread or process may hold the log.

        Raises:
            DiskFull: If they could not be written; what they speak of must not be answered.
            ServiceError: If the log was held for too long.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entries = list(entries)
        said = [self._values(entry, at) for entry in entries]
        answered = any(entry.code == "OK" for entry in entries)
        until = time.monotonic() + patience_s
        with self._alone(patience_s), naming_failed_writes():
            try:
                self._append(said, until)
            except OSError as error:
                if error.errno != errno.ENOSPC or not (answered and self._ballast.drop()):
                    raise
                self._append(said, until)

    @contextmanager
    def _alone(self, patience_s: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=patience_s):
            raise _Busy
        try:
            yield
        finally:
            self._lock.release()

    def _hold(self, until: float) -> int:
        """Hold the newest segment, for this process alone; returns its size."""
        while True:
            while not locked(self._descriptor):
                if time.monotonic() >= until:
                    raise _Busy
                time.sleep(0.002)
            size, last = os.fstat(self._descriptor).st_size, self._mac
            if is_in_place(self._descriptor, self._path):
                if size < _SEGMENT_BYTES:
                    return size
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
                self._reopen()  # another worker has filled it
                continue
            _logger.error("the newest file of the audit log was taken away while it was in use")
            try:
                write_again(self._descriptor, self._path)
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            self._reopen()
            if not self._size:  # an empty one was put there: the chain goes on, and `verify` finds what is missing
                self._mac = last

    def _append(self, said: Sequence[str], until: float) -> None:
        size = self._hold(until)
        try:
            if size < self._size:  # the chain continues from the line that is gone, so that `verify` finds it
                _logger.error("lines were cut off the end of the audit log while it was in use")
            elif size != self._size:  # another worker has written
                self._mac = self._last_mac(size)
            mac, lines = self._mac, []
            for text in said:
                mac = mac_of(self._key, mac, text)
                lines.append(f'{text}{MAC}{mac}"}}\n')
            data = "".join(lines).encode()
            written = os.write(self._descriptor, data)
            if written < len(data):
                os.ftruncate(self._descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # half a line must not stay
            self._size, self._mac, self._unsynced = size + written, mac, True
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        if self._size >= _SEGMENT_BYTES:
            self._reopen()

    def sync(self) -> None:
        """Bring what was written to the disk; where nothing was, see that it could be.

        Raises:
            DiskFull: If nothing more can be answered, for want of room.
            CannotWrite: If the system does not let this process write any more.
            ServiceError: If another process holds the log.
        """
        self._ballast.keep()
        with self._alone(_PATIENCE_S), naming_failed_writes():
            if not self._unsynced:
                self._try_to_write()
                return
            self._unsynced = False
            descriptor = os.dup(self._descriptor)  # a slow disk must not keep the next line waiting
        try:
            os.fsync(descriptor)
        except OSError:
            self._unsynced = True
            raise
        finally:
            os.close(descriptor)

    def _try_to_write(self) -> None:
        """Write some bytes and take them off again; of a full disk, only once nothing is kept free for answers."""
        size = self._hold(time.monotonic() + _PATIENCE_S)
        try:
            if os.write(self._descriptor, _TRIED) < len(_TRIED):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._ballast.is_there:
                raise
        finally:
            os.ftruncate(self._descriptor, size)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Sync, and give up the file."""
        try:
            self.sync()
        finally:
            with self._lock:
                os.close(self._descriptor)
                self._descriptor = -1  # a late line must not go to whatever file gets the number

    def _values(self, entry: Entry, at: str) -> str:
        values: dict[str, Any] = {
            "at": at,
            "caller": entry.caller,
            "method": entry.method,
            "code": entry.code,
            "request_id": entry.request_id,
            "patients": sorted({self._hash(patient) for patient in entry.patients}),
            "model": entry.model,
            "generation": entry.generation,
            "peer": entry.peer,
            "peer_type": _IP_ADDRESS,
        }
        if entry.behalf:
            values["behalf"] = entry.behalf
        if entry.count > 1:
            values["count"] = entry.count
        return json.dumps(values)[:-1]

    def _hash(self, patient: str) -> str:
        hashed = self._hashes.get(patient)
        if hashed is None:
            if len(self._hashes) >= _MAX_REMEMBERED:
                self._hashes.clear()
            hashed = self._hashes[patient] = patient_hash(self._key, patient)[:32]
        return hashed

    def _reopen(self) -> None:
        """Open the newest segment, or begin the next one where it is full. A worker may have done so already."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
        with closing(Plain(self._folder / ".segments")) as turn:
            fcntl.flock(turn.descriptor, fcntl.LOCK_EX)
            segments = segments_of(self._folder)
            path = segments[-1] if segments else self._folder / "000001.jsonl"
            if segments and size_of_whole_lines(path) >= _SEGMENT_BYTES:
                path = self._folder / f"{int(path.stem) + 1:06d}.jsonl"
            descriptor = Plain(path).descriptor
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
        """Keyed hash of the last whole line of this segment, or of the one before where this one is empty."""
        size = healed(self._descriptor, size)
        if size:
            return mac_of_last(os.pread(self._descriptor, TAIL, size - TAIL))
        before = [path for path in segments_of(self._folder) if path < self._path]
        if not before:
            return START
        with closing(Plain(before[-1])) as segment:
            return mac_of_last(os.pread(segment.descriptor, TAIL, max(os.fstat(segment.descriptor).st_size - TAIL, 0)))


def _tell(waiting: Iterable[_Waiting], failure: BaseException | None) -> None:
    """Those who wait for their line: that it is written, or why not."""
    for _, written in waiting:
        if written is None:
            if failure is not None:
                _logger.error("a call given up could not be written to the audit log: %s", type_and_place(failure))
        elif not written.done():  # else its caller has gone; the line stays
            if failure is None:
                written.set_result(None)
            else:
                written.set_exception(failure)
