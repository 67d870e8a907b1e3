"""The first look at a video file, before anything of it is decoded: what it is, and when each frame is shown.

The container is decided by the first bytes and then forced on the demuxer, so that a playlist or a script with a
video's name can't make FFmpeg open another file or an address. Only containers and codecs that hospitals export
are allowed; everything else in FFmpeg stays out of reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.logging

from encoder.clips import Timeline
from index.errors import VideoRefused

CODECS = frozenset(
    {
        "h264",
        "hevc",
        "mpeg4",
        "mjpeg",
        "mpeg2video",
        "mpeg1video",
        "vp8",
        "vp9",
        "av1",
        "wmv1",
        "wmv2",
        "wmv3",
        "vc1",
    }
    | {"msmpeg4v2", "msmpeg4v3", "dvvideo"}
)
MAX_PIXELS = 4096 * 2304
"""Largest picture, width times height: 4K."""
MAX_SIDE = 8192
MAX_FRAMES = 24 * 3600 * 60
"""Most frames in one file: a day at 60 a second."""
_BEGIN_ANYWHERE = frozenset({"mpegts", "mpeg"})
"""Containers that a recorder may cut at any packet: what can't be shown before the first key frame is no damage."""
CUT_TOLERANCE_S = 1.0
"""How much less picture than declared is still taken for rounding rather than for a cut file."""

_MATROSKA = b"\x1a\x45\xdf\xa3"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_PACK_HEADER = b"\x00\x00\x01\xba"
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_PLAYLISTS = (b"ffconcat", b"#EXTM3U", b"[playlist]", b"<?xml", b"<smil", b"<MPD")

# PyAV must never print: FFmpeg's messages hold file names and bytes of the file.
av.logging.set_level(av.logging.PANIC)


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a file says of its video stream, checked.

    Attributes:
        demuxer: FFmpeg's name of the container, forced whenever the file is opened.
        codec: FFmpeg's name of the codec.
        width: coded picture width in pixels, before rotation.
        height: coded picture height in pixels.
        pixel_aspect: width of a pixel over its height.
        rotation: degrees counter-clockwise that a player turns the picture; a multiple of 90.
        timeline: when each shown frame appears.
        hides_frames: an edit list or a discard mark hides coded frames.
        exact_clock: every frame carries its own presentation timestamp, so that a decoded frame can be told by it.
        damage: why the file is known to be cut or broken, or empty.
    """

    demuxer: str
    codec: str
    width: int
    height: int
    pixel_aspect: Fraction
    rotation: int
    timeline: Timeline
    hides_frames: bool
    exact_clock: bool
    damage: str


def demuxer_of(head: bytes) -> str:
    """FFmpeg's demuxer for a file that begins with these bytes (at least 1,024 where the file has them).

    Raises:
        VideoRefused: the bytes are of no container on the list.
    """
    if not head:
        raise VideoRefused("empty file")
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}:
        return "mov"
    if head.startswith(_MATROSKA):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith(_ASF):
        return "asf"
    if head.startswith(_PACK_HEADER):
        return "mpeg"
    for packet_size, offset in ((188, 0), (192, 4)):
        if len(head) > offset + 2 * packet_size and all(head[offset + i * packet_size] == 0x47 for i in range(3)):
            return "mpegts"
    if head.startswith(_IMAGES):
        raise VideoRefused("a still image, not a video")
    if head.lstrip().startswith(_PLAYLISTS):
        raise VideoRefused("a playlist, not a video: it would open other files or addresses")
    raise VideoRefused("not a media container: expected MP4, MOV, MKV, WebM, AVI, MPEG-PS, MPEG-TS, ASF or WMV")


def probe(path: Path) -> VideoFacts:
    """Look at a file: demux it all, decode its first frame.

    Raises:
        VideoRefused: it is not a video on the allow-list, too large, or without a usable clock.
    """
    with path.open("rb") as stream:
        demuxer = demuxer_of(stream.read(1024))
    try:
        with open_video(path, demuxer) as container:
            return _examine(container, demuxer, *_first_frame(path, demuxer))
    except MemoryError:  # one of FFmpeg's errors too, and nothing is wrong with the file; so below
        raise
    except av.error.FFmpegError as error:
        raise VideoRefused(_unreadable(error)) from None


def open_video(path: Path, demuxer: str) -> av.container.InputContainer:
    """Open a local file with one demuxer and no other, and with no protocol but `file`."""
    options = {"protocol_whitelist": "file", "err_detect": "explode"}
    # Titles and comments are not always UTF-8, and none of them is used.
    return av.open(str(path), format=demuxer, options=options, metadata_errors="replace")


def video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    """The video stream, its codec and size checked.

    Raises:
        VideoRefused: there is none, or it is outside the limits.
    """
    streams = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
    if not streams:
        raise VideoRefused("no video stream")
    stream = streams[0]
    context = stream.codec_context
    # The canonical name is the codec's; `context.name` is that of whichever decoder FFmpeg chose for it.
    name = "unknown" if context is None else context.codec.canonical_name
    if context is None or name not in CODECS:
        raise VideoRefused(f"codec {name} is not allowed: expected one of {', '.join(sorted(CODECS))}")
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
    container: av.container.InputContainer, demuxer: str, times: Set[int] | None = None
) -> Iterator[av.VideoFrame]:
    """Every frame that can be shown, in order.

    Args:
        container: open.
        demuxer: its name.
        times: timestamps of the frames that are needed; of the others, those that no frame builds on are left out.

    Raises:
        av.error.FFmpegError: at the first damage, but for the pieces at the beginning of a stream cut anywhere.
    """
    begun = demuxer not in _BEGIN_ANYWHERE
    stream = video_stream(container)
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
    if isinstance(error, av.error.InvalidDataError):
        return "cut or damaged file: its header or index is missing or can't be read"
    return f"can't be read: {type(error).__name__}"


def _first_frame(path: Path, demuxer: str) -> tuple[int, int | None]:
    """Rotation and timestamp of the first frame that can be decoded; 0 and None when none can.

    A recording that begins in mid-stream has packets before it whose pictures nobody can show.
    """
    with open_video(path, demuxer) as container:
        try:
            frame = next(shown_frames(container, demuxer), None)
        except MemoryError:
            raise
        except av.error.FFmpegError:
            return 0, None
        return (0, None) if frame is None else (round(frame.rotation / 90) * 90 % 360, frame.pts)


def _examine(
    container: av.container.InputContainer, demuxer: str, rotation: int, first_shown: int | None
) -> VideoFacts:
    stream = video_stream(container)
    if stream.time_base is None:
        raise VideoRefused("the video stream has no clock")
    shown: list[int] = []
    packets = hidden = 0
    exact_clock, last_dts = demuxer != "avi", None  # AVI has no presentation times: FFmpeg shows decoding times
    last_end_s = 0.0
    damage = ""
    try:
        for packet in container.demux():
            if packet.size == 0:
                continue
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None or packet.time_base is None:
                raise VideoRefused("a frame has no timestamp: the file's clock can't be trusted")
            last_end_s = max(last_end_s, float((time + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != stream.index:
                continue
            packets += 1
            exact_clock &= packet.pts is not None
            if packet.dts is not None:
                if last_dts is not None and packet.dts < last_dts:
                    raise VideoRefused("the clock runs backwards: are these several recordings in one file?")
                last_dts = packet.dts
            if packets > MAX_FRAMES:
                raise VideoRefused(f"more than {MAX_FRAMES} frames in one file")
            before = first_shown is not None and exact_clock and time < first_shown
            if packet.is_corrupt and not before:
                damage = damage or f"cut or damaged file: packet {packets} is incomplete"
            if packet.is_discard or (demuxer == "mov" and time < 0):
                hidden += 1
            elif not before:
                shown.append(time)
    except MemoryError:
        raise
    except av.error.FFmpegError:
        damage = damage or f"cut or damaged file: reading stops after {packets} frames"
    timeline = Timeline(tuple(sorted(shown)), Fraction(stream.time_base))
    return VideoFacts(
        demuxer=demuxer,
        codec=stream.codec_context.codec.canonical_name,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        pixel_aspect=Fraction(stream.sample_aspect_ratio or 1),
        rotation=rotation,
        timeline=timeline,
        hides_frames=hidden > 0,
        exact_clock=exact_clock,
        damage=damage or _cut(container, demuxer, last_end_s),
    )


def _cut(container: av.container.InputContainer, demuxer: str, last_end_s: float) -> str:
    """Why the file holds less than its header declares, or empty."""
    # An MPEG stream declares no length (FFmpeg derives one from the data), so only these containers can fall short.
    if demuxer in {"mov", "matroska", "avi", "asf"} and container.duration is not None:
        declared_s = container.duration / av.time_base
        start_s = (container.start_time or 0) / av.time_base
        if declared_s - (last_end_s - start_s) > CUT_TOLERANCE_S:
            return f"cut file: the header declares {declared_s:.1f} s, {last_end_s - start_s:.1f} s are there"
    return ""
