"""Generic movements, of no patient in particular: what the small encoder sees before it ever sees a patient (stage 0).

No sign of `signs.py` and no patient is in here: limbs reach, hold, swing and jerk at random, in random rooms. It
stands in for the Kinetics-400 pretraining of the full-size encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.records import CLIP_SECONDS
from semiome.simulation.figure import REST, Motion
from semiome.simulation.render import FPS, Camera, Colour, Look, Room
from semiome.simulation.scene import Scene, clips_of

Array = NDArray[np.float64]

JOINTS = tuple(REST)
"""The order of joint angles."""
SIGNED = ("roll", "head_yaw")
"""Angles that change sign in a mirror."""

_RANGES = {
    "recline": (0.1, 0.6),
    "roll": (-0.9, 0.9),
    "pelvis_lift": (0.0, 0.25),
    "head_yaw": (-1.2, 1.2),
    "head_pitch": (-0.3, 0.6),
    "mouth": (0.0, 1.0),
    "shoulder_abduct": (0.0, 2.0),
    "shoulder_flex": (-0.2, 1.3),
    "elbow": (0.0, 2.4),
    "hip_flex": (0.0, 1.2),
    "hip_abduct": (0.0, 0.5),
    "knee": (0.0, 1.6),
}
_GROUPS = (
    *(("shoulder_abduct_l", "shoulder_flex_l", "elbow_l"), ("shoulder_abduct_r", "shoulder_flex_r", "elbow_r")),
    *(("hip_flex_l", "hip_abduct_l", "knee_l"), ("hip_flex_r", "hip_abduct_r", "knee_r")),
    *(("head_yaw", "head_pitch"), ("mouth",), ("roll",), ("recline",), ("pelvis_lift",)),
)


@dataclass(frozen=True, slots=True)
class Action:
    """One clip of a person who moves at random, and how they moved.

    Attributes:
        frames: (T, S, S, 3) uint8.
        spread: (J,) standard deviation of each joint angle of `JOINTS` over the clip, in radians.
        deviation: (T, J) each joint angle in each frame, less its mean over the frames.
        points: (T, K, 2) where each of `POINTS` is in each frame: across and down, in pixels.
    """

    frames: NDArray[np.uint8]
    spread: NDArray[np.float32]
    deviation: NDArray[np.float32]
    points: NDArray[np.float32]


def draw_posture(random: np.random.Generator) -> Motion:
    """One moment of a person who lies still."""
    motion = _movement(random)
    return motion.at(random.integers(motion.moments, size=1))


def draw_action(num_frames: int, size: int, seed: int) -> Action:
    """Draw the clip of one seed."""
    random = np.random.default_rng(seed)
    motion, scene = _movement(random), draw_scene(random)
    frames = scene.clips(motion, num_frames, size, random)[0]
    seen = motion.at(np.array(clips_of(motion.moments, num_frames)[0].frame_numbers))
    angles_TJ = np.stack([seen.angles[name] for name in JOINTS], axis=1)
    spread = np.stack([motion.angles[name] for name in JOINTS]).std(1)
    return Action(
        frames,
        spread.astype(np.float32),
        (angles_TJ - angles_TJ.mean(0)).astype(np.float32),
        scene.points(seen, size).astype(np.float32),
    )


def mirrored(joint: str) -> str:
    """The joint of the other side; the same one on the midline."""
    return joint[:-1] + {"l": "r", "r": "l"}[joint[-1]] if joint[-2:] in ("_l", "_r") else joint


def _movement(random: np.random.Generator) -> Motion:
    """A posture, and up to three groups of joints that do something for a while."""
    time = np.arange(CLIP_SECONDS * FPS) / FPS
    motion = Motion.resting(len(time))
    for name in JOINTS:
        low, high = _range(name)
        if random.random() < 0.5:
            motion.angles[name] += 0.5 * random.random() * (random.uniform(low, high) - REST[name])
    groups = random.permutation(len(_GROUPS))[: random.integers(0, 5)]
    for group in groups:
        begin = random.uniform(-3, 7)
        end = begin + random.uniform(2, 13)
        ramp = random.uniform(0.3, 1.0)
        weight = np.clip((time - begin) / ramp, 0, 1) * np.clip((end - time) / ramp, 0, 1)
        hertz, kind = random.uniform(0.15, 2.5), random.choice(["reach", "swing", "jerk"])
        for name in _GROUPS[group]:
            low, high = _range(name)
            if kind == "reach":
                motion.angles[name] += weight * (random.uniform(low, high) - motion.angles[name])
                continue
            wave = np.sin(2 * np.pi * hertz * time + random.uniform(0, 2 * np.pi))
            if kind == "jerk":
                wave = 2 * np.exp(-4 * ((time * hertz) % 1.0)) - 0.5
            motion.angles[name] += weight * random.uniform(0.05, 0.45) * (high - low) * wave
    for name in JOINTS:
        low, high = _range(name)
        np.clip(motion.angles[name], low, high, out=motion.angles[name])
    return motion


def _range(joint: str) -> tuple[float, float]:
    return _RANGES[joint.removesuffix("_l").removesuffix("_r")]


def draw_scene(random: np.random.Generator) -> Scene:
    """A room, a camera and a person that no cohort has."""
    side = random.uniform(-2.1, 2.1)
    camera = Camera(
        (side, random.uniform(-2.4, -1.3), random.uniform(2.0, 2.6)),
        (random.uniform(-0.1, 0.1), random.uniform(0.0, 0.2), random.uniform(0.5, 0.7)),
        random.uniform(0.9, 1.15),
    )
    room = Room(
        wall=_colour(random),
        floor=_colour(random),
        tiles=random.uniform(0.2, 1.2),
        sheet=_colour(random, 0.6),
        window=random.uniform(-1, 1),
        picture=_colour(random),
    )
    skin = np.array([0.93, 0.76, 0.65]) * random.uniform(0.4, 1.0)
    red, green, blue = skin.tolist()
    blanket = _colour(random) if random.random() < 0.4 else None
    nurse = None
    if random.random() < 0.25:
        begin = random.uniform(-3, 8)
        nurse = (begin, begin + random.uniform(4, 7))
    look = Look((red, green, blue), _colour(random, 0.05), _colour(random), _colour(random), blanket)
    night = bool(random.random() < 0.4)
    return Scene(room, camera, night, look, random.uniform(0.85, 1.1), random.uniform(0.8, 1.25), nurse)


def _colour(random: np.random.Generator, least: float = 0.15) -> Colour:
    red, green, blue = random.uniform(least, 0.95, 3).tolist()
    return red, green, blue
