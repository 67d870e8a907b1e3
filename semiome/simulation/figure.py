"""An articulated figure in bed: joint angles in, points in the room out.

The room's axes, in metres: x across the bed, y along it with the pillow at +y, z up. A body's own axes: `up` from
pelvis to head, `front`, and `left` = up x front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BED_HEIGHT = 0.55
MATTRESS = BED_HEIGHT + 0.09
"""Height of the middle of a limb that lies on the mattress."""

REST: dict[str, float] = {
    "recline": 0.35,
    "roll": 0.0,
    "pelvis_lift": 0.0,
    "head_yaw": 0.0,
    "head_pitch": 0.1,
    "mouth": 0.0,
    **{f"shoulder_abduct_{side}": 0.25 for side in "lr"},
    **{f"shoulder_flex_{side}": 0.1 for side in "lr"},
    **{f"elbow_{side}": 0.5 for side in "lr"},
    **{f"hip_flex_{side}": 0.12 for side in "lr"},
    **{f"hip_abduct_{side}": 0.12 for side in "lr"},
    **{f"knee_{side}": 0.2 for side in "lr"},
}
"""Angles, in radians, of a patient who lies with the head of the bed raised; `mouth` is 0 closed to 1 open."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Joint angles over time: one (F,) array for each name of `REST`."""

    angles: dict[str, Array]

    @classmethod
    def resting(cls, frames: int) -> Motion:
        """Nothing moves."""
        return cls({name: np.full(frames, value) for name, value in REST.items()})

    @property
    def moments(self) -> int:
        """F."""
        return len(next(iter(self.angles.values())))

    def at(self, chosen: NDArray[np.intp]) -> Motion:
        """The motion at some of its moments only."""
        return Motion({name: angle[chosen] for name, angle in self.angles.items()})


@dataclass(frozen=True, slots=True)
class Capsule:
    """A limb: a rounded cone between two points that move.

    Attributes:
        a: (F, 3) one end, in metres.
        b: (F, 3) the other.
        radius_a: metres.
        radius_b: metres.
        part: what it is: `skin`, `hair`, `top`, `legs`, `mouth`.
    """

    a: Array
    b: Array
    radius_a: float
    radius_b: float
    part: str


def lying(motion: Motion, size: float, build: float) -> list[Capsule]:
    """The body of a patient in bed.

    Args:
        motion: joint angles.
        size: scale of lengths, about 1.
        build: scale of thickness, about 1.
    """
    angle = motion.angles
    frames = len(angle["roll"])
    x, y, z = (np.tile(axis, (frames, 1)) for axis in np.eye(3))
    recline = angle["recline"][:, None]
    up, front = np.cos(recline) * y + np.sin(recline) * z, np.cos(recline) * z - np.sin(recline) * y
    front, left = _turned(front, np.cross(up, front), angle["roll"])

    pelvis = np.array([0.0, -0.15, MATTRESS + 0.05]) + z * angle["pelvis_lift"][:, None]
    chest = pelvis + up * 0.42 * size
    neck = chest + up * 0.12 * size
    gaze, across = _turned(front, left, angle["head_yaw"])
    pitch = angle["head_pitch"][:, None]
    skull_up, gaze = np.cos(pitch) * up + np.sin(pitch) * gaze, np.cos(pitch) * gaze - np.sin(pitch) * up
    head = neck + skull_up * 0.13 * size
    chin = head + gaze * 0.075 - skull_up * (0.045 + 0.02 * angle["mouth"][:, None])

    thick = build
    body = [
        Capsule(pelvis, chest, 0.145 * thick, 0.15 * thick, "top"),
        Capsule(chest, neck, 0.09 * thick, 0.055 * thick, "top"),
        Capsule(head - skull_up * 0.02, head + skull_up * 0.05, 0.1, 0.09, "skin"),
        Capsule(head + skull_up * 0.06 - gaze * 0.03, head + skull_up * 0.02 - gaze * 0.06, 0.095, 0.09, "hair"),
        Capsule(head + gaze * 0.09, head + gaze * 0.11, 0.018, 0.014, "skin"),
        Capsule(chin - across * 0.02, chin + across * 0.02, 0.012, 0.012, "mouth"),
    ]
    for sign, side in ((1.0, "l"), (-1.0, "r")):
        body += _arm(angle, side, chest + left * sign * 0.19 * size, up, front, left * sign, size, thick)
        body += _leg(angle, side, pelvis + x * sign * 0.1 * size, -y, z, x * sign, size, thick)
    return body


POINTS = ("head", *(f"{part}_{side}" for side in "lr" for part in ("elbow", "hand", "knee", "foot")))
"""Points of the body that can be followed."""


def points(body: Sequence[Capsule]) -> Array:
    """(F, K, 3) where each of `POINTS` of a `lying` body is."""
    head, limbs = 2, (6, 12)
    found = [body[head].a]
    for first in limbs:  # of a side: upper arm, forearm, hand, thigh, shin, foot
        found += [body[first + part].b for part in (0, 2, 3, 5)]
    return np.stack(found, axis=1)


def standing(at: Array, heading: float, swing: Array) -> list[Capsule]:
    """Someone who walks by.

    Args:
        at: (F, 3) points on the floor.
        heading: direction of the walk, radians from +x.
        swing: (F,) angle of the legs, radians.
    """
    z = np.array([0.0, 0.0, 1.0])
    forward = np.array([np.cos(heading), np.sin(heading), 0.0])
    left = np.cross(z, forward)
    hip, shoulder = at + z * 0.9, at + z * 1.4
    body = [
        Capsule(hip, shoulder, 0.15, 0.17, "top"),
        Capsule(at + z * 1.6, at + z * 1.68, 0.1, 0.09, "skin"),
        Capsule(at + z * 1.7 - forward * 0.03, at + z * 1.64 - forward * 0.06, 0.1, 0.09, "hair"),
    ]
    for sign in (1.0, -1.0):
        step = forward * np.sin(swing * sign)[:, None] * 0.35
        body.append(Capsule(hip + left * sign * 0.09, at + left * sign * 0.09 + step + z * 0.05, 0.085, 0.06, "legs"))
        hand = shoulder + left * sign * 0.26 - z * 0.55 - step * 0.6
        body.append(Capsule(shoulder + left * sign * 0.2, hand, 0.06, 0.05, "top"))
    return body


def _arm(
    angle: dict[str, Array],
    side: str,
    shoulder: Array,
    up: Array,
    front: Array,
    out: Array,
    size: float,
    thick: float,
) -> list[Capsule]:
    upper = _direction(angle[f"shoulder_flex_{side}"], angle[f"shoulder_abduct_{side}"], -up, front, out)
    bend = front * 0.75 - out * 0.5 + up * 0.35
    fore = _bent(upper, bend, angle[f"elbow_{side}"])
    elbow = _above(shoulder + upper * 0.29 * size)
    wrist = _above(elbow + fore * 0.25 * size)
    hand = _above(wrist + fore * 0.09 * size)
    return [
        Capsule(shoulder, elbow, 0.062 * thick, 0.05 * thick, "top"),
        Capsule(elbow, wrist, 0.045 * thick, 0.035 * thick, "skin"),
        Capsule(wrist, hand, 0.042, 0.038, "skin"),
    ]


def _leg(
    angle: dict[str, Array],
    side: str,
    hip: Array,
    down: Array,
    front: Array,
    out: Array,
    size: float,
    thick: float,
) -> list[Capsule]:
    thigh = _direction(angle[f"hip_flex_{side}"], angle[f"hip_abduct_{side}"], down, front, out)
    shin = _bent(thigh, -front, angle[f"knee_{side}"])
    knee = _above(hip + thigh * 0.43 * size)
    ankle = _above(knee + shin * 0.41 * size)
    toes = _above(ankle + (front * 0.8 + down * 0.6) * 0.14)
    return [
        Capsule(hip, knee, 0.09 * thick, 0.065 * thick, "legs"),
        Capsule(knee, ankle, 0.06 * thick, 0.045 * thick, "legs"),
        Capsule(ankle, toes, 0.045, 0.035, "skin"),
    ]


def _direction(flex: Array, abduct: Array, down: Array, front: Array, out: Array) -> Array:
    flex, abduct = flex[:, None], abduct[:, None]
    direction: Array = np.cos(flex) * (np.cos(abduct) * down + np.sin(abduct) * out) + np.sin(flex) * front
    return direction


def _bent(along: Array, toward: Array, angle: Array) -> Array:
    """`along`, turned by `angle` in the plane it spans with `toward`."""
    across = toward - along * (along * toward).sum(1, keepdims=True)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    bent: Array = np.cos(angle)[:, None] * along + np.sin(angle)[:, None] * across
    return bent


def _turned(first: Array, second: Array, angle: Array) -> tuple[Array, Array]:
    """Two perpendicular axes, turned in their plane."""
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return cos * first + sin * second, cos * second - sin * first


def _above(point: Array) -> Array:
    """No limb sinks into the mattress."""
    return np.concatenate([point[:, :2], np.maximum(point[:, 2:], MATTRESS)], axis=1)
