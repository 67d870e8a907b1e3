"""One table from domain errors to gRPC statuses, and the interceptor that applies it. All else is INTERNAL."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from index.errors import (
    DamagedData,
    InvalidInput,
    NotFound,
    SemiomeError,
    ServiceError,
    StateError,
    VideoRefused,
)

_logger = logging.getLogger(__name__)


class DeadlinePassed(SemiomeError):
    """The caller's deadline passed before the work began."""


STATUS: dict[type[SemiomeError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    StateError: grpc.StatusCode.FAILED_PRECONDITION,
    DamagedData: grpc.StatusCode.DATA_LOSS,
    VideoRefused: grpc.StatusCode.INVALID_ARGUMENT,
    ServiceError: grpc.StatusCode.UNAVAILABLE,
    DeadlinePassed: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""A subclass has the status of its nearest base here."""


def status_of(error: SemiomeError) -> grpc.StatusCode | None:
    """The status of an error raised on purpose; None for one the table does not know."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), None)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns errors into statuses; no text of an unexpected exception ever reaches a client or the log's message."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handlers of single answers; streams here are only those of health and reflection."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler_call_details.method
        behaviour: Callable[[Any, Any], Awaitable[Any]] = handler.unary_unary

        # The message is read here, not by grpc, which would answer UNKNOWN with the text of the parser's exception.
        parse = handler.request_deserializer or bytes

        async def guarded(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: ANN401
            try:
                return await behaviour(parse(data), context)
            except DecodeError:
                await _end(context, grpc.StatusCode.INVALID_ARGUMENT, "the request is not a message of this method")
            except SemiomeError as error:
                code = status_of(error)
                if code is not None:
                    await _end(context, code, str(error))
                await _abort_internal(method, error, context)
            except (grpc.aio.AbortError, grpc.RpcError):
                raise
            except Exception as error:  # noqa: BLE001  the last line of defence: the client gets a reference, no text
                await _abort_internal(method, error, context)

        return grpc.unary_unary_rpc_method_handler(
            guarded,
            response_serializer=handler.response_serializer,
        )


async def _abort_internal(method: str, error: Exception, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    reference = secrets.token_hex(8)
    _logger.error("reference %s: %s failed with %s", reference, method, type_and_place(error))
    await _end(context, grpc.StatusCode.INTERNAL, f"internal error, reference {reference}")


async def _end(context: grpc.aio.ServicerContext[Any, Any], code: grpc.StatusCode, message: str) -> None:
    """Answer with a status; a caller who has gone gets none, and that is no error."""
    try:
        await context.abort(code, message)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        raise asyncio.CancelledError from None


def type_and_place(error: BaseException) -> str:
    """What a log may say of an unexpected error: not its message, which may quote a path or a patient."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace else "unknown"
    return f"{type(error).__name__} at {where}"
