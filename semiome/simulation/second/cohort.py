"""Patients and seizures of the second simulator; how likely a sign is in a class is all it takes from the first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from encoder.clips import Timeline, plan_clips
from index.semiology import PAPER
from semiome.simulation.second.acts import DAILY, FPS, Doing, perform
from semiome.simulation.second.body import MATTRESS, TURNS, Pose, Surface, placed, surface
from semiome.simulation.second.picture import Colour, Film, Lens, Place
from semiome.simulation.signs import SIGNS

Array = NDArray[np.float64]

_EXTLE_SHARE = 0.45
_USUAL = 0.75
"""How often a seizure has a sign just because it is usual of its patient."""
_LIES = ("back", "raised", "raised", "left", "right")


@dataclass(frozen=True, slots=True)
class Person:
    """One patient.

    Attributes:
        patient_id: pseudonym.
        label: class of the epilepsy.
        usual: signs that are usual of the patient.
        left: side of signs that have one.
        vigour: scale of movement.
        tempo: scale of speed.
        ward: room and camera.
        seed: of looks.
    """

    patient_id: str
    label: str
    usual: frozenset[str]
    left: bool
    vigour: float
    tempo: float
    ward: int
    seed: int


@dataclass(frozen=True, slots=True)
class SecondRecording:
    """One video, before it is drawn.

    Attributes:
        video_id: its id.
        person: who is in it.
        seconds: duration.
        dark: infrared.
        lies: on the back, raised, or on a side.
        doings: what is done.
        seed: of noise and unrest.
    """

    video_id: str
    person: Person
    seconds: float
    dark: bool
    lies: str
    doings: tuple[Doing, ...]
    seed: int

    @property
    def patient_id(self) -> str:
        """Pseudonym of who is in it."""
        return self.person.patient_id

    @property
    def label(self) -> str:
        """Class of their epilepsy."""
        return self.person.label

    @property
    def camera(self) -> str:
        """Name of the room, which has one camera."""
        return f"ward{self.person.ward + 1}"

    def signs_between(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Signs that are seen for a second at least in a stretch of the video."""
        names = {sign.name for sign in SIGNS}
        lasting = {d.name for d in self.doings if min(d.end_s, end_s) - max(d.start_s, start_s) >= 1}
        return tuple(sorted(lasting & names))

    def draw(self, num_frames: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw its clips: (K, T, size, size, 3) frames, and (K, 2 J) mean and spread of every joint's angle in each."""
        random = np.random.default_rng(self.seed)
        pose = perform(list(self.doings), self.seconds, self.lies, random)
        plans = plan_clips(Timeline(range(len(pose.root)), Fraction(1, FPS)), num_frames)
        moments = np.array([plan.frame_numbers for plan in plans])
        looks = np.random.default_rng(self.person.seed)
        size_of, build = looks.uniform(0.85, 1.1), looks.uniform(0.8, 1.3)
        skin = surface(size_of, build, _colours(looks), looks)
        place, lens = _ward(self.person.ward)
        random_place = replace(place, blanket=_colour(random) if random.random() < 0.35 else None)
        film = Film(random_place, lens, dark=self.dark, size=size, random=random)
        chosen = moments.reshape(-1)
        figures = [(*placed(skin, pose.at(chosen), size_of), skin.colour)]
        if random.random() < 0.35:
            figures.append(_visitor(chosen / FPS, random))
        frames = film.frames(figures).reshape(*moments.shape, size, size, 3)
        angles = np.stack([pose.turns.get(name, np.zeros(len(pose.root))) for name in TURNS], axis=1)
        angles = np.concatenate([angles, pose.root], axis=1)
        parts = [angles[round(p.start_s * FPS) : round((p.start_s + p.valid_seconds) * FPS)] for p in plans]
        found = np.stack([np.concatenate([part.mean(0), part.std(0)]) for part in parts])
        return frames, found.astype(np.float32)


def simulate_second(patients: int, videos: int, seed: int, prefix: str = "two") -> tuple[SecondRecording, ...]:
    """Draw a cohort: 45 % exTLE.

    Args:
        patients: how many.
        videos: number of videos of each.
        seed: decides it all.
        prefix: beginning of patient ids.
    """
    random = np.random.default_rng([2, seed])
    extle = round(_EXTLE_SHARE * patients)
    labels = random.permutation([PAPER.names[1]] * extle + [PAPER.names[0]] * (patients - extle)).tolist()
    return tuple(
        _video(person, number, random)
        for person in [_person(f"{prefix}-{i + 1:03d}", label, random) for i, label in enumerate(labels)]
        for number in range(videos)
    )


def _person(patient_id: str, label: str, random: np.random.Generator) -> Person:
    return Person(
        patient_id=patient_id,
        label=label,
        usual=frozenset(s.name for s in SIGNS if random.random() < (s.tle if label == PAPER.names[0] else s.extle)),
        left=bool(random.integers(2)),
        vigour=random.uniform(0.75, 1.25),
        tempo=random.uniform(0.8, 1.2),
        ward=int(random.integers(_WARDS)),
        seed=int(random.integers(2**31)),
    )


def _video(person: Person, number: int, random: np.random.Generator) -> SecondRecording:
    seconds = round(random.uniform(24, 48), 1)
    likely = {s.name: s.tle if person.label == PAPER.names[0] else s.extle for s in SIGNS}
    shown = [
        name
        for name, chance in likely.items()
        if (name in person.usual if random.random() < _USUAL else random.random() < chance)
    ]
    while len(shown) < 2:
        shown.append(str(random.choice(list(likely), p=np.array(list(likely.values())) / sum(likely.values()))))

    def doing(name: str, start: float, end: float) -> Doing:
        vigour, tempo = (scale * random.uniform(0.8, 1.2) for scale in (person.vigour, person.tempo))
        return Doing(name, start, min(end, seconds), person.left, vigour, tempo, int(random.integers(2**31)))

    onset = random.uniform(2, 8)
    doings = [doing(str(random.choice(list(DAILY))), 0, onset + random.uniform(-1, 1))]
    at = onset
    while at < seconds - 2:
        for place in random.permutation(len(shown)):
            length = random.uniform(5, 11)
            doings.append(doing(shown[place], at, at + length))
            at += length * random.uniform(0.5, 1.0)
            if at >= seconds - 2:
                break
    return SecondRecording(
        video_id=f"{person.patient_id}-{number + 1}",
        person=person,
        seconds=seconds,
        dark=bool(random.random() < 0.45),
        lies=_LIES[random.integers(len(_LIES))],
        doings=tuple(doings),
        seed=int(random.integers(2**31)),
    )


_WARDS = 7


def _ward(number: int) -> tuple[Place, Lens]:
    random = np.random.default_rng([77, number])
    kind = number % 3
    if kind == 0:  # above the bed
        position = (random.uniform(-0.4, 0.4), random.uniform(-0.6, 0.0), 2.55)
        target, focal = (0.0, random.uniform(-0.1, 0.1), MATTRESS), random.uniform(0.75, 0.95)
    elif kind == 1:  # at its foot
        position = (random.uniform(-0.8, 0.8), -2.3, random.uniform(1.7, 2.4))
        target, focal = (0.0, 0.0, 0.6), random.uniform(0.95, 1.25)
    else:  # on the wall beside it
        position = (random.choice([-1.9, 1.9]), random.uniform(-0.6, 0.6), random.uniform(1.6, 2.3))
        target, focal = (0.0, 0.0, 0.55), random.uniform(0.75, 0.95)
    lens = Lens(position, target, focal, random.uniform(0.0, 0.25), random.uniform(-0.12, 0.12))
    furniture = tuple(
        (
            (
                *(random.choice([-1.9, 1.0]) + random.uniform(0, 0.3), random.uniform(-2.2, 1.8), 0.0),
                *(random.uniform(0.3, 0.6), random.uniform(0.3, 0.6), random.uniform(0.4, 1.6)),
            ),
            _colour(random),
        )
        for _ in range(random.integers(1, 5))
    )
    screen = (1.9, 0.0, 1.6) if random.random() < 0.3 else None
    wall, floor, sheet = (_colour(random, low) for low in (0.5, 0.25, 0.6))
    return Place(wall, floor, sheet, None, furniture, screen, number), lens


def _colours(random: np.random.Generator) -> dict[str, Colour]:
    tone = random.uniform(0.35, 1.0)
    return {
        "skin": (0.9 * tone, 0.7 * tone, 0.58 * tone),
        "hair": _colour(random, 0.02, 0.6),
        "shirt": _colour(random),
        "trousers": _colour(random),
    }


def _colour(random: np.random.Generator, low: float = 0.15, high: float = 0.95) -> Colour:
    red, green, blue = random.uniform(low, high, 3).tolist()
    return red, green, blue


def _visitor(times_s: Array, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """A person who stands or walks beside the bed for a part of the time."""
    skin: Surface = surface(random.uniform(0.9, 1.1), 1.0, _colours(random), random)
    begin, length = random.uniform(-5, 25), random.uniform(4, 20)
    side = random.choice([-1.0, 1.0])
    root = np.zeros((len(times_s), 3))
    walk = random.uniform(0.0, 0.25)
    root[:, 0] = side * random.uniform(0.8, 1.3)
    root[:, 1] = random.uniform(-1.2, 0.6) + walk * (times_s - begin)
    root[:, 2] = np.where((times_s > begin) & (times_s < begin + length), 0.9, -40.0)
    swing = 0.4 * np.sin(2 * np.pi * random.uniform(0.4, 1.4) * times_s) * (walk > 0.08)
    sway = 0.1 * np.sin(2 * np.pi * 0.3 * times_s + random.uniform(0, 6))
    upright = {
        "pelvis.x": np.full(len(times_s), np.pi / 2),
        "thigh_left.x": swing,
        "thigh_right.x": -swing,
        "upper_arm_left.x": -swing + sway - 0.3,
        "upper_arm_right.x": swing - sway - 0.3,
        "forearm_left.x": np.full(len(times_s), -random.uniform(0.2, 1.4)),
        "belly.x": 0.15 + sway,
        "head.y": 4 * sway,
    }
    points, normals = placed(skin, Pose(upright, root), 1.0, lies=False)
    return points, normals, skin.colour
