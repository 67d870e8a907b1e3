"""The child process that decodes one file: requests in on stdin, one after another, messages out on stdout.

Each request is for a part of that file, which is looked through once. Where its `crop` is "ask", the first picture goes
out first, and the box to use comes in as a line of its own.

One child, one file, or the two that a video is in: before it opens them it gives up every other one
(`encoder.video.sandbox`). Messages are a line of JSON each, a clip's line followed by its frames as bytes; nothing is
unpickled on either side, because a child that a hostile file has taken over must not be able to run code in its parent.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from encoder.video.sandbox import LEVELS, capture_stderr, limit_resources, shut_in
from index.errors import VideoRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from encoder.container.facts import VideoFacts

_STDERR_BYTES = 64 * 1024


def main() -> None:
    """Serve the requests."""
    sys.excepthook = _report_bug  # before anything that may be missing is loaded
    import encoder.video.frames  # noqa: F401  now, while no request waits for it

    complaints = capture_stderr(_STDERR_BYTES)
    _send({"event": "ready"})
    film: _Film | None = None
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        try:
            if film is None:
                path = _shut_in_with(request)
                if path is None:
                    return
                film = _Film(path, complaints)
            film.serve(request)
        except VideoRefused as refused:
            _send({"event": "refused", "reason": str(refused), "damaged": refused.damaged})
        except (MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOMEM:
                raise
            reason = "decoding it takes more memory than a child process may have"
            _send({"event": "refused", "reason": reason, "damaged": False})
            return


def _shut_in_with(request: Mapping[str, Any]) -> Path | None:
    """Give up all but the file of the first request; None where the system can't make that sure enough."""
    path = Path(request["path"])
    if path.is_relative_to("/proc"):  # an open file of the parent, which a sandboxed child can't reach later on
        path = Path(f"/proc/self/fd/{os.open(path, os.O_RDONLY)}")
    limit_resources(int(request["memory_bytes"]), int(request["cpu_s"]))
    level = shut_in(path, *([Path(request["then"]["path"])] if request["then"] else []))
    _send({"event": "opened", "sandbox": level})
    return path if LEVELS.index(level) >= LEVELS.index(request["least_sandbox"]) else None


class _Film:
    """The file, looked through once for each of its tracks that is asked for."""

    def __init__(self, path: Path, complaints: int) -> None:
        self._path = path
        self._complaints = complaints
        self._facts: dict[tuple[Path, int | None], VideoFacts] = {}

    def serve(self, request: Mapping[str, Any]) -> None:
        """Answer one request."""
        from encoder.clips import LastClip, Segment, plan_clips
        from encoder.container.facts import join
        from encoder.video.frames import first_picture

        segment, then = Segment(*request["segment"]), request["then"]
        facts = self._look_through(self._path, request["track"])
        if then is None:
            facts = facts.part(segment, request["max_seconds"])
        else:
            second = Path(then["path"])
            looked = self._look_through(second, request["track"])
            facts = join(facts, looked, second, then["at_s"], segment, request["max_seconds"])
        how = {"stride_s": request["stride_s"], "last_clip": LastClip(request["last_clip"])}
        plans = plan_clips(facts.timeline, 0, **how)
        _send({"event": "planned", "clips": len(plans)})
        if request["preview"]:
            _preview(self._path, facts)
            return
        box = _asked(first_picture(self._path, facts)) if request["crop"] == "ask" else request["crop"]
        if request["num_frames"] == 0:  # only how many clips there are
            for plan in plans[request["skip"] :]:
                _send({"event": "clip", "reader": "", **asdict(plan)})
            if facts.damage:
                raise VideoRefused(facts.damage, damaged=True)
        else:
            self._decode(facts, request, box, how)
        _send({"event": "done"})

    def _look_through(self, path: Path, track: int | None) -> VideoFacts:
        from encoder.video.probe import look_through

        if (path, track) not in self._facts:
            self._facts[path, track] = look_through(path, track, lambda: _send({"event": "looking"}))
        return self._facts[path, track]

    def _decode(
        self, facts: VideoFacts, request: Mapping[str, Any], box: Sequence[int] | None, how: Mapping[str, Any]
    ) -> None:
        from encoder.picture import Crop
        from encoder.video.frames import decode_clips

        shape = request["num_frames"], request["size"], Crop(*box) if box else None
        complained = lambda: os.fstat(self._complaints).st_size  # noqa: E731
        how = {**how, "skip": request["skip"], "quick": request["quick"]}
        for clip in decode_clips(self._path, facts, *shape, complained, **how):
            _send({"event": "clip", "reader": clip.reader, **asdict(clip.plan)}, clip.frames.data)


def _preview(path: Path, facts: VideoFacts) -> None:
    """Strips and the film, each a line and its bytes; a line alone is a sign of life."""
    from encoder.video.preview import Strip, render  # nothing else needs its libraries

    for part in render(path, facts, lambda: _send({"event": "alive"})):
        if isinstance(part, Strip):
            _send({"event": "strip", "clip_index": part.clip_index, "size_bytes": len(part.jpeg)}, part.jpeg)
        else:
            described = {name: value for name, value in asdict(part).items() if name != "mp4"}
            _send({"event": "film", **described, "size_bytes": len(part.mp4)}, part.mp4)
    _send({"event": "done"})


def _asked(picture: NDArray[np.uint8]) -> Sequence[int] | None:
    """Show the parent the first picture; it answers with the box to use, or null for all of it."""
    import numpy as np

    height, width = picture.shape[:2]
    _send({"event": "picture", "width": width, "height": height}, np.ascontiguousarray(picture).data)
    box: Sequence[int] | None = json.loads(sys.stdin.buffer.readline())
    return box


def _report_bug(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    """Say what went wrong and where in our code, without the message, which may quote the file."""
    from traceback import walk_tb  # not in every child's start

    frames = [frame for frame, _ in walk_tb(trace) if frame.f_globals.get("__package__") == __package__]
    where = f" in {Path(frames[-1].f_code.co_filename).name}:{frames[-1].f_lineno}" if frames else ""
    _send({"event": "broken", "reason": f"{kind.__name__}{where}"})


def _send(message: Mapping[str, Any], payload: bytes | memoryview = b"") -> None:
    out = sys.stdout.buffer
    out.write(json.dumps(message).encode() + b"\n")
    out.write(payload)
    out.flush()


if __name__ == "__main__":
    main()
    os._exit(0)  # everything is sent; taking libraries down in order would cost a tenth of the child's time
