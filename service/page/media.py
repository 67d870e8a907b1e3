"""Films and thumbnails for a browser, in the parts that its player asks for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from index.errors import InvalidInput
from service.calling import requests
from service.page.sessions import Session

_MOST_AT_ONCE = 2 * 2**20


async def thumbnails(request: Request, session: Session) -> Response:
    """Thumbnails of a clip."""
    named = request.path_params
    if not re.fullmatch(r"[0-9]{1,9}", named["clip_index"]):
        raise InvalidInput("expected the number of a clip")
    jpeg = await session.client.ask(requests.thumbnails(named["video_id"], int(named["clip_index"])))
    return Response(jpeg, media_type="image/jpeg")


async def preview(request: Request, session: Session) -> Response:
    """A film, or the part of it that a player asks for."""
    start, end = await _range(request, session)
    partial = "range" in request.headers
    # For a player's open end, this much at a time: it asks on, and a paused one holds no call.
    length = 0 if not partial else min(_MOST_AT_ONCE, _MOST_AT_ONCE if end is None else end - start + 1)
    parts = session.client.preview(request.path_params["video_id"], start, length)
    first = await anext(parts)
    last = min(start + length if length else first.size_bytes, first.size_bytes) - 1

    async def chunks() -> AsyncIterator[bytes]:
        yield first.chunk
        async for part in parts:
            yield part.chunk

    headers = {
        "accept-ranges": "bytes",
        "content-length": str(last - start + 1),
        "semiome-fps": str(first.fps),
    }
    if partial:
        headers["content-range"] = f"bytes {start}-{last}/{first.size_bytes}"
    return StreamingResponse(chunks(), 206 if partial else 200, headers, "video/mp4")


async def _range(request: Request, session: Session) -> tuple[int, int | None]:
    """First and last byte of what is asked for; None: to the end.

    Raises:
        InvalidInput: If it is no range, or several.
    """
    said = request.headers.get("range", "bytes=0-")
    match = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", said)
    if match is None or not any(match.groups()):
        raise InvalidInput("expected one range of bytes")
    start, end = match.groups()
    if start:
        if end and int(end) < int(start):
            raise InvalidInput("expected a range that ends after its beginning")
        return int(start), int(end) if end else None
    parts = session.client.preview(request.path_params["video_id"], 0, 1)
    async for part in parts:  # the last bytes
        return max(part.size_bytes - int(end), 0), None
    raise InvalidInput("expected one range of bytes")
