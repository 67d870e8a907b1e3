"""Who has signed in to the review page: a cookie that means nothing elsewhere, and a client with their token."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from index.errors import ServiceError
from service import calls
from service.aio_client import AioClient
from service.answers import CallerFacts
from service.connection import Connection

COOKIE = "semiome-session"
_IDLE_S = 8 * 3600.0
_MOST = 1000


@dataclass(slots=True)
class Session:
    """One person in one browser.

    Attributes:
        client: calls in their name.
        caller: who they are to the server.
        used_at: by the sessions' clock.
        requests: under way.
        ended: signed out.
    """

    client: AioClient
    caller: CallerFacts
    used_at: float = field(default=0.0)
    requests: int = 0
    ended: bool = False


class Sessions:
    """All of them, in memory alone: whoever stops the page signs everybody out.

    Args:
        server: where the gRPC server is; without a token.
        open_to_all: whoever reaches the page may be whoever the server takes a caller of this machine for. Only for a
            page that this machine alone can reach: else the server would take everybody for one of this machine.
        clock: in seconds.
    """

    def __init__(
        self, server: Connection, *, open_to_all: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._open_to_all = open_to_all
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    async def begin(self, token: str) -> tuple[str, Session]:
        """Sign in.

        Args:
            token: of the person; empty where the server asks nobody who they are.

        Returns:
            What the cookie holds, and the session.

        Raises:
            ServiceError: the server does not take the token, or none.
        """
        if not token and not self._open_to_all:
            raise ServiceError("UNAUTHENTICATED", "this page wants a token of everybody")
        # A connection of its own, and so what this person has seen: nobody else's answers go back.
        connection = replace(self._server, token=token, _seen=type(self._server._seen)())
        client = AioClient(connection, own_connection=True)
        try:
            caller = await client.ask(calls.caller())
            if not token and not caller.identity.startswith("loopback:"):  # the page's own certificate
                raise ServiceError("UNAUTHENTICATED", "this page wants a token of everybody")
            await self._tidy()
        except BaseException:
            await client.close()
            raise
        name = secrets.token_urlsafe(32)
        session = self._sessions[name] = Session(client, caller, self._clock())
        return name, session

    def find(self, name: str) -> Session | None:
        """Whose cookie this is."""
        session = self._sessions.get(name)
        if session is None or self._clock() - session.used_at > _IDLE_S:
            return None
        session.used_at = self._clock()
        return session

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """For the length of a request: a session that ends meanwhile is closed after it, not under it."""
        session = self._sessions.get(name)
        if session is None:
            yield
            return
        session.requests += 1
        try:
            yield
        finally:
            session.requests -= 1
            await self._close(session)

    async def end(self, name: str) -> None:
        """Sign out: nothing more is answered to this cookie."""
        session = self._sessions.pop(name, None)
        if session is not None:
            session.ended = True
            await self._close(session)

    async def close(self) -> None:
        """Sign everybody out."""
        await asyncio.gather(*(self.end(name) for name in list(self._sessions)))

    async def _close(self, session: Session) -> None:
        if session.ended and not session.requests:
            await session.client.close()

    async def _tidy(self) -> None:
        by_age = sorted((session.used_at, name) for name, session in self._sessions.items())
        too_many = len(by_age) + 1 - _MOST
        for number, (used_at, name) in enumerate(by_age):
            if number < too_many or self._clock() - used_at > _IDLE_S:
                await self.end(name)
