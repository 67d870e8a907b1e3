"""What stands around every request of the review page: where it may come from, and what browsers may do with it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web_sessions import COOKIE, Sessions

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

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                usual = (*_HEADERS, (b"content-security-policy", _POLICY.encode()), (b"cache-control", b"no-store"))
                message["headers"] = [*message["headers"], *(pair for pair in usual if pair[0] not in there)]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class SameOrigin:
    """What changes something, or asks for patients' data by script, must come from the page itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not _from_here(Request(scope)):
            answer = JSONResponse({"code": "PERMISSION_DENIED", "error": "another site asked for this"}, 403)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


class HeldSessions:
    """A session that ends while it is answered, as by signing out while a film is on its way, is closed after that."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        name = Request(scope).cookies.get(COOKIE, "") if scope["type"] == "http" else ""
        async with self._sessions.held(name):
            await self._app(scope, receive, send)


def _from_here(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if request.method in {"GET", "HEAD"}:  # a link from elsewhere may open the page, and nothing else
        return site in {None, "same-origin", "none"} or request.url.path == "/"
    origin = request.headers.get("origin")
    if origin is None:
        return site == "same-origin"
    host = request.headers.get("host", "")
    return bool(host) and origin.partition("://")[2] == host and site in {None, "same-origin"}
