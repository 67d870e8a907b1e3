"""From a video file to the frames of its clips, each the right one or none at all.

Pictures that are made much smaller are resized by FFmpeg as they are decoded, in YUV, and become RGB afterwards: that
moves a third of the memory, which is what decoding waits for. PyAV reads those. Of the others two readers give the same
pictures: decord is the fast one, used only for files it is known to read right; PyAV, told to stop at the first damaged
byte, reads the rest. A word of complaint from FFmpeg while decord reads hands the file to PyAV, which decides: a
concealed error would be a guessed frame.

This module runs in a child process (`encoder.video.worker`): a decoder fed with a hostile file may crash or hang.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from encoder.clips import ClipPlan, LastClip, plan_clips
from encoder.container.facts import Joined, VideoFacts
from encoder.picture import Crop, reduced, square
from encoder.video.probe import open_video, rotation_of, shown_frames, video_stream
from encoder.video.sandbox import short_of_memory
from index.errors import VideoRefused
from index.records import CLIP_SECONDS

# What decord reads frame for frame as PyAV does (docs/decoding.md has the table); for HEVC, MPEG-PS, MPEG-TS,
# interlaced MPEG-2, ASF and edit lists it returns other frames without a word.
_FAST = frozenset({("mov", "h264"), ("mov", "mpeg4"), ("mov", "mjpeg"), ("matroska", "h264"), ("matroska", "vp9")})

_MOST_FRAMES = 200_000
"""Two hours: decord keeps about 1.5 KB of each frame that it has read."""


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """Frames of one clip.

    Attributes:
        plan: which clip and which frames.
        frames: (T, S, S, 3) RGB.
        reader: `decord` or `pyav`.
    """

    plan: ClipPlan
    frames: NDArray[np.uint8]
    reader: str


def decode_clips(
    path: Path,
    facts: VideoFacts,
    num_frames: int,
    size: int,
    crop: Crop | None = None,
    complaints: Callable[[], int] = lambda: 0,
    *,
    stride_s: float = CLIP_SECONDS,
    last_clip: LastClip = LastClip.OVERLAPPING,
    skip: int = 0,
    quick: bool = True,
) -> Iterator[DecodedClip]:
    """Read every clip of a video, in order.

    Args:
        path: the video file.
        facts: what `probe` found.
        num_frames: T.
        size: S.
        crop: fixed part of the picture to use.
        complaints: bytes FFmpeg has written to stderr so far.
        stride_s: see `plan_clips`.
        last_clip: see `plan_clips`.
        skip: how many clips are left out at the beginning.
        quick: whether a reader may be tried first that is faster and less strict.

    Raises:
        VideoRefused: If the file is damaged; clips yielded before are whole.
    """
    plans = plan_clips(facts.timeline, num_frames, stride_s, last_clip)[skip:]
    squared = _Squarer(facts, size, crop)
    first = plans[0].frame_numbers[0] if skip and plans else 0
    read = 0
    for clip in _quickly(path, facts, plans, squared, complaints, first) if quick else ():
        yield clip
        read += 1
    if read < len(plans):
        yield from _read_pyav(path, facts, plans[read:], squared, first)
    if facts.damage:
        raise VideoRefused(facts.damage, damaged=True)


def first_picture(path: Path, facts: VideoFacts) -> NDArray[np.uint8]:
    """The first frame that is shown, (H, W, 3) RGB, as `crop` counts its pixels.

    Raises:
        VideoRefused: If it can't be decoded.
    """
    frames = frames_of(path, facts)
    try:
        return _upright(next(frames)[1], facts)
    finally:
        frames.close()


def reads_fast(facts: VideoFacts) -> bool:
    """Whether decord is known to read this kind of file right."""
    return (
        (facts.demuxer, facts.codec) in _FAST
        and facts.whole
        and facts.timeline.has_constant_rate()
        and facts.timeline.ticks[0] == 0
        and facts.alone
        and len(facts.timeline.ticks) <= _MOST_FRAMES
        and not facts.hides_frames
        and not facts.in_fields
        and not facts.damage
    )


def may_skip(facts: VideoFacts) -> bool:
    """Whether frames that are not needed and that no other builds on can be left undecoded, and the rest told apart.

    In H.264 each picture says whether others build on it; the timestamps tell which were left out.
    """
    whole = not (facts.hides_frames or facts.in_fields or facts.damage)
    return facts.codec == "h264" and facts.exact_clock and whole and facts.joined is None


class _Squarer:
    """Pictures and frames of one video to squares.

    Attributes:
        reduced: how a whole frame is resized; None where that does not pay.
    """

    def __init__(self, facts: VideoFacts, size: int, crop: Crop | None) -> None:
        self._facts, self._size, self._crop = facts, size, crop
        self._turned = facts.rotation % 180 != 0
        self._aspect = 1 / facts.pixel_aspect if self._turned else facts.pixel_aspect
        width, height = (facts.height, facts.width) if self._turned else (facts.width, facts.height)
        self.reduced = reduced(width, height, size, self._aspect, crop)
        self._reformatter = VideoReformatter()

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square of an upright RGB picture."""
        return square(picture, self._size, self._aspect, self._crop)

    def of_frame(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The square of a frame as it was decoded."""
        to = self.reduced
        if to is None:
            return self(_upright(frame, self._facts))
        width, height = (to.height, to.width) if self._turned else (to.width, to.height)
        # Swscale makes four bytes a pixel faster than three, and nearer to what Pillow gives: whole chroma, not half.
        small = self._reformatter.reformat(frame, width, height, "rgba", interpolation="BILINEAR", threads=1)
        return to.cut(np.rot90(small.to_ndarray(), self._facts.rotation // 90))


def _quickly(
    path: Path,
    facts: VideoFacts,
    plans: Sequence[ClipPlan],
    squared: _Squarer,
    complaints: Callable[[], int],
    first: int,
) -> Iterator[DecodedClip]:
    """The leading clips that a quick way reads without trouble; what is wrong, if anything, is not said."""
    if reads_fast(facts) and squared.reduced is None:
        from encoder.video.decord_reader import read_decord

        frames = read_decord(path, facts, plans, squared, complaints)
        yield from (DecodedClip(plan, pictures, "decord") for plan, pictures in zip(plans, frames, strict=False))
    elif may_skip(facts):
        with suppress(VideoRefused):
            yield from _read_pyav(path, facts, plans, squared, first, skip=True)


def _read_pyav(
    path: Path, facts: VideoFacts, plans: Sequence[ClipPlan], squared: _Squarer, first: int = 0, *, skip: bool = False
) -> Iterator[DecodedClip]:
    """Clips as FFmpeg decodes them in order, from one frame on; stops at the first damage."""
    if first:
        facts = facts.from_frame(first)
        plans = [replace(plan, frame_numbers=tuple(n - first for n in plan.frame_numbers)) for plan in plans]
    # A clip is whole when the last frame it shows has been decoded, which may lie beyond its last sample.
    waiting = deque((plan, _last_number(facts, plan)) for plan in plans)
    wanted = {number for plan in plans for number in plan.frame_numbers}
    needed = wanted.union(last for _, last in waiting) if skip else None
    pictures: dict[int, NDArray[np.uint8]] = {}
    for number, frame in frames_of(path, facts, needed):
        if number in wanted:
            pictures[number] = squared.of_frame(frame)
        while waiting and number >= waiting[0][1]:
            plan, _ = waiting.popleft()
            yield DecodedClip(plan, np.stack([pictures[n] for n in plan.frame_numbers]), "pyav")
            # The next clip may begin with what this one ends with, or before.
            first = waiting[0][0].frame_numbers[0] if waiting else number
            pictures = {n: kept for n, kept in pictures.items() if n >= first}


def _upright(frame: av.VideoFrame, facts: VideoFacts) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = np.rot90(frame.to_ndarray(format="rgb24"), facts.rotation // 90)
    return picture


def _last_number(facts: VideoFacts, plan: ClipPlan) -> int:
    start = plan.start_s + plan.valid_seconds
    ticks = facts.timeline.ticks
    last = bisect_left(ticks, float(facts.timeline.zero) + start / float(facts.timeline.time_base)) - 1
    return max(last, plan.frame_numbers[-1])


class _Picture:
    """What must stay as it is in a video, because boxes and crops are in pixels of its first frame."""

    def __init__(self, facts: VideoFacts) -> None:
        self._size, self._rotation = (facts.width, facts.height), facts.rotation
        self._aspect: Fraction | None = None

    def changed_in(self, frame: av.VideoFrame, stream: av.video.stream.VideoStream) -> str:
        """What is different in a frame, or empty."""
        size = (frame.width, frame.height)
        if size != self._size:
            return f"the picture changes from {self._size[0]} x {self._size[1]} to {size[0]} x {size[1]} pixels"
        if (rotation := rotation_of(frame)) != self._rotation:
            return f"the picture is turned by {(rotation - self._rotation) % 360} degrees"
        aspect = Fraction(stream.codec_context.sample_aspect_ratio or 1)
        if aspect != (self._aspect or aspect):
            return f"the pixels change their shape from {self._aspect} to {aspect}"
        self._aspect = self._aspect or aspect
        return ""


_Shown = Iterator[tuple[av.VideoFrame, av.video.stream.VideoStream]]
_INDEXED = frozenset({"mov", "matroska"})
"""Containers with an index of their key frames."""


def _shown(path: Path, facts: VideoFacts, times: Set[int] | None) -> _Shown:
    """Frames from the first of a segment, or of the whole film, on to the end of the file.

    Decoding begins at the key frame before the segment. Where there is no index, or what it leads to is not what it
    should be, it begins at the first frame of the file.
    """
    told_by_time = facts.exact_clock and not (facts.hides_frames or facts.in_fields)
    if facts.first_frame and told_by_time and facts.demuxer in _INDEXED:
        frames = _from_key_frame(path, facts, times)
        try:
            first = next(frames, None)
        except MemoryError:  # one of FFmpeg's errors too, and no reason to try again
            raise
        except av.error.FFmpegError:
            first = None
        if first is not None:
            yield first
            yield from frames
            return
    start = facts.timeline.ticks[0]
    with open_video(path, facts.demuxer) as container:
        stream = video_stream(container, facts.track)
        for number, frame in enumerate(shown_frames(container, stream, facts.demuxer, times)):
            if number >= facts.first_frame or (told_by_time and frame.pts is not None and frame.pts >= start):
                yield frame, stream


def _from_key_frame(path: Path, facts: VideoFacts, times: Set[int] | None) -> _Shown:
    """The same by the index; nothing where that leads behind the first frame, or to one that is incomplete."""
    start, arrived = facts.timeline.ticks[0], False
    with open_video(path, facts.demuxer) as container:
        stream = video_stream(container, facts.track)
        container.seek(start, stream=stream)
        for frame in shown_frames(container, stream, facts.demuxer, times):
            if not arrived:
                if frame.pts is None or frame.is_corrupt or frame.pts > start:
                    return
                arrived = frame.pts == start
            if arrived:
                yield frame, stream


def frames_of(path: Path, facts: VideoFacts, needed: Set[int] | None = None) -> Generator[tuple[int, av.VideoFrame]]:
    """Every shown frame and its number, in order; with `needed`, those at least and what they build on.

    Of a segment, its own frames alone; of a video in two files, those of both.

    Raises:
        VideoRefused: If a frame is damaged, missing, or not the one whose turn it is.
        MemoryError: If that may be because this process has reached its limit of memory.
    """
    if facts.joined is not None:
        yield from _frames_of_both(path, facts.joined)
        return
    ticks, time_base = facts.timeline.ticks, facts.timeline.time_base
    times = None if needed is None else {ticks[0], *(ticks[n] for n in needed)}
    number = 0

    def left_out() -> bool:
        return needed is not None and number < len(ticks) and number not in needed

    picture = _Picture(facts)

    def damage(what: str) -> VideoRefused:
        if short_of_memory():
            raise MemoryError
        at = ticks[min(number, len(ticks) - 1)] - facts.timeline.zero
        return VideoRefused(f"{what} about {float(at * time_base):.1f} s in", damaged=True)

    try:
        for frame, stream in _shown(path, facts, times):
            while left_out() and frame.pts != ticks[number]:
                number += 1
            if number == len(ticks) and (facts.damage or not facts.to_end):
                return  # what is beyond the damage, or the segment, was not planned
            if frame.is_corrupt:
                raise damage("damaged picture data")
            if number >= len(ticks) or (facts.exact_clock and frame.pts != ticks[number]):
                raise damage("frames are missing or out of order")
            if changed := picture.changed_in(frame, stream):
                raise damage(changed)
            yield number, frame
            number += 1
    except MemoryError:  # one of FFmpeg's errors too, and no damage
        raise
    except av.error.FFmpegError:
        raise damage("damaged picture data") from None
    while left_out():
        number += 1
    if number < len(ticks):
        raise VideoRefused(
            facts.damage or f"damaged file: {number} of {len(ticks)} frames can be decoded", damaged=True
        )


def _frames_of_both(path: Path, joined: Joined) -> Generator[tuple[int, av.VideoFrame]]:
    """Frames of both files of a video, numbered through."""
    before = 0
    if joined.first is not None:
        yield from frames_of(path, joined.first)
        before = len(joined.first.timeline.ticks)
    for number, frame in frames_of(joined.path, joined.then):
        yield before + number, frame
