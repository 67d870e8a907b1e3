"""The review page over HTTP: its files, and JSON that asks the gRPC service in the name of the user who has signed in.

It decides nothing: roles, limits and the audit log are the service's, and all that is shown comes from there. What it
adds is what browsers need: sessions, byte ranges, and headers that let a page load from here alone.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from index.errors import InvalidInput, SemiomeError, ServiceError
from index.query import MAX_K, GroupBy, Options
from index.semiology import SIGNS
from service.calling import requests
from service.calling.connection import Connection
from service.errors import type_and_place
from service.messages import convert_verdict
from service.page import api, exports
from service.page.media import preview, thumbnails
from service.page.middleware import Headers, OnBehalf, SameOrigin, body_of
from service.page.sessions import Session, Sessions

PAGE = Path(__file__).parent / "static"
_LONGEST_TOKEN = 16_384
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox"
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}

_logger = logging.getLogger(__name__)
Answerer = Callable[[Request, Session], Awaitable[Response]]


def make_app(
    server: Connection, hosts: Sequence[str], *, encrypted: bool = False, open_to_all: bool = True
) -> Starlette:
    """The page as an ASGI application.

    Args:
        server: where the gRPC server is; without a token.
        hosts: names that browsers reach the page by; a request for another one is refused, so that no other site's name
            can be made to point here.
        encrypted: it is served over TLS, and its cookie never goes without.
        open_to_all: see `Sessions`.
    """
    page = _Page(Sessions(server, open_to_all=open_to_all, encrypted=encrypted), encrypted=encrypted)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await page.sessions.close()

    return Starlette(
        routes=page.routes(),
        middleware=[
            Middleware(Headers, encrypted=encrypted),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(SameOrigin, encrypted=encrypted),
            Middleware(OnBehalf),
        ],
        exception_handlers={
            SemiomeError: _refused,
            HTTPException: _http_error,
            Exception: _bug,
        },
        lifespan=lifespan,
    )


class _Page:
    """Answers what browsers ask."""

    def __init__(self, sessions: Sessions, *, encrypted: bool) -> None:
        self.sessions = sessions
        self._cookie: dict[str, Any] = {"httponly": True, "samesite": "strict", "secure": encrypted, "path": "/"}

    def routes(self) -> list[Route | Mount]:
        def signed_in(answer: Answerer) -> Callable[[Request], Awaitable[Response]]:
            async def endpoint(request: Request) -> Response:
                session = self.sessions.find(request.cookies.get(self.sessions.cookie, ""))
                if session is None:
                    raise ServiceError("UNAUTHENTICATED", "sign in first")
                return await answer(request, session)

            return endpoint

        def get(path: str, answer: Answerer) -> Route:
            return Route(path, signed_in(answer), methods=["GET"])

        def post(path: str, answer: Answerer) -> Route:
            return Route(path, signed_in(answer), methods=["POST"])

        return [
            Route("/", _index, methods=["GET"]),
            Route("/api/session", self._sign_in, methods=["POST"]),
            Route("/api/session", self._sign_out, methods=["DELETE"]),
            Route("/api/me", self._me, methods=["GET"]),
            post("/api/upload", _upload),
            post("/api/{service}/{method}", api.call),
            get("/api/events.tsv", exports.events),
            get("/api/label-studio.json", exports.label_studio),
            get("/report/{report_id}", _report),
            get("/preview/{video_id}.mp4", preview),
            get("/thumbnails/{video_id}/{clip_index}.jpg", thumbnails),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]

    async def _me(self, request: Request) -> Response:
        return JSONResponse(_who(self.sessions.find(request.cookies.get(self.sessions.cookie, ""))))

    async def _sign_in(self, request: Request) -> Response:
        token = _token_of(await body_of(request))
        self.sessions.end(request.cookies.get(self.sessions.cookie, ""))
        try:
            name, session = await self.sessions.begin(token)
        except ServiceError as error:
            if error.code != "UNAUTHENTICATED":
                raise
            return JSONResponse({"identity": "", "error": error.message})  # an answer, not a failure of the page
        response = JSONResponse(_who(session))
        response.set_cookie(self.sessions.cookie, name, **self._cookie)
        return response

    async def _sign_out(self, request: Request) -> Response:
        self.sessions.end(request.cookies.get(self.sessions.cookie, ""))
        response = Response(status_code=204)
        response.delete_cookie(self.sessions.cookie, **self._cookie)
        return response


async def _index(request: Request) -> Response:  # noqa: ARG001
    return HTMLResponse((PAGE / "index.html").read_text(encoding="utf-8"), headers={"cache-control": "no-cache"})


def _who(session: Session | None) -> dict[str, Any]:
    """Who has signed in, and in whose words the page speaks; an empty identity: no user."""
    if session is None:
        return {"identity": ""}
    return {"identity": session.caller.identity, "roles": list(session.caller.roles), "signs": SIGNS}


def _token_of(given: object) -> str:
    """The token of a person who signs in; empty for none.

    Raises:
        InvalidInput: If it is no text, or no token.
    """
    token = given.get("token", "") if isinstance(given, dict) else None
    if not isinstance(token, str):
        raise InvalidInput("expected a sign-in, a JSON object with a text as its token", field="token")
    token = token.strip()
    if not (token.isascii() and token.isprintable() and len(token) <= _LONGEST_TOKEN):
        raise InvalidInput("expected a token: letters, digits and `. _ -` alone", field="token")
    return token


async def _upload(request: Request, session: Session) -> Response:
    """The video itself is the body; it is embedded by the server and not kept."""
    try:
        size, k = int(request.headers.get("content-length", "0")), int(request.query_params.get("k", "10"))
    except ValueError:
        size = k = -1
    if not (0 < size < 2**40 and 0 < k <= MAX_K):
        raise InvalidInput("expected a video with its length, and a number of hits")
    options, classify = Options(group_by=GroupBy.VIDEO), request.query_params.get("classify") == "1"
    patient_id = request.query_params.get("patient", "")
    answer = await session.client.search_by_stream(
        request.stream(), size, k, options, patient_id=patient_id, classify=classify
    )
    return JSONResponse(api.as_json(convert_verdict.upload_response(answer)))


async def _report(request: Request, session: Session) -> Response:
    html = await session.client.ask(requests.report(request.path_params["report_id"]))
    return HTMLResponse(html, headers={"content-security-policy": _REPORT_POLICY})


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    code, text = (error.code, error.message) if isinstance(error, ServiceError) else ("INVALID_ARGUMENT", str(error))
    return JSONResponse({"code": code, "error": text}, _STATUSES.get(code, 502))


async def _http_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"code": "HTTP", "error": "there is nothing here" if status == 404 else "refused"}, status)


async def _bug(request: Request, error: Exception) -> Response:  # noqa: ARG001
    _logger.error("the review page failed with %s", type_and_place(error))
    return JSONResponse({"code": "INTERNAL", "error": "something is wrong here; the server's log says where"}, 500)
