"""One pass over all packets of a file: when each is shown, how it is marked, and how those of a track fit together."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.stream import Disposition

from encoder.clips import MAX_SECONDS
from encoder.container.h264 import H264, Coded
from encoder.container.mpeg import GroupOrder, VopOrder
from encoder.container.tracks import Track
from index.errors import VideoRefused

CORRUPT, HIDDEN, WITHOUT_PTS, SECOND_FIELD, OUT_OF_ORDER, KEY = 1, 2, 4, 8, 16, 32
"""Marks of a packet: incomplete; not to be shown; told by its decoding time; a key frame; see `Coded` for the rest."""
Span = tuple[int, int | None]
"""From one timestamp to another; None for the end of the file."""
_MOST_SPANS = 100
MAX_FRAMES = MAX_SECONDS * 120
"""Most packets of one track, with two fields to a picture and 60 pictures a second."""
UNKNOWN = "unknown"
_ALIVE_PACKETS = 50_000
_BESIDE = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(slots=True)
class Packets:
    """What the packets of one video track say.

    Attributes:
        stream: number of the track's stream.
        times: presentation times, decoding times where those are missing; in decoding order.
        marks: marks of each packet.
        end: latest end of a packet, in the time base.
        trouble: why its clock can't be trusted, or empty.
    """

    stream: av.video.stream.VideoStream
    times: array[int] = field(default_factory=lambda: array("q"))
    marks: bytearray = field(default_factory=bytearray)
    end: int | None = None
    trouble: str = ""
    last_dts: int | None = None
    begun: bool = False
    look: Callable[[bytes], Coded] | None = None

    def add(self, packet: av.Packet[Any]) -> None:
        """Take in the next packet.

        Raises:
            VideoRefused: If there are more than a day of video has.
        """
        time = packet.pts if packet.pts is not None else packet.dts
        coded = Coded() if self.look is None else self.look(bytes(packet))
        if time is None and not coded.second_field:
            self.trouble = self.trouble or "a frame has no timestamp: the file's clock can't be trusted"
        self.begun = self.begun or packet.is_keyframe
        if packet.dts is not None and self.begun:  # before the first whole picture times are guesses
            if self.last_dts is not None and packet.dts < self.last_dts:
                self.trouble = self.trouble or "the clock runs backwards: are these several recordings in one file?"
            self.last_dts = packet.dts
        if len(self.times) == MAX_FRAMES:
            raise VideoRefused(f"more than {MAX_FRAMES} frames in one file")
        marks = CORRUPT * packet.is_corrupt | HIDDEN * packet.is_discard
        marks |= WITHOUT_PTS * (packet.pts is None) | KEY * packet.is_keyframe
        marks |= SECOND_FIELD * coded.second_field | OUT_OF_ORDER * coded.out_of_order
        self.times.append(time or 0)
        self.marks.append(marks)

    def track(self) -> Track:
        """The track as a whole."""
        stream = self.stream
        seconds = Fraction(0)
        if self.times and stream.time_base:
            seconds = (max(self.times) - min(self.times)) * Fraction(stream.time_base)
        codec = codec_of(stream)
        size = (stream.codec_context.width, stream.codec_context.height) if codec != UNKNOWN else (0, 0)
        second = int((np.frombuffer(self.marks, np.uint8) & SECOND_FIELD != 0).sum())
        beside = bool(stream.disposition & _BESIDE)
        return Track(stream.index, codec, *size, len(self.times) - second, seconds, beside)


@dataclass(slots=True)
class Survey:
    """Every packet of a file.

    Attributes:
        tracks: what those of each video track say, by the track's number.
        last_end_s: latest end of a packet of any track.
        damage: why reading stopped early, or empty.
    """

    tracks: dict[int, Packets]
    last_end_s: float = 0.0
    damage: str = ""


def survey_of(container: av.container.InputContainer, alive: Callable[[], None]) -> Survey:
    """Look through a file that has just been opened.

    Args:
        container: an open container.
        alive: called from time to time.

    Raises:
        VideoRefused: If a track has more packets than a day of video.
    """
    survey = Survey({stream.index: Packets(stream, look=_looks_at(stream)) for stream in container.streams.video})
    count = 0
    try:
        for packet in container.demux():
            track = survey.tracks.get(packet.stream.index)
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and packet.time_base is not None:  # also of an empty one, which repeats a picture
                end = time + (packet.duration or 0)
                survey.last_end_s = max(survey.last_end_s, float(end * packet.time_base))
                if track is not None:
                    track.end = end if track.end is None else max(track.end, end)
            if packet.size == 0:
                continue
            count += 1
            if count % _ALIVE_PACKETS == 0:
                alive()
            if track is not None:
                track.add(packet)
    except MemoryError:
        raise
    except av.error.FFmpegError:
        survey.damage = f"cut or damaged file: reading stops after {count} packets"
    return survey


def doubtful_spans(
    faults: npt.NDArray[np.intp], keys: npt.NDArray[np.intp], times: npt.NDArray[np.int64]
) -> tuple[Span, ...]:
    """Between which timestamps pictures may be built on others than they should be.

    It ends with the second key frame after the fault: where pictures are refreshed bit by bit, the first only begins
    to.

    Args:
        faults: numbers of packets, in decoding order.
        keys: numbers of the packets that hold key frames.
        times: timestamps of all packets.
    """
    spans: list[Span] = []
    past = 0
    for fault in faults.tolist():
        if fault < past:
            continue
        place = int(keys.searchsorted(fault, side="right")) + 1
        past = int(keys[place]) if place < len(keys) and len(spans) < _MOST_SPANS else len(times)
        spans.append((int(times[fault:].min()), int(times[past]) if past < len(times) else None))
    return tuple(spans)


def codec_of(stream: av.video.stream.VideoStream) -> str:
    """FFmpeg's canonical name of a stream's codec; `UNKNOWN` where it has no decoder for it."""
    context: av.VideoCodecContext | None = stream.codec_context
    # `context.name` would be that of whichever decoder FFmpeg chose for it.
    return UNKNOWN if context is None else context.codec.canonical_name


def _looks_at(stream: av.video.stream.VideoStream) -> Callable[[bytes], Coded] | None:
    """What reads how the packets of a stream stand to each other, where its codec says that."""
    codec = codec_of(stream)
    header = b"" if codec == UNKNOWN else stream.codec_context.extradata or b""
    match codec:
        case "h264":
            return H264(header).look
        case "mpeg1video" | "mpeg2video":
            groups = GroupOrder()
            return lambda packet: Coded(out_of_order=groups.is_misplaced(packet))
        case "mpeg4":
            vops = VopOrder(header)
            return lambda packet: Coded(out_of_order=vops.is_misplaced(packet))
    return None
