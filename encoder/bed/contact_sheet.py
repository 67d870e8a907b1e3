"""Contact sheets: the first picture of each video with its crop drawn in, so that a person can check a cohort."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from encoder.picture import Crop
from index.files.durable import write_atomically

PER_SHEET = 48
_COLUMNS, _WIDTH, _HEIGHT, _TEXT, _GAP = 6, 240, 180, 40, 8
_BACKGROUND, _INK = (24, 26, 30), (235, 235, 235)
_COLOURS = {
    "bed": (70, 200, 120),
    "camera": (245, 190, 60),
    "manifest": (90, 170, 250),
    "whole": (160, 160, 160),
    "refused": (240, 80, 70),
}
_MEANING = {
    "bed": "bed found",
    "camera": "last box of the camera",
    "manifest": "from the manifest",
    "whole": "whole picture",
    "refused": "refused",
}


def thumbnail(picture: NDArray[np.uint8]) -> tuple[bytes, float]:
    """A picture small enough to keep thousands of, as JPEG, and the small one's size over the picture's."""
    height, width = picture.shape[:2]
    scale = min(_WIDTH / width, _HEIGHT / height)
    small = Image.fromarray(picture).resize((max(round(width * scale), 1), max(round(height * scale), 1)))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return stream.getvalue(), scale


@dataclass(frozen=True, slots=True)
class Tile:
    """One video on a sheet.

    Attributes:
        title: its id.
        note: a line about it.
        kind: how its crop came about: `bed`, `camera`, `manifest`, `whole` or `refused`.
        jpeg: of `thumbnail`, or empty where the video can't be read.
        scale: of `thumbnail`.
        crop: of the whole picture.
    """

    title: str
    note: str
    kind: str
    jpeg: bytes
    scale: float
    crop: Crop | None


def write_sheet(path: Path, tiles: Sequence[Tile], heading: str) -> None:
    """Draw up to `PER_SHEET` tiles as a PNG.

    Args:
        path: the file to write.
        tiles: in the order in which they are read.
        heading: above all tiles.
    """
    rows = -(-len(tiles) // _COLUMNS)
    across, down = _WIDTH + _GAP, _HEIGHT + _TEXT + _GAP
    sheet = Image.new("RGB", (_COLUMNS * across + _GAP, rows * down + 2 * _TEXT + _GAP), _BACKGROUND)
    draw, font, large = ImageDraw.Draw(sheet), ImageFont.load_default(14), ImageFont.load_default(20)
    draw.text((_GAP, _GAP), heading, _INK, large)
    left = _GAP
    for kind, meaning in _MEANING.items():
        draw.rectangle((left, _TEXT + 6, left + 18, _TEXT + 20), outline=_COLOURS[kind], width=3)
        draw.text((left + 26, _TEXT + 5), meaning, _INK, font)
        left += 60 + round(draw.textlength(meaning, font))
    for number, tile in enumerate(tiles):
        x, y = _GAP + number % _COLUMNS * across, 2 * _TEXT + number // _COLUMNS * down
        _draw_tile(sheet, draw, font, tile, x, y)
    write_atomically(path, lambda temporary: sheet.save(temporary, "PNG"))


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    tile: Tile,
    x: int,
    y: int,
) -> None:
    colour = _COLOURS[tile.kind]
    draw.rectangle((x, y, x + _WIDTH - 1, y + _HEIGHT - 1), outline=(60, 62, 68))
    if tile.jpeg:
        picture = Image.open(io.BytesIO(tile.jpeg))
        left, top = x + (_WIDTH - picture.width) // 2, y + (_HEIGHT - picture.height) // 2
        sheet.paste(picture, (left, top))
        if tile.crop is not None:
            x0, y0 = left + round(tile.crop.x * tile.scale), top + round(tile.crop.y * tile.scale)
            wide, high = (max(round(side * tile.scale), 1) for side in (tile.crop.w, tile.crop.h))
            draw.rectangle((x0, y0, x0 + wide - 1, y0 + high - 1), outline=colour, width=3)
    draw.text((x, y + _HEIGHT + 3), _fitted(draw, font, tile.title), _INK, font)
    draw.text((x, y + _HEIGHT + 20), _fitted(draw, font, tile.note), colour, font)


def _fitted(draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> str:
    """The part of a text that fits below a picture."""
    whole = text
    while draw.textlength(text if text == whole else f"{text}…", font) > _WIDTH:
        text = text[:-1]
    return text if text == whole else f"{text}…"
