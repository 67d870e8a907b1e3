"""What is known of a film before it is decoded, of a part of it, and of two files that one video is in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from encoder.clips import MAX_SECONDS, MIN_CLIP_SECONDS, Segment, Timeline
from encoder.container.survey import Span
from index.errors import VideoRefused
from index.records import CLIP_SECONDS

MAX_GAP_S = CLIP_SECONDS
"""Longest time between two pictures: a clip between them would show none of its own."""
LONGEST_PAUSE_S = 1.0
"""Longest time without a picture between two files that a clip may reach across."""


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a file says of its film, checked.

    Attributes:
        demuxer: FFmpeg's name of the container, forced whenever the file is opened.
        track: FFmpeg's number of the film's track.
        alone: no other video track is in the file.
        codec: FFmpeg's name of the codec.
        width: picture width in pixels, before rotation.
        height: picture height in pixels.
        pixel_aspect: width of a pixel over its height.
        rotation: degrees counter-clockwise that a player turns the picture; a multiple of 90.
        timeline: when each shown frame appears; up to the damage, where that is known.
        hides_frames: an edit list or a discard mark hides coded frames.
        exact_clock: every frame carries its own presentation timestamp, so that a decoded frame can be told by it.
        in_fields: some pictures are coded as two fields, each a packet.
        damage: why the file is known to be cut or broken, or empty.
        misplaced: where pictures are missing or out of order: spans of timestamps, from the first that may be wrong to
            one that is right again, None at the end of the file.
        incomplete: the same of packets that are known to be incomplete.
        first_frame: how many frames of the file come before the segment that this is about.
        to_end: whether it goes on to the end of the file.
        joined: the two files that it is in; None where it is in one.
    """

    demuxer: str
    track: int
    alone: bool
    codec: str
    width: int
    height: int
    pixel_aspect: Fraction
    rotation: int
    timeline: Timeline
    hides_frames: bool
    exact_clock: bool
    in_fields: bool
    damage: str
    misplaced: tuple[Span, ...] = ()
    incomplete: tuple[Span, ...] = ()
    first_frame: int = 0
    to_end: bool = True
    joined: Joined | None = None

    @property
    def whole(self) -> bool:
        """Whether this is about the whole of one file."""
        return self.first_frame == 0 and self.to_end and self.joined is None

    def part(self, segment: Segment, max_seconds: float = MAX_SECONDS) -> VideoFacts:
        """What the file says of a part of its film, up to where that can no longer be trusted.

        Damage before or behind the part does not count.

        Raises:
            VideoRefused: If it does not lie within the file, or is too long or damaged from its beginning.
        """
        first, timeline = self._within(segment)
        timeline, trouble = _up_to_trouble(timeline, self.misplaced)
        if timeline.duration > max_seconds:
            longest = f"{max_seconds / 3600:g} hours" if max_seconds >= 2 * 3600 else f"{max_seconds:g} seconds"
            raise VideoRefused(f"longer than {longest}: cut it into shorter videos")
        to_end = segment.end_s is None
        broken = any(
            start <= timeline.ticks[-1] and (end is None or timeline.ticks[0] < end) for start, end in self.incomplete
        )
        damage = trouble or (self.damage if to_end or broken else "")
        return replace(self, timeline=timeline, first_frame=first, to_end=to_end, damage=damage)

    def from_frame(self, number: int) -> VideoFacts:
        """The same without the frames before one; times count from where they did."""
        timeline, joined = self.timeline, self.joined and self.joined.from_frame(number)
        later = replace(timeline, ticks=timeline.ticks[number:], begin=timeline.zero)
        return replace(self, timeline=later, first_frame=self.first_frame + number, joined=joined)

    def _within(self, segment: Segment) -> tuple[int, Timeline]:
        if segment == Segment():
            return 0, self.timeline
        try:
            return self.timeline.segment(segment)
        except VideoRefused as refused:
            if not self.damage:
                raise
            raise VideoRefused(f"{refused}; {self.damage}", damaged=True) from None


@dataclass(frozen=True, slots=True)
class Joined:
    """A video in two files.

    Attributes:
        first: its part of the first file; None where nothing of that is wanted.
        path: the second file.
        then: its part of the second file.
    """

    first: VideoFacts | None
    path: Path
    then: VideoFacts

    def from_frame(self, number: int) -> Joined:
        """The same without the frames before one."""
        of_first = 0 if self.first is None else len(self.first.timeline.ticks)
        if self.first is not None and number < of_first:
            return replace(self, first=self.first.from_frame(number))
        return replace(self, first=None, then=self.then.from_frame(number - of_first))


def join(
    first: VideoFacts, then: VideoFacts, path: Path, at_s: float, segment: Segment, max_seconds: float = MAX_SECONDS
) -> VideoFacts:
    """What is known of a video that begins in one file and ends in another.

    Of what both show, the first file's pictures count.

    Args:
        first: all of the first file.
        then: all of the second.
        path: of the second.
        at_s: when the second begins, in seconds of the first.
        segment: the video, in seconds of the first.
        max_seconds: longest video.

    Raises:
        VideoRefused: If it does not reach into the second file, the pictures differ in shape, or one can't be trusted.
    """
    one = first.part(Segment(segment.start_s), max_seconds)
    if one.damage:
        return one
    ends, at = first.timeline.duration, Fraction(str(at_s))
    skipped = max(ends - at, Fraction(0))
    skipped = Fraction(-(-skipped * 1000 // 1), 1000)  # to the millisecond, as a segment is
    until = None if segment.end_s is None else float(Fraction(str(segment.end_s)) - at)
    if until is not None and until <= skipped:
        raise VideoRefused("the video ends before the file in which it continues begins: leave continues_in empty")
    shape = [(one.width, one.height, one.rotation, one.pixel_aspect) for one in (first, then)]
    if shape[0] != shape[1]:
        sizes = " and ".join(f"{one.width} x {one.height}" for one in (first, then))
        raise VideoRefused(f"the pictures of its two files differ, {sizes} pixels: give each file a row of its own")
    two = then.part(Segment(float(skipped), until), max_seconds)
    begins = at + skipped - Fraction(str(segment.start_s))  # of the second part, in seconds of the video
    times = [(tick - one.timeline.zero) * one.timeline.time_base for tick in one.timeline.ticks]
    times += (
        begins + max((tick - two.timeline.zero) * two.timeline.time_base, Fraction(0)) for tick in two.timeline.ticks
    )
    length = begins + two.timeline.duration
    unit = Fraction(1, math.lcm(*{time.denominator for time in (*times, length)}))
    interrupted = (ends - Fraction(str(segment.start_s)), begins)
    timeline = Timeline(
        [int(time / unit) for time in times],
        unit,
        Fraction(0),
        length / unit,
        interrupted if begins - interrupted[0] > LONGEST_PAUSE_S else None,
    )
    if timeline.duration > max_seconds:
        raise VideoRefused("its two parts together are too long: cut it into shorter videos")
    return replace(one, timeline=timeline, damage=two.damage, joined=Joined(one, path, two))


def _up_to_trouble(timeline: Timeline, misplaced: tuple[Span, ...]) -> tuple[Timeline, str]:
    """The part of a timeline before pictures are missing, and what is wrong there; all of it, and empty, if nothing.

    Args:
        timeline: of the part.
        misplaced: where pictures are missing or out of order.
    """
    troubles = []  # the last moment that can be trusted, and why
    if gap := timeline.gap_longer_than(MAX_GAP_S):
        start, length = gap
        why = "the clock jumps, or the recording was interrupted"
        troubles.append((start, f"no picture for {float(length):.1f} s, {float(start):.1f} s in: {why}"))
    for begins, ends in misplaced:
        if (timeline.end is None or begins < timeline.end) and (ends is None or timeline.ticks[0] < ends):
            first = max(begins - timeline.zero, Fraction(0))
            last = max(first - 1, Fraction(0)) * timeline.time_base
            at_s = float(first * timeline.time_base)
            troubles.append((last, f"pictures are missing or out of order about {at_s:.1f} s in"))
            break
    if not troubles:
        return timeline, ""
    start, trouble = min(troubles)
    shorter = timeline.until(start)
    if shorter.duration < MIN_CLIP_SECONDS:
        raise VideoRefused(trouble, damaged=True)
    return shorter, trouble
