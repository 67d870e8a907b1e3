"""What stands around every method: who calls, may they, how often; deadlines, audit log, errors as statuses, metrics.

Handlers are wrapped once, as they are registered, and not by interceptors, which grpc.aio asks again for each call.
Nothing that a behaviour raises reaches a caller but what `service.errors` makes of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from index.errors import InvalidInput, SemiomeError, ServiceError
from service import roles
from service.audit.trail import Entry, Log
from service.config import ServerConfig
from service.errors import (
    DeadlinePassed,
    ShuttingDown,
    TooMuch,
    code_of,
    internal_status,
    rich_status,
    status_of,
    trailing,
    type_and_place,
)
from service.gate.call import Call, Context, Method
from service.gate.callers import Callers
from service.gate.concurrency import CallSlots, Hold, Watching
from service.gate.limits import PATIENTS_A_CALL, Limits
from service.gate.peers import address_of, as_address, neighbourhood
from service.gate.refusals import Refusals
from service.metadata import BEHALF, SEEN
from service.roles import Caller
from service.serving.watcher import StateWatcher
from service.telemetry.metrics import MethodMetrics, Metrics
from service.telemetry.tracing import Tracer

_REFUSES_S = 1.0
_ASKING = (512, 64)
"""Watches of the server's health: the most in all, and of one address."""
_IDLE_S = 60.0
"""Seconds a stream may be silent: it holds a place."""

_logger = logging.getLogger(__name__)


class Middleware:
    """Wraps methods.

    Args:
        config: the server's settings.
        callers: identifies callers.
        limits: counts calls and queries.
        audit: is written to before an answer is sent.
        refusals: says which refusals are written at once.
        metrics: counts and measures.
        tracer: makes spans.
        source: of what is answered; says who has been erased.
        catch_up: given what a caller has seen, makes sure that nothing older serves.
        threads: where calls are worked on.

    Attributes:
        draining: new calls are refused.
    """

    def __init__(
        self,
        config: ServerConfig,
        callers: Callers,
        limits: Limits,
        audit: Log,
        refusals: Refusals,
        metrics: Metrics,
        tracer: Tracer,
        watcher: StateWatcher,
        catch_up: Callable[[str], Awaitable[None]],
        threads: Executor,
    ) -> None:
        self._config = config
        self._callers = callers
        self._limits = limits
        self._audit = audit
        self._refusals = refusals
        self._metrics = metrics
        self._tracer = tracer
        self._watcher = watcher
        self._catch_up = catch_up
        self._threads = threads
        start = secrets.token_hex(6)
        self._request_ids = (f"{start}{number:08x}" for number in count())
        self._places = CallSlots(config.max_calls)
        self._watching, self._asking = Watching(), Watching(*_ASKING)
        self._own = ThreadPoolExecutor(1, "erased")
        self.calls = 0
        self.draining = False

    def handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler that gRPC calls for a method."""
        measured = self._metrics.of(method.name, method.kind)

        def parse(data: bytes) -> Message:
            if len(data) > method.most_bytes:  # empty items cost a hundred times their bytes once they are read
                raise InvalidInput(f"expected a request of at most {method.most_bytes} bytes, got {len(data)}")
            message: Message = method.request.FromString(data)
            return message

        paced = method.streams_in and method.streams_out

        async def requests(stream: AsyncIterator[bytes]) -> AsyncIterator[Message]:
            while (data := await _next(stream)) is not None:
                yield parse(data)

        async def taken(stream: AsyncIterator[bytes], call: Call) -> Any:  # noqa: ANN401  a message, or many
            if method.streams_in:
                return self._paced(requests(stream), call) if paced else requests(stream)
            data = await _next(stream)
            if data is None:
                raise InvalidInput("expected a request, got none")
            return parse(data)

        async def one(given: AsyncIterator[bytes], context: Context) -> Any:  # noqa: ANN401
            async with self._call(method, measured, context) as call:
                answer = await method.behaviour(await taken(given, call), call)
                call.check_deadline()
                await self._write(method, call)
            return answer

        async def many(given: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            async with self._call(method, measured, context) as call:
                async for answer in method.behaviour(await taken(given, call), call):
                    await self._write(method, call)
                    yield answer

        # Requests are taken here, not by gRPC: of a caller who may not ask not a byte of them is waited for, and what
        # the parser says of one is not answered.
        if method.streams_out:
            return grpc.stream_stream_rpc_method_handler(many, response_serializer=_serialised)
        return grpc.stream_unary_rpc_method_handler(one, response_serializer=_serialised)

    async def _paced(self, requests: AsyncIterator[Message], call: Call) -> AsyncIterator[Message]:
        """Each question of a stream is a call of those a second that its caller may make, and waits for its time."""
        async for request in requests:
            while True:
                try:
                    self._limits.call(call.caller)
                except TooMuch as error:
                    await asyncio.sleep(error.retry_s)
                else:
                    break
            yield request

    @asynccontextmanager
    async def _call(self, method: Method, measured: MethodMetrics, context: Context) -> AsyncIterator[Call]:
        began, code, request_id = measured.begin(), "OK", next(self._request_ids)
        metadata = context.invocation_metadata() or ()
        span = self._tracer.begin(method.name, metadata)
        call = Call(_UNKNOWN, context, request_id, None, self._limits, threads=self._threads)
        call.peer = address_of(context.peer())  # now: of a call that has ended, gRPC would read freed memory
        self.calls += 1
        refusal: status_pb2.Status | None = None
        try:
            try:
                await self._let_in(method, call, metadata)
                if method.streams and not method.public:
                    await self._audit.write(self._entry(method, call, "BEGUN"))
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
            measured.end(code, began)
            span.end(code)
        if refusal is not None:  # counted by now: the caller may look
            await self._refused(method, call, code)
            await _end(call, refusal, request_id)

    def _take_place(self, method: Method, call: Call) -> None:
        """A place for the call, until its answer is with the caller and no thread works for it.

        Raises:
            TooMuch: If there is none for it.
        """
        if not method.public:
            self._places.take(call.caller)
            give_back = partial(self._give_back, call.caller)
            self._metrics.in_flight.set(self._places.taken)
        else:  # an answer that is not taken is held in memory, however small
            address, asking = neighbourhood(call.peer), self._watching if method.streams else self._asking
            asking.take(address)
            give_back = partial(asking.give_back, address)
        # gRPC keeps an answer in memory until its caller takes it, and has no way to end a call that is not taken.
        call.holds = Hold(give_back)
        _once_taken(call.holds.let_go)

    def _give_back(self, caller: Caller) -> None:
        self._places.give_back(caller)
        self._metrics.in_flight.set(self._places.taken)

    async def _let_in(self, method: Method, call: Call, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        if self.draining and not method.public:
            raise ShuttingDown("this server is shutting down: ask another one")
        certificate = call.context.auth_context() if self._config.certificates else {}
        call.caller = self._callers.caller(metadata, certificate, open_to_all=method.public)
        remaining = call.context.time_remaining()
        call.behalf = next((as_address(str(value)) for key, value in metadata if key == BEHALF), "")
        if remaining is not None:
            call.deadline = asyncio.get_running_loop().time() + remaining
        if method.public:
            self._take_place(method, call)
            return
        self._limits.call(call.caller)  # refusals have their line each, and so their limit
        roles.check(call.caller, method.name)
        self._take_place(method, call)
        call.check_deadline()
        await self._know_the_erased()
        call.erasures = self._watcher.erasures
        seen = [value for key, value in metadata if key == SEEN]
        if len(seen) > 1:
            raise InvalidInput(f"expected {SEEN} once")
        if seen:
            await self._catch_up(str(seen[0]))
            call.check_deadline()

    async def _write(self, method: Method, call: Call) -> None:
        """What an answer holds, into the log, before it is sent; nothing of a patient who was erased meanwhile."""
        if method.public:
            return
        await self._know_the_erased()
        call.read |= call.patients
        if call.erasures != self._watcher.erasures and any(map(self._watcher.is_erased, call.read)):
            raise ServiceError("UNAVAILABLE", "a patient has been erased as this was answered: ask again")
        await self._audit.write(self._entry(method, call, "OK"))
        if len(call.patients) >= PATIENTS_A_CALL:
            self._limits.told(call.caller, len(call.patients))
        call.patients.clear()

    async def _know_the_erased(self) -> None:
        if self._watcher.erased_is_new():
            try:
                await asyncio.get_running_loop().run_in_executor(self._own, self._watcher.withhold_erased)
            except SemiomeError:
                raise ServiceError("UNAVAILABLE", "this server can't read the list of the erased") from None

    async def _refused(self, method: Method, call: Call, code: str) -> None:
        """Into both logs; what comes by the thousand is counted."""
        entry = self._entry(method, call, code)
        if not (call.patients or self._refusals.is_news(entry)):
            return
        try:
            async with asyncio.timeout(_REFUSES_S):
                await self._audit.write(entry)
        except (OSError, SemiomeError) as error:  # the caller is refused all the same; a line that is late follows
            _logger.error("a refusal could not be written to the audit log: %s", type_and_place(error))
        told = (method.name, code, call.caller.identity, call.request_id)
        _logger.info("%s answered %s to %s, request %s", *told)

    def _gave_up(self, method: Method, call: Call) -> None:
        """A caller has gone, and nothing can be awaited any more."""
        if method.public:  # strangers come and go by the thousand, and were told nothing of patients
            return
        self._audit.write_soon(self._entry(method, call, "CANCELLED"))
        _logger.info("%s was given up by %s, request %s", method.name, call.caller.identity, call.request_id)

    def _entry(self, method: Method, call: Call, code: str) -> Entry:
        provenance = call.provenance
        model, generation = "", ""
        if provenance is not None:
            model, generation = f"{provenance.encoder_id}/{provenance.head_id}", provenance.generation
        return Entry(
            *(call.caller.identity, method.name, code, call.request_id, tuple(call.patients), model, generation),
            peer=call.peer,
            behalf=call.behalf,
        )

    def _bug(self, method: Method, call: Call, error: Exception) -> status_pb2.Status:
        _logger.error("request %s: %s failed with %s", call.request_id, method.name, type_and_place(error))
        return internal_status(call.request_id)


_UNKNOWN = Caller("unknown", frozenset(), "nothing")


def _once_taken(then: Callable[[], None]) -> None:
    """Call it once the call is over for the network too: its answer has been taken, or its caller has gone.

    That is when gRPC's task ends; what is given to its context instead stays in a circle with it.
    """
    if (task := asyncio.current_task()) is not None:
        task.add_done_callback(lambda _: then())


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    """The next message of a caller; None where there is no more.

    Raises:
        DeadlinePassed: If none came for too long.
    """
    try:
        async with asyncio.timeout(_IDLE_S):
            return await anext(stream, None)
    except TimeoutError:
        raise DeadlinePassed(f"nothing came for {_IDLE_S:.0f} s") from None


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
