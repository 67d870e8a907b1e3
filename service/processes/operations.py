"""Builds and erasures that a call starts: each in a process of its own, its state in a file that any worker can read.

One build and one erasure at a time: whichever runs holds a lock that ends with its process, so that one that was
killed is known to be dead. An erasure waits in its process for whatever else is being written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from index.custody.erasure import withhold
from index.errors import DamagedData, DiskFull, NotFound, SemiomeError, StateError
from index.files.durable import small_file, write_text_atomically
from index.files.locks import open_lock
from index.workspace import Workspace
from service.audit.reserve import Ballast
from service.audit.trail import folder_of
from service.errors import status_of, type_and_place
from service.processes.starting import Child
from service.records import Operation

BUILD, ERASE = "build", "erase"
RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
_LOCKS = {BUILD: "running.lock", ERASE: "erasing.lock"}
_CALLED = {BUILD: "build", ERASE: "erasure"}
_PROCESS = "service.processes.operation_process"
_KEPT = 100
_ENDING_S = 0.5
_JUST_BEGUN_S = 1.0
"""One that has said that it is done holds its lock a moment longer."""


_logger = logging.getLogger(__name__)


class Operations:
    """Operations of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._folder = workspace.root / "operations"

    def build(self, *, publish: bool, force: bool) -> Operation:
        """Start to build a generation.

        Raises:
            StateError: If something else is running.
        """
        return self._start(BUILD, {"publish": publish, "force": force})

    def erase(self, patient_id: str) -> Operation:
        """Start to erase a patient; the process alone gets the id, and no file holds it.

        When this returns nothing of them is answered any more; nor where it raises `StateError`.

        Raises:
            StateError: If another erasure is running.
        """

        def start() -> Operation:
            with contextlib.suppress(NotFound):  # the operation says so
                withhold(self._workspace, patient_id)
            try:
                return self._start(ERASE, {"patient_id": patient_id})
            except DiskFull:
                raise
            except StateError as error:
                hidden = "this patient no longer appears in any answer"
                raise StateError(f"{hidden}; {error}, then erase them again") from None

        try:
            return start()
        except DiskFull:
            if not Ballast(folder_of(self._workspace) / ".ballast").drop():
                raise
            return start()

    def get(self, operation_id: str) -> Operation:
        """How one stands.

        Raises:
            NotFound: If there is none of that id.
        """
        if not re.fullmatch("[0-9a-f]{16}", operation_id):
            raise NotFound("no such operation: check the id")
        operation = self._read(operation_id)
        if operation.state == RUNNING and self._is_abandoned(operation.kind):
            operation = self._read(operation_id)
            if operation.state == RUNNING:  # still: it has not just ended
                message = "its process was killed" + (
                    ": start it again and it resumes" if operation.kind == ERASE else ""
                )
                if self._stopped(operation_id).exists():  # before it could say so itself
                    operation = ended(operation, CANCELLED)
                else:
                    operation = replace(operation, state=FAILED, code="ABORTED", message=message, ended_at=_now())
                self.write(operation)
        return operation

    def remembered(self) -> list[Operation]:
        """All that are remembered, newest first."""
        operations = []
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(NotFound):  # it was dropped just now
                try:
                    operations.append(self.get(path.stem))
                except DamagedData as error:
                    _logger.error("%s", error)
        return sorted(operations, key=lambda one: one.started_at, reverse=True)[:_KEPT]

    def _read(self, operation_id: str) -> Operation:
        try:
            return Operation(**json.loads(small_file(self._path(operation_id))))
        except FileNotFoundError:
            raise NotFound("no such operation: check the id") from None
        except (OSError, ValueError, TypeError):
            raise DamagedData(f"operation {operation_id} can't be read: remove its file from operations/") from None

    def cancel(self, operation_id: str) -> Operation:
        """Stop a build. One that has ended stays as it is.

        Raises:
            NotFound: If there is none of that id.
            StateError: If it is an erasure, which can't be cancelled.
        """
        operation = self.get(operation_id)
        if operation.state != RUNNING:
            return operation
        if operation.kind == ERASE:
            raise StateError("an erasure can't be cancelled")
        until = time.monotonic() + _JUST_BEGUN_S
        while not _is_ours(operation.pid):
            if time.monotonic() >= until:
                raise StateError("it runs on another host: ask a server of that host to stop it")
            time.sleep(0.02)  # for a moment after its start a process has no name yet; or it has just ended
            operation = self.get(operation_id)
            if operation.state != RUNNING:
                return operation
        self._stopped(operation_id).touch()
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(operation.pid, signal.SIGTERM)
        return self.get(operation_id)

    def write(self, operation: Operation) -> None:
        """Say how an operation stands.

        Raises:
            StateError: If there is no folder for it.
        """
        self._make_folder()
        write_text_atomically(self._path(operation.operation_id), json.dumps(asdict(operation)))

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise StateError("the workspace's folder `operations` is something else: move it away") from None

    def _start(self, kind: str, request: dict[str, Any]) -> Operation:
        self._make_folder()
        with self._turn(kind, _ENDING_S) as turn:
            operation = Operation(secrets.token_hex(8), kind, RUNNING, "starting", _now())
            self.write(operation)
            # The lock is the child's from now on, and a worker that ends takes no build with it.
            child = Child(_PROCESS, descriptors=[turn], outlives=True)
            with contextlib.ExitStack() as untold:
                untold.callback(child.end, 0.0)  # one that is never told what to do would hold the lock for ever
                operation = replace(operation, pid=child.pid)
                self.write(operation)  # before it gets its request, and says more itself
                workspace = self._workspace.address
                child.tell({**request, "workspace": workspace, "operation": asdict(operation), "lock": turn})
                untold.pop_all()
        for old in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)[:-_KEPT]:
            old.unlink(missing_ok=True)
            self._stopped(old.stem).unlink(missing_ok=True)
        return operation

    @contextmanager
    def _turn(self, kind: str, wait_s: float = 0.0) -> Iterator[int]:
        until = time.monotonic() + wait_s
        with closing(_Descriptor(self._folder / _LOCKS[kind])) as descriptor:
            while True:
                try:
                    fcntl.flock(descriptor.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise StateError(f"another {_CALLED[kind]} is running: wait for its end") from None
                    time.sleep(0.02)
                    continue
                break
            yield descriptor.number

    def _is_abandoned(self, kind: str) -> bool:
        try:
            with self._turn(kind):
                return True
        except StateError:
            return False

    def _path(self, operation_id: str) -> Path:
        return self._folder / f"{operation_id}.json"

    def _stopped(self, operation_id: str) -> Path:
        return self._folder / f"{operation_id}.stopped"


def _is_ours(pid: int) -> bool:
    """Whether a process of this host is one of an operation: no other may be signalled."""
    try:
        return pid > 0 and _PROCESS.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


class _Descriptor:
    def __init__(self, path: Path) -> None:
        self.number = open_lock(path)

    def close(self) -> None:
        os.close(self.number)


def failed(operation: Operation, error: Exception) -> Operation:
    """An operation that ended with an error."""
    code = status_of(error) if isinstance(error, SemiomeError) else None
    message = f"internal error, {type_and_place(error)}" if code is None else str(error)
    return replace(operation, state=FAILED, code=code.name if code else "INTERNAL", message=message, ended_at=_now())


def ended(operation: Operation, state: str, generation: str = "", receipt: str = "") -> Operation:
    """An operation that is done, or was cancelled."""
    progress = 1.0 if state == DONE else operation.progress
    return replace(
        operation, state=state, stage=state, progress=progress, ended_at=_now(), generation=generation, receipt=receipt
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
