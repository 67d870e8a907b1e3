"""Pictures of a room, a bed and moving figures: rays for what stands still, capsules for what moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semiome.simulation.figure import BED_HEIGHT, Capsule

Array = NDArray[np.float64]
Picture = NDArray[np.float32]
Colour = tuple[float, float, float]

WIDTH, HEIGHT, FPS = 320, 240, 25
_LIGHT = np.array([-0.4, -0.75, 0.5], np.float32)  # across, down and toward the viewer
_ROOM = (2.2, 2.6, 2.7)  # half width, half length, height


@dataclass(frozen=True, slots=True)
class Room:
    """How a room looks. Colours are RGB, 0 to 1."""

    wall: Colour
    floor: Colour
    tiles: float
    sheet: Colour
    window: float
    picture: Colour


@dataclass(frozen=True, slots=True)
class Camera:
    """Where a camera hangs and how wide it sees.

    Attributes:
        position: metres.
        target: the point in the middle of the picture.
        focal: focal length, in picture widths.
    """

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    focal: float


@dataclass(frozen=True, slots=True)
class Pattern:
    """Stripes or spots of clothes; they move with the limb.

    Attributes:
        along: how many to the metre along a limb.
        across: how many across a limb; 0 for stripes.
        dark: how much darker they are, 0 to 1.
    """

    along: float
    across: float
    dark: float


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of a person's parts; `blanket` is drawn over the legs where it is set, `pattern` on all but the skin."""

    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    blanket: Colour | None = None
    pattern: Pattern | None = None


def _axes(camera: Camera) -> Array:
    """Across, down and away, as rows."""
    forward = np.array(camera.target) - camera.position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def project(camera: Camera, points: Array, width: int, height: int) -> Array:
    """Where points (..., 3) of the room are in the picture: (..., 2) across and down, in pixels."""
    seen = (points - np.array(camera.position)) @ _axes(camera).T
    projected: Array = [width / 2, height / 2] + seen[..., :2] * (camera.focal * width / seen[..., 2:])
    return projected


class View:
    """One camera in one room: draws the still picture once, then figures into it frame by frame.

    Args:
        room: what stands still.
        camera: where it is seen from.
        night: infrared.
        noise: the sensor's noise.
        width: of the picture, in pixels.
        height: height of the picture.
    """

    def __init__(
        self,
        room: Room,
        camera: Camera,
        *,
        night: bool,
        noise: np.random.Generator,
        width: int = WIDTH,
        height: int = HEIGHT,
    ) -> None:
        self._night = night
        self._width, self._height = width, height
        self._origin, self._axes = np.array(camera.position), _axes(camera)
        self._focal = camera.focal * width
        still_HWC, self._depth = self._room(room)
        grain = 4.0 if night else 2.5
        self._grain_GHW = noise.normal(0, grain, (8, height, width)).astype(np.float32)
        # Each colour in a plane of its own: NumPy is several times as fast along rows as along three colours. Infrared
        # has one.
        self._still_CHW = np.ascontiguousarray(still_HWC.transpose(2, 0, 1)[: 1 if night else 3])
        self._empty_GHWC = np.clip(still_HWC + self._grain_GHW[..., None], 0, 255).astype(np.uint8)

    def frames(self, figures: Sequence[tuple[Sequence[Capsule], Look]]) -> Iterator[NDArray[np.uint8]]:
        """Draw figures, one (height, width, 3) picture for each of their moments."""
        limbs = [self._projected(capsule, look) for capsules, look in figures for capsule in capsules]
        depths = np.stack([limb.depth for limb in limbs])
        order = np.argsort(-depths, axis=0, kind="stable")
        boxes = np.stack([limb.boxes for limb in limbs])
        for moment in range(depths.shape[1]):
            grain = moment % len(self._grain_GHW)
            picture = self._empty_GHWC[grain].copy()
            seen = [number for number in order[:, moment].tolist() if _is_area(boxes[number, :, moment])]
            if seen:  # only where the figures are anything is drawn again
                left, above = boxes[seen, :2, moment].min(axis=0).tolist()
                right, below = boxes[seen, 2:, moment].max(axis=0).tolist()
                here = (slice(above, below), slice(left, right))
                drawn_CHW = self._still_CHW[:, *here].copy()
                for number in seen:
                    limbs[number].draw(drawn_CHW, self._depth, moment, left, above)
                drawn_CHW += self._grain_GHW[grain][here]
                np.minimum(np.maximum(drawn_CHW, 0, out=drawn_CHW), 255, out=drawn_CHW)
                picture[here] = drawn_CHW.transpose(1, 2, 0)
            yield picture

    def _exposed(self, colours: Array) -> Picture:
        """What the sensor makes of colours (..., 3) of 0 to 1: grey levels of 0 to 255, infrared at night."""
        if self._night:
            colours = np.repeat(0.07 + 0.75 * (colours @ [0.5, 0.35, 0.15])[..., None], 3, axis=-1)
        return (np.clip(colours, 0, 1) * 255).astype(np.float32)

    def _projected(self, capsule: Capsule, look: Look) -> _Limb:
        colour = (0.55, 0.2, 0.2) if capsule.part == "mouth" else getattr(look, capsule.part)
        thick = 1.0
        if capsule.part == "legs" and look.blanket is not None:
            colour, thick = look.blanket, 1.7
        ends, radii = [], []
        for end, radius in ((capsule.a, capsule.radius_a), (capsule.b, capsule.radius_b)):
            seen = (end - self._origin) @ self._axes.T
            away = np.maximum(seen[:, 2], 0.1)
            ends.append(([self._width / 2, self._height / 2] + seen[:, :2] * (self._focal / away)[:, None]).T)
            radii.append(radius * thick * self._focal / away)
        depth = ((capsule.a + capsule.b) / 2 - self._origin) @ self._axes[2]
        low = np.minimum(ends[0] - radii[0], ends[1] - radii[1]) - 1
        high = np.maximum(ends[0] + radii[0], ends[1] + radii[1]) + 2
        size = np.array([[self._width], [self._height]])
        boxes = np.concatenate([np.maximum(low, 0), np.minimum(high, size)]).astype(np.intp)
        waves = None
        if look.pattern is not None and capsule.part in ("top", "legs"):
            length = float(np.linalg.norm(capsule.b[0] - capsule.a[0]))
            waves = (2 * np.pi * look.pattern.along * length, np.pi * look.pattern.across, look.pattern.dark)
        return _Limb(ends[0], ends[1], radii[0], radii[1], depth, boxes, self._exposed(np.array(colour)), waves)

    def _room(self, room: Room) -> tuple[Picture, NDArray[np.float32]]:
        """The empty room and the distance of each of its pixels along the view."""
        width, height = self._width, self._height
        columns, rows = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
        rays = np.stack([columns, rows, np.full_like(columns, self._focal)], -1) / self._focal @ self._axes
        depth = np.full(columns.shape, np.inf)
        picture = np.zeros((height, width, 3))

        def put(distance: Array, where: NDArray[np.bool_], colour: Array) -> None:
            nearer = where & (distance > 0.05) & (distance < depth)
            depth[nearer] = distance[nearer]
            picture[nearer] = np.broadcast_to(colour, picture.shape)[nearer]

        half_width, half_length, ceiling = _ROOM
        with np.errstate(divide="ignore", invalid="ignore"):
            for axis, value, shade in (
                (0, half_width, 0.8),
                (0, -half_width, 0.9),
                (1, half_length, 1.0),
                (1, -half_length, 0.7),
            ):
                put(*self._wall(rays, room, axis, value, shade, ceiling))
            distance = -self._origin[2] / rays[..., 2]
            x, y = (self._origin[i] + distance * rays[..., i] for i in (0, 1))
            tile = ((np.floor(x / room.tiles) + np.floor(y / room.tiles)) % 2)[..., None]
            put(distance, distance > 0, np.array(room.floor) * (0.92 + 0.08 * tile))
            for top, box, colour in (
                (BED_HEIGHT, (-0.5, 0.5, -1.1, 1.05), np.array(room.sheet)),
                (BED_HEIGHT + 0.1, (-0.35, 0.35, 0.55, 1.0), np.array(room.sheet) * 1.06),
                (0.75, (-1.15, -0.65, 0.5, 1.0), np.array([0.5, 0.4, 0.3])),
            ):
                self._box(rays, box, top, colour, put)
        return self._exposed(picture), depth.astype(np.float32)

    def _wall(
        self, rays: Array, room: Room, axis: int, value: float, shade: float, ceiling: float
    ) -> tuple[Array, NDArray[np.bool_], Array]:
        distance = (value - self._origin[axis]) / rays[..., axis]
        across, up = (self._origin[i] + distance * rays[..., i] for i in (1 - axis, 2))
        colour = np.array(room.wall) * shade * (0.85 + 0.15 * (up / ceiling))[..., None]
        if axis == 0 and value > 0:
            window = (np.abs(across - room.window) < 0.6) & (np.abs(up - 1.6) < 0.5)
            colour[window] = (0.25, 0.3, 0.4) if self._night else (0.9, 0.95, 1.0)
        if axis == 1 and value > 0:
            frame = (np.abs(across + 0.9) < 0.3) & (np.abs(up - 1.7) < 0.2)
            colour[frame] = room.picture
        return distance, distance > 0, colour

    def _box(self, rays: Array, box: tuple[float, float, float, float], top: float, colour: Array, put) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """A block on the floor, seen from above: its top and its four sides."""
        x0, x1, y0, y1 = box
        distance = (top - self._origin[2]) / rays[..., 2]
        x, y = (self._origin[i] + distance * rays[..., i] for i in (0, 1))
        put(distance, (x > x0) & (x < x1) & (y > y0) & (y < y1), colour)
        for axis, value, low, high, shade in (
            (0, x0, y0, y1, 0.6),
            (0, x1, y0, y1, 0.7),
            (1, y0, x0, x1, 0.5),
        ):
            distance = (value - self._origin[axis]) / rays[..., axis]
            along, z = (self._origin[i] + distance * rays[..., i] for i in (1 - axis, 2))
            put(distance, (along > low) & (along < high) & (z > 0) & (z < top), colour * shade)


@dataclass(frozen=True, slots=True)
class _Limb:
    """A capsule as the camera sees it: ends (2, F) and radii (F,) in pixels, depth (F,) in metres.

    `boxes` (4, F) are left, above, right and below of all that it covers, in whole pixels of the picture. `waves` are
    of its pattern: radians along and across, and how much darker.
    """

    a: Array
    b: Array
    radius_a: Array
    radius_b: Array
    depth: Array
    boxes: NDArray[np.intp]
    colour: NDArray[np.float32]
    waves: tuple[float, float, float] | None

    def draw(self, picture_CHW: Picture, depth: NDArray[np.float32], moment: int, from_x: int, from_y: int) -> None:
        """Paint the limb over what is behind it.

        Args:
            picture_CHW: a part of the picture that holds all of the limb.
            depth: of the whole still picture.
            moment: number of the moment.
            from_x: where the part begins.
            from_y: where the part begins.
        """
        ax, ay = self.a[:, moment]
        bx, by = self.b[:, moment]
        ra, rb = self.radius_a[moment], self.radius_b[moment]
        left, above, right, below = self.boxes[:, moment].tolist()
        x = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - ax)
        y = (np.arange(above, below, dtype=np.float32) + np.float32(0.5 - ay))[:, None]
        dx, dy = np.float32(bx - ax), np.float32(by - ay)
        reach = np.float32(max(dx * dx + dy * dy, np.float32(1e-6)))
        along: Picture = _within_one(np.asarray((x * dx + y * dy) / reach, np.float32))
        radius = np.float32(ra) + along * np.float32(rb - ra)
        nx, ny = (x - along * dx) / radius, (y - along * dy) / radius
        distance = np.sqrt(nx * nx + ny * ny)
        cover: Picture = _within_one((1 - distance) * radius + np.float32(0.5))
        # Half a body's thickness of grace, so that what lies on the bed is not swallowed by it.
        cover *= depth[above:below, left:right] > self.depth[moment] - 0.25
        nz = np.sqrt(_within_one(1 - distance * distance))
        shade = np.float32(0.62) + np.float32(0.38) * _within_one(nx * _LIGHT[0] + ny * _LIGHT[1] + nz * _LIGHT[2])
        if self.waves is not None:
            length, width, dark = self.waves
            wave = np.sin(along * np.float32(length)) * np.cos(nx * np.float32(width))
            shade = shade * np.where(wave > 0, np.float32(1 - dark), np.float32(1))
        for plane, level in zip(picture_CHW, self.colour, strict=False):  # of infrared's equal colours the first
            box = plane[above - from_y : below - from_y, left - from_x : right - from_x]
            box += cover * (shade * level - box)


def _within_one(values: Picture) -> Picture:
    """Clipped to 0 to 1, in place: at this size `np.clip` takes longer to be called than to work."""
    np.maximum(values, 0, out=values)
    np.minimum(values, 1, out=values)
    return values


def _is_area(box: NDArray[np.intp]) -> bool:
    return bool(box[0] < box[2] and box[1] < box[3])
