"""One decoded picture to one square of the encoder's size."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from index.errors import VideoRefused

REDUCING_GAP = 1.5
"""A picture at least twice this many times too large is first reduced by a whole factor: a fifth of decoding's time
less for 1280 x 720 to 224, and a difference of a sixth of a grey level in the mean."""


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
        VideoRefused: the crop reaches outside the picture.
    """
    height, width = picture.shape[:2]
    box = crop or Crop(0, 0, width, height)
    if box.x + box.w > width or box.y + box.h > height:
        raise VideoRefused(f"crop {box} reaches outside the picture of {width} x {height} pixels")
    shown_width, shown_height = box.w * pixel_aspect, Fraction(box.h)
    scale = size / min(shown_width, shown_height)
    columns, rows = max(round(shown_width * scale), size), max(round(shown_height * scale), size)
    left, top = (columns - size) // 2, (rows - size) // 2
    # Where those size x size pixels lie in the box; Pillow resizes just them, with the neighbours' weight.
    source = (
        left * box.w / columns,
        top * box.h / rows,
        (left + size) * box.w / columns,
        (top + size) * box.h / rows,
    )
    image = Image.fromarray(np.ascontiguousarray(picture[box.y : box.y + box.h, box.x : box.x + box.w]))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=source, reducing_gap=REDUCING_GAP))
