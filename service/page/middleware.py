"""What stands around every request of the review page: where it comes from, how long it is, what browsers may do."""

from __future__ import annotations

import asyncio
import json

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from index.errors import InvalidInput, ServiceError
from service.calling.connection import on_behalf_of
from service.gate.peers import as_address

_MAX_BODY_BYTES, _BODY_S = 256 * 1024, 30.0
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class Headers:
    """On every answer: nothing may be loaded from elsewhere, and nothing of patients is kept by the browser."""

    def __init__(self, app: ASGIApp, *, encrypted: bool) -> None:
        self._app = app
        self._usual = [*_HEADERS, (b"content-security-policy", _POLICY.encode()), (b"cache-control", b"no-store")]
        if encrypted:
            self._usual.append((b"strict-transport-security", b"max-age=31536000"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in self._usual if pair[0] not in there)]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class SameOrigin:
    """What changes something, or asks for patients' data by script, must come from the page itself."""

    def __init__(self, app: ASGIApp, *, encrypted: bool) -> None:
        self._app = app
        self._encrypted = encrypted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not _from_here(Request(scope), encrypted=self._encrypted):
            answer = JSONResponse({"code": "PERMISSION_DENIED", "error": "another site asked for this"}, 403)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


class OnBehalf:
    """Tells the server which browser it is asked for, for the audit log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        client = scope.get("client")
        token = on_behalf_of.set(as_address(client[0]) if client else "")
        try:
            await self._app(scope, receive, send)
        finally:
            on_behalf_of.reset(token)


def _from_here(request: Request, *, encrypted: bool) -> bool:
    site = request.headers.get("sec-fetch-site")
    if request.method in {"GET", "HEAD"}:  # a link from elsewhere may open the page, and nothing else
        return site in {None, "same-origin", "none"} or request.url.path == "/"
    origin = request.headers.get("origin")
    if origin is None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    # A page over plain HTTP may have a proxy with TLS before it; one over TLS takes nothing that came without.
    allowed = {f"https://{host}"} if encrypted else {f"https://{host}", f"http://{host}"}
    return bool(host) and origin in allowed and site in {None, "same-origin"}


async def body_of(request: Request) -> object:
    """What a request's body says, in JSON.

    Raises:
        InvalidInput: If it is none, or too long.
        ServiceError: If it comes too slowly.
    """
    data = b""
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > _MAX_BODY_BYTES:
                    raise InvalidInput(f"expected at most {_MAX_BODY_BYTES} bytes of JSON")
    except TimeoutError:
        raise ServiceError("DEADLINE_EXCEEDED", "the request came too slowly") from None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidInput("expected JSON") from None
