"""What the second simulator's patients do, as angles over time: the first one's signs in other movements.

Rhythms are irregular, sizes and speeds differ from seizure to seizure, and many signs have variants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semiome.simulation.second.body import MATTRESS, Pose

Array = NDArray[np.float64]
FPS = 25


@dataclass(frozen=True, slots=True)
class Doing:
    """Something that is done for a while.

    Attributes:
        name: of an activity or a sign.
        start_s: when it begins.
        end_s: when it is over.
        left: whether it is the left side's.
        vigour: scale of its size.
        tempo: scale of its speed.
        seed: of its irregularities.
    """

    name: str
    start_s: float
    end_s: float
    left: bool
    vigour: float
    tempo: float
    seed: int


class Body:
    """Angles of a body while they are being made up.

    Args:
        seconds: how long.
        lies: `back`, `raised`, `left` or `right`.
    """

    def __init__(self, seconds: float, lies: str) -> None:
        self.frames = round(seconds * FPS)
        self.time = np.arange(self.frames) / FPS
        self.turns: dict[str, Array] = {}
        self.root = np.tile([0.0, -0.12, MATTRESS + 0.12], (self.frames, 1))
        self.add("upper_arm_left.z", 0.2)
        self.add("upper_arm_right.z", -0.2)
        for side in ("left", "right"):
            self.add(f"forearm_{side}.x", -0.4)
            self.add(f"thigh_{side}.x", -0.1)
            self.add(f"shin_{side}.x", 0.2)
        if lies == "raised":
            self.add("belly.x", 0.5)
            self.add("chest.x", 0.25)
        if lies in ("left", "right"):
            turn = 1.25 if lies == "left" else -1.25
            self.add("pelvis.y", turn)
            self.root[:, 2] += 0.04
            for side in ("left", "right"):
                self.add(f"thigh_{side}.x", -0.7)
                self.add(f"shin_{side}.x", 0.8)

    def add(self, name: str, change: Array | float) -> None:
        """Turn something further."""
        self.turns[name] = self.turns.get(name, np.zeros(self.frames)) + change

    def toward(self, name: str, target: float, weight: Array) -> None:
        """Draw something to an angle, as far as the weight says."""
        now = self.turns.get(name, np.zeros(self.frames))
        self.turns[name] = now + weight * (target - now)

    def pose(self) -> Pose:
        """What came out."""
        return Pose(self.turns, self.root)


def perform(doings: list[Doing], seconds: float, lies: str, unrest: np.random.Generator) -> Pose:
    """The pose over time of who does all of this."""
    body = Body(seconds, lies)
    for name in ("head.y", "head.x", "forearm_left.x", "forearm_right.x", "thigh_left.x", "thigh_right.x", "chest.y"):
        body.add(name, 0.03 * _wander(unrest, body.frames, 1.5))
    body.add("chest.x", 0.012 * np.sin(2 * np.pi * unrest.uniform(0.2, 0.35) * body.time))  # breath
    for doing in doings:
        random = np.random.default_rng(doing.seed)
        rise, fall = random.uniform(0.25, 1.2, 2)
        weight = np.clip((body.time - doing.start_s) / rise, 0, 1) * np.clip((doing.end_s - body.time) / fall, 0, 1)
        weight = np.sin(weight * np.pi / 2) ** 2
        ACTS[doing.name](body, weight, doing, random)
    return body.pose()


def _wander(random: np.random.Generator, frames: int, seconds: float) -> Array:
    """A smooth walk about 0, of about unit size."""
    step = max(int(seconds * FPS), 2)
    knots = random.normal(size=frames // step + 4)
    place = np.arange(frames) / step + 1
    low = place.astype(int)
    part = 0.5 - 0.5 * np.cos(np.pi * (place - low))
    walk: Array = knots[low] * (1 - part) + knots[np.minimum(low + 1, len(knots) - 1)] * part
    return walk


def _rhythm(body: Body, random: np.random.Generator, hertz: float, uneven: float = 0.2) -> Array:
    """Phase, in turns, of a rhythm that hurries and lingers."""
    speed = hertz * np.exp(uneven * _wander(random, body.frames, 0.8))
    phase: Array = random.random() + np.cumsum(speed) / FPS
    return phase


def _swing(phase: Array, *, round_off: float = 1.0) -> Array:
    """From -1 to 1 and back; with a large `round_off` nearly square."""
    wave = np.sin(2 * np.pi * phase)
    swing: Array = np.tanh(round_off * wave) / np.tanh(round_off)
    return swing


def _sides(doing: Doing) -> tuple[str, str, float]:
    """Name of the near side and of the other, and the sign of turns about y and z toward the near one."""
    return ("left", "right", 1.0) if doing.left else ("right", "left", -1.0)


# Daily life ------------------------------------------------------------------------------------------------------


def _rest(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    pass


def _phone(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    near, _, _ = _sides(doing)
    body.toward(f"upper_arm_{near}.x", -0.7, weight)
    body.toward(f"forearm_{near}.x", -1.7, weight)
    body.toward("head.x", 0.3, weight)
    body.add(f"hand_{near}.x", weight * 0.15 * _swing(_rhythm(body, random, 0.7, 0.6), round_off=4))


def _eat(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    near, other, _ = _sides(doing)
    lift = weight * np.clip(_swing(_rhythm(body, random, 0.22, 0.3), round_off=2) + 0.2, 0, 1)
    body.toward(f"upper_arm_{near}.x", -0.9, lift)
    body.toward(f"forearm_{near}.x", -2.2, lift)
    body.toward(f"forearm_{other}.x", -1.1, weight)
    body.add("jaw.x", weight * 0.12 * _swing(_rhythm(body, random, 1.1)))


def _rub_eyes(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    near, _, sign = _sides(doing)
    body.toward(f"upper_arm_{near}.x", -1.2, weight)
    body.toward(f"forearm_{near}.x", -2.4, weight)
    body.add(f"hand_{near}.z", weight * 0.4 * sign * _swing(_rhythm(body, random, 2.2)))


def _shift(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    _, _, sign = _sides(doing)
    body.add("pelvis.y", weight * sign * random.uniform(0.3, 1.0))
    body.root[:, 0] += weight * random.uniform(-0.12, 0.12)
    body.toward(f"thigh_{'left' if doing.left else 'right'}.x", -0.8, weight)


def _sit_up(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    body.toward("belly.x", random.uniform(0.6, 0.9), weight)
    body.toward("chest.x", 0.4, weight)
    for side in ("left", "right"):
        body.toward(f"forearm_{side}.x", -0.9, weight)


def _kick_blanket(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    near, _, _ = _sides(doing)
    push = weight * np.clip(_swing(_rhythm(body, random, 0.5, 0.4)), 0, 1)
    body.add(f"thigh_{near}.x", -0.6 * push)
    body.add(f"shin_{near}.x", 0.9 * push)


# Signs -----------------------------------------------------------------------------------------------------------


def _arrest(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    """All that was going on comes to a halt; the eyes stare, the head may sink."""
    begin = min(int(max(doing.start_s, 0) * FPS), body.frames - 1)
    for name, angle in body.turns.items():
        body.toward(name, float(angle[begin]), weight)
    body.add("head.x", weight * random.uniform(-0.05, 0.15))


def _oral(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    phase = _rhythm(body, random, random.uniform(1.2, 2.2) * doing.tempo)
    body.add("jaw.x", weight * random.uniform(0.25, 0.45) * doing.vigour * (0.5 + 0.5 * _swing(phase)))
    body.add("head.x", weight * random.uniform(0.02, 0.07) * _swing(phase + 0.2))


def _manual(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    near, _, sign = _sides(doing)
    phase = _rhythm(body, random, random.uniform(1.2, 2.6) * doing.tempo, 0.35)
    body.toward(f"upper_arm_{near}.x", random.uniform(-0.6, -0.2), weight)
    body.toward(f"forearm_{near}.x", random.uniform(-1.6, -0.9), weight)
    body.add(f"forearm_{near}.z", weight * sign * 0.25 * doing.vigour * _swing(phase))
    body.add(f"hand_{near}.x", weight * 0.5 * doing.vigour * _swing(phase + 0.3, round_off=2))


def _dystonic(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    _, other, sign = _sides(doing)
    body.toward(f"upper_arm_{other}.z", -sign * random.uniform(0.5, 0.9), weight)
    body.toward(f"forearm_{other}.x", random.uniform(-0.7, -0.1), weight)
    body.add(f"forearm_{other}.y", weight * sign * random.uniform(0.6, 1.1))
    body.toward(f"hand_{other}.x", random.uniform(0.6, 1.0), weight)


def _nose(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    near, _, sign = _sides(doing)
    wipe = np.clip(_swing(_rhythm(body, random, random.uniform(0.3, 0.6) * doing.tempo, 0.4)), 0, 1) * weight
    body.toward(f"upper_arm_{near}.x", -1.1, wipe)
    body.toward(f"upper_arm_{near}.z", -0.3 * sign, wipe)
    body.toward(f"forearm_{near}.x", -2.3, wipe)


def _pedal(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    phase = _rhythm(body, random, random.uniform(0.9, 1.9) * doing.tempo, 0.15)
    for side, shift in (("left", 0.0), ("right", random.uniform(0.35, 0.6))):
        beat = (0.5 + 0.5 * _swing(phase + shift)) * weight * doing.vigour
        body.add(f"thigh_{side}.x", -0.9 * beat)
        body.add(f"shin_{side}.x", 1.2 * beat)


def _thrash(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    for side, sign in (("left", 1.0), ("right", -1.0)):
        phase = _rhythm(body, random, random.uniform(0.8, 1.8) * doing.tempo, 0.4)
        body.add(f"upper_arm_{side}.z", weight * sign * doing.vigour * (0.5 + 0.7 * _swing(phase)))
        body.add(f"upper_arm_{side}.x", weight * doing.vigour * -0.6 * (1 + _swing(phase + 0.25)))
        body.add(f"forearm_{side}.x", weight * doing.vigour * 0.5 * _swing(phase + 0.5))
    body.add("pelvis.y", weight * 0.35 * doing.vigour * _swing(_rhythm(body, random, 0.8 * doing.tempo)))


def _fence(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    near, other, sign = _sides(doing)
    body.toward(f"upper_arm_{near}.z", sign * random.uniform(1.2, 1.7), weight)
    body.toward(f"forearm_{near}.x", 0.0, weight)
    body.toward(f"upper_arm_{other}.x", random.uniform(-0.9, -0.4), weight)
    body.toward(f"forearm_{other}.x", random.uniform(-2.3, -1.8), weight)
    body.toward("head.y", sign * random.uniform(0.6, 1.0), weight)


def _pelvis(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    beat = 0.5 + 0.5 * _swing(_rhythm(body, random, random.uniform(1.0, 1.8) * doing.tempo, 0.15))
    body.root[:, 2] += weight * doing.vigour * random.uniform(0.1, 0.2) * beat
    body.add("belly.x", weight * -0.25 * beat)
    for side in ("left", "right"):
        body.toward(f"thigh_{side}.x", -0.7, weight)
        body.toward(f"shin_{side}.x", 1.2, weight)


def _version(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    _, _, sign = _sides(doing)
    body.toward("head.y", sign * random.uniform(0.8, 1.2), weight)
    body.add("chest.y", weight * sign * random.uniform(0.0, 0.4))
    body.add("head.x", weight * -0.1)


def _tonic(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    bent = random.random() < 0.5
    shake = 0.05 * _swing(_rhythm(body, random, random.uniform(6, 9), 0.1)) * weight
    for side, sign in (("left", 1.0), ("right", -1.0)):
        body.toward(f"upper_arm_{side}.z", sign * random.uniform(0.6, 1.1), weight)
        body.toward(f"forearm_{side}.x", -1.6 if bent else -0.1, weight)
        body.toward(f"thigh_{side}.x", 0.0, weight)
        body.toward(f"shin_{side}.x", 0.0, weight)
        body.add(f"forearm_{side}.x", shake)
        body.add(f"upper_arm_{side}.x", shake)
    body.toward("head.x", -0.25, weight)


def _clonic(body: Body, weight: Array, doing: Doing, random: np.random.Generator) -> None:
    """Jerks that become slower."""
    near, other, _ = _sides(doing)
    since = np.clip(body.time - doing.start_s, 0, None)
    speed = random.uniform(1.8, 2.8) * doing.tempo * np.exp(-since / 18)
    phase = np.cumsum(speed) / FPS
    jerk = (1 - phase % 1.0) ** 3
    for side, share in ((near, 1.0), (other, random.uniform(0.2, 0.8))):
        body.add(f"forearm_{side}.x", weight * -0.9 * share * doing.vigour * jerk)
        body.add(f"upper_arm_{side}.x", weight * -0.4 * share * doing.vigour * jerk)
        body.add(f"shin_{side}.x", weight * 0.2 * share * doing.vigour * jerk)
    body.add("head.x", weight * 0.08 * jerk)


Act = Callable[[Body, Array, Doing, np.random.Generator], None]
DAILY: dict[str, Act] = {
    "resting": _rest,
    "telephone": _phone,
    "eating": _eat,
    "rubbing-eyes": _rub_eyes,
    "shifting": _shift,
    "sitting-up": _sit_up,
    "kicking-blanket": _kick_blanket,
}
OF_SIGN: dict[str, Act] = {
    "behavioral-arrest": _arrest,
    "oral-automatisms": _oral,
    "manual-automatisms": _manual,
    "dystonic-posture": _dystonic,
    "nose-wiping": _nose,
    "pedalling": _pedal,
    "thrashing": _thrash,
    "asymmetric-tonic": _fence,
    "pelvic-thrusting": _pelvis,
    "version": _version,
    "tonic": _tonic,
    "clonic": _clonic,
}
ACTS = {**DAILY, **OF_SIGN}
