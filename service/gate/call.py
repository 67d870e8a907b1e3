"""One method of the API, and one call of it, as behaviours see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from index.records import Provenance
from service.errors import DeadlinePassed
from service.gate.concurrency import Hold
from service.gate.limits import Limits
from service.roles import Caller

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[..., Any]
_PASSED = "the deadline passed before the work was done"
_T = TypeVar("_T")


@dataclass(slots=True)
class Call:
    """What a behaviour knows of the call it answers.

    Attributes:
        caller: the caller.
        context: gRPC's context.
        request_id: what logs and errors call it.
        deadline: by the event loop's clock; None where the caller waits for ever.
        patients: whose data the next answer holds.
        read: whose data all answers so far hold.
        erasures: how many the server knew of as the call began.
        peer: address that it comes from.
        behalf: address that the caller says it asks for.
        holds: its place; None where it needs none.
        threads: where work is done; None for those of the event loop.
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
    peer: str = ""
    behalf: str = ""
    holds: Hold | None = None
    threads: Executor | None = None

    async def work(self, function: Callable[..., _T], *given: object, **named: object) -> _T:
        """Call a function in a thread. The call holds its place until that returns, whether or not the caller waits."""
        if self.threads is None:
            return await asyncio.get_running_loop().run_in_executor(None, partial(function, *given, **named))
        return await self.work_in(self.threads, function, *given, **named)

    async def work_in(self, threads: Executor, function: Callable[..., _T], *given: object, **named: object) -> _T:
        """Work in a thread of these, as `work` does."""
        loop, hold = asyncio.get_running_loop(), self.holds
        working = threads.submit(function, *given, **named)
        if hold is not None:
            hold.keep()

            def done(_: object) -> None:
                with suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(hold.let_go)

            working.add_done_callback(done)
        return await asyncio.wrap_future(working)

    def check_deadline(self) -> None:
        """Before each stage of the work.

        Raises:
            DeadlinePassed: If the call's deadline has passed.
        """
        if self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline:
            raise DeadlinePassed(_PASSED)

    def deadline_check(self) -> Callable[[], None]:
        """`check_deadline` for work in a thread."""
        loop, deadline = asyncio.get_running_loop(), self.deadline

        def check() -> None:
            if deadline is not None and loop.time() >= deadline:
                raise DeadlinePassed(_PASSED)

        return check

    def queries(self, count: int) -> None:
        """Count queries against the day's quota.

        Raises:
            TooMuch: If it is used up.
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
        most_bytes: of a request; the server's settings may allow less.
    """

    name: str
    request: type[Message]
    behaviour: Behaviour
    streams_in: bool = False
    streams_out: bool = False
    public: bool = False
    most_bytes: int = 2**20

    @property
    def streams(self) -> bool:
        """Whether a call may go on for long."""
        return self.streams_in or self.streams_out

    @property
    def kind(self) -> str:
        """Name of the method in metrics."""
        return {
            (False, False): "unary",
            (True, False): "client_stream",
            (False, True): "server_stream",
            (True, True): "bidi_stream",
        }[self.streams_in, self.streams_out]
