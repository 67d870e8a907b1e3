"""What people have said, sent to the browser as it is read: neither the page nor the server holds all of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from index.feedback.export import EVENTS_HEAD, event_lines, label_studio_task
from index.feedback.statement import Feedback
from index.query import SearchFilter
from index.records import Video
from service.calling import requests
from service.page.sessions import Session

_LISTED_VIDEOS = 1000
_TASKS_AT_ONCE = 50
"""Videos whose feedback is held at once: two calls a video would be refused as too many."""


async def named_videos(session: Session, names: set[str]) -> dict[str, Video]:
    """What is known of these videos."""
    found: dict[str, Video] = {}
    ordered = sorted(names)
    for start in range(0, len(ordered), _LISTED_VIDEOS):
        where = SearchFilter(video_ids=frozenset(ordered[start : start + _LISTED_VIDEOS]))
        page = await session.client.ask(requests.videos(where, _LISTED_VIDEOS, ""))
        found |= {video.video_id: video for video in page.videos}
    return found


async def events(request: Request, session: Session) -> Response:  # noqa: ARG001
    """Events with HED tags, a line for each."""

    async def lines() -> AsyncIterator[str]:
        before = EVENTS_HEAD
        async for page in _pages(session):
            videos = await named_videos(session, {one.video_id for one in page})
            yield before + "".join(event_lines(page, videos))
            before = ""

    return await _sent(lines, "events.tsv", "text/tab-separated-values; charset=utf-8")


async def label_studio(request: Request, session: Session) -> Response:  # noqa: ARG001
    """Label Studio's tasks, one for each video."""

    async def tasks() -> AsyncIterator[str]:
        names = sorted({one.video_id async for page in _pages(session) for one in page})
        before = "[\n"
        for start in range(0, len(names), _TASKS_AT_ONCE):
            part = names[start : start + _TASKS_AT_ONCE]
            videos = await named_videos(session, set(part))
            said = [one async for page in _pages(session, part) for one in page]
            for name in part:
                if task := label_studio_task(name, [one for one in said if one.video_id == name], videos):
                    yield before + json.dumps(task)
                    before = ",\n"
        yield "[]\n" if before == "[\n" else "\n]\n"

    return await _sent(tasks, "label-studio.json", "application/json")


async def _pages(session: Session, video_ids: Sequence[str] = ()) -> AsyncIterator[tuple[Feedback, ...]]:
    token = ""
    while True:
        page = await session.client.ask(requests.list_feedback(video_ids, token))
        yield page.feedback
        if not (token := page.next_page_token):
            return


async def _sent(parts: Callable[[], AsyncIterator[str]], name: str, media_type: str) -> Response:
    """Send parts as a file. The first is read before anything is sent: what is refused is refused by its status."""
    stream = parts()
    first = await anext(stream)

    async def rest() -> AsyncIterator[str]:
        yield first
        async for part in stream:
            yield part

    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(rest(), media_type=media_type, headers=headers)
