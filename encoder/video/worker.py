"""The child process that decodes one video: one request in on stdin, messages out on stdout, then it ends.

Where the request's `crop` is "ask", the first picture goes out first, and the box to use comes in as a second line.

One child, one file: before it opens the file it gives up every other one (`encoder.video.sandbox`). Messages are a line
of JSON each, a clip's line followed by its frames as bytes; nothing is unpickled on either side, because a child that a
hostile file has taken over must not be able to run code in its parent.
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

    from encoder.video.probe import VideoFacts

_STDERR_BYTES = 64 * 1024


def main() -> None:
    """Serve the one request."""
    sys.excepthook = _report_bug  # before anything that may be missing is loaded
    from encoder.clips import plan_clips
    from encoder.picture import Crop
    from encoder.video.frames import decode_clips, first_picture
    from encoder.video.probe import probe

    complaints = capture_stderr(_STDERR_BYTES)
    _send({"event": "ready"})
    line = sys.stdin.buffer.readline()
    if not line:
        return
    request = json.loads(line)
    path = Path(request["path"])
    if path.is_relative_to("/proc"):  # an open file of the parent, which a sandboxed child can't reach later on
        path = Path(f"/proc/self/fd/{os.open(path, os.O_RDONLY)}")
    limit_resources(int(request["memory_bytes"]), int(request["cpu_s"]))
    try:
        level = shut_in(path)
        _send({"event": "opened", "sandbox": level})
        if LEVELS.index(level) < LEVELS.index(request["least_sandbox"]):
            return
        facts = probe(path, request["track"], request["max_seconds"], lambda: _send({"event": "looking"}))
        _send({"event": "planned", "clips": sum(1 for _ in plan_clips(facts.timeline, 0))})
        if request.get("preview"):
            _preview(path, facts)
            return
        box = _asked(first_picture(path, facts)) if request["crop"] == "ask" else request["crop"]
        crop = Crop(*box) if box else None
        num_frames, size = request["num_frames"], request["size"]
        if num_frames == 0:  # only how many clips there are
            for plan in plan_clips(facts.timeline, num_frames):
                _send({"event": "clip", "reader": "", **asdict(plan)})
            if facts.damage:
                raise VideoRefused(facts.damage, damaged=True)
        else:
            complained = lambda: os.fstat(complaints).st_size  # noqa: E731
            for clip in decode_clips(path, facts, num_frames, size, crop, complained, quick=request["quick"]):
                _send({"event": "clip", "reader": clip.reader, **asdict(clip.plan)}, clip.frames.data)
        _send({"event": "done"})
    except VideoRefused as refused:
        _send({"event": "refused", "reason": str(refused), "damaged": refused.damaged})
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        reason = "decoding it takes more memory than a child process may have"
        _send({"event": "refused", "reason": reason, "damaged": False})


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
