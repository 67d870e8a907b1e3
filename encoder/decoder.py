"""The parent's side of decoding: children that can be limited, watched, killed and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from encoder.child import Child, Choose, ClipFrames, Died, Preview, Stalled, box_of
from encoder.picture import Crop
from index.errors import StateError, VideoRefused

_SLOWEST_BYTES_PER_S = 20_000_000


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
        self._waiting = Child()
        self._working: Child | None = None
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

    def preview(self, path: Path) -> Preview:
        """A small copy of a video; of a damaged one what comes before the damage.

        Raises:
            VideoRefused: with the reason.
        """
        for made in self._twice(lambda: self._attempt(path, 0, None, preview=True)):
            if isinstance(made, Preview):
                return made
        raise VideoRefused("the decoder made no preview")

    def _clips(self, path: Path, num_frames: int, crop: Crop | Choose | None) -> Iterator[ClipFrames]:
        yielded = 0
        for clip in self._twice(lambda: self._attempt(path, num_frames, crop)):
            if isinstance(clip, ClipFrames) and clip.clip_index >= yielded:
                yield clip
                yielded = clip.clip_index + 1

    def _twice(self, attempt: Callable[[], Iterator[ClipFrames | Preview]]) -> Iterator[ClipFrames | Preview]:
        """What an attempt yields; where its child dies, what another one does."""
        for number in ("first", "last"):
            try:
                yield from attempt()
                return
            except Died as died:
                if number == "last" and not died.started:
                    raise StateError("the decoding process can't start: is the installation whole?") from None
                if number == "last" or self._interrupted:
                    raise VideoRefused("the decoder crashed on this file, twice") from None
            except Stalled as stalled:
                raise VideoRefused(f"the decoder made no progress for {stalled.seconds:g} s") from None

    def _attempt(
        self, path: Path, num_frames: int, crop: Crop | Choose | None, *, preview: bool = False
    ) -> Iterator[ClipFrames | Preview]:
        child, self._waiting = self._waiting, Child()
        self._working = child
        request = {
            "path": str(path),
            "num_frames": num_frames,
            "size": self._size,
            "crop": "ask" if callable(crop) else box_of(crop),
            "memory_bytes": self._limits.memory_bytes,
            "preview": preview,
        }
        stall_s = self._limits.stall_s + path.stat().st_size // _SLOWEST_BYTES_PER_S
        try:
            if preview:
                yield child.preview(request, stall_s)
            else:
                yield from child.decode(request, stall_s, crop if callable(crop) else None)
        finally:
            self._working = None
            child.kill()
