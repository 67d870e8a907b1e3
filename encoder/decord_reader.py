"""The fast reader of whole pictures, for the files that `encoder.decode.reads_fast` names.

Imported only where it reads: a child that does without starts a tenth faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import decord
import decord.logging
import numpy as np
from numpy.typing import NDArray

from encoder.clips import ClipPlan

decord.logging.set_level(decord.logging.ERROR)


def read_decord(
    path: Path,
    frame_count: int,
    plans: Sequence[ClipPlan],
    squared: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    complaints: Callable[[], int],
) -> Iterator[NDArray[np.uint8]]:
    """Frames of as many leading clips as decord reads without a complaint, (T, S, S, 3) RGB each.

    Args:
        path: the file.
        frame_count: what the demuxer counted.
        plans: of the clips.
        squared: makes a picture small.
        complaints: bytes FFmpeg has written to stderr so far.
    """
    wanted = {number for plan in plans for number in plan.frame_numbers}
    pictures: dict[int, NDArray[np.uint8]] = {}
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        if len(reader) != frame_count:
            return
        read = 0
        for plan in plans:
            # Frame by frame, because decord's seeking lands on wrong frames where a key frame is no fresh start
            # (open GOPs, intra refresh, MPEG-4 with B-frames), without a word; and so does its skipping of frames.
            while read <= plan.frame_numbers[-1]:
                picture = reader.next()
                if read in wanted:
                    pictures[read] = squared(picture.asnumpy())
                read += 1
            if complaints():
                return
            yield np.stack([pictures[n] for n in plan.frame_numbers])
            pictures = {n: kept for n, kept in pictures.items() if n >= plan.frame_numbers[-1]}
    except (decord.DECORDError, RuntimeError, StopIteration):
        return  # PyAV says what is wrong with it, or reads it
