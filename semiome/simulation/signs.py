"""What a simulated patient does: daily activities and seizure signs, each a change of joint angles over time.

Signs overlap between the classes, as they do in life: a class makes a sign likely or unlikely, never certain. Angles
are in radians, times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semiome.simulation.figure import Motion

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Event:
    """Something a patient does for a while.

    Attributes:
        name: of an activity or a sign.
        start_s: when it begins.
        end_s: when it is over.
        side: 0 left, 1 right: the side it happens on, or begins on.
        vigour: scale of its size, about 1.
        tempo: scale of its speed, about 1.
    """

    name: str
    start_s: float
    end_s: float
    side: int
    vigour: float
    tempo: float


@dataclass(frozen=True, slots=True)
class Sign:
    """A seizure sign and how likely it is in a seizure of each class.

    Attributes:
        name: what is drawn.
        tag: what the sign is called in HED-SCORE, as in `index.semiology.SIGNS`; more than one may be called the same.
        tle: how likely in a temporal seizure.
        extle: how likely in an extratemporal one.
        act: moves the patient.
    """

    name: str
    tag: str
    tle: float
    extle: float
    act: Callable[[Motion, Array, Array, Event], None]


def move(events: list[Event], seconds: float, fps: int, unrest: np.random.Generator) -> Motion:
    """Joint angles over time of a patient who does these things one after and over another."""
    time = np.arange(round(seconds * fps)) / fps
    motion = Motion.resting(len(time))
    for angle in motion.angles.values():  # no person lies perfectly still
        angle += _drift(unrest, len(time), fps)
    for event in events:
        ramp = min(0.8, (event.end_s - event.start_s) / 3)
        weight = np.clip((time - event.start_s) / ramp, 0, 1) * np.clip((event.end_s - time) / ramp, 0, 1)
        weight = weight * weight * (3 - 2 * weight)
        _ACTS[event.name](motion, time - event.start_s, weight, event)
    return motion


def _drift(random: np.random.Generator, frames: int, fps: int) -> Array:
    knots = random.normal(0, 0.02, frames // fps + 3)
    return np.interp(np.arange(frames) / fps, np.arange(len(knots)), knots)


def _toward(motion: Motion, weight: Array, **targets: float) -> None:
    """Draw angles to targets, as far as the weight says."""
    for name, target in targets.items():
        motion.angles[name] += weight * (target - motion.angles[name])


def _add(motion: Motion, name: str, change: Array) -> None:
    motion.angles[name] += change


def _wave(time: Array, hertz: float, phase: float = 0.0) -> Array:
    return np.sin(2 * np.pi * hertz * time + phase)


def _jerk(time: Array, hertz: float) -> Array:
    """Fast rise, slow fall: a clonic jerk."""
    return np.exp(-4 * ((time * hertz) % 1.0))


def _s(event: Event, other: bool = False) -> str:
    return "lr"[event.side ^ int(other)]


# Daily activities ------------------------------------------------------------------------------------------------


def _still(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    pass


def _read(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    for side in "lr":
        _toward(motion, weight, **{f"shoulder_flex_{side}": 0.6, f"elbow_{side}": 1.6})
    _toward(motion, weight, head_pitch=0.35)


def _drink(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    lift = weight * (0.5 - 0.5 * np.cos(2 * np.pi * 0.2 * event.tempo * time))
    _toward(motion, lift, **{f"shoulder_flex_{_s(event)}": 0.9, f"elbow_{_s(event)}": 2.2})


def _scratch(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    _toward(motion, weight, **{f"shoulder_flex_{_s(event)}": 0.5, f"elbow_{_s(event)}": 1.9})
    _add(motion, f"elbow_{_s(event)}", weight * 0.15 * event.vigour * _wave(time, 3.0 * event.tempo))


def _turn_over(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    _toward(motion, weight, roll=(0.8 if event.side else -0.8))
    _toward(motion, weight, **{f"knee_{_s(event)}": 0.9, f"hip_flex_{_s(event)}": 0.6})


def _stretch(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    for side in "lr":
        _toward(motion, weight, **{f"shoulder_abduct_{side}": 1.9, f"elbow_{side}": 0.3})


def _adjust_blanket(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    for side in "lr":
        _toward(motion, weight, **{f"shoulder_flex_{side}": 0.4, f"elbow_{side}": 0.7})
        _add(motion, f"elbow_{side}", weight * 0.35 * _wave(time, 0.6 * event.tempo))


# Signs more often temporal ---------------------------------------------------------------------------------------


def _arrest(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    """Everything stops where it is."""
    begin = int(np.argmax(weight > 0)) if (weight > 0).any() else 0
    for angle in motion.angles.values():
        angle += weight * (angle[begin] - angle)


def _oral(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    _add(motion, "mouth", weight * (0.5 + 0.5 * _wave(time, 1.8 * event.tempo)))
    _add(motion, "head_pitch", weight * 0.05 * _wave(time, 1.8 * event.tempo))


def _manual(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    side = _s(event)
    _toward(motion, weight, **{f"shoulder_flex_{side}": 0.35, f"elbow_{side}": 1.4})
    _add(motion, f"elbow_{side}", weight * 0.22 * event.vigour * _wave(time, 2.2 * event.tempo))
    _add(motion, f"shoulder_abduct_{side}", weight * 0.1 * event.vigour * _wave(time, 1.3 * event.tempo))


def _dystonic(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    side = _s(event, other=True)
    _toward(motion, weight, **{f"shoulder_abduct_{side}": 0.7, f"shoulder_flex_{side}": 0.5, f"elbow_{side}": 0.5})


def _nose_wipe(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    side = _s(event)
    lift = weight * np.clip(_wave(time, 0.45 * event.tempo), 0, 1)
    _toward(motion, lift, **{f"shoulder_flex_{side}": 1.0, f"elbow_{side}": 2.4})


# Signs more often extratemporal ----------------------------------------------------------------------------------


def _pedalling(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    for phase, side in ((0.0, "l"), (np.pi, "r")):
        beat = 0.5 + 0.5 * _wave(time, 1.6 * event.tempo, phase)
        _add(motion, f"hip_flex_{side}", weight * event.vigour * 0.8 * beat)
        _add(motion, f"knee_{side}", weight * event.vigour * 1.1 * beat)


def _thrashing(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    for phase, side in ((0.0, "l"), (2.0, "r")):
        _add(
            motion,
            f"shoulder_abduct_{side}",
            weight * event.vigour * 0.9 * _wave(time, 1.2 * event.tempo, phase),
        )
        _add(
            motion,
            f"shoulder_flex_{side}",
            weight * event.vigour * 0.6 * _wave(time, 1.5 * event.tempo, phase),
        )
        _add(motion, f"elbow_{side}", weight * event.vigour * 0.5 * (1 + _wave(time, 1.9 * event.tempo, phase)))
    _add(motion, "roll", weight * 0.3 * event.vigour * _wave(time, 0.9 * event.tempo))


def _fencing(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    near, far = _s(event), _s(event, other=True)
    _toward(
        motion,
        weight,
        **{f"shoulder_abduct_{near}": 1.5, f"shoulder_flex_{near}": 0.5, f"elbow_{near}": 0.05},
    )
    _toward(motion, weight, **{f"shoulder_flex_{far}": 0.5, f"elbow_{far}": 2.2})
    _toward(motion, weight, head_yaw=(0.8 if event.side else -0.8))


def _pelvic(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    beat = 0.5 + 0.5 * _wave(time, 1.4 * event.tempo)
    _add(motion, "pelvis_lift", weight * 0.22 * event.vigour * beat)
    for side in "lr":
        _toward(motion, weight, **{f"knee_{side}": 1.1, f"hip_flex_{side}": 0.6})


# Signs of both ---------------------------------------------------------------------------------------------------


def _version(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    _toward(motion, weight, head_yaw=(1.1 if event.side else -1.1))


def _tonic(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    tremor = weight * 0.04 * _wave(time, 7.0)
    for side in "lr":
        _toward(motion, weight, **{f"shoulder_abduct_{side}": 0.9, f"elbow_{side}": 1.5, f"knee_{side}": 0.0})
        _add(motion, f"elbow_{side}", tremor)


def _clonic(motion: Motion, time: Array, weight: Array, event: Event) -> None:
    beat = _jerk(time, 1.8 * event.tempo)
    for share, side in ((1.0, _s(event)), (0.35, _s(event, other=True))):
        _add(motion, f"elbow_{side}", weight * event.vigour * share * 0.9 * beat)
        _add(motion, f"shoulder_flex_{side}", weight * event.vigour * share * 0.35 * beat)


ACTIVITIES = {
    "lying-still": _still,
    "reading": _read,
    "drinking": _drink,
    "scratching": _scratch,
    "turning-over": _turn_over,
    "stretching": _stretch,
    "adjusting-blanket": _adjust_blanket,
}

SIGNS = (
    Sign("behavioral-arrest", "Semiology-motor-behavioral-arrest", 0.70, 0.20, _arrest),
    Sign("oral-automatisms", "Semiology-oroalimentary", 0.75, 0.15, _oral),
    Sign("manual-automatisms", "Semiology-manual", 0.70, 0.20, _manual),
    Sign("dystonic-posture", "Semiology-dystonic", 0.50, 0.15, _dystonic),
    Sign("nose-wiping", "Postictal-nose-wiping", 0.40, 0.10, _nose_wipe),
    Sign("pedalling", "Semiology-hypermotor", 0.08, 0.55, _pedalling),
    Sign("thrashing", "Semiology-hypermotor", 0.12, 0.60, _thrashing),
    Sign("asymmetric-tonic", "Semiology-postural", 0.10, 0.45, _fencing),
    Sign("pelvic-thrusting", "Semiology-hypermotor", 0.05, 0.30, _pelvic),
    Sign("version", "Semiology-versive", 0.35, 0.35, _version),
    Sign("tonic", "Semiology-tonic", 0.25, 0.35, _tonic),
    Sign("clonic", "Semiology-clonic", 0.25, 0.35, _clonic),
)

_ACTS = {**ACTIVITIES, **{sign.name: sign.act for sign in SIGNS}}
