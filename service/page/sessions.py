"""Who has signed in to the review page: a cookie that means nothing elsewhere, and a client with their token."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import grpc

from index.errors import ServiceError
from service.aio_client import AioClient
from service.calling import requests
from service.calling.async_transport import open_channel
from service.calling.connection import Connection
from service.records import CallerFacts

COOKIE = "semiome-session"
_IDLE_S = 8 * 3600.0
_MOST, _MOST_OF_ONE = 1000, 5
_CHANNELS = 4
"""The server takes 32 calls of a connection at once, films among them, which are sent as fast as they are watched."""


@dataclass(slots=True)
class Session:
    """One person in one browser.

    Attributes:
        client: calls in their name.
        caller: who they are to the server.
        used_at: by the sessions' clock.
    """

    client: AioClient
    caller: CallerFacts
    used_at: float


class Sessions:
    """All of them, in memory alone: stopping the page signs all users out.

    Args:
        server: where the gRPC server is; without a token.
        open_to_all: a user who reaches the page acts as the caller that the server takes this machine for. Only for a
            page that this machine alone can reach: else the server would take every user for one of this machine.
        encrypted: the page is served over TLS, and its cookie comes from nowhere else.
        clock: in seconds.

    Attributes:
        cookie: its name. With the prefix browsers accept it over TLS alone, and from no other host of the domain.
    """

    def __init__(
        self,
        server: Connection,
        *,
        open_to_all: bool = True,
        encrypted: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cookie = f"__Host-{COOKIE}" if encrypted else COOKIE
        self._server = server
        self._channels: list[grpc.aio.Channel] = []
        self._begun = 0
        self._open_to_all = open_to_all
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    async def begin(self, token: str) -> tuple[str, Session]:
        """Sign in.

        Args:
            token: of the person; empty where the server does not ask for one.

        Returns:
            What the cookie holds, and the session.

        Raises:
            ServiceError: If the server does not accept the token, or the lack of one.
        """
        if not token and not self._open_to_all:
            raise ServiceError("UNAUTHENTICATED", "this page requires a token from every user")
        # With what this person has seen of its own: the answers to others may be newer, and not asked for here.
        connection = replace(self._server, token=token, _seen=type(self._server._seen)())
        client = AioClient(connection, channel=self._channel())
        caller = await client.ask(requests.caller())
        if not token and not caller.identity.startswith("loopback:"):  # the page's own certificate
            raise ServiceError("UNAUTHENTICATED", "this page requires a token from every user")
        self._make_room(caller.identity)
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

    def end(self, name: str) -> None:
        """Sign out: nothing more is answered to this cookie."""
        self._sessions.pop(name, None)

    async def close(self) -> None:
        """Sign all users out."""
        self._sessions.clear()
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def _channel(self) -> grpc.aio.Channel:
        """One of few that all sessions share: each call says whose it is."""
        self._begun += 1
        if len(self._channels) < _CHANNELS:
            self._channels.append(open_channel(self._server, own=True))
        return self._channels[self._begun % len(self._channels)]

    def _make_room(self, identity: str) -> None:
        """For one more session of this person: their oldest ends, and no other user's.

        Raises:
            ServiceError: If there is no room.
        """
        for name, session in list(self._sessions.items()):
            if self._clock() - session.used_at > _IDLE_S:
                self.end(name)
        own = sorted((one.used_at, name) for name, one in self._sessions.items() if one.caller.identity == identity)
        if not identity.startswith("loopback:"):  # who is on this machine is not told apart
            for _, name in own[: max(len(own) + 1 - _MOST_OF_ONE, 0)]:
                self.end(name)
        if len(self._sessions) >= _MOST:
            raise ServiceError("RESOURCE_EXHAUSTED", "too many people have signed in: try again later")
