"""One table from the errors of our own to gRPC statuses with their details. All else is INTERNAL."""

from __future__ import annotations

import re
from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from index.errors import (
    DamagedData,
    InvalidInput,
    NotFound,
    SemiomeError,
    ServiceError,
    StateError,
    VideoRefused,
)
from index.files.failures import may_not_read
from service.metadata import DETAILS, REQUEST_ID
from service.roles import PermissionRefused, Unauthenticated

DOMAIN = "semiome"


class DeadlinePassed(SemiomeError):
    """The caller's deadline passed before the work was done."""


class TooMuch(SemiomeError):
    """The caller, or the server, has to wait.

    Attributes:
        retry_s: how long.
        subject: what is used up.
    """

    def __init__(self, message: str, retry_s: float, subject: str) -> None:
        self.retry_s = retry_s
        self.subject = subject
        super().__init__(message)


class ShuttingDown(SemiomeError):
    """The server is draining."""


STATUS: dict[type[SemiomeError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    StateError: grpc.StatusCode.FAILED_PRECONDITION,
    DamagedData: grpc.StatusCode.DATA_LOSS,
    VideoRefused: grpc.StatusCode.INVALID_ARGUMENT,
    ServiceError: grpc.StatusCode.UNAVAILABLE,
    ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
    TooMuch: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PermissionRefused: grpc.StatusCode.PERMISSION_DENIED,
}
"""A subclass has the status of its nearest base here."""


def status_of(error: SemiomeError) -> grpc.StatusCode | None:
    """The status of an error raised on purpose; None for one the table does not know."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), None)


def rich_status(error: SemiomeError, request_id: str = "") -> status_pb2.Status:
    """An error raised on purpose, as google.rpc has it: code, message, and what a program can act on.

    Raises:
        KeyError: If the table does not know it.
    """
    code = status_of(error)
    if code is None:
        raise KeyError(type(error).__name__)
    parts: list[Message] = [details.ErrorInfo(reason=reason_of(error), domain=DOMAIN)]
    match error:
        case InvalidInput(field=field) if field:
            violation = details.BadRequest.FieldViolation(field=field, description=str(error))
            parts.append(details.BadRequest(field_violations=[violation]))
        case StateError():
            unmet = details.PreconditionFailure.Violation(
                type=reason_of(error), subject="server", description=str(error)
            )
            parts.append(details.PreconditionFailure(violations=[unmet]))
        case TooMuch():
            wait = Duration()
            wait.FromTimedelta(timedelta(seconds=error.retry_s))
            used = details.QuotaFailure.Violation(subject=error.subject, description=str(error))
            parts += [details.RetryInfo(retry_delay=wait), details.QuotaFailure(violations=[used])]
        case _:
            pass
    text = error.message if isinstance(error, ServiceError) else str(error)
    return _status(code, text, parts, request_id)


def internal_status(request_id: str) -> status_pb2.Status:
    """What a caller learns of a bug: a reference, and nothing that was in the exception."""
    return _status(grpc.StatusCode.INTERNAL, f"internal error, reference {request_id}", [], request_id)


def reason_of(error: SemiomeError) -> str:
    """An error's name for programs: `ENCODER_MISMATCH`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).upper()


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """GRPC's code of a status."""
    return _CODES[status.code]


def trailing(status: status_pb2.Status, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata that carries a status' details."""
    return ((DETAILS, status.SerializeToString()), (REQUEST_ID, request_id))


def type_and_place(error: BaseException) -> str:
    """What a log may say of an unexpected error: not its message, which may quote a path or a patient."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace else "unknown"
    why = " (this account may not read or write it)" if may_not_read(error) else ""
    return f"{type(error).__name__} at {where}{why}"


_CODES = {int(code.value[0]): code for code in grpc.StatusCode}


def _status(code: grpc.StatusCode, message: str, parts: list[Message], request_id: str) -> status_pb2.Status:
    if request_id:
        parts = [*parts, details.RequestInfo(request_id=request_id)]
    packed = []
    for part in parts:
        packed.append(AnyMessage())
        packed[-1].Pack(part)
    return status_pb2.Status(code=int(code.value[0]), message=message, details=packed)
