"""HTTP for the review page as uvicorn speaks it, and what uvicorn leaves open: how many may connect, and for how long.

A connection that does not say what it wants, or does not read what it asked for, is closed; so are those beyond what
one address, or the whole page, may have. Bodies are bounded where they are read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from service.gate.peers import as_address, neighbourhood
from service.processes.descriptors import connections_at_most

_MOST = 1024
_PART = 8
"""One part in this many of all connections is what one address may have. A proxy on this machine asks for all users."""
HEADERS_S, _READS_S = 10.0, 60.0
"""Times to say what is wanted, the TLS handshake apart, and to read what was asked for."""


class Connections:
    """How many there are, from where."""

    def __init__(self) -> None:
        self._most = connections_at_most(_MOST)
        self._held: Counter[str] = Counter()

    def begin(self, address: str) -> bool:
        """Count one more; whether it may stay."""
        self._held[address] += 1
        here = address in {"127.0.0.1", "::1", "::/64"}
        return self._held.total() <= self._most and (here or self._held[address] <= self._most // _PART)

    def end(self, address: str) -> None:
        """One is closed."""
        self._held[address] -= 1
        if not self._held[address]:
            del self._held[address]


class BoundedHttp(H11Protocol):
    """One connection.

    Args:
        *given: as uvicorn gives them.
        connections: connections of the whole page.
        **named: as uvicorn gives them.
    """

    def __init__(self, *given: Any, connections: Connections, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*given, **named)
        self._counted = connections
        self._address = ""
        self._asks: asyncio.TimerHandle | None = None
        self._reads: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Close it where there are too many."""
        super().connection_made(transport)
        self._address = neighbourhood(as_address(self.client[0])) if self.client else ""
        if self._counted.begin(self._address):
            self._asks = self._abort_after(HEADERS_S)
        else:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """From the first byte of a request its headers have their time."""
        if self._asks is None and self._is_idle:
            self._asks = self._abort_after(HEADERS_S)
        super().data_received(data)
        if not self._is_idle:
            _cancelled(self._asks)
            self._asks = None

    def pause_writing(self) -> None:
        """Seconds for which a client may read less than is to be sent."""
        super().pause_writing()
        self._reads = self._reads or self._abort_after(_READS_S)

    def resume_writing(self) -> None:
        """It is read again."""
        super().resume_writing()
        _cancelled(self._reads)
        self._reads = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._counted.end(self._address)
        _cancelled(self._asks, self._reads)
        super().connection_lost(exc)

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _abort_after(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)


def bounded_http() -> Any:  # noqa: ANN401  a protocol's factory, where uvicorn expects its class
    """What uvicorn makes each connection of a page with."""
    return partial(BoundedHttp, connections=Connections())


def _cancelled(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
