"""Which stored videos are new: since a time, or since this command last asked the same server."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from index.records import Video
    from service.client import Client

NewOption = Annotated[
    str | None,
    typer.Option(
        "--new",
        help="Every stored video recorded since this time (ISO 8601); `last`: every one stored since this command last "
        "ran.",
    ),
]
LAST = "last"


def new_videos(client: Client, since: str, command: str, server: str) -> tuple[list[Video], Callable[[], None]]:
    """The new videos by id, and what remembers them, to be called once they were answered.

    Args:
        client: the server's client.
        since: an ISO 8601 time, or `last`.
        command: what is remembered for; `search` and `classify` each have seen their own.
        server: its address.

    Raises:
        InvalidInput: If it is neither.
    """
    from datetime import datetime

    from index.errors import InvalidInput
    from index.query import SearchFilter

    if since != LAST:
        try:
            datetime.fromisoformat(since)
        except ValueError:
            raise InvalidInput("expected --new to be an ISO 8601 time, or `last`") from None
        return list(client.videos(SearchFilter(recorded_from=since))), lambda: None
    path = _state(command, server)
    seen = set(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else set()
    videos = list(client.videos())
    return [video for video in videos if _digest(video) not in seen], lambda: _remember(path, videos)


def _remember(path: Path, videos: Iterable[Video]) -> None:
    from index.files.durable import write_text_atomically

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_text_atomically(path, json.dumps(sorted(map(_digest, videos))) + "\n")


def _digest(video: Video) -> str:
    """A file sent again under the same id is new; ids themselves are not kept."""
    return hashlib.sha256(f"{video.video_id}/{video.source_sha256}/{video.duration_s}".encode()).hexdigest()[:24]


def _state(command: str, server: str) -> Path:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "semiome" / f"{command}-{hashlib.sha256(server.encode()).hexdigest()[:12]}.json"
