"""What stands around every method: who calls, may they, how often; deadlines, audit log, errors as statuses, metrics.

Handlers are wrapped once, as they are registered, and not by interceptors, which grpc.aio asks anew for each call.
Nothing that a behaviour raises reaches a caller but what `service.errors` makes of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from index.errors import InvalidInput, SemiomeError, ServiceError
from service import roles
from service.answers import Provenance
from service.audit import Entry, Log
from service.callers import Callers
from service.config import ServerConfig
from service.errors import (
    DeadlinePassed,
    ShuttingDown,
    code_of,
    internal_status,
    rich_status,
    status_of,
    trailing,
    type_and_place,
)
from service.limits import Limits, TooMuch
from service.metrics import MethodMetrics, Metrics
from service.roles import Caller
from service.source import Source
from service.tracing import Tracer
from service.wire import SEEN

_RETRY_S = 0.1

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[..., Any]


@dataclass(slots=True)
class Call:
    """What a behaviour knows of the call it answers.

    Attributes:
        caller: who asks.
        context: gRPC's own.
        request_id: what logs and errors call it.
        deadline: by the event loop's clock; None where the caller waits for ever.
        patients: whose data the next answer holds.
        read: whose data all answers so far hold.
        erasures: how many the server knew of as the call began.
    """

    caller: Caller
    context: Context
    request_id: str
    deadline: float | None
    limits: Limits
    patients: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    provenance: Provenance | None = None
    erasures: int = 0

    def check_deadline(self) -> None:
        """Before each stage of the work.

        Raises:
            DeadlinePassed: nobody waits for the answer any more.
        """
        if self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline:
            raise DeadlinePassed("the deadline passed before the work was done")

    def queries(self, count: int) -> None:
        """Count queries against the day's quota.

        Raises:
            TooMuch: it is used up.
        """
        self.limits.queries(self.caller, count)

    def reads(self, provenance: Provenance | None, patients: Iterable[str]) -> None:
        """What the next answer holds, for the audit log."""
        self.provenance = provenance
        self.patients.update(patients)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the API.

    Attributes:
        name: full, as in a request's path.
        request: its message.
        behaviour: takes a request, or an iterator of requests, and the call; gives an answer, or an iterator of them.
        streams_in: the caller sends several.
        streams_out: several are answered.
        public: for load balancers: needs no sign-in, is not limited, and reads nothing worth a line in the log.
    """

    name: str
    request: type[Message]
    behaviour: Behaviour
    streams_in: bool = False
    streams_out: bool = False
    public: bool = False

    @property
    def kind(self) -> str:
        """As metrics name it."""
        return {
            (False, False): "unary",
            (True, False): "client_stream",
            (False, True): "server_stream",
            (True, True): "bidi_stream",
        }[self.streams_in, self.streams_out]


class Guard:
    """Wraps methods.

    Args:
        config: the server's.
        callers: says who calls.
        limits: counts.
        audit: is written to before an answer is sent.
        metrics: counts and measures.
        tracer: makes spans.
        source: of what is answered; says who has been erased.
        catch_up: given what a caller has seen, makes sure that nothing older serves.

    Attributes:
        draining: new calls are refused.
    """

    def __init__(
        self,
        config: ServerConfig,
        callers: Callers,
        limits: Limits,
        audit: Log,
        metrics: Metrics,
        tracer: Tracer,
        source: Source,
        catch_up: Callable[[str], Awaitable[None]],
    ) -> None:
        self._config = config
        self._callers = callers
        self._limits = limits
        self._audit = audit
        self._metrics = metrics
        self._tracer = tracer
        self._source = source
        self._catch_up = catch_up
        start = secrets.token_hex(6)
        self._request_ids = (f"{start}{number:08x}" for number in count())
        self._in_flight = 0
        self.calls = 0
        self.draining = False

    def handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler that gRPC calls for a method."""
        measured = self._metrics.of(method.name, method.kind)
        parse: Callable[[bytes], Message] = method.request.FromString

        async def requests(stream: AsyncIterator[bytes]) -> AsyncIterator[Message]:
            async for data in stream:
                yield parse(data)

        def taken(given: Any) -> Any:  # noqa: ANN401  a message, or many
            return requests(given) if method.streams_in else parse(given)

        async def one(given: Any, context: Context) -> Any:  # noqa: ANN401
            async with self._call(method, measured, context) as call:
                answer = await method.behaviour(taken(given), call)
                call.check_deadline()
                await self._write(method, call)
                return answer

        async def many(given: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401
            async with self._call(method, measured, context) as call:
                async for answer in method.behaviour(taken(given), call):
                    await self._write(method, call)
                    yield answer

        make = {
            "unary": grpc.unary_unary_rpc_method_handler,
            "client_stream": grpc.stream_unary_rpc_method_handler,
            "server_stream": grpc.unary_stream_rpc_method_handler,
            "bidi_stream": grpc.stream_stream_rpc_method_handler,
        }[method.kind]
        # Messages are read here, not by grpc, which would answer UNKNOWN with the text of the parser's exception.
        return make(many if method.streams_out else one, response_serializer=_serialised)

    @asynccontextmanager
    async def _call(self, method: Method, measured: MethodMetrics, context: Context) -> AsyncIterator[Call]:
        began, code, request_id = measured.begin(), "OK", next(self._request_ids)
        metadata = context.invocation_metadata() or ()
        span = self._tracer.begin(method.name, metadata)
        call = Call(_UNKNOWN, context, request_id, None, self._limits)
        counted = not method.public
        self._in_flight += counted
        self.calls += 1
        refusal: status_pb2.Status | None = None
        try:
            try:
                self._admit(method)
                await self._let_in(method, call, metadata)
                yield call
            except DecodeError:
                raise InvalidInput("the request is not a message of this method") from None
        except SemiomeError as error:
            refusal = self._bug(method, call, error) if status_of(error) is None else rich_status(error, request_id)
            code = code_of(refusal).name
        except (grpc.aio.AbortError, grpc.RpcError):
            code = context.code().name if isinstance(context.code(), grpc.StatusCode) else "UNKNOWN"
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            self._gave_up(method, call)
            raise
        except Exception as error:  # noqa: BLE001  the last line of defence: the client gets a reference, no text
            code, refusal = "INTERNAL", self._bug(method, call, error)
        finally:
            self._in_flight -= counted
            self._metrics.in_flight.set(self._in_flight)
            measured.end(code, began)
            span.end(code)
        if refusal is not None:  # counted by now: whoever is told may look
            await self._refused(method, call, code)
            await _end(call, refusal, request_id)

    def _admit(self, method: Method) -> None:
        if method.public:
            return
        if self.draining:
            raise ShuttingDown("this server is shutting down: ask another one")
        self._metrics.in_flight.set(self._in_flight)
        if self._in_flight > self._config.max_calls:
            raise TooMuch(
                f"{self._config.max_calls} calls are being answered already: try again shortly",
                _RETRY_S,
                "calls at once",
            )

    async def _let_in(self, method: Method, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        certificate = call.context.auth_context() if self._config.certificates else {}
        call.caller = self._callers.caller(metadata, certificate, open_to_all=method.public)
        remaining = call.context.time_remaining()
        if remaining is not None:
            call.deadline = asyncio.get_running_loop().time() + remaining
        if method.public:
            return
        roles.check(call.caller, method.name)
        self._limits.call(call.caller)
        call.check_deadline()
        await self._know_the_erased()
        call.erasures = self._source.erasures
        for key, value in metadata:
            if key == SEEN:
                await self._catch_up(str(value))
                call.check_deadline()

    async def _write(self, method: Method, call: Call) -> None:
        """What an answer holds, into the log, before it is sent; nothing of a patient who was erased meanwhile."""
        if method.public:
            return
        await self._know_the_erased()
        call.read |= call.patients
        if call.erasures != self._source.erasures and any(map(self._source.is_erased, call.read)):
            raise ServiceError("UNAVAILABLE", "a patient has been erased as this was answered: ask again")
        await self._audit.write(self._entry(method, call, "OK"))
        call.patients.clear()

    async def _know_the_erased(self) -> None:
        if self._source.erased_is_new():
            try:
                await asyncio.to_thread(self._source.withhold_erased)
            except SemiomeError:
                raise ServiceError("UNAVAILABLE", "this server can't read the list of the erased") from None

    async def _refused(self, method: Method, call: Call, code: str) -> None:
        try:
            await self._audit.write(self._entry(method, call, code))
        except (OSError, SemiomeError) as error:  # the caller is refused all the same
            _logger.error("a refusal could not be written to the audit log: %s", type_and_place(error))
        # What is too much comes by the thousand: metrics and the audit log have it.
        level = logging.DEBUG if code == "RESOURCE_EXHAUSTED" else logging.INFO
        told = (method.name, code, call.caller.identity, call.request_id)
        _logger.log(level, "%s answered %s to %s, request %s", *told)

    def _gave_up(self, method: Method, call: Call) -> None:
        """A caller has gone, and nothing can be awaited any more."""
        self._audit.write_soon(self._entry(method, call, "CANCELLED"))
        _logger.info("%s was given up by %s, request %s", method.name, call.caller.identity, call.request_id)

    def _entry(self, method: Method, call: Call, code: str) -> Entry:
        provenance = call.provenance
        model, generation = "", ""
        if provenance is not None:
            model, generation = f"{provenance.encoder_id}/{provenance.head_id}", provenance.generation
        return Entry(call.caller.identity, method.name, code, call.request_id, tuple(call.patients), model, generation)

    def _bug(self, method: Method, call: Call, error: Exception) -> status_pb2.Status:
        _logger.error("request %s: %s failed with %s", call.request_id, method.name, type_and_place(error))
        return internal_status(call.request_id)


_UNKNOWN = Caller("unknown", frozenset(), "nothing")


async def _end(call: Call, status: status_pb2.Status, request_id: str) -> None:
    """Answer with a status; a caller who has gone gets none, and that is no error."""
    try:
        await call.context.abort(code_of(status), status.message, trailing(status, request_id))
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        raise asyncio.CancelledError from None


def _serialised(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()
