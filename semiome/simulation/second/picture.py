"""Pictures made of points: a room with furniture, drawn once, and bodies that are drawn into it for each moment.

A camera has a short focal length, a tilted horizon and the distortion of a cheap lens; its sensor has shot noise, a
recorder smears what is dark and cuts the picture into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semiome.simulation.second.body import MATTRESS

Array = NDArray[np.float64]
Colour = tuple[float, float, float]

_HALF = (2.0, 2.4)
_CEILING = 2.6


@dataclass(frozen=True, slots=True)
class Lens:
    """Where a camera hangs and how it sees.

    Attributes:
        position: metres.
        target: what it looks at.
        focal: focal length, in picture heights.
        bend: barrel distortion.
        roll: of the horizon, radians.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    focal: float
    bend: float
    roll: float

    def project(self, points: Array, size: int) -> tuple[Array, Array, Array]:
        """Across, down (pixels) and away (metres) of points (..., 3)."""
        ahead = np.subtract(self.target, self.position)
        ahead = ahead / np.linalg.norm(ahead)
        up = np.array([0.0, 1.0, 0.0]) if abs(ahead[2]) > 0.95 else np.array([0.0, 0.0, 1.0])
        right = np.cross(ahead, up)
        right /= np.linalg.norm(right)
        down = np.cross(ahead, right)
        c, s = np.cos(self.roll), np.sin(self.roll)
        axes = np.stack([c * right + s * down, c * down - s * right, ahead], axis=1)
        seen = (points - np.array(self.position)) @ axes
        away = seen[..., 2]
        x, y = (seen[..., i] / np.maximum(away, 0.05) * self.focal for i in (0, 1))
        shrink = 1 / (1 + self.bend * (x * x + y * y))
        return (x * shrink + 0.5) * size, (y * shrink + 0.5) * size, away


@dataclass(frozen=True, slots=True)
class Place:
    """A room.

    Attributes:
        wall: its colour.
        floor: its colour.
        sheet: colour of the bed clothes.
        blanket: colour of a blanket over the legs; None where there is none.
        furniture: boxes: (x, y, z of the lowest corner, width, length, height) and colour.
        screen: where a television flickers: a point on a wall; None where none is on.
        seed: of its textures.
    """

    wall: Colour
    floor: Colour
    sheet: Colour
    blanket: Colour | None
    furniture: tuple[tuple[tuple[float, ...], Colour], ...]
    screen: tuple[float, float, float] | None
    seed: int


class Film:
    """What one camera records in one room.

    Args:
        place: the room.
        lens: its camera.
        dark: lit by the camera's own infrared lamp.
        size: side of the picture in pixels.
        random: of light and noise.
    """

    def __init__(self, place: Place, lens: Lens, *, dark: bool, size: int, random: np.random.Generator) -> None:
        self._place, self._lens, self._dark, self._size, self._random = place, lens, dark, size, random
        self._sun = _unit(np.array([random.uniform(-1, 1), random.uniform(-1, 1), random.uniform(0.5, 1.5)]))
        self._reflects = random.uniform(0.4, 1.3, 3)  # of infrared, red, green and blue clothes tell little
        self._noise = random.uniform(0.012, 0.04) * (1.6 if dark else 1.0)
        self._smear = random.uniform(0.0, 0.35)
        self._blocks = random.uniform(0.0, 0.03)
        textures = np.random.default_rng(place.seed)
        points, normals, colours = _room(place, textures)
        self._depth = np.full((size, size), np.inf)
        self._room = np.full((size, size, 3), 0.2)
        self._splat(self._room, points, self._lit(points, normals, colours), static=True)
        self._room = _filled(self._room, self._depth)

    def frames(self, figures: list[tuple[Array, Array, Array]]) -> NDArray[np.uint8]:
        """(F, size, size, 3) RGB of figures: points (F, N, 3), normals (F, N, 3) and colours (N, 3) of each."""
        count, random = len(figures[0][0]), self._random
        light = 1 + 0.02 * np.cumsum(random.normal(size=count)) * (not self._dark)
        if random.random() < 0.1 and not self._dark:  # the light is switched
            light[random.integers(count) :] *= random.uniform(0.6, 1.5)
        pictures = np.empty((count, self._size, self._size, 3), np.uint8)
        before: Array | None = None
        for moment in range(count):
            picture = self._room.copy()
            if self._place.screen is not None:
                picture *= 1 + 0.03 * random.normal()
            points, shades = [], []
            for where, normals, colours in figures:
                points.append(where[moment])
                shades.append(self._lit(where[moment], normals[moment], colours))
            if self._place.blanket is not None:
                cloth, up = _blanket(figures[0][0][moment])
                points.append(cloth)
                shades.append(self._lit(cloth, up, np.tile(self._place.blanket, (len(cloth), 1))))
            self._splat(picture, np.concatenate(points), np.concatenate(shades), static=False)
            picture = _soft(np.clip(picture * light[moment], 0, 1.2))
            noise = random.normal(size=picture.shape[:2] + ((1,) if self._dark else (3,)))
            picture = picture + noise * self._noise * np.sqrt(picture + 0.05)
            if before is not None:
                picture += self._smear * (before - picture)
            before = picture
            pictures[moment] = np.clip(self._compressed(picture) * 255, 0, 255)
        return pictures

    def _lit(self, points: Array, normals: Array, colours: Array) -> Array:
        if self._dark:
            lamp = np.array(self._lens.position) - points
            away = np.linalg.norm(lamp, axis=-1, keepdims=True)
            facing = np.abs((normals * lamp / away).sum(-1, keepdims=True))
            grey = (colours * self._reflects).sum(-1, keepdims=True) / 3
            lit: Array = np.repeat((0.25 + 0.75 * facing) * grey * np.clip(4.5 / away**2, 0.2, 1.6), 3, axis=-1)
            return lit
        shade: Array = colours * (0.55 + 0.45 * np.clip(normals @ self._sun, 0, 1))[..., None]
        return shade

    def _splat(self, picture: Array, points: Array, shades: Array, *, static: bool) -> None:
        """Paint points of 2 x 2 pixels, far ones first."""
        size = self._size
        across, down, away = self._lens.project(points, size)
        x, y = np.floor(across - 0.5).astype(int), np.floor(down - 0.5).astype(int)
        seen = np.flatnonzero((away > 0.2) & (x >= 0) & (x < size - 1) & (y >= 0) & (y < size - 1))
        seen = seen[np.argsort(-away[seen], kind="stable")]
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            rows, columns, depth = y[seen] + dy, x[seen] + dx, away[seen]
            if static:
                # Assigned from far to near: what is written last is nearest.
                nearer = depth < self._depth[rows, columns]
                self._depth[rows[nearer], columns[nearer]] = depth[nearer]
                picture[rows[nearer], columns[nearer]] = shades[seen][nearer]
            else:
                shown = depth < self._depth[rows, columns] + 0.06
                picture[rows[shown], columns[shown]] = shades[seen][shown]

    def _compressed(self, picture: Array) -> Array:
        """Blocks of 8 x 8 lose some of what they hold."""
        blocks = picture.reshape(self._size // 8, 8, self._size // 8, 8, 3)
        mean = blocks.mean((1, 3), keepdims=True)
        rest = blocks - mean
        step = self._blocks + 1e-4
        kept: Array = (mean + np.round(rest / step) * step).reshape(picture.shape)
        return kept


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector)
    return unit


def _plane(corner: Array, first: Array, second: Array, count: int, random: np.random.Generator) -> Array:
    """(count, 3) points of a parallelogram."""
    shares = random.random((count, 2))
    points: Array = corner + shares[:, :1] * first + shares[:, 1:] * second
    return points


def _room(place: Place, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Points, normals and colours of all that stands still."""
    wide, long = _HALF
    planes = [
        ((-wide, -long, 0), (2 * wide, 0, 0), (0, 2 * long, 0), place.floor, 26000),
        ((-wide, long, 0), (2 * wide, 0, 0), (0, 0, _CEILING), place.wall, 14000),
        ((-wide, -long, 0), (2 * wide, 0, 0), (0, 0, _CEILING), place.wall, 14000),
        ((-wide, -long, 0), (0, 2 * long, 0), (0, 0, _CEILING), place.wall, 14000),
        ((wide, -long, 0), (0, 2 * long, 0), (0, 0, _CEILING), place.wall, 14000),
        ((-0.5, -1.1, MATTRESS), (1.0, 0, 0), (0, 2.2, 0), place.sheet, 20000),
    ]
    boxes = [*place.furniture, ((-0.52, -1.12, 0.1, 1.04, 2.24, MATTRESS - 0.12), (0.6, 0.6, 0.6))]
    boxes += [((-0.3, 0.65, MATTRESS, 0.6, 0.35, 0.09), place.sheet)]  # the pillow
    boxes += [((side, -0.3, MATTRESS, 0.03, 0.9, 0.18), (0.7, 0.7, 0.72)) for side in (-0.53, 0.5)]  # rails
    points, normals, colours = [], [], []
    for corner, first, second, colour, count in planes:
        made = _plane(np.array(corner, float), np.array(first, float), np.array(second, float), count, random)
        points.append(made)
        facing = np.abs(_unit(np.cross(np.array(first, float), np.array(second, float))))
        normals.append(np.tile(facing, (count, 1)))
        colours.append(np.array(colour) * _texture(made, random))
    for (x, y, z, width, length, height), colour in boxes:
        begin, sides = np.array([x, y, z]), np.diag([width, length, height])
        for a, b, c in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
            for end in (np.zeros(3), sides[c]):
                area = np.linalg.norm(sides[a]) * np.linalg.norm(sides[b])
                made = _plane(begin + end, sides[a], sides[b], int(6000 * area) + 60, random)
                points.append(made)
                normals.append(np.tile(_unit(sides[c]), (len(made), 1)))
                colours.append(np.array(colour) * _texture(made, random))
    return np.concatenate(points), np.concatenate(normals), np.concatenate(colours)


def _texture(points: Array, random: np.random.Generator) -> Array:
    """(N, 1) lighter and darker patches of several sizes."""
    shade = np.ones(len(points))
    for scale in (1.5, 4.0, 11.0):
        waves = random.normal(size=(3, 4)) * scale
        shade += 0.05 * np.sin(points @ waves + random.uniform(0, 6, 4)).mean(1)
    return shade[:, None]


def _blanket(body: Array) -> tuple[Array, Array]:
    """A cloth over all that lies below the belly: (N, 3) points and their normals."""
    across, along = 26, 34
    legs = body[(body[:, 1] < -0.1) & (np.abs(body[:, 0]) < 0.55) & (body[:, 1] > -1.1)]
    height = np.full((across, along), MATTRESS + 0.02)
    column = np.clip(((legs[:, 0] + 0.55) / 1.1 * across).astype(int), 0, across - 1)
    row = np.clip(((legs[:, 1] + 1.1) / 1.0 * along).astype(int), 0, along - 1)
    np.maximum.at(height, (column, row), legs[:, 2] + 0.06)
    for _ in range(3):
        padded = np.pad(height, 1, mode="edge")
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        height = np.maximum(height * 0.99, 0.5 * height + 0.125 * around)
    fine = np.repeat(np.repeat(height, 2, axis=0), 2, axis=1)
    x = (np.arange(2 * across) + 0.5) / (2 * across) * 1.1 - 0.55
    y = (np.arange(2 * along) + 0.5) / (2 * along) * 1.0 - 1.1
    slope_x, slope_y = np.gradient(fine)
    normals = np.stack([-slope_x * 30, -slope_y * 30, np.ones_like(fine)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    points = np.stack([*np.meshgrid(x, y, indexing="ij"), fine], axis=-1)
    return points.reshape(-1, 3), normals.reshape(-1, 3)


def _filled(picture: Array, depth: Array) -> Array:
    """Pixels that no point fell on take what is beside them."""
    for _ in range(4):
        empty = ~np.isfinite(depth)
        if not empty.any():
            break
        for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            beside, far = np.roll(picture, shift, axis), np.roll(depth, shift, axis)
            taken = empty & np.isfinite(far)
            picture[taken], depth[taken] = beside[taken], far[taken]
            empty = ~np.isfinite(depth)
    return picture


def _soft(picture: Array) -> Array:
    """The lens: each pixel with a little of its neighbours."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    soft: Array = 0.6 * picture + 0.1 * around
    return soft
