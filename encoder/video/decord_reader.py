"""The fast reader of whole pictures, for the files that `encoder.video.frames.reads_fast` names.

Imported only where it reads: a child that does without starts a tenth faster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.clips import ClipPlan
from encoder.container.facts import VideoFacts

# decord2 loads every library of NVIDIA's packages that it finds, half a gigabyte a process beside a torch for GPUs, and
# among them one that takes the place of BLAS and crashes torch. They are for reading on GPUs; it must not find them.
_loaded = {name: module for name, module in sys.modules.items() if name == "nvidia"}
sys.modules["nvidia"] = None  # type: ignore[assignment]  # keeps a package from being found
try:
    import decord
    import decord.logging
finally:
    del sys.modules["nvidia"]
    sys.modules.update(_loaded)

decord.logging.set_level(decord.logging.ERROR)
_HALF_A_FRAME = 0.5


def read_decord(
    path: Path,
    facts: VideoFacts,
    plans: Sequence[ClipPlan],
    squared: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    complaints: Callable[[], int],
) -> Iterator[NDArray[np.uint8]]:
    """Frames of as many leading clips as decord reads without a complaint, (T, S, S, 3) RGB each.

    Args:
        path: the video file.
        facts: what the demuxer found; where decord finds anything else, it reads nothing.
        plans: the clips and their frames.
        squared: makes a picture small.
        complaints: bytes FFmpeg has written to stderr so far.
    """
    wanted = {number for plan in plans for number in plan.frame_numbers}
    pictures: dict[int, NDArray[np.uint8]] = {}
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        if not _agrees(reader, facts):
            return
        shape = (facts.width, facts.height) if facts.rotation % 180 else (facts.height, facts.width)
        read = 0
        for plan, following in zip(plans, [*plans[1:], None], strict=True):
            # Frame by frame, because decord's seeking lands on wrong frames where a key frame is no fresh start
            # (open GOPs, intra refresh, MPEG-4 with B-frames), without a word; and so does its skipping of frames.
            while read <= plan.frame_numbers[-1]:
                picture = reader.next()
                if picture.shape != (*shape, 3):
                    return  # it gives four channels at some widths
                if read in wanted:
                    pictures[read] = squared(picture.asnumpy())
                read += 1
            if complaints():
                return
            yield np.stack([pictures[n] for n in plan.frame_numbers])
            first = read if following is None else following.frame_numbers[0]
            pictures = {n: kept for n, kept in pictures.items() if n >= first}
    except (decord.DECORDError, RuntimeError, StopIteration):
        return  # PyAV says what is wrong with it, or reads it


def _agrees(reader: decord.VideoReader, facts: VideoFacts) -> bool:
    """Whether decord finds as many frames as the demuxer did, beginning at the same time."""
    ticks, time_base = facts.timeline.ticks, facts.timeline.time_base
    if len(reader) != len(ticks):
        return False
    start_s = float(reader.get_frame_timestamp(0)[0])
    return abs(start_s - float(ticks[0] * time_base)) < _HALF_A_FRAME * float(facts.timeline.duration) / len(ticks)
