"""The process of one operation: told on stdin what to do, it says in the operation's file how it stands."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, repeat
from types import FrameType
from typing import Any

from index.custody.erasure import erase_patient
from index.errors import Locked
from index.search.loader import SnapshotLoader
from index.tables.store import Store
from index.vectors.generation import build_generation
from index.vectors.publication import fetch, release
from index.workspace import Workspace
from service.processes.operations import BUILD, CANCELLED, DONE, Operations, ended, failed
from service.processes.starting import request_of_parent
from service.records import Operation

_SAY_EVERY_S = 0.2


class _Cancelled(BaseException):
    """SIGTERM came."""


def main() -> None:
    """Do what stdin says."""
    request = request_of_parent()
    workspace = Workspace.at(request["workspace"])
    operations = Operations(workspace)
    operation = Operation(**request["operation"])
    say = _saying(operations, operation)
    os.nice(19)  # servers answer meanwhile
    try:
        signal.signal(signal.SIGTERM, _cancel if operation.kind == BUILD else signal.SIG_IGN)
        operations.write(operation)
        if operation.kind == BUILD:
            name = _build(workspace, say, publish=request["publish"], force=request["force"])
            operation = ended(operation, DONE, generation=name)
        else:
            receipt = _erase(workspace, say, request["patient_id"])
            operation = ended(operation, DONE, receipt=json.dumps(receipt))
    except _Cancelled:
        operation = ended(operation, CANCELLED)
    except Exception as error:  # noqa: BLE001  callers learn of it from the operation
        operation = failed(operation, error)
    operations.write(operation)
    os.close(request["lock"])


def _build(workspace: Workspace, say: Callable[[str, float], None], *, publish: bool, force: bool) -> str:
    """A generation of the encoder that serves."""
    encoder_id = SnapshotLoader(workspace).snapshot.encoder_id
    fetch(workspace)
    say("reading", 0.0)
    stored = Store(workspace).clips(encoder_id)
    say("building", 0.0)

    def progress(done: int, total: int) -> None:
        say("measuring recall", done / max(total, 1))

    manifest = build_generation(stored, workspace.generations, progress)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is whole is kept
    release(workspace, manifest.generation, publish_it=publish, force=force)
    return manifest.generation


def _erase(workspace: Workspace, say: Callable[[str, float], None], patient_id: str) -> dict[str, Any]:
    """Nothing of the patient is answered from the first try on; the rest waits for those who write."""
    for again_s in chain((1, 2, 5, 10, 20), repeat(30)):
        try:
            return erase_patient(workspace, patient_id, (), lambda step: say(step, 0.0))
        except Locked:
            say("waiting until another process has finished writing; the patient is answered no more", 0.0)
            time.sleep(again_s)
    raise AssertionError


def _saying(operations: Operations, operation: Operation) -> Callable[[str, float], None]:
    said_at, said = 0.0, ""

    def say(stage: str, progress: float) -> None:
        nonlocal said_at, said
        if stage != said or time.monotonic() - said_at > _SAY_EVERY_S:
            said_at, said = time.monotonic(), stage
            operations.write(replace(operation, stage=stage, progress=progress))

    return say


def _cancel(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise _Cancelled


if __name__ == "__main__":
    main()
