"""Who is in a simulated cohort, how they look, where they lie, and what their seizures are made of.

Looks, room and camera are drawn without regard to class: a model that tells the classes apart must have seen movement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from index.semiology import PAPER
from semiome.simulation.figure import REST
from semiome.simulation.render import FPS, Camera, Colour, Look, Room
from semiome.simulation.scene import Scene, clips_of
from semiome.simulation.signs import ACTIVITIES, SIGNS, Event, Sign, move

ROOMS = (
    Room((0.82, 0.84, 0.80), (0.55, 0.50, 0.45), 0.5, (0.90, 0.90, 0.92), 0.2, (0.3, 0.45, 0.6)),
    Room((0.70, 0.78, 0.84), (0.42, 0.46, 0.50), 0.8, (0.85, 0.90, 0.95), -0.8, (0.7, 0.5, 0.3)),
    Room((0.86, 0.80, 0.68), (0.60, 0.52, 0.40), 0.3, (0.95, 0.93, 0.86), 0.9, (0.4, 0.6, 0.4)),
    Room((0.74, 0.82, 0.72), (0.38, 0.40, 0.38), 1.1, (0.80, 0.88, 0.84), 0.0, (0.6, 0.3, 0.35)),
)
CAMERAS = (
    Camera((1.9, -1.7, 2.3), (0.0, 0.1, 0.6), 1.0),
    Camera((-1.9, -1.5, 2.2), (0.0, 0.1, 0.6), 0.95),
    Camera((0.3, -2.4, 2.4), (0.0, 0.1, 0.6), 1.05),
)
_SKINS: tuple[Colour, ...] = ((0.93, 0.76, 0.65), (0.82, 0.62, 0.48), (0.62, 0.44, 0.32), (0.42, 0.29, 0.21))
_HAIRS: tuple[Colour, ...] = ((0.1, 0.08, 0.06), (0.35, 0.22, 0.12), (0.7, 0.55, 0.3), (0.6, 0.6, 0.6))
_SECONDS = (22.0, 42.0)
_STEREOTYPY = 0.8
"""How often a seizure keeps to its patient's habit, sign by sign: seizures of one focus resemble each other."""
_HELD_OUT_SHARE = 0.3
_OPENED = datetime(2024, 1, 8)  # a clock on the wall, as recorders have it: of no time zone
"""When the first patient was admitted; one more each week."""


@dataclass(frozen=True, slots=True)
class Patient:
    """One simulated patient.

    Attributes:
        patient_id: pseudonym.
        label: class of the epilepsy.
        held_out: kept from every training.
        look: skin, hair and clothes.
        size: scale of lengths.
        build: scale of thickness.
        habit: names of the signs that are usual in this patient's seizures.
        side: where lateral signs happen.
        vigour: personal scale of movement.
        tempo: personal scale of speed.
        room: number of the room.
        camera: number of the camera.
    """

    patient_id: str
    label: str
    held_out: bool
    look: Look
    size: float
    build: float
    habit: frozenset[str]
    side: int
    vigour: float
    tempo: float
    room: int
    camera: int


@dataclass(frozen=True, slots=True)
class Recording:
    """One simulated video, before it is drawn.

    Attributes:
        video_id: its id.
        patient: who is in it.
        recorded_at: when, on the clock of the made-up hospital.
        seconds: duration.
        night: infrared.
        blanket: colour of a blanket over the legs.
        nurse_s: when a nurse passes, from and to; None when none does.
        events: what the patient does.
        seed: of sensor noise and unrest.
    """

    video_id: str
    patient: Patient
    recorded_at: datetime
    seconds: float
    night: bool
    blanket: Colour | None
    nurse_s: tuple[float, float] | None
    events: tuple[Event, ...]
    seed: int

    @property
    def patient_id(self) -> str:
        """Pseudonym of who is in it."""
        return self.patient.patient_id

    @property
    def label(self) -> str:
        """Class of their epilepsy."""
        return self.patient.label

    @property
    def camera(self) -> str:
        """Name of the room and its camera."""
        return f"room{self.patient.room + 1}-camera{self.patient.camera + 1}"

    @property
    def scene(self) -> Scene:
        """What is seen besides the movement."""
        who = self.patient
        look = replace(who.look, blanket=self.blanket)
        return Scene(ROOMS[who.room], CAMERAS[who.camera], self.night, look, who.size, who.build, self.nurse_s)

    def signs_between(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Seizure signs seen for at least a second in a stretch of the video."""
        return tuple(sorted(sign.name for sign in self._seen(start_s, end_s)))

    def draw(self, num_frames: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw its clips: (K, T, size, size, 3) frames, and (K, 2 J) mean and spread of every joint's angle in each."""
        random = np.random.default_rng(self.seed)
        motion = move(list(self.events), self.seconds, FPS, random)
        frames = self.scene.clips(motion, num_frames, size, random)
        angles = np.stack([motion.angles[name] for name in REST], axis=1)
        spans = ((plan.start_s * FPS, plan.valid_seconds * FPS) for plan in clips_of(motion.moments, num_frames))
        parts = [angles[round(start) : round(start + length)] for start, length in spans]
        return frames, np.stack([np.concatenate([part.mean(0), part.std(0)]) for part in parts]).astype(np.float32)

    @property
    def semiology(self) -> tuple[str, ...]:
        """What the signs of the whole video are called in HED-SCORE."""
        return tuple(sorted({sign.tag for sign in self._seen(0, self.seconds)}))

    def _seen(self, start_s: float, end_s: float) -> list[Sign]:
        lasting = {event.name for event in self.events if min(event.end_s, end_s) - max(event.start_s, start_s) >= 1}
        return [sign for sign in SIGNS if sign.name in lasting]


def simulate_cohort(patients: int, videos: int, seed: int, prefix: str = "sim") -> tuple[Recording, ...]:
    """Draw a cohort: 60 % TLE; of each class about 30 % of the patients, at least one, held out.

    Args:
        patients: how many, at least 4.
        videos: number of videos of each.
        seed: decides it all.
        prefix: beginning of patient ids.
    """
    random = np.random.default_rng(seed)
    extle = round(0.4 * patients)
    labels = random.permutation([PAPER.names[1]] * extle + [PAPER.names[0]] * (patients - extle)).tolist()
    held_out = {
        int(number)
        for label in PAPER.names
        for number in random.permutation([i for i, name in enumerate(labels) if name == label])[
            : max(1, round(_HELD_OUT_SHARE * labels.count(label)))
        ]
    }
    cohort = [_patient(f"{prefix}-{i + 1:02d}", label, i in held_out, random) for i, label in enumerate(labels)]
    return tuple(
        _recording(patient, _OPENED + timedelta(weeks=week), number, random)
        for week, patient in enumerate(cohort)
        for number in range(videos)
    )


def _patient(patient_id: str, label: str, held_out: bool, random: np.random.Generator) -> Patient:
    return Patient(
        patient_id=patient_id,
        label=label,
        held_out=held_out,
        look=Look(
            skin=_SKINS[random.integers(len(_SKINS))],
            hair=_HAIRS[random.integers(len(_HAIRS))],
            top=_colour(random),
            legs=_colour(random),
        ),
        size=random.uniform(0.88, 1.08),
        build=random.uniform(0.85, 1.2),
        habit=frozenset(sign.name for sign in SIGNS if random.random() < _likely(sign, label)),
        side=int(random.integers(2)),
        vigour=random.uniform(0.8, 1.2),
        tempo=random.uniform(0.85, 1.15),
        room=int(random.integers(len(ROOMS))),
        camera=int(random.integers(len(CAMERAS))),
    )


def _likely(sign: Sign, label: str) -> float:
    return sign.tle if label == PAPER.names[0] else sign.extle


def _colour(random: np.random.Generator) -> Colour:
    red, green, blue = random.uniform(0.15, 0.9, 3).tolist()
    return red, green, blue


def _recording(patient: Patient, admitted: datetime, number: int, random: np.random.Generator) -> Recording:
    seconds = round(random.uniform(*_SECONDS), 1)
    nurse = None
    if random.random() < 0.3:
        begin = random.uniform(0, seconds - 8)
        nurse = (begin, begin + random.uniform(4, 7))
    night = random.random() < 0.4
    blanket = _colour(random) if random.random() < 0.4 else None
    events = tuple(_events(patient, seconds, random))
    seed = int(random.integers(2**31))
    # A seizure a day, in the eight hours from ten in the morning or in the evening.
    at = timedelta(days=number, hours=22 if night else 10, seconds=seed % (8 * 3600))
    return Recording(
        video_id=f"{patient.patient_id}-{'abcdefgh'[number % 8]}{number // 8 or ''}",
        patient=patient,
        recorded_at=admitted + at,
        seconds=seconds,
        night=night,
        blanket=blanket,
        nurse_s=nurse,
        events=events,
        seed=seed,
    )


def _events(patient: Patient, seconds: float, random: np.random.Generator) -> list[Event]:
    """Daily life, then a seizure to the end."""
    onset = random.uniform(1, 6)

    def event(name: str, start: float, end: float) -> Event:
        vigour, tempo = (scale * random.uniform(0.85, 1.15) for scale in (patient.vigour, patient.tempo))
        return Event(name, round(start, 2), round(min(end, seconds), 2), patient.side, vigour, tempo)

    events = [event(str(random.choice(list(ACTIVITIES))), 0, onset)]
    likely = [_likely(sign, patient.label) for sign in SIGNS]
    chosen = [
        sign
        for sign, p in zip(SIGNS, likely, strict=True)
        if (sign.name in patient.habit if random.random() < _STEREOTYPY else random.random() < p)
    ]
    while len(chosen) < 2:
        chosen.append(SIGNS[random.choice(len(SIGNS), p=np.array(likely) / sum(likely))])
    at = onset
    while at < seconds - 1:
        for number in random.permutation(len(chosen)):
            length = random.uniform(4, 9)
            events.append(event(chosen[number].name, at, at + length))
            at += length * random.uniform(0.55, 0.9)
            if at >= seconds - 1:
                break
    return events
