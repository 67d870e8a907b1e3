"""Every frame of the test videos shows its own number: this reads it back, and says which numbers a clip must show."""

from fractions import Fraction

import numpy as np

from encoder.picture import Crop

# Two squares of the 320 x 240 picture that together hold the 6 x 2 cells of the barcode.
HALVES = (Crop(0, 0, 160, 160), Crop(160, 0, 160, 160))
# The same squares where a player turns the picture by 90 degrees counter-clockwise.
TURNED_HALVES = (Crop(0, 160, 160, 160), Crop(0, 0, 160, 160))
SIZE = 48


def read_numbers(left_TSSC, right_TSSC, turned=False):
    """Frame numbers, (T,), from the two halves of the frames, each of any size S."""
    size = left_TSSC.shape[1]
    numbers = np.zeros(len(left_TSSC), int)
    for half, frames in enumerate((left_TSSC, right_TSSC)):
        if turned:
            frames = np.rot90(frames, -1, axes=(1, 2))
        grey = frames.mean(-1)
        for row in range(2):
            for column in range(3):
                y, x = int((row + 0.5) * size / 4), int((column + 0.5) * size / 3)
                bright = grey[:, y - 2 : y + 3, x - 2 : x + 3].mean((1, 2)) > 127
                numbers |= bright.astype(int) << (row * 6 + half * 3 + column)
    return numbers.tolist()


def expected_clips(facts, num_frames, begin=0, end=None, stride=10, *, stretched=False):
    """(start, valid seconds, frame numbers) of each clip, from what `expected.json` says of a file alone.

    Of a part of the file, where `begin` and `end` say which, in seconds after its first frame.
    """
    seconds = Fraction(str(facts["seconds"]))
    if "pts" in facts:
        times = [Fraction(round(pts * 30), 30) for pts in facts["pts"]]
    else:
        times = [Fraction(i) / Fraction(facts["fps"]) for i in range(facts["frames"])]
        seconds = Fraction(facts["frames"]) / Fraction(facts["fps"])
    first = facts.get("first_frame", 0)
    begin, seconds = Fraction(str(begin)), seconds if end is None else min(Fraction(str(end)), seconds)
    stride, spans = Fraction(str(stride)), []
    while begin + stride * len(spans) + 10 <= seconds:
        start = begin + stride * len(spans)
        spans.append((start, start + 10))
    if seconds - (spans[-1][1] if spans else begin) >= 1:
        spans.append((begin + stride * len(spans) if stretched else max(seconds - 10, begin), seconds))
    clips = []
    for start, until in spans:
        valid = until - start
        moments = [start + valid * (2 * i + 1) / (2 * num_frames) for i in range(num_frames)]
        shown = [first + max(n for n, time in enumerate(times) if time <= moment) for moment in moments]
        clips.append((round(float(start - begin), 3), round(float(valid), 3), shown))
    return clips
