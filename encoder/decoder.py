"""The parent's side of decoding: children that can be limited, watched, killed and replaced."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from encoder.picture import Crop
from index.errors import StateError, VideoRefused

_logger = logging.getLogger(__name__)

_SLOWEST_BYTES_PER_S = 20_000_000
_MAX_LINE_BYTES = 64 * 1024
_PIPE_BYTES = 1 << 20
_MAX_PICTURE_BYTES = 3 * 4096 * 2304
# All that a child may see of its parent's environment.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")


Choose = Callable[[NDArray[np.uint8]], Crop | None]
"""Given a video's first picture (H, W, 3) RGB, what part of it to use; None for all of it."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a child may use.

    Attributes:
        stall_s: longest time between two signs of life before it is killed; large files, which have to be looked
            through as a whole first, get the time it takes to read them slowly on top.
        memory_bytes: its address space.
    """

    stall_s: float = 60.0
    memory_bytes: int = 4 * 2**30


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """One clip as the encoder wants it.

    Attributes:
        clip_index: k.
        start_s: 10 k.
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


class _Stalled(Exception):
    """No sign of life within the limit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class _Died(Exception):
    """The child ended, or what it sent is no message."""

    def __init__(self, *, started: bool) -> None:
        self.started = started


@cache
def _warn_once() -> None:
    _logger.warning("this kernel has no Landlock: a decoding child could read files besides its own")


class Decoder:
    """Decodes videos one after another, each in a child process of its own.

    The next child is started while the one before works, so that its imports cost no waiting. A child that gives no
    sign of life is killed and its video refused; one that dies (out of memory, a crash, a stray signal) is replaced
    and its video tried once more, since the next one may well live.
    """

    def __init__(self, num_frames: int, size: int, limits: DecodeLimits | None = None) -> None:
        self._num_frames = num_frames
        self._size = size
        self._limits = limits or DecodeLimits()
        self._waiting = _Child()
        self._working: _Child | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all children."""
        for child in (self._waiting, self._working):
            if child is not None:
                child.kill()

    def interrupt(self) -> None:
        """From another thread: make a `decode` in progress end soon, without starting another child."""
        self._interrupted = True
        for child in (self._waiting, self._working):
            if child is not None:
                child.interrupt()

    @property
    def child_pid(self) -> int | None:
        """Process id of the child at work."""
        return None if self._working is None else self._working.pid

    def decode(self, path: Path, crop: Crop | Choose | None = None) -> Iterator[ClipFrames]:
        """Frames of every clip of a video, in order; none in them when the decoder was made for 0 frames.

        Args:
            path: of the video.
            crop: what part of the picture to use, or who chooses it; what that raises ends the decoding.

        Raises:
            VideoRefused: with the reason; clips yielded before are whole.
        """
        return self._clips(path, self._num_frames, crop)

    def first_picture(self, path: Path) -> NDArray[np.uint8]:
        """The first frame shown, (H, W, 3) RGB.

        Raises:
            VideoRefused: with the reason.
        """
        seen: list[NDArray[np.uint8]] = []
        for _ in self._clips(path, 0, seen.append):
            pass
        if not seen:
            raise VideoRefused("the decoder showed no picture")
        return seen[-1]

    def count(self, path: Path) -> int:
        """How many clips a video has by its timestamps; no picture is decoded.

        Raises:
            VideoRefused: with the reason.
        """
        return sum(1 for _ in self._clips(path, 0, None))

    def _clips(self, path: Path, num_frames: int, crop: Crop | Choose | None) -> Iterator[ClipFrames]:
        yielded = 0
        for attempt in ("first", "last"):
            try:
                for clip in self._attempt(path, num_frames, crop):
                    if clip.clip_index >= yielded:
                        yield clip
                        yielded = clip.clip_index + 1
                return
            except _Died as died:
                if attempt == "last" and not died.started:
                    raise StateError("the decoding process can't start: is the installation whole?") from None
                if attempt == "last" or self._interrupted:
                    raise VideoRefused("the decoder crashed on this file, twice") from None
            except _Stalled as stalled:
                raise VideoRefused(f"the decoder made no progress for {stalled.seconds:g} s") from None

    def _attempt(self, path: Path, num_frames: int, crop: Crop | Choose | None) -> Iterator[ClipFrames]:
        child, self._waiting = self._waiting, _Child()
        self._working = child
        try:
            yield from child.decode(
                {
                    "path": str(path),
                    "num_frames": num_frames,
                    "size": self._size,
                    "crop": "ask" if callable(crop) else _box(crop),
                    "memory_bytes": self._limits.memory_bytes,
                },
                self._limits.stall_s + path.stat().st_size // _SLOWEST_BYTES_PER_S,
                crop if callable(crop) else None,
            )
        finally:
            self._working = None
            child.kill()


class _Child:
    """One decoding process and the pipe it answers on."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "encoder.decode_child"],  # -P: nothing is imported from the current folder
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

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self) -> None:
        self._process.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stdin.close()
        self._stdout.close()

    def decode(self, request: dict[str, Any], stall_s: float, choose: Choose | None) -> Iterator[ClipFrames]:
        self._say(request)
        shape = (request["num_frames"], request["size"], request["size"], 3)
        started = shown = False
        clip_count = 0
        while True:
            picture = None
            try:
                # What a child says is checked like any input: a hostile file may have taken it over.
                message = json.loads(self._line(stall_s))
                match message["event"]:
                    case "ready":
                        started = True
                    case "opened":
                        if not message["sandboxed"]:
                            _warn_once()
                    case "planned":
                        clip_count = int(message["clips"])
                    case "picture" if choose is not None and not shown:
                        shown = True
                        picture = self._picture(int(message["width"]), int(message["height"]), stall_s)
                    case "clip" if choose is None or shown:
                        frames = self._pixels(shape, stall_s)
                        yield ClipFrames(
                            int(message["clip_index"]),
                            float(message["start_s"]),
                            float(message["valid_seconds"]),
                            frames,
                            str(message["reader"]),
                            clip_count,
                        )
                    case "refused":
                        raise VideoRefused(str(message["reason"]), damaged=message["damaged"] is True)
                    case "done":
                        return
                    case _:
                        raise ValueError
            except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
                raise _Died(started=started) from None
            if picture is not None and choose is not None:
                self._say(_box(choose(picture)))

    def _say(self, message: object) -> None:
        with suppress(BrokenPipeError):  # a dead child is noticed when it does not answer
            self._stdin.write(json.dumps(message).encode() + b"\n")

    def _picture(self, width: int, height: int, stall_s: float) -> NDArray[np.uint8]:
        if min(width, height) < 1 or 3 * width * height > _MAX_PICTURE_BYTES:
            raise ValueError
        return self._pixels((height, width, 3), stall_s)

    def _line(self, stall_s: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise ValueError
            self._await(stall_s)
            received = os.read(self._stdout.fileno(), _PIPE_BYTES)
            if not received:
                raise ValueError  # the end of the pipe in the middle of a message
            self._buffer += received
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _pixels(self, shape: tuple[int, ...], stall_s: float) -> NDArray[np.uint8]:
        """What follows a line, read to where it stays."""
        pixels = np.empty(shape, np.uint8)
        rest = memoryview(pixels.reshape(-1).data)
        early = min(len(self._buffer), len(rest))
        rest[:early] = self._buffer[:early]
        del self._buffer[:early]
        rest = rest[early:]
        while len(rest):
            self._await(stall_s)
            received = os.readv(self._stdout.fileno(), [rest])
            if not received:
                raise ValueError
            rest = rest[received:]
        return pixels

    def _await(self, stall_s: float) -> None:
        ready, _, _ = select.select([self._stdout], [], [], stall_s)
        if not ready:
            raise _Stalled(stall_s)


def _box(crop: Crop | None) -> list[int] | None:
    return None if crop is None else [crop.x, crop.y, crop.w, crop.h]
