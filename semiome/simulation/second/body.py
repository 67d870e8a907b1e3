"""A body of bones that turn in their joints, and the points of its surface.

A bone has its own axes: x to the body's left, y toward the head, z to the front. A body on its back has the room's: x
across the bed, y toward the pillow, z up. Angles are in radians, lengths in metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MATTRESS = 0.5
"""Height of the top of the mattress."""


class Bone(NamedTuple):
    """One bone.

    Attributes:
        name: its name.
        parent: what it hangs on; empty for the pelvis.
        at: where it begins, from where its parent does.
        along: from where it begins to where it ends.
        thick: radius where it begins and where it ends.
        flat: depth as a share of the width.
        part: of the clothes: skin, hair, shirt, trousers.
    """

    name: str
    parent: str
    at: tuple[float, float, float]
    along: tuple[float, float, float]
    thick: tuple[float, float]
    flat: float
    part: str


def _sided(name: str, parent: str, at: tuple[float, float, float], rest: tuple[object, ...]) -> list[Bone]:
    """The bones of both sides."""
    along, thick, flat, part = rest
    sides = (("left", 1), ("right", -1))
    in_pairs = {"shoulder", "upper_arm", "forearm", "thigh", "shin"}
    return [
        Bone(
            f"{name}_{side}",
            f"{parent}_{side}" if parent in in_pairs else parent,
            (at[0] * sign, at[1], at[2]),
            (along[0] * sign, along[1], along[2]),  # type: ignore[index]
            thick,  # type: ignore[arg-type]
            flat,  # type: ignore[arg-type]
            part,  # type: ignore[arg-type]
        )
        for side, sign in sides
    ]


BONES: tuple[Bone, ...] = (
    Bone("pelvis", "", (0, 0, 0), (0, 0.12, 0), (0.16, 0.15), 0.65, "trousers"),
    Bone("belly", "pelvis", (0, 0.1, 0), (0, 0.16, 0), (0.15, 0.14), 0.7, "shirt"),
    Bone("chest", "belly", (0, 0.15, 0), (0, 0.24, 0.01), (0.15, 0.17), 0.65, "shirt"),
    Bone("neck", "chest", (0, 0.25, 0.01), (0, 0.1, 0), (0.06, 0.055), 1.0, "skin"),
    Bone("head", "neck", (0, 0.1, 0), (0, 0.19, 0.02), (0.075, 0.085), 1.15, "skin"),
    Bone("scalp", "head", (0, 0.08, -0.03), (0, 0.13, -0.01), (0.085, 0.075), 1.1, "hair"),
    Bone("jaw", "head", (0, 0.02, 0.05), (0, -0.03, 0.05), (0.045, 0.03), 0.8, "skin"),
    *_sided("shoulder", "chest", (0.03, 0.2, 0), ((0.16, 0.01, 0), (0.06, 0.065), 1.0, "shirt")),
    *_sided("upper_arm", "shoulder", (0.16, 0.01, 0), ((0, -0.29, 0), (0.055, 0.045), 1.0, "shirt")),
    *_sided("forearm", "upper_arm", (0, -0.29, 0), ((0, -0.25, 0), (0.043, 0.03), 1.0, "skin")),
    *_sided("hand", "forearm", (0, -0.25, 0), ((0, -0.17, 0), (0.045, 0.03), 0.5, "skin")),
    *_sided("thigh", "pelvis", (0.09, 0, 0), ((0, -0.43, 0), (0.09, 0.06), 1.0, "trousers")),
    *_sided("shin", "thigh", (0, -0.43, 0), ((0, -0.42, 0), (0.06, 0.04), 1.0, "trousers")),
    *_sided("foot", "shin", (0, -0.42, 0), ((0, -0.06, 0.17), (0.04, 0.03), 0.8, "skin")),
)
AXES = "xyz"
TURNS = tuple(f"{bone.name}.{axis}" for bone in BONES for axis in AXES)
"""Every angle there is: of each bone about each axis of its parent."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Points of a body's surface, in the axes of their bones.

    Attributes:
        bone: (N,) number of each point's bone.
        place: (N, 3) metres from where the bone begins.
        normal: (N, 3) unit vectors outward.
        colour: (N, 3) RGB, 0 to 1.
    """

    bone: NDArray[np.intp]
    place: Array
    normal: Array
    colour: Array


def surface(
    size: float, build: float, colours: dict[str, tuple[float, float, float]], random: np.random.Generator
) -> Surface:
    """Draw the points of one person; clothes are plain, striped or spotted.

    Args:
        size: scale of lengths, about 1.
        build: scale of thickness, about 1.
        colours: of skin, hair, shirt and trousers.
        random: of the points and patterns.
    """
    patterns = {part: (random.integers(3), random.uniform(20, 70), random.uniform(0.55, 0.9)) for part in colours}
    parts: list[tuple[Array, Array, Array, Array]] = []
    for number, bone in enumerate(BONES):
        along = np.array(bone.along) * size
        length = float(np.linalg.norm(along))
        count = int(5200 * (length + max(bone.thick)) * max(bone.thick) * build) + 40
        share, angle = random.uniform(-0.12, 1.12, count), random.uniform(0, 2 * np.pi, count)
        # Two directions across the bone: sideways, and what is left.
        ahead = along / length
        side = np.array([1.0, 0, 0]) if abs(ahead[0]) < 0.9 else np.array([0, 1.0, 0])
        side = side - ahead * (side @ ahead)
        side /= np.linalg.norm(side)
        depth = np.cross(side, ahead)
        round_off = np.sqrt(np.clip(1 - (np.maximum(np.maximum(-share, share - 1), 0) / 0.12) ** 2, 0, 1))
        radius = (bone.thick[0] + np.clip(share, 0, 1) * (bone.thick[1] - bone.thick[0])) * build * round_off
        outward = np.cos(angle)[:, None] * side + bone.flat * np.sin(angle)[:, None] * depth
        place = share[:, None] * along + radius[:, None] * outward
        normal = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * depth / bone.flat
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        kind, pitch, darker = patterns[bone.part]
        wave = (np.sin(place[:, 1] * pitch * 4), np.sin(place[:, 0] * pitch * 4) * np.sin(place[:, 1] * pitch * 4))
        dark = np.zeros(count) if kind == 0 or bone.part in ("skin", "hair") else (wave[kind - 1] > 0.3) * (1 - darker)
        colour = np.array(colours[bone.part]) * (1 - dark)[:, None]
        parts.append((np.full(count, number), place, normal, colour))
    bones, places, normals, shades = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Surface(bones.astype(np.intp), places, normals, shades)


@dataclass(frozen=True, slots=True)
class Pose:
    """How a body lies over time.

    Attributes:
        turns: (F,) angle of each name of `TURNS` that is not 0 all the time.
        root: (F, 3) where the pelvis begins.
    """

    turns: dict[str, Array]
    root: Array

    def at(self, moments: NDArray[np.intp]) -> Pose:
        """Some of its moments."""
        return Pose({name: angle[moments] for name, angle in self.turns.items()}, self.root[moments])


def placed(skin: Surface, pose: Pose, size: float, *, lies: bool = True) -> tuple[Array, Array]:
    """Where the points are (F, N, 3) in the room, and their normals; nothing sinks into the mattress."""
    frames = len(pose.root)
    turned: dict[str, Array] = {}
    begins: dict[str, Array] = {}
    points, normals = np.empty((frames, len(skin.bone), 3)), np.empty((frames, len(skin.bone), 3))
    for number, bone in enumerate(BONES):
        own = _turn(pose.turns, bone.name, frames)
        if bone.parent:
            turned[bone.name] = turned[bone.parent] @ own
            begins[bone.name] = begins[bone.parent] + turned[bone.parent] @ (np.array(bone.at) * size)
        else:
            turned[bone.name], begins[bone.name] = own, pose.root
        of_bone = skin.bone == number
        across = turned[bone.name].transpose(0, 2, 1)
        points[:, of_bone] = skin.place[of_bone] @ across + begins[bone.name][:, None]
        normals[:, of_bone] = skin.normal[of_bone] @ across
    if lies:
        over = (np.abs(points[..., 0]) < 0.5) & (np.abs(points[..., 1]) < 1.1)
        points[..., 2] = np.where(over, np.maximum(points[..., 2], MATTRESS + 0.01), points[..., 2])
    return points, normals


def _turn(turns: dict[str, Array], bone: str, frames: int) -> Array:
    """(F, 3, 3) rotation of a bone: about z, then y, then x."""
    found = np.tile(np.eye(3), (frames, 1, 1))
    for axis, first, second in (("z", 0, 1), ("y", 2, 0), ("x", 1, 2)):
        angle = turns.get(f"{bone}.{axis}")
        if angle is None:
            continue
        step = np.tile(np.eye(3), (frames, 1, 1))
        step[:, first, first] = step[:, second, second] = np.cos(angle)
        step[:, second, first], step[:, first, second] = np.sin(angle), -np.sin(angle)
        found = found @ step
    return found
