"""A small copy of a video to look at, and thumbnails of its clips; made in a decoding child (`encoder.video.worker`).

Frame n of a preview is what the video shows n / fps seconds after its first frame, so that times in a preview are
times in clips. There is no sound in it, and nothing of the file but its pictures.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from encoder.clips import MIN_CLIP_SECONDS, Timeline
from encoder.container.facts import VideoFacts
from encoder.video.frames import frames_of
from index.errors import VideoRefused
from index.records import CLIP_SECONDS

LONG_SIDE = 480
THUMBNAILS, THUMBNAIL_WIDTH = 5, 112
"""Thumbnails a clip, side by side in one picture, and the width of each in pixels."""
_LEAST_FPS, _MOST_FPS = 5, 25
_H264 = {"preset": "veryfast", "crf": "27", "bf": "0"}
_JPEG_QUALITY = 70
_SDTV = {"dst_colorspace": Colorspace.ITU601, "dst_color_range": ColorRange.MPEG}
"""What players take a small film for that does not say what its colours are."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Thumbnails of ten seconds, JPEG; number 0 begins with the video."""

    clip_index: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Film:
    """The small video: MP4 with H.264 at a constant rate."""

    mp4: bytes
    fps: int
    width: int
    height: int
    seconds: float


def render(path: Path, facts: VideoFacts, alive: Callable[[], None]) -> Iterator[Strip | Film]:
    """Strips as their clips are read, then the film. Of a damaged file, what comes before the damage.

    Args:
        path: the video file.
        facts: what `probe` found.
        alive: called every second of video.

    Raises:
        VideoRefused: If no picture can be decoded.
    """
    shrink = _Shrinker(facts)
    fps = _rate(facts)
    wanted: dict[int, list[tuple[int, int]]] = {}  # a slow video shows one frame in several places
    for index, place, number in _thumbnails(facts.timeline):
        wanted.setdefault(number, []).append((index, place))
    strips: dict[int, NDArray[np.uint8]] = {}
    file, shown = io.BytesIO(), 0
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=_H264)
        stream.width, stream.height, stream.pix_fmt = shrink.width, shrink.height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = fps
        try:
            for number, frame in frames_of(path, facts):
                until = _frames_until(facts, number, fps)
                places = wanted.get(number, ())
                if shown == until and not places:
                    continue  # of a faster video not every frame is shown
                small = shrink(frame)
                small.time_base = Fraction(1, fps)
                for shown in range(shown + 1, until + 1):  # noqa: B020  resumes where it was
                    small.pts = shown - 1
                    container.mux(stream.encode(small))
                    if shown % fps == 0:
                        alive()
                for index, place in places:
                    strips.setdefault(index, shrink.empty_strip())
                    shrink.put(strips[index], place, small)
                for done in [index for index in strips if index < _clip_of(facts, number)]:
                    yield Strip(done, _jpeg(strips.pop(done)))
        except VideoRefused as refused:
            if not (refused.damaged and shown):
                raise
        container.mux(stream.encode(None))
    for index, strip in strips.items():
        yield Strip(index, _jpeg(strip))
    yield Film(file.getvalue(), fps, shrink.width, shrink.height, shown / fps)


def _thumbnails(timeline: Timeline) -> Iterator[tuple[int, int, int]]:
    """Number of a strip, place in it, and the frame that is shown there: one every two seconds."""
    apart = Fraction(CLIP_SECONDS, THUMBNAILS)
    for index in range(int((timeline.duration - MIN_CLIP_SECONDS) // CLIP_SECONDS) + 1):
        for place in range(THUMBNAILS):
            at = index * CLIP_SECONDS + apart / 2 + place * apart
            if at < timeline.duration:
                yield index, place, timeline.frame_at(at)


class _Shrinker:
    """Frames of one video to upright ones of the preview's size, as H.264 has them: no detour by RGB."""

    def __init__(self, facts: VideoFacts) -> None:
        self._turns = facts.rotation // 90
        shown_width, shown_height = float(facts.width * facts.pixel_aspect), float(facts.height)
        scale = min(LONG_SIDE / max(shown_width, shown_height), 1.0)
        across, down = _even(shown_width * scale), _even(shown_height * scale)
        self._across, self._down = across, down
        self.width, self.height = (down, across) if self._turns % 2 else (across, down)
        self._thumbnail_height = max(round(THUMBNAIL_WIDTH * self.height / self.width), 1)
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        turned = self._turns != 0
        small = self._reformatter.reformat(
            frame,
            self._across,
            self._down,
            "rgb24" if turned else "yuv420p",
            interpolation="AREA",
            threads=1,
            **({} if turned else _SDTV),
        )
        if not turned:
            return small
        picture = np.asarray(small.to_ndarray(), np.uint8)
        upright = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture, self._turns)), "rgb24")
        return self._reformatter.reformat(upright, format="yuv420p", threads=1, **_SDTV)

    def empty_strip(self) -> NDArray[np.uint8]:
        return np.zeros((self._thumbnail_height, THUMBNAILS * THUMBNAIL_WIDTH, 3), np.uint8)

    def put(self, strip: NDArray[np.uint8], place: int, small: av.VideoFrame) -> None:
        picture = small.to_ndarray(format="rgb24", src_colorspace=Colorspace.ITU601, src_color_range=ColorRange.MPEG)
        size = (THUMBNAIL_WIDTH, self._thumbnail_height)
        left = place * THUMBNAIL_WIDTH
        strip[:, left : left + THUMBNAIL_WIDTH] = np.asarray(
            Image.fromarray(picture).resize(size, Image.Resampling.BOX)
        )


def _rate(facts: VideoFacts) -> int:
    """Frames a second: the video's own average, within bounds."""
    ticks = facts.timeline.ticks
    seconds = float((ticks[-1] - ticks[0]) * facts.timeline.time_base)
    own = (len(ticks) - 1) / seconds if seconds > 0 else _LEAST_FPS
    return min(max(round(own), _LEAST_FPS), _MOST_FPS)


def _frames_until(facts: VideoFacts, number: int, fps: int) -> int:
    """How many frames of the preview begin before the next frame of the video is shown, or the video ends."""
    timeline = facts.timeline
    last = number + 1 == len(timeline.ticks)
    end = timeline.duration if last else (timeline.ticks[number + 1] - timeline.zero) * timeline.time_base
    return -int(-Fraction(end) * fps // 1)  # rounded up


def _clip_of(facts: VideoFacts, number: int) -> int:
    at = max((facts.timeline.ticks[number] - facts.timeline.zero) * facts.timeline.time_base, Fraction(0))
    return int(at // CLIP_SECONDS)


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=_JPEG_QUALITY)
    return data.getvalue()


def _even(pixels: float) -> int:
    return max(2 * round(pixels / 2), 2)
