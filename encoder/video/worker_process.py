"""One decoding process, for one file, and what is said with it: what it answers is checked like any input.

A hostile file may have taken the process over; nothing that it sends is unpickled or trusted to have its size.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.picture import Crop
from encoder.video.sandbox import LEVELS, check_level
from index.errors import StateError, VideoRefused
from index.records import CLIP_SECONDS

_logger = logging.getLogger(__name__)

_MOST_LOOKS, _MOST_REASON = 1000, 500
_READERS = ("", "decord", "pyav")
_REASON = re.compile(r"[^A-Za-z0-9 ._:-]")
_MAX_LINE_BYTES = 64 * 1024
_PIPE_BYTES = 1 << 20
_MAX_PICTURE_BYTES = 3 * 4096 * 2304
_ROUNDED = 1e-3
_MAX_FILM_BYTES, _MAX_STRIP_BYTES, _MAX_FPS, _MAX_CLIPS = 2**30, 2**18, 60, 400_000
# All that a child may see of its parent's environment.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")

Choose = Callable[[NDArray[np.uint8]], Crop | None]
"""Given a video's first picture (H, W, 3) RGB, what part of it to use; None for all of it."""


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """One clip as the encoder wants it.

    Attributes:
        clip_index: number of the clip, from 0.
        start_s: from where the video or segment begins.
        valid_seconds: seconds of picture in it.
        frames: (T, S, S, 3) uint8 RGB.
        reader: `decord` or `pyav`.
        clip_count: clips of the whole video by its timestamps.
    """

    clip_index: int
    start_s: float
    valid_seconds: float
    frames: NDArray[np.uint8]
    reader: str
    clip_count: int


@dataclass(frozen=True, slots=True)
class Preview:
    """A video made small, see `encoder.video.preview`.

    Attributes:
        mp4: H.264.
        strips: thumbnails of each clip, JPEG.
        fps: frames a second.
        width: in pixels.
        height: in pixels.
        seconds: duration.
    """

    mp4: bytes
    strips: dict[int, bytes]
    fps: int
    width: int
    height: int
    seconds: float


class Stalled(Exception):
    """No sign of life within the limit, or none of the end within that of the whole video."""

    def __init__(self, stall_s: float, whole_s: float | None) -> None:
        self.reason = f"the decoder made no progress for {stall_s:g} s"
        if whole_s is not None:
            self.reason = f"decoding took longer than the {whole_s:g} s that a video may take"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a child is waited for.

    Attributes:
        stall_s: between two signs of life.
        clip_s: for the whole video, this long for each of its clips on average.
        look_s: for each part of a long file's timestamps that it has looked through.
    """

    stall_s: float
    clip_s: float
    look_s: float


class Died(Exception):
    """The child ended, or what it sent is no message.

    Attributes:
        reason: the error it ended with and where in our code, if it could still say that.
    """

    def __init__(self, reason: str = "") -> None:
        self.reason = reason


@cache
def _warn_once(level: str) -> None:
    _logger.warning("decoders are sandboxed at level %s only, see docs/decoding.md", level)


class Child:
    """One decoding process and the pipe it answers on.

    Its methods raise `Died` and `Stalled` beside what the video is refused for.
    """

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            # -P: nothing is imported from the current folder; -B: what Python caches, its limit would cut off.
            [sys.executable, "-PB", "-m", "encoder.video.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise StateError("the decoding process has no pipes")
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        with suppress(OSError):  # the system may allow less, and less is only slower
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._buffer = bytearray()
        self._clips = self._looks = 0
        self._waited_s = 0.0
        self._once = {"ready", "opened"}

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def interrupt(self) -> None:
        """From another thread: let what waits for an answer fail soon."""
        self._process.kill()

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def decode(self, request: dict[str, Any], patience: Patience, choose: Choose | None) -> Iterator[ClipFrames]:
        """Clips as they come; asked for a box, it is given the one that `choose` finds in the first picture."""
        shape = (request["num_frames"], request["size"], request["size"], 3)
        shown, came = False, request["skip"]
        for message in self._messages(request, patience):
            picture = clip = None
            with self._checked():
                match message["event"]:
                    case "planned" if not self._clips:
                        self._plan(message, request)
                    case "picture" if choose is not None and not shown:
                        shown = True
                        picture = self._picture(int(message["width"]), int(message["height"]), patience)
                    case "clip" if (choose is None or shown) and came < self._clips:
                        frames = self._pixels(shape, patience)
                        clip = self._clip(message, frames, came, request)
                        came += 1
                    case "done" if came == self._clips:
                        return
                    case _:
                        raise ValueError
            if clip is not None:
                yield clip
            if picture is not None and choose is not None:
                self._say(box_of(choose(picture)))

    def _plan(self, message: dict[str, Any], request: dict[str, Any]) -> None:
        """How many clips it says that there are, and no more than the longest video has."""
        clips = int(message["clips"])
        if not 0 < clips <= min(request["max_seconds"] / request["stride_s"] + 1, _MAX_CLIPS):
            raise ValueError
        self._clips = clips

    def _clip(
        self, message: dict[str, Any], frames: NDArray[np.uint8], number: int, request: dict[str, Any]
    ) -> ClipFrames:
        """A clip as it must be: the next one, so long after the one before, or earlier if it is the last.

        In the second file of a video they may begin again, which is earlier by one that is the last of the first file,
        or later where nothing was recorded between the two.
        """
        stride_s = request["stride_s"]
        index, start_s, valid_s = int(message["clip_index"]), float(message["start_s"]), float(message["valid_seconds"])
        last = number + 1 == self._clips
        earlier = last + (request["then"] is not None)
        least_s, most_s = max(stride_s * (index - earlier), 0.0), stride_s * index
        if request["then"] is not None:
            most_s = request["max_seconds"]
        if index != number or not least_s - _ROUNDED <= start_s <= most_s + _ROUNDED:
            raise ValueError
        if not 0 < valid_s <= CLIP_SECONDS:
            raise ValueError
        if message["reader"] not in _READERS:
            raise ValueError
        return ClipFrames(index, start_s, valid_s, frames, message["reader"], self._clips)

    def preview(self, request: dict[str, Any], patience: Patience) -> Preview:
        """The one preview."""
        strips: dict[int, bytes] = {}
        made: Preview | None = None
        alive = 0
        for message in self._messages(request, patience):
            with self._checked():
                match message["event"]:
                    case "planned" if not self._clips:
                        self._plan(message, request)
                    case "alive" if alive < (self._clips + 1) * CLIP_SECONDS:  # one a second of video
                        alive += 1
                    case "strip" if 0 <= int(message["clip_index"]) < self._clips:
                        size = int(message["size_bytes"])
                        strips[int(message["clip_index"])] = self._bytes(size, _MAX_STRIP_BYTES, patience)
                    case "film" if made is None:
                        made = self._film(message, strips, patience)
                    case "done":
                        break
                    case _:
                        raise ValueError
        if made is None:
            raise Died
        return made

    def _messages(self, request: dict[str, Any], patience: Patience) -> Iterator[dict[str, Any]]:
        """What a child says, checked like any input: a hostile file may have taken it over."""
        self._clips, self._waited_s, once = 0, 0.0, self._once
        self._say(request)
        while True:
            with self._checked():
                message = json.loads(self._line(patience))
                match message["event"]:
                    case "ready" | "opened" as event if event not in once:
                        raise ValueError
                    case "ready":
                        once.remove("ready")
                        continue
                    case "looking" if self._looks < _MOST_LOOKS:  # through a long file's timestamps
                        self._looks += 1
                        continue
                    case "opened":
                        once.remove("opened")
                        level = LEVELS[LEVELS.index(message["sandbox"])]
                        check_level(level, request["least_sandbox"])
                        if level != LEVELS[-1]:
                            _warn_once(level)
                        continue
                    case "broken":
                        raise Died(_REASON.sub("", str(message["reason"]))[:200])
                    case "refused":
                        raise VideoRefused(_in_words(str(message["reason"])), damaged=message["damaged"] is True)
            yield message

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise Died from None

    def _say(self, message: object) -> None:
        with suppress(BrokenPipeError):  # a dead child is noticed when it does not answer
            self._stdin.write(json.dumps(message).encode() + b"\n")

    def _picture(self, width: int, height: int, patience: Patience) -> NDArray[np.uint8]:
        if min(width, height) < 1 or 3 * width * height > _MAX_PICTURE_BYTES:
            raise ValueError
        return self._pixels((height, width, 3), patience)

    def _film(self, message: dict[str, Any], strips: dict[int, bytes], patience: Patience) -> Preview:
        mp4 = self._bytes(int(message["size_bytes"]), _MAX_FILM_BYTES, patience)
        fps, seconds = int(message["fps"]), float(message["seconds"])
        if not (1 <= fps <= _MAX_FPS and 0 < seconds < float("inf")):
            raise ValueError
        return Preview(mp4, strips, fps, int(message["width"]), int(message["height"]), seconds)

    def _bytes(self, size: int, most: int, patience: Patience) -> bytes:
        if not 0 < size <= most:
            raise ValueError
        return self._pixels((size,), patience).tobytes()

    def _line(self, patience: Patience) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise ValueError
            self._await(patience)
            received = os.read(self._stdout.fileno(), _PIPE_BYTES)
            if not received:
                raise ValueError  # the end of the pipe in the middle of a message
            self._buffer += received
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _pixels(self, shape: tuple[int, ...], patience: Patience) -> NDArray[np.uint8]:
        """What follows a line, read to where it stays."""
        pixels = np.empty(shape, np.uint8)
        rest = memoryview(pixels.reshape(-1).data)
        early = min(len(self._buffer), len(rest))
        rest[:early] = self._buffer[:early]
        del self._buffer[:early]
        rest = rest[early:]
        while len(rest):
            self._await(patience)
            received = os.readv(self._stdout.fileno(), [rest])
            if not received:
                raise ValueError
            rest = rest[received:]
        return pixels

    def _await(self, patience: Patience) -> None:
        """Wait for the next bytes; only this counts as the child's time, not that of a model which is slower."""
        started = time.monotonic()
        whole_s = patience.stall_s + patience.look_s * self._looks + patience.clip_s * self._clips
        left_s = whole_s - self._waited_s
        ready, _, _ = select.select([self._stdout], [], [], max(min(patience.stall_s, left_s), 0))
        self._waited_s += time.monotonic() - started
        if not ready:
            begun = self._clips or self._looks
            raise Stalled(patience.stall_s, whole_s=whole_s if begun and left_s < patience.stall_s else None)


def _in_words(reason: str) -> str:
    """A reason that is safe to show, log and open in a spreadsheet, even one that a hostile file wrote."""
    seen = "".join(letter for letter in reason if letter.isprintable())[:_MOST_REASON]
    return seen.lstrip("=+-@ ") or "the decoder gave no reason"


def box_of(crop: Crop | None) -> list[int] | None:
    """A box as a request has it."""
    return None if crop is None else [crop.x, crop.y, crop.w, crop.h]
