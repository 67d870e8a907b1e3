"""The review page over HTTP: its files, and JSON that asks the gRPC service in the name of whoever has signed in.

It decides nothing: roles, limits and the audit log are the service's, and all that is shown comes from there. What it
adds is what browsers need: sessions, byte ranges, and headers that let a page load from here alone.
"""

from __future__ import annotations

import logging
import re
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
from index.query import MAX_K, GroupBy, Options, SearchFilter, VideoQuery
from index.records import Neighbour, Video
from index.semiology import SIGNS
from service.calling import requests
from service.calling.connection import Connection
from service.errors import type_and_place
from service.page import exports, values
from service.page.media import preview, thumbnails
from service.page.middleware import Headers, OnBehalf, SameOrigin, body_of
from service.page.sessions import Session, Sessions
from service.records import ClassifyAnswer

PAGE = Path(__file__).parent / "static"
_VIDEOS_A_PAGE = 100
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
            get("/api/videos", _videos),
            get("/api/videos/{video_id}", _video),
            get("/api/videos/{video_id}/verdict", _verdict),
            post("/api/search", _search),
            post("/api/upload", _upload),
            get("/api/counts", _counts),
            get("/api/status", _status),
            get("/api/generations", _generations),
            get("/api/map", _map),
            get("/api/feedback", _list_feedback),
            post("/api/feedback", _save_feedback),
            Route("/api/feedback/{feedback_id}", signed_in(_delete_feedback), methods=["DELETE"]),
            get("/api/events.tsv", exports.events),
            get("/api/label-studio.json", exports.label_studio),
            get("/api/reports", _reports),
            get("/report/{report_id}", _report),
            get("/preview/{video_id}.mp4", preview),
            get("/thumbnails/{video_id}/{clip_index}.jpg", thumbnails),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]

    async def _me(self, request: Request) -> Response:
        return JSONResponse(_who(self.sessions.find(request.cookies.get(self.sessions.cookie, ""))))

    async def _sign_in(self, request: Request) -> Response:
        token = values.token_of(await body_of(request))
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
    """Who has signed in, and in whose words the page speaks; an empty identity: nobody."""
    if session is None:
        return {"identity": ""}
    return {"identity": session.caller.identity, "roles": list(session.caller.roles), "signs": SIGNS}


async def _videos(request: Request, session: Session) -> Response:
    asked = request.query_params
    where = SearchFilter(
        labels=frozenset(asked.getlist("label")),
        semiology=frozenset(asked.getlist("tag")),
        patient_ids=frozenset(asked.getlist("patient")),
    )
    page = await session.client.ask(requests.videos(where, _VIDEOS_A_PAGE, asked.get("token", "")))
    videos = list(map(values.video_values, page.videos))
    return JSONResponse({"videos": videos, "next": page.next_page_token})


async def _video(request: Request, session: Session) -> Response:
    asked = request.query_params
    first, count = _whole(asked.get("first", "0"), "first"), _whole(asked.get("count", "0"), "count")
    answer = await session.client.ask(requests.video(request.path_params["video_id"], first, count))
    clips = list(map(values.clip_values, answer.clips))
    made = values.provenance_values(answer.provenance)
    return JSONResponse({"video": values.video_values(answer.video), "clips": clips, "provenance": made})


async def _verdict(request: Request, session: Session) -> Response:
    answer = await session.client.classify(VideoQuery(request.path_params["video_id"]))
    asked = request.query_params
    clips = range(_whole(asked.get("from", "0"), "from"), _whole(asked.get("until", "999999999"), "until"))
    return JSONResponse(values.verdict_values(answer, clips))


async def _search(request: Request, session: Session) -> Response:
    query, k, options = values.search_of(await body_of(request))
    answer = await session.client.search(query, k, options)
    videos = await _videos_of(session, answer.neighbours)
    return JSONResponse(
        {
            "provenance": values.provenance_values(answer.provenance),
            "hits": [values.hit_values(hit, videos) for hit in answer.neighbours],
        }
    )


async def _upload(request: Request, session: Session) -> Response:
    """The video itself is the body; it is embedded by the server and kept by nobody."""
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
    judged = answer.judged and ClassifyAnswer(answer.provenance, answer.judged)
    videos = await _videos_of(session, answer.neighbours)
    return JSONResponse(
        {
            "provenance": values.provenance_values(answer.provenance),
            "clips": list(map(values.clip_values, answer.clips)),
            "patient_known": answer.patient_known,
            "known_as": answer.known_as,
            "clips_without_picture": answer.clips_without_picture,
            "verdict": judged and values.verdict_values(judged),
            "hits": [values.hit_values(hit, videos) for hit in answer.neighbours],
        }
    )


async def _counts(request: Request, session: Session) -> Response:  # noqa: ARG001
    return JSONResponse(values.counts_values(await session.client.counts()))


async def _status(request: Request, session: Session) -> Response:  # noqa: ARG001
    answer = await session.client.status()
    workers = [{"tail_clips": one.tail_clips, "calls": one.calls} for one in answer.workers]
    made = values.provenance_values(answer.provenance)
    return JSONResponse({"provenance": made, "workers": workers, "version": answer.version})


async def _generations(request: Request, session: Session) -> Response:  # noqa: ARG001
    found = await session.client.ask(requests.list_generations())
    return JSONResponse({"generations": list(map(values.generation_values, reversed(found)))})


async def _map(request: Request, session: Session) -> Response:
    offset = _whole(request.query_params.get("offset", "0"), "offset")
    return JSONResponse(values.map_values(await session.client.ask(requests.map_page(offset, 0))))


async def _list_feedback(request: Request, session: Session) -> Response:
    asked = request.query_params
    page = await session.client.ask(requests.list_feedback(asked.getlist("video"), asked.get("token", "")))
    said = list(map(values.feedback_values, page.feedback))
    return JSONResponse({"feedback": said, "next": page.next_page_token})


async def _save_feedback(request: Request, session: Session) -> Response:
    said = values.feedback_of(await body_of(request))
    saved = await session.client.ask(requests.save_feedback(said))
    return JSONResponse(values.feedback_values(saved), status_code=201)


async def _delete_feedback(request: Request, session: Session) -> Response:
    await session.client.ask(requests.delete_feedback(request.path_params["feedback_id"]))
    return Response(status_code=204)


async def _reports(request: Request, session: Session) -> Response:  # noqa: ARG001
    found = await session.client.ask(requests.list_reports())
    return JSONResponse({"reports": [{"report_id": one.report_id, "written_at": one.written_at} for one in found]})


async def _report(request: Request, session: Session) -> Response:
    html = await session.client.ask(requests.report(request.path_params["report_id"]))
    return HTMLResponse(html, headers={"content-security-policy": _REPORT_POLICY})


async def _videos_of(session: Session, hits: Sequence[Neighbour]) -> dict[str, Video]:
    return await exports.named_videos(session, {hit.clip.video_id for hit in hits})


def _whole(text: str, field: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise InvalidInput("expected a whole number", field=field)
    return int(text)


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    code, text = (error.code, error.message) if isinstance(error, ServiceError) else ("INVALID_ARGUMENT", str(error))
    return JSONResponse({"code": code, "error": text}, _STATUSES.get(code, 502))


async def _http_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"code": "HTTP", "error": "there is nothing here" if status == 404 else "refused"}, status)


async def _bug(request: Request, error: Exception) -> Response:  # noqa: ARG001
    _logger.error("the review page failed with %s", type_and_place(error))
    return JSONResponse({"code": "INTERNAL", "error": "something is wrong here; the server's log says where"}, 500)
