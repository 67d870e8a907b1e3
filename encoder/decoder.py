"""The parent's side of decoding: children that can be limited, watched, killed and replaced."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from encoder.picture import Crop
from index.errors import VideoRefused

_logger = logging.getLogger(__name__)

_PIPE_BYTES = 1 << 20
# All that a child may see of its parent's environment.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG")


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a child may use.

    Attributes:
        stall_s: longest time between two signs of life before it is killed.
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
    """

    clip_index: int
    start_s: float
    valid_seconds: float
    frames: NDArray[np.uint8]
    reader: str


class _Stalled(Exception):
    """No sign of life within the limit."""


class _Died(Exception):
    """The child ended in the middle of a message."""


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

    def decode(self, path: Path, crop: Crop | None = None) -> Iterator[ClipFrames]:
        """Frames of every clip of a video, in order.

        Raises:
            VideoRefused: with the reason; clips yielded before are whole.
        """
        yielded = 0
        for attempt in ("first", "last"):
            try:
                for clip in self._attempt(path, crop):
                    if clip.clip_index >= yielded:
                        yield clip
                        yielded = clip.clip_index + 1
                return
            except _Died:
                if attempt == "last" or self._interrupted:
                    raise VideoRefused("the decoder crashed on this file, twice") from None
            except _Stalled:
                raise VideoRefused(f"the decoder made no progress for {self._limits.stall_s:g} s") from None

    def _attempt(self, path: Path, crop: Crop | None) -> Iterator[ClipFrames]:
        child, self._waiting = self._waiting, _Child()
        self._working = child
        try:
            yield from child.decode(
                {
                    "path": str(path),
                    "num_frames": self._num_frames,
                    "size": self._size,
                    "crop": None if crop is None else [crop.x, crop.y, crop.w, crop.h],
                    "memory_bytes": self._limits.memory_bytes,
                },
                self._limits.stall_s,
            )
        finally:
            self._working = None
            child.kill()


class _Child:
    """One decoding process and the pipe it answers on."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "encoder.decode_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, "OMP_NUM_THREADS": "1"},
            bufsize=0,
        )
        self._buffer = bytearray()
        self._eof = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def interrupt(self) -> None:
        self._process.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def decode(self, request: dict[str, Any], stall_s: float) -> Iterator[ClipFrames]:
        stdin = self._process.stdin
        if stdin is None:
            raise _Died
        with suppress(BrokenPipeError):  # a dead child is noticed when it does not answer
            stdin.write(json.dumps(request).encode() + b"\n")
        shape = (request["num_frames"], request["size"], request["size"], 3)
        while True:
            message = json.loads(self._line(stall_s))
            payload = self._exactly(int(message["bytes"]), stall_s)
            match message["event"]:
                case "clip":
                    frames = np.frombuffer(payload, np.uint8).reshape(shape)
                    yield ClipFrames(
                        message["clip_index"],
                        message["start_s"],
                        message["valid_seconds"],
                        frames,
                        message["reader"],
                    )
                case "opened" if not message["sandboxed"]:
                    _warn_once()
                case "refused":
                    raise VideoRefused(message["reason"])
                case "done":
                    return

    def _line(self, stall_s: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(stall_s)
        return self._take(end + 1)

    def _exactly(self, size: int, stall_s: float) -> bytes:
        while len(self._buffer) < size:
            self._fill(stall_s)
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self, stall_s: float) -> None:
        stdout = self._process.stdout
        if stdout is None:
            raise _Died
        ready, _, _ = select.select([stdout], [], [], stall_s)
        if not ready:
            raise _Stalled
        received = os.read(stdout.fileno(), _PIPE_BYTES)
        if not received:
            raise _Died
        self._buffer += received
