"""Writing H.264 MP4 files, and reading those that we wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from index.files.durable import write_atomically


def write_h264(
    path: Path, frames: Iterable[NDArray[np.uint8]], fps: int, width: int, height: int, preset: str = "veryfast"
) -> None:
    """Write (height, width, 3) RGB frames as constant-rate H.264 with the index in front; whole or not at all.

    Args:
        path: the MP4 file.
        frames: RGB.
        fps: frames a second.
        width: in pixels.
        height: in pixels.
        preset: x264's trade of time for size.
    """

    def write(temporary: Path) -> None:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"preset": preset, "crf": "24"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            stream.codec_context.gop_size = 2 * fps
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))

    write_atomically(path, write)


def own_pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    """(height, width, 3) RGB frames of a film that we made; what comes from elsewhere is decoded in a child instead."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
