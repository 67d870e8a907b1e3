"""The first look at a video file, before anything of it is decoded: what it is, and when each frame is shown.

The container is decided by the first bytes and then forced on the demuxer, so that a playlist or a script with a
video's name can't make FFmpeg open another file or an address. Only containers and codecs that hospitals export
are allowed; everything else in FFmpeg stays out of reach.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
import numpy as np

from encoder.clips import MAX_SECONDS, Segment, Timeline
from encoder.container.facts import VideoFacts
from encoder.container.kinds import HEAD_BYTES, demuxer_of
from encoder.container.survey import (
    CORRUPT,
    HIDDEN,
    KEY,
    OUT_OF_ORDER,
    SECOND_FIELD,
    WITHOUT_PTS,
    Packets,
    Survey,
    codec_of,
    doubtful_spans,
    survey_of,
)
from encoder.container.tracks import CODECS, chosen
from encoder.container.wholeness import cut_short
from index.errors import VideoRefused

MAX_PIXELS = 4096 * 2304
"""Largest picture, width times height: 4K."""
MAX_SIDE = 8192
_BEGIN_ANYWHERE = frozenset({"mpegts", "mpeg"})
"""Containers that a recorder may cut at any packet: what can't be shown before the first key frame is no damage."""
CUT_TOLERANCE_S = 1.0
"""How much less picture than declared is still taken for rounding rather than for a cut file."""

# PyAV must never print: FFmpeg's messages hold file names and bytes of the file.
av.logging.set_level(av.logging.PANIC)


def probe(
    path: Path,
    track: int | None = None,
    max_seconds: float = MAX_SECONDS,
) -> VideoFacts:
    """Look at a whole video, see `look_through`, up to where it can no longer be trusted."""
    return look_through(path, track).part(Segment(), max_seconds)


def look_through(path: Path, track: int | None = None, alive: Callable[[], None] = lambda: None) -> VideoFacts:
    """Look at a file: demux it all, decode its first frame.

    Args:
        path: the video file.
        track: number of the film's track, where the manifest gives one.
        alive: called from time to time.

    Raises:
        VideoRefused: If it is not a video on the allow-list, too large, or without a usable clock; or nothing
            says which of several tracks is the film.
    """
    with path.open("rb") as stream:
        demuxer = demuxer_of(stream.read(HEAD_BYTES))
    try:
        with open_video(path, demuxer) as container:
            survey = survey_of(container, alive)
            film = chosen([packets.track() for packets in survey.tracks.values()], track)
            first = _first_frame(path, demuxer, film.number)
            return _facts(path, container, demuxer, survey, film.number, first)
    except MemoryError:  # one of FFmpeg's errors too, and nothing is wrong with the file; so below
        raise
    except av.error.FFmpegError as error:
        raise VideoRefused(_unreadable(error)) from None


def open_video(path: Path, demuxer: str) -> av.container.InputContainer:
    """Open a local file with one demuxer and no other, and with no protocol but `file`."""
    options = {"protocol_whitelist": "file", "err_detect": "explode"}
    # Titles and comments are not always UTF-8, and none of them is used.
    return av.open(str(path), format=demuxer, options=options, metadata_errors="replace")


def video_stream(container: av.container.InputContainer, track: int) -> av.video.stream.VideoStream:
    """The stream of a track, its codec and size checked.

    Raises:
        VideoRefused: If it is gone, or outside the limits.
    """
    stream = next((s for s in container.streams.video if s.index == track), None)
    if stream is None or codec_of(stream) not in CODECS:
        raise VideoRefused("no video stream")
    context = stream.codec_context
    width, height = context.width, context.height
    if width <= 0 or height <= 0:
        raise VideoRefused("the header gives no picture size: the file is cut or damaged")
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise VideoRefused(
            f"picture of {width} x {height} pixels: more than {MAX_PIXELS / 1e6:.1f} megapixels or {MAX_SIDE} a side"
        )
    context.thread_count = 1
    context.options = {"err_detect": "explode"}
    return stream


def shown_frames(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    demuxer: str,
    times: Set[int] | None = None,
) -> Iterator[av.VideoFrame]:
    """Every frame that can be shown, in order.

    Args:
        container: an open container.
        stream: of the film, see `video_stream`.
        demuxer: name of the container.
        times: timestamps of the frames that are needed; of the others, those that no frame builds on are left out.

    Raises:
        av.error.FFmpegError: If there is damage, but for the pieces at the beginning of a stream cut anywhere.
    """
    begun = demuxer not in _BEGIN_ANYWHERE
    for packet in container.demux(stream):
        if times is not None:
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if begun:
                raise
            continue
        for frame in frames:
            begun = begun or not frame.is_corrupt
            if begun:
                yield frame


def _unreadable(error: av.error.FFmpegError) -> str:
    if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return "cut or damaged file: its header or index is missing or can't be read"
    return f"can't be read: {type(error).__name__}"


@dataclass(frozen=True, slots=True)
class _First:
    """The first frame that can be decoded."""

    rotation: int
    time: int | None
    width: int
    height: int


def _first_frame(path: Path, demuxer: str, track: int) -> _First | None:
    """What the first frame that can be decoded is like; None when none can.

    A recording that begins in mid-stream has packets before it whose pictures can't be shown.
    """
    with open_video(path, demuxer) as container:
        try:
            frame = next(shown_frames(container, video_stream(container, track), demuxer), None)
        except MemoryError:
            raise
        except av.error.FFmpegError:
            return None
        return None if frame is None else _First(rotation_of(frame), frame.pts, frame.width, frame.height)


def rotation_of(frame: av.VideoFrame) -> int:
    """Degrees counter-clockwise that a player turns a frame; a multiple of 90.

    Raises:
        VideoRefused: If the frame is to be mirrored, or turned by another angle.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32, 9).tolist()
    if not (a or b or c or d):
        return 0  # no matrix at all
    if a != d or b != -c or (a and b):
        raise VideoRefused("the picture is to be mirrored, or turned by an angle that is no multiple of 90 degrees")
    return round(frame.rotation / 90) * 90 % 360


def _facts(
    path: Path,
    container: av.container.InputContainer,
    demuxer: str,
    survey: Survey,
    track: int,
    first: _First | None,
) -> VideoFacts:
    stream, packets = video_stream(container, track), survey.tracks[track]
    if stream.time_base is None:
        raise VideoRefused("the video stream has no clock")
    if packets.trouble:
        raise VideoRefused(packets.trouble)
    times = np.frombuffer(packets.times, np.int64) if packets.times else np.zeros(0, np.int64)
    marks = np.frombuffer(packets.marks, np.uint8)
    own = marks & SECOND_FIELD == 0
    # AVI has no presentation times: FFmpeg shows decoding times.
    exact_clock = demuxer != "avi" and not (marks[own] & WITHOUT_PTS).any()
    before = np.zeros(len(times), np.bool_)
    if first is not None and first.time is not None and exact_clock:
        before = times < first.time
    hidden = own & ((marks & HIDDEN != 0) | ((times < 0) & (demuxer == "mov")))
    incomplete = np.flatnonzero((marks & CORRUPT != 0) & ~before)
    damage = f"cut or damaged file: packet {incomplete[0] + 1} is incomplete" if len(incomplete) else survey.damage
    ticks = array("q", np.sort(times[own & ~hidden & ~before]).tobytes())
    timeline = Timeline(ticks, Fraction(stream.time_base))
    misplaced = np.flatnonzero((marks & OUT_OF_ORDER != 0) & ~before)
    if codec_of(stream) != "h264" and 100 * len(misplaced) > len(times):
        misplaced = misplaced[:0]  # an encoder that does not keep the order of its clock, rather than pictures lost
    keys = np.flatnonzero(marks & KEY) if exact_clock else misplaced[:0]  # else frames are counted from the first
    return VideoFacts(
        demuxer=demuxer,
        track=track,
        alone=len(survey.tracks) == 1,
        codec=codec_of(stream),
        width=first.width if first else stream.codec_context.width,
        height=first.height if first else stream.codec_context.height,
        pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
        rotation=first.rotation if first else 0,
        timeline=timeline,
        hides_frames=bool(hidden.any()),
        exact_clock=exact_clock,
        in_fields=not own.all(),
        damage=damage
        or _declared_more(container, demuxer, survey, packets, timeline.usual_gap_s)
        or cut_short(path, demuxer),
        misplaced=doubtful_spans(misplaced, keys, times),
        incomplete=doubtful_spans(incomplete, keys, times),
    )


def _declared_more(
    container: av.container.InputContainer, demuxer: str, survey: Survey, packets: Packets, usual_s: float
) -> str:
    """Why the file holds less than its header declares, or empty."""
    # An MPEG stream declares no length (FFmpeg derives one from the data), so only these containers can fall short.
    if demuxer not in {"mov", "matroska", "avi", "asf", "flv"}:
        return ""
    # Some count a length from zero, others from the first picture: what is there is taken by the larger of the two.
    lengths = []
    if container.duration is not None:
        start_s = (container.start_time or 0) / av.time_base
        lengths.append((container.duration / av.time_base, survey.last_end_s - min(start_s, 0.0)))
    stream = packets.stream
    if demuxer == "mov" and stream.duration is not None and stream.time_base is not None and packets.end is not None:
        first = min(packets.times)
        lengths.append(
            (float(stream.duration * stream.time_base), float((packets.end - min(first, 0)) * stream.time_base))
        )
    # The last picture may have no length of its own.
    tolerance_s = max(CUT_TOLERANCE_S, 2 * usual_s)
    for declared_s, found_s in lengths:
        if declared_s - found_s > tolerance_s:
            return f"cut file: the header declares {declared_s:.1f} s, {found_s:.1f} s are there"
    return ""
