"""`semiome.v1.AdminService`: what serves, and what is done about it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from encoder.head import Head, load_head
from index.errors import EncoderMismatch, InvalidInput, NotFound, SemiomeError
from index.vectors.generation import GenerationManifest, list_generations, load_generation, read_manifest
from index.vectors.publication import fetch, publish, roll_back
from index.workspace import Workspace, current, previous, set_current
from protos import admin_pb2 as admin
from service.gate.call import Call, Method
from service.messages import convert_admin
from service.processes.operations import DONE, Operations
from service.processes.worker_status import WorkerStatuses
from service.records import GenerationFacts, HeadFacts, StatusAnswer
from service.serving.watcher import StateWatcher

_SERVICE = "/semiome.v1.AdminService/"
_logger = logging.getLogger(__name__)
_Read = TypeVar("_Read")
_THREADS = 4


class Admin:
    """Looks after a workspace that is served."""

    def __init__(self, workspace: Workspace, watcher: StateWatcher, statuses: WorkerStatuses, sandbox: str) -> None:
        self._workspace = workspace
        self._watcher = watcher
        self._statuses = statuses
        self._sandbox = sandbox
        self._operations = Operations(workspace)
        self._threads = ThreadPoolExecutor(_THREADS, "admin")

    async def _apart(self, work: Callable[..., _Read], *given: object, **named: object) -> _Read:
        """In threads of its own: searches that hold all others keep no administrator from looking or erasing."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *given, **named))

    def methods(self) -> tuple[Method, ...]:
        """Everything this service answers."""
        answers: tuple[tuple[type, Callable[..., object]], ...] = (
            (admin.GetStatusRequest, self.get_status),
            (admin.BuildGenerationRequest, self.build_generation),
            (admin.ListGenerationsRequest, self.list_generations),
            (admin.ActivateGenerationRequest, self.activate_generation),
            (admin.RollBackGenerationRequest, self.roll_back_generation),
            (admin.ListHeadsRequest, self.list_heads),
            (admin.ActivateHeadRequest, self.activate_head),
            (admin.ErasePatientRequest, self.erase_patient),
            (admin.GetOperationRequest, self.get_operation),
            (admin.ListOperationsRequest, self.list_operations),
            (admin.CancelOperationRequest, self.cancel_operation),
        )
        return tuple(
            Method(f"{_SERVICE}{request.__name__.removesuffix('Request')}", request, behaviour)
            for request, behaviour in answers
        )

    async def get_status(self, _request: admin.GetStatusRequest, call: Call) -> admin.GetStatusResponse:
        """What each worker serves."""
        provenance = self._watcher.state.provenance
        call.reads(provenance, ())
        workers = tuple(await self._apart(self._statuses.everyone))
        answer = StatusAnswer(provenance, workers, metadata.version("semiome"), self._sandbox)
        return convert_admin.status_response(answer)

    async def build_generation(
        self, request: admin.BuildGenerationRequest, call: Call
    ) -> admin.BuildGenerationResponse:
        """Start to build."""
        call.reads(self._watcher.state.provenance, ())
        started = await self._apart(self._operations.build, publish=request.publish, force=request.force)
        return admin.BuildGenerationResponse(operation=convert_admin.operation_to_proto(started))

    async def list_generations(
        self,
        _request: admin.ListGenerationsRequest,
        call: Call,
    ) -> admin.ListGenerationsResponse:
        """Oldest first."""
        call.reads(self._watcher.state.provenance, ())
        return admin.ListGenerationsResponse(
            generations=map(convert_admin.generation_to_proto, await self._apart(self._generations))
        )

    async def activate_generation(
        self, request: admin.ActivateGenerationRequest, call: Call
    ) -> admin.ActivateGenerationResponse:
        """Let one serve."""

        def activate() -> GenerationFacts:
            folder = self._workspace.generations
            fetch(self._workspace, everything=True)
            if request.generation not in list_generations(folder):
                raise NotFound("no such generation: ListGenerations names those that there are")
            load_generation(folder, request.generation)
            publish(self._workspace, request.generation, force=request.force)
            self._watcher.refresh()
            return self._serving_generation()

        serving = await self._apart(activate)
        call.reads(self._watcher.state.provenance, ())
        return admin.ActivateGenerationResponse(generation=convert_admin.generation_to_proto(serving))

    async def roll_back_generation(
        self,
        _request: admin.RollBackGenerationRequest,
        call: Call,
    ) -> admin.RollBackGenerationResponse:
        """Let the one before serve again."""

        def go_back() -> GenerationFacts:
            fetch(self._workspace, everything=True)
            before = previous(self._workspace.generations)
            if before is not None:
                load_generation(self._workspace.generations, before)
            roll_back(self._workspace)
            self._watcher.refresh()
            return self._serving_generation()

        serving = await self._apart(go_back)
        call.reads(self._watcher.state.provenance, ())
        return admin.RollBackGenerationResponse(generation=convert_admin.generation_to_proto(serving))

    async def list_heads(self, _request: admin.ListHeadsRequest, call: Call) -> admin.ListHeadsResponse:
        """Heads by id."""

        def heads() -> list[HeadFacts]:
            folder = self._workspace.heads
            names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
            return [self._head(head) for head in _readable(partial(load_head, folder), names)]

        call.reads(self._watcher.state.provenance, ())
        return admin.ListHeadsResponse(heads=map(convert_admin.head_to_proto, await self._apart(heads)))

    async def activate_head(self, request: admin.ActivateHeadRequest, call: Call) -> admin.ActivateHeadResponse:
        """Let one classify."""
        if not request.head_id:
            raise InvalidInput("expected the id of a head, got none", field="head_id")

        def activate() -> HeadFacts:
            head = load_head(self._workspace.heads, request.head_id)
            serving = self._watcher.state.snapshot.encoder_id
            if head.card.encoder_id != serving:
                raise EncoderMismatch(f"head {head.head_id}", head.card.encoder_id, serving)
            set_current(self._workspace.heads, head.head_id)
            self._watcher.refresh()
            return self._head(head)

        head = await self._apart(activate)
        call.reads(self._watcher.state.provenance, ())
        return admin.ActivateHeadResponse(head=convert_admin.head_to_proto(head))

    async def erase_patient(self, request: admin.ErasePatientRequest, call: Call) -> admin.ErasePatientResponse:
        """Start to erase."""
        if not request.patient_id:
            raise InvalidInput("expected the patient to erase, got none", field="patient_id")
        call.reads(self._watcher.state.provenance, [request.patient_id])
        started = await self._apart(self._operations.erase, request.patient_id)
        await self._apart(self._watcher.withhold_erased)
        call.erasures = self._watcher.erasures  # else this answer would be held back for naming one who is erased
        return admin.ErasePatientResponse(operation=convert_admin.operation_to_proto(started))

    async def get_operation(self, request: admin.GetOperationRequest, _call: Call) -> admin.GetOperationResponse:
        """How one stands."""
        found = await self._apart(self._operations.get, request.operation_id)
        if found.state == DONE:  # a caller who learns of it finds what it did
            await self._apart(self._watcher.refresh)
        return admin.GetOperationResponse(operation=convert_admin.operation_to_proto(found))

    async def list_operations(
        self,
        _request: admin.ListOperationsRequest,
        _call: Call,
    ) -> admin.ListOperationsResponse:
        """Newest first."""
        found = await self._apart(self._operations.remembered)
        return admin.ListOperationsResponse(operations=map(convert_admin.operation_to_proto, found))

    async def cancel_operation(
        self,
        request: admin.CancelOperationRequest,
        _call: Call,
    ) -> admin.CancelOperationResponse:
        """Stop a build."""
        found = await self._apart(self._operations.cancel, request.operation_id)
        return admin.CancelOperationResponse(operation=convert_admin.operation_to_proto(found))

    def _generations(self) -> list[GenerationFacts]:
        fetch(self._workspace, everything=True)
        folder = self._workspace.generations
        manifests = _readable(partial(read_manifest, folder), list_generations(folder))
        return [self._generation(manifest) for manifest in manifests]

    def _serving_generation(self) -> GenerationFacts:
        folder = self._workspace.generations
        return self._generation(read_manifest(folder, current(folder) or ""))

    def _generation(self, manifest: GenerationManifest) -> GenerationFacts:
        folder = self._workspace.generations
        return GenerationFacts(
            generation=manifest.generation,
            encoder_id=manifest.encoder_id,
            table_version=manifest.table_version,
            clips=manifest.clips,
            index=manifest.index,
            recall=manifest.recall,
            built_at=manifest.built_at,
            serving=manifest.generation == _in_use(folder),
            served_before=manifest.generation == previous(folder),
        )

    def _head(self, head: Head) -> HeadFacts:
        return HeadFacts(
            head_id=head.head_id,
            encoder_id=head.card.encoder_id,
            patients=head.card.patients,
            serving=head.head_id == _in_use(self._workspace.heads),
        )


def _readable(read: Callable[[str], _Read], names: Iterable[str]) -> Iterator[_Read]:
    """Those that can be read; a damaged one is named in the log and hides no other."""
    for name in names:
        try:
            yield read(name)
        except SemiomeError as error:
            _logger.error("%s", error)


def _in_use(folder: Path) -> str | None:
    """The entry in use; None where that can't be read, which its refresh says loudly enough."""
    try:
        return current(folder)
    except SemiomeError:
        return None
