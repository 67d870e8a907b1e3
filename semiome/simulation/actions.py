"""Generic movements, of no patient in particular: what the small encoder sees before it ever sees a patient (stage 0).

No sign of `signs.py` and no patient is in here: limbs reach, hold, swing and jerk at random, in random rooms. It
stands in for the Kinetics-400 pretraining of the full-size encoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.records import CLIP_SECONDS
from semiome.simulation.figure import REST, Motion
from semiome.simulation.render import FPS, Camera, Colour, Look, Pattern, Room
from semiome.simulation.scene import Scene, clips_of

Array = NDArray[np.float64]

JOINTS = tuple(REST)
"""The order of joint angles."""
SIGNED = ("roll", "head_yaw")
"""Angles that change sign in a mirror."""

_GREY = np.array([0.299, 0.587, 0.114])
_RANGES = {
    "recline": (0.0, 0.9),
    "roll": (-1.3, 1.3),
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


BANDS_HZ = ((0.0, 0.4), (0.4, 1.0), (1.0, 1.7), (1.7, 3.2))
"""Rhythms that are told apart, from more than the first to the second."""


@dataclass(frozen=True, slots=True)
class Action:
    """One clip of a person who moves at random, and how they moved.

    Attributes:
        frames: (T, S, S) uint8, grey.
        spread: (J,) standard deviation of each joint angle of `JOINTS` over the clip, in radians.
        rhythm: (J, 4) the part of it in each of `BANDS_HZ`, in radians.
        deviation: (T, J) each joint angle in each frame, less its mean over the frames.
        points: (T, K, 2) where each of `POINTS` is in each frame: across and down, in pixels.
    """

    frames: NDArray[np.uint8]
    spread: NDArray[np.float32]
    rhythm: NDArray[np.float32]
    deviation: NDArray[np.float32]
    points: NDArray[np.float32]


def draw_posture(random: np.random.Generator) -> Motion:
    """One moment of a person who lies still."""
    motion = _movement(random)
    return motion.at(random.integers(motion.moments, size=1))


def draw_action(num_frames: int, size: int, seed: int) -> Action:
    """Draw the clip of one seed."""
    random = np.random.default_rng(seed)
    motion, scene = _movement(random), _scene_from_anywhere(random)
    frames = scene.clips(motion, num_frames, size, random)[0]
    seen = motion.at(np.array(clips_of(motion.moments, num_frames)[0].frame_numbers))
    angles_TJ = np.stack([seen.angles[name] for name in JOINTS], axis=1)
    angles_JF = np.stack([motion.angles[name] for name in JOINTS])
    return Action(
        np.rint(frames @ _GREY).astype(np.uint8),
        angles_JF.std(1).astype(np.float32),
        _rhythm(angles_JF),
        (angles_TJ - angles_TJ.mean(0)).astype(np.float32),
        scene.points(seen, size).astype(np.float32),
    )


def _rhythm(angles_JF: Array) -> NDArray[np.float32]:
    """How much of each angle's spread is in each band, by its spectrum: (J, 4)."""
    moments = angles_JF.shape[1]
    power = 2 * np.abs(np.fft.rfft(angles_JF - angles_JF.mean(1, keepdims=True), axis=1)) ** 2 / moments**2
    hertz = np.fft.rfftfreq(moments, 1 / FPS)
    parts = [power[:, (hertz > low) & (hertz <= high)].sum(1) for low, high in BANDS_HZ]
    bands: NDArray[np.float32] = np.sqrt(np.stack(parts, axis=1)).astype(np.float32)
    return bands


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
            turns = random.random() + _uneven(hertz, time, random)
            wave = np.sin(2 * np.pi * turns)
            if kind == "jerk":
                wave = 2 * np.exp(-4 * (turns % 1.0)) - 0.5
            motion.angles[name] += weight * random.uniform(0.05, 0.45) * (high - low) * wave
    for name in JOINTS:
        low, high = _range(name)
        np.clip(motion.angles[name], low, high, out=motion.angles[name])
    return motion


def _uneven(hertz: float, time: Array, random: np.random.Generator) -> Array:
    """Turns of a rhythm that hurries and lingers as much as it likes."""
    knots = random.normal(0, random.uniform(0, 0.3), len(time) // FPS + 3)
    pace = np.exp(np.interp(time, np.arange(len(knots)), knots))
    turns: Array = np.cumsum(hertz * pace) / FPS
    return turns


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


def _scene_from_anywhere(random: np.random.Generator) -> Scene:
    """A scene seen from anywhere under the ceiling, near or far: from above too, or from behind the pillow."""
    scene = draw_scene(random)
    if random.random() < 0.7:
        spots = random.choice([0.0, random.uniform(1, 4)])
        pattern = Pattern(random.uniform(4, 16), float(spots), random.uniform(0.2, 0.9))
        scene = replace(scene, look=replace(scene.look, pattern=pattern), build=random.uniform(0.65, 1.5))
    if random.random() < 0.3:
        return scene
    around, height = random.uniform(0, 2 * np.pi), random.uniform(1.4, 2.6)
    away = random.uniform(0.1, 2.0)
    position = (float(away * np.cos(around)), float(0.1 + 1.15 * away * np.sin(around)), height)
    target = (random.uniform(-0.2, 0.2), random.uniform(-0.3, 0.4), random.uniform(0.5, 0.7))
    distance = float(np.linalg.norm(np.subtract(position, target)))
    # Longer from far away, so that most of the bed is in the picture from everywhere.
    return replace(scene, camera=Camera(position, target, random.uniform(0.32, 0.5) * distance))


def _colour(random: np.random.Generator, least: float = 0.15) -> Colour:
    red, green, blue = random.uniform(least, 0.95, 3).tolist()
    return red, green, blue
