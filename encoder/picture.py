"""One decoded picture to one square of the encoder's size."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from index.errors import VideoRefused

RESIZE = "short side, bilinear, antialiased, to two thirds or less as YUV becomes RGBA, else as RGB; centre crop"
"""What this module does, in words: part of every encoder id."""
_WORTH_REDUCING = Fraction(3, 2)
_LEAST_CONTRAST, _LEAST_CHANGE = 6, 3
"""In levels of 255: less is no picture. The noise of any camera changes some pixel by more within ten seconds."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A box of the shown picture, in its pixels: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int

    def __str__(self) -> str:
        return f"{self.x} {self.y} {self.w} {self.h}"


def square(
    picture: NDArray[np.uint8], size: int, pixel_aspect: Fraction = Fraction(1), crop: Crop | None = None
) -> NDArray[np.uint8]:
    """Resize the short side to `size` and cut the centre: the Kinetics test recipe, antialiased.

    Args:
        picture: (H, W, 3) RGB, as a player shows it but for the shape of its pixels.
        size: side of the result.
        pixel_aspect: width of a pixel over its height.
        crop: what part of the picture to use, all of it by default.

    Returns:
        (size, size, 3) RGB.

    Raises:
        VideoRefused: If the crop reaches outside the picture.
    """
    from PIL import Image  # where FFmpeg resizes, it is not needed: a twelfth of a decoding child's start

    height, width = picture.shape[:2]
    box = checked_crop(crop, width, height)
    columns, rows = _resized(box, size, pixel_aspect)
    left, top = (columns - size) // 2, (rows - size) // 2
    # Where those size x size pixels lie in the box; Pillow resizes just them, with the neighbours' weight.
    source = (
        left * box.w / columns,
        top * box.h / rows,
        (left + size) * box.w / columns,
        (top + size) * box.h / rows,
    )
    image = Image.fromarray(np.ascontiguousarray(picture[box.y : box.y + box.h, box.x : box.x + box.w]))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=source))


@dataclass(frozen=True, slots=True)
class Reduced:
    """How a whole picture is made smaller so that the square is cut out of it pixel by pixel.

    Attributes:
        width: of the whole smaller picture.
        height: its height in pixels.
        left: where the square begins.
        top: where it begins.
        size: of the square.
    """

    width: int
    height: int
    left: int
    top: int
    size: int

    def cut(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square of the smaller picture (height, width, 3 or 4), without a fourth channel."""
        right, bottom = self.left + self.size, self.top + self.size
        cut = np.empty((self.size, self.size, 3), np.uint8)
        for channel in range(3):  # NumPy copies three runs of single bytes four times as fast as one of threes
            cut[..., channel] = picture[self.top : bottom, self.left : right, channel]
        return cut


def reduced(
    width: int, height: int, size: int, pixel_aspect: Fraction = Fraction(1), crop: Crop | None = None
) -> Reduced | None:
    """The same as `square` for those who resize whole pictures, when that is worth it; within half a pixel of it.

    Returns:
        None where the box is not made smaller by `_WORTH_REDUCING` at least.

    Raises:
        VideoRefused: If the crop reaches outside the picture.
    """
    box = checked_crop(crop, width, height)
    columns, rows = _resized(box, size, pixel_aspect)
    across, down = Fraction(columns, box.w), Fraction(rows, box.h)
    if max(across, down) * _WORTH_REDUCING > 1:
        return None
    whole_width, whole_height = max(round(width * across), columns), max(round(height * down), rows)
    left = round(box.x * across) + (columns - size) // 2
    top = round(box.y * down) + (rows - size) // 2
    return Reduced(whole_width, whole_height, min(left, whole_width - size), min(top, whole_height - size), size)


def fits(crop: Crop, width: int, height: int) -> bool:
    """Whether a crop lies within a picture of this size."""
    return crop.x + crop.w <= width and crop.y + crop.h <= height


def checked_crop(crop: Crop | None, width: int, height: int) -> Crop:
    """The crop of a picture of this size, all of it where there is none.

    Raises:
        VideoRefused: If it reaches outside the picture.
    """
    box = crop or Crop(0, 0, width, height)
    if not fits(box, width, height):
        raise VideoRefused(f"crop {box} reaches outside the picture of {width} x {height} pixels")
    return box


def _resized(box: Crop, size: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """Columns and rows of a box whose short side, as it is shown, becomes `size`."""
    shown_width, shown_height = box.w * pixel_aspect, Fraction(box.h)
    scale = size / min(shown_width, shown_height)
    return max(round(shown_width * scale), size), max(round(shown_height * scale), size)


def shows_nothing(frames_TSSC: NDArray[np.uint8]) -> bool:
    """Whether there is no picture in a clip: black, one colour, or the same still frame from beginning to end.

    A camera that films, even a dark room with a sleeping patient, has noise and small movements: here nothing has a
    contrast, or nothing changes anywhere.

    Args:
        frames_TSSC: of one clip, RGB.
    """
    green = frames_TSSC[..., 1]  # of the three nearest to what the eye sees
    low, high = np.percentile(green[:, ::4, ::4], (0.1, 99.9), axis=(1, 2))
    if bool((high - low < _LEAST_CONTRAST).all()):
        return True
    still = green[0].astype(np.int16)
    return len(green) > 1 and all(int(np.abs(later - still).max()) < _LEAST_CHANGE for later in green[1:])
