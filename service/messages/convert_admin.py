"""Between messages and records of what is looked after, both ways. Pure: no state, no decisions."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from protos import admin_pb2 as admin
from service.messages import convert
from service.records import GenerationFacts, HeadFacts, Operation, StatusAnswer, Worker

_STATES = {
    "running": admin.Operation.STATE_RUNNING,
    "done": admin.Operation.STATE_DONE,
    "failed": admin.Operation.STATE_FAILED,
    "cancelled": admin.Operation.STATE_CANCELLED,
}
_NAMES = {number: name for name, number in _STATES.items()}


def operation_to_proto(operation: Operation) -> admin.Operation:
    """An operation as a message."""
    return admin.Operation(
        operation_id=operation.operation_id,
        kind=operation.kind,
        state=_STATES[operation.state],
        stage=operation.stage,
        progress=operation.progress,
        started_at=_timestamp(operation.started_at),
        ended_at=_timestamp(operation.ended_at) if operation.ended_at else None,
        error=convert.status(operation.code, operation.message) if operation.code else None,
        generation=operation.generation,
        receipt=operation.receipt,
    )


def operation_from_proto(message: admin.Operation) -> Operation:
    """The message as an operation."""
    return Operation(
        operation_id=message.operation_id,
        kind=message.kind,
        state=_NAMES.get(message.state, "running"),
        stage=message.stage,
        started_at=_time(message.started_at),
        progress=message.progress,
        ended_at=_time(message.ended_at) if message.HasField("ended_at") else "",
        code=convert.code_name(message.error) if message.HasField("error") else "",
        message=message.error.message,
        generation=message.generation,
        receipt=message.receipt,
    )


def generation_to_proto(facts: GenerationFacts) -> admin.Generation:
    """A generation as a message."""
    return admin.Generation(
        generation=facts.generation,
        encoder_id=facts.encoder_id,
        table_version=facts.table_version,
        clips=facts.clips,
        index=facts.index,
        recall=facts.recall,
        built_at=_timestamp(facts.built_at),
        serving=facts.serving,
        served_before=facts.served_before,
    )


def generation_from_proto(message: admin.Generation) -> GenerationFacts:
    """The message as a generation."""
    return GenerationFacts(
        generation=message.generation,
        encoder_id=message.encoder_id,
        table_version=message.table_version,
        clips=message.clips,
        index=message.index,
        recall=message.recall,
        built_at=_time(message.built_at),
        serving=message.serving,
        served_before=message.served_before,
    )


def head_to_proto(facts: HeadFacts) -> admin.Head:
    """A head as a message."""
    return admin.Head(
        head_id=facts.head_id, encoder_id=facts.encoder_id, patients=facts.patients, serving=facts.serving
    )


def head_from_proto(message: admin.Head) -> HeadFacts:
    """The message as a head."""
    return HeadFacts(message.head_id, message.encoder_id, message.patients, message.serving)


def status_response(answer: StatusAnswer) -> admin.GetStatusResponse:
    """The answer as a message."""
    workers = [
        admin.Worker(
            pid=one.pid,
            provenance=convert.provenance_to_proto(one.provenance),
            tail_clips=one.tail_clips,
            calls=one.calls,
        )
        for one in answer.workers
    ]
    return admin.GetStatusResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        workers=workers,
        version=answer.version,
        sandbox=answer.sandbox,
    )


def status_answer(message: admin.GetStatusResponse) -> StatusAnswer:
    """The message as an answer."""
    workers = (
        Worker(one.pid, convert.provenance_from_proto(one.provenance), one.tail_clips, one.calls)
        for one in message.workers
    )
    provenance = convert.provenance_from_proto(message.provenance)
    return StatusAnswer(provenance, tuple(workers), message.version, message.sandbox)


def _timestamp(time: str) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(datetime.fromisoformat(time))
    return message


def _time(message: Timestamp) -> str:
    return message.ToDatetime(UTC).isoformat(timespec="milliseconds")
