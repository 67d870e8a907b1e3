"""Cutting a video into clips, and choosing the frames of each: pure arithmetic on presentation timestamps.

Times are exact (integers of the stream's time base, fractions of seconds), because a frame at the border of two
clips must fall on the same side on every machine.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import VideoRefused
from index.records import CLIP_SECONDS

MAX_SECONDS = 48 * 3600
"""Longest video: two days, 17,280 clips."""
MIN_CLIP_SECONDS = 1
"""A clip with less picture than this is not made, nor one that shows less beyond the clip before it."""


class LastClip(StrEnum):
    """What becomes of the seconds at the end of a video that fill no clip. It belongs to the encoder, and to its id."""

    OVERLAPPING = "overlapping"
    """They end a clip of ten seconds that begins within the one before: nothing is seen in slow motion."""
    STRETCHED = "stretched"
    """They are a clip of their own, with as many frames as any other: so Semiome 0.3 and earlier made encoders."""


LEAST_STRIDE_S = 0.5
"""Clips begin no nearer to each other than this."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a file that is a video of its own.

    Attributes:
        start_s: where it begins, in seconds after the first frame of the file; at most three decimals.
        end_s: where it ends; None for the end of the file.
    """

    start_s: float = 0.0
    end_s: float | None = None

    def __str__(self) -> str:
        """The text that the store keeps: `from 12.5 to 80`, or empty for the whole file."""
        if self == Segment():
            return ""
        return f"from {self.start_s:.12g} to {'end' if self.end_s is None else format(self.end_s, '.12g')}"


@dataclass(frozen=True, slots=True)
class Continuation:
    """The file in which a video goes on: recorders begin a new one in the middle of a seizure.

    Attributes:
        path: the file.
        at_s: when its first frame was taken, in seconds after that of the file before.
    """

    path: Path
    at_s: float


@dataclass(frozen=True, slots=True)
class Source:
    """A video to decode.

    Attributes:
        path: the file.
        track: number of its track, where several are films.
        segment: the part of the file that is the video.
        stride_s: seconds from the beginning of one clip to that of the next, see `plan_clips`.
        last_clip: what the last clip is.
        then: where the video goes on, if it ends in another file; the segment's end is then in the first one's seconds.
    """

    path: Path
    track: int | None = None
    segment: Segment = Segment()
    stride_s: float = CLIP_SECONDS
    last_clip: LastClip = LastClip.OVERLAPPING
    then: Continuation | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The file, or both."""
        return (self.path,) if self.then is None else (self.path, self.then.path)


@dataclass(frozen=True, slots=True)
class Timeline:
    """When each shown frame of a video appears.

    Attributes:
        ticks: presentation timestamps in increasing order, in units of `time_base`; kept as an array, since a day has
            millions.
        time_base: seconds a tick.
        begin: the moment that times count from, in ticks; by default the first frame. A segment may begin while a frame
            is shown, which is then its first.
        end: the moment that the video ends, in ticks; by default when the last frame is no longer shown.
        gap: of a video in two files, when nothing was recorded between them, in seconds after the beginning; no clip
            reaches into it.
    """

    ticks: Sequence[int]
    time_base: Fraction
    begin: Fraction | None = None
    end: Fraction | None = None
    gap: tuple[Fraction, Fraction] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.ticks, array):
            object.__setattr__(self, "ticks", array("q", self.ticks))
        if not self.ticks:
            raise VideoRefused("no picture: the video stream holds no frame")
        if (self._gaps <= 0).any():
            raise VideoRefused("two frames carry the same timestamp: the file's clock can't be trusted")

    @property
    def zero(self) -> Fraction:
        """The moment that times count from, in ticks."""
        return Fraction(self.ticks[0]) if self.begin is None else self.begin

    @property
    def duration(self) -> Fraction:
        """Seconds from the beginning to the end of the last frame, or to where a segment ends.

        The last is shown as long as the one before it, or as most are where that one was left standing.
        """
        if self.end is not None:
            return (self.end - self.zero) * self.time_base
        if len(self.ticks) == 1:
            return Fraction(0)
        gaps, usual = self._gaps[-1:], self._usual
        shown_for = int(gaps[-1]) if gaps[-1] <= 2 * usual else usual
        return (self.ticks[-1] + shown_for - self.zero) * self.time_base

    @property
    def usual_gap_s(self) -> float:
        """Median time between two frames; 0 where there is one alone."""
        return float(self._usual * self.time_base) if len(self.ticks) > 1 else 0.0

    @property
    def _gaps(self) -> NDArray[np.int64]:
        gaps: NDArray[np.int64] = np.diff(np.frombuffer(self.ticks, np.int64))  # type: ignore[call-overload]
        return gaps

    @property
    def _usual(self) -> int:
        return int(np.median(self._gaps))

    def frame_at(self, time: Fraction) -> int:
        """Number of the frame shown `time` seconds after the beginning: the last one that has appeared by then."""
        tick = (self.zero + time / self.time_base) // 1
        return max(bisect_right(self.ticks, tick) - 1, 0)

    def shows_new_picture(self, start: Fraction, end: Fraction) -> bool:
        """Whether a frame appears at `start` seconds after the beginning, or later, and before `end`.

        The one that is shown as a segment begins counts as appearing then.
        """
        first = math.ceil(self.zero + start / self.time_base)
        number = 0 if start == 0 else bisect_left(self.ticks, first)
        return number < len(self.ticks) and (self.ticks[number] - self.zero) * self.time_base < end

    def gap_longer_than(self, seconds: float) -> tuple[Fraction, Fraction] | None:
        """The first time longer than this between two frames, or after the last: when it begins, and how long it is."""
        gaps = self._gaps
        if self.end is not None:
            gaps = np.append(gaps, math.floor(self.end) - self.ticks[-1])
        long = np.flatnonzero(gaps > math.floor(Fraction(seconds) / self.time_base))
        if not len(long):
            return None
        number = int(long[0])
        return (self.ticks[number] - self.zero) * self.time_base, int(gaps[number]) * self.time_base

    def segment(self, part: Segment) -> tuple[int, Timeline]:
        """The frames that are shown within a segment.

        Returns:
            The number of the first of them, and the timeline of all of them.

        Raises:
            VideoRefused: If the segment does not lie within the file.
        """
        start, duration = Fraction(str(part.start_s)), self.duration
        end = duration if part.end_s is None else Fraction(str(part.end_s))
        if start >= duration or end > duration + Fraction(self.usual_gap_s):
            where = f"{part} s" if part.end_s is not None else f"from {part.start_s:.12g} s on"
            raise VideoRefused(
                f"the segment {where} is not within the file, which holds {float(duration):.3f} s of picture: correct "
                "start_s or end_s"
            )
        first = self.frame_at(start)
        stop = bisect_left(self.ticks, self.zero + end / self.time_base)
        last_tick = None if part.end_s is None else self.zero + min(end, duration) / self.time_base
        return first, Timeline(self.ticks[first:stop], self.time_base, self.zero + start / self.time_base, last_tick)

    def until(self, end: Fraction) -> Timeline:
        """The frames that have appeared `end` seconds after the beginning."""
        return Timeline(self.ticks[: self.frame_at(end) + 1], self.time_base, self.begin)

    def has_constant_rate(self) -> bool:
        """Whether all frames are equally far apart, to within the rounding of the time base."""
        gaps = self._gaps
        return not len(gaps) or int(gaps.max() - gaps.min()) <= 1


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """One clip to be read: which frames of the file make it.

    Attributes:
        clip_index: number of the clip, from 0.
        start_s: from where the video or segment begins.
        valid_seconds: seconds of picture in it, [1, 10].
        frame_numbers: T frame numbers of the video or segment in presentation order, not decreasing; a slow video
            repeats some.
    """

    clip_index: int
    start_s: float
    valid_seconds: float
    frame_numbers: tuple[int, ...]


def plan_clips(
    timeline: Timeline,
    num_frames: int,
    stride_s: float = CLIP_SECONDS,
    last_clip: LastClip = LastClip.OVERLAPPING,
) -> tuple[ClipPlan, ...]:
    """Cut a video into clips and choose `num_frames` frames of each.

    The frames are those shown at the middles of `num_frames` equal parts of the clip's valid seconds: every clip
    is sampled over all of what exists of it, and no picture is invented for what does not.

    Args:
        timeline: the video's.
        num_frames: T.
        stride_s: seconds from the beginning of one clip to that of the next, [0.5, 10], at most three decimals.
        last_clip: what becomes of the rest of the video, if that is a second or more.

    Raises:
        VideoRefused: If the video is shorter than the least valid clip.
    """
    duration = timeline.duration
    if duration < MIN_CLIP_SECONDS:
        raise VideoRefused(
            f"{float(duration):.2f} s of picture: shorter than the least valid length of a clip ({MIN_CLIP_SECONDS} s)"
        )
    plans: list[ClipPlan] = []
    ends, begins = timeline.gap or (duration, duration)
    stride = Fraction(str(stride_s))
    pieces = ((Fraction(0), ends), (begins, duration))
    spans = ((zero + at for at in span) for zero, until in pieces for span in _spans(until - zero, stride, last_clip))
    for start, end, shown in spans:
        if not timeline.shows_new_picture(shown, end):
            break
        valid = end - start
        middles = (start + valid * (2 * i + 1) / (2 * num_frames) for i in range(num_frames))
        frames = tuple(timeline.frame_at(time) for time in middles)
        plans.append(ClipPlan(len(plans), round(float(start), 3), round(float(valid), 3), frames))
    return tuple(plans)


def _spans(duration: Fraction, stride: Fraction, last_clip: LastClip) -> Iterator[tuple[Fraction, Fraction, Fraction]]:
    """When each clip of a video begins and ends, and from when on it has to show a picture."""
    whole = max((duration - CLIP_SECONDS) // stride + 1, 0)
    for number in range(whole):
        yield stride * number, stride * number + CLIP_SECONDS, stride * number
    shown = stride * (whole - 1) + CLIP_SECONDS if whole else Fraction(0)
    if duration - shown >= MIN_CLIP_SECONDS:
        if last_clip is LastClip.STRETCHED:
            yield stride * whole, duration, stride * whole
        else:
            yield max(duration - CLIP_SECONDS, Fraction(0)), duration, shown
