"""The parent's side of decoding: children that can be limited, watched, killed and replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from encoder.clips import MAX_SECONDS, Segment, Source
from encoder.picture import Crop
from encoder.video.sandbox import least_sandbox
from encoder.video.worker_process import Child, Choose, ClipFrames, Died, Patience, Preview, Stalled, box_of
from index.errors import StateError, VideoRefused
from index.processors import usable_cores

SAMPLE = Path(__file__).with_name("sample.mp4")
"""Two seconds of H.264 that grow brighter, to be told apart from a file that can't be read."""
_SLOWEST_BYTES_PER_S = 20_000_000


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a child may use.

    Attributes:
        stall_s: longest time between two signs of life before it is killed; large files, which have to be looked
            through as a whole first, get the time it takes to read them slowly on top.
        clip_s: longest time for a whole video, for each of its clips: ten seconds of 4K take a core about as long.
            Only time in which the child is waited for counts.
        look_s: longest time, on top, for each part of a long file that it has looked through: about 50,000 packets, a
            second's work.
        memory_bytes: its address space.
        max_seconds: longest video.
        least_sandbox: how much of `encoder.video.sandbox` the system must enforce; by default what the
            environment asks for.
    """

    stall_s: float = 60.0
    clip_s: float = 30.0
    look_s: float = 10.0
    memory_bytes: int = 4 * 2**30
    max_seconds: float = MAX_SECONDS
    least_sandbox: str = field(default_factory=least_sandbox)


class FileState(NamedTuple):
    """What tells one content of a file from another without reading it."""

    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The state of a file now.

        Raises:
            OSError: If it can't be looked at.
        """
        stat = path.stat()
        return cls(path, stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Decoder:
    """Decodes videos one after another, each file in a child process of its own, which looks through it once.

    The next child is started while the one before works, so that its imports cost no waiting. A child that gives no
    sign of life is killed and its video refused; one that dies (out of memory, a crash, a stray signal) is replaced
    and its video tried once more, by the strict reader alone. Where that one dies too, a video that is known to be
    whole tells whether the file or the installation is at fault.
    """

    def __init__(self, num_frames: int, size: int, limits: DecodeLimits | None = None) -> None:
        self._num_frames = num_frames
        self._size = size
        self._limits = limits or DecodeLimits()
        self._waiting = Child()
        self._working: Child | None = None
        self._open: tuple[FileState, FileState | None] | None = None
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
    def open_path(self) -> Path | None:
        """The file that the child at work has open, or had last and waits for more of."""
        return None if self._open is None else self._open[0].path

    @property
    def child_pid(self) -> int | None:
        """Process id of the child at work."""
        return None if self._working is None else self._working.pid

    def decode(self, source: Source | Path, crop: Crop | Choose | None = None, skip: int = 0) -> Iterator[ClipFrames]:
        """Frames of every clip of a video, in order; none in them when the decoder was made for 0 frames.

        Args:
            source: the video; a path stands for all of the file's only film.
            crop: what part of the picture to use, or who chooses it; what that raises ends the decoding.
            skip: how many clips are left out at the beginning.

        Raises:
            VideoRefused: If the video can't be trusted; clips yielded before are whole.
        """
        return self._clips(source, self._num_frames, crop, skip)

    def first_picture(self, source: Source | Path) -> NDArray[np.uint8]:
        """The first frame shown, (H, W, 3) RGB.

        Raises:
            VideoRefused: If the video can't be trusted.
        """
        seen: list[NDArray[np.uint8]] = []
        try:
            for _ in self._clips(source, 0, seen.append):
                pass
        except VideoRefused as refused:
            if not (refused.damaged and seen):  # what is damaged later on has a first picture all the same
                raise
        if not seen:
            raise VideoRefused("the decoder showed no picture")
        return seen[-1]

    def count(self, source: Source | Path) -> int:
        """How many clips a video has by its timestamps; no picture is decoded.

        Raises:
            VideoRefused: If the video can't be trusted.
        """
        return sum(1 for _ in self._clips(source, 0, None))

    def preview(self, source: Source | Path) -> Preview:
        """A small copy of a video; of a damaged one what comes before the damage.

        Raises:
            VideoRefused: If the video can't be trusted.
        """
        for made in self._twice(lambda quick: self._attempt(source, 0, None, quick=quick, preview=True)):
            if isinstance(made, Preview):
                return made
        raise VideoRefused("the decoder made no preview")

    def _clips(
        self, source: Source | Path, num_frames: int, crop: Crop | Choose | None, skip: int = 0
    ) -> Iterator[ClipFrames]:
        yielded = skip
        for clip in self._twice(lambda quick: self._attempt(source, num_frames, crop, quick=quick, skip=skip)):
            if isinstance(clip, ClipFrames) and clip.clip_index >= yielded:
                yield clip
                yielded = clip.clip_index + 1

    def _twice(self, attempt: Callable[[bool], Iterator[ClipFrames | Preview]]) -> Iterator[ClipFrames | Preview]:
        """What an attempt yields; where its child dies, what another one does without the quick reader."""
        for quick in (True, False):
            try:
                yield from attempt(quick)
                return
            except Died as died:
                if self._interrupted:
                    raise VideoRefused("interrupted") from None
                if not quick:
                    check_decoding()
                    reason = f": {died.reason}" if died.reason else ""
                    raise VideoRefused(f"the decoder crashed on this file, twice{reason}") from None
            except Stalled as stalled:
                raise VideoRefused(stalled.reason) from None

    def trouble(self, readers: set[str]) -> str:
        """What keeps this decoder from decoding a video that is known to be whole, or empty; adds who read it."""
        try:
            clips = list(self._attempt(SAMPLE, self._num_frames, None, quick=True))
        except Died as died:
            return died.reason or "the child process ends before it answers"
        except Stalled as stalled:
            return stalled.reason
        except VideoRefused as refused:
            return str(refused)
        readers |= {clip.reader for clip in clips if isinstance(clip, ClipFrames)}
        light = [float(frame.mean()) for clip in clips if isinstance(clip, ClipFrames) for frame in clip.frames]
        return "" if light and light == sorted(set(light)) else "its pictures are not the right ones"

    def _attempt(
        self,
        source: Source | Path,
        num_frames: int,
        crop: Crop | Choose | None,
        *,
        quick: bool,
        preview: bool = False,
        skip: int = 0,
    ) -> Iterator[ClipFrames | Preview]:
        source = source if isinstance(source, Source) else Source(source)
        file = FileState.of(source.path)
        then = None if source.then is None else FileState.of(source.then.path)
        child = self._child_for((file, then))
        stall_s = self._limits.stall_s + (file.size + (then.size if then else 0)) // _SLOWEST_BYTES_PER_S
        request = {
            "path": str(source.path),
            "num_frames": num_frames,
            "size": self._size,
            "crop": "ask" if callable(crop) else box_of(crop),
            "memory_bytes": self._limits.memory_bytes,
            "cpu_s": int((stall_s + self._limits.clip_s * self._limits.max_seconds / source.stride_s) * usable_cores()),
            "least_sandbox": self._limits.least_sandbox,
            "max_seconds": self._limits.max_seconds,
            "track": source.track,
            "segment": [source.segment.start_s, source.segment.end_s],
            "then": None if source.then is None else {"path": str(source.then.path), "at_s": source.then.at_s},
            "stride_s": source.stride_s,
            "skip": skip,
            "last_clip": source.last_clip.value,
            "quick": quick,
            "preview": preview,
        }
        patience = Patience(stall_s, self._limits.clip_s, self._limits.look_s)
        more = False
        try:
            if preview:
                yield child.preview(request, patience)
            else:
                yield from child.decode(request, patience, crop if callable(crop) else None)
            more = source.segment != Segment()  # the file's other segments may follow
        finally:
            if not more:
                self._working = self._open = None
                child.kill()

    def _child_for(self, files: tuple[FileState, FileState | None]) -> Child:
        """The child that has these files open, or a new one in its place."""
        if self._working is None or self._open != files:
            if self._working is not None:
                self._working.kill()
            self._working, self._waiting = self._waiting, Child()
            self._open = files
        return self._working


class DecoderPool:
    """Several decoders for tasks in threads, each task given the one that has its file open already, if that is idle.

    They are started when they are needed, and ended with the context: by then no task may use one.
    """

    def __init__(self, count: int, num_frames: int, size: int) -> None:
        """Take the most decoders at once, and what each is made for, see `Decoder`."""
        self._shape = num_frames, size
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._all: list[Decoder] = []
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for decoder in self._all:
            decoder.close()

    def interrupt(self) -> None:
        """Make every decoding in progress end soon, and begin none."""
        with self._lock:
            self._interrupted = True
            for decoder in self._all:
                decoder.interrupt()

    @contextmanager
    def decoder_for(self, path: Path) -> Iterator[Decoder]:
        """A decoder for one file, once one is idle."""
        with self._free:
            with self._lock:
                decoder = self._chosen(path)
            try:
                yield decoder
            finally:
                with self._lock:
                    self._idle.append(decoder)

    def _chosen(self, path: Path) -> Decoder:
        for number, decoder in enumerate(self._idle):
            if decoder.open_path == path:
                return self._idle.pop(number)
        if self._idle:
            return self._idle.pop()
        decoder = Decoder(*self._shape)
        if self._interrupted:
            decoder.interrupt()
        self._all.append(decoder)
        return decoder


def check_decoding() -> set[str]:
    """Decode a video that is known to be whole, in children as any other, small and at its own size.

    Returns:
        Which readers did it.

    Raises:
        StateError: If that fails: no video is to blame.
    """
    readers: set[str] = set()
    for size in (32, 64):
        with Decoder(4, size) as decoder:
            if reason := decoder.trouble(readers):
                raise StateError(f"videos can't be decoded here, not even one that is known to be whole: {reason}")
    return readers
