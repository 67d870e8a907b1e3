"""A cohort to compare encoders on: patients to pretrain on, some of them labelled, and patients no model has seen.

It is drawn straight into a frame cache at the encoder's size, without the detour over video files: the study is about
what an encoder learns, and so it can be large enough to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encoder.clips import ClipPlan
from index.semiology import PAPER
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.render import FPS
from semiome.simulation.scene import clips_of
from trainer.clips import TrainingClip, TrainingClips
from trainer.frame_cache import read_cache, write_cache, write_references

HELD_OUT = "test"


class _Simulated(Protocol):
    """One video, before it is drawn."""

    @property
    def video_id(self) -> str: ...
    @property
    def patient_id(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def camera(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def seed(self) -> int: ...

    def signs_between(self, start_s: float, end_s: float) -> tuple[str, ...]:
        """Seizure signs seen for at least a second in a stretch of the video."""

    def draw(self, num_frames: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draw its clips: (K, T, size, size, 3) frames, and (K, F) what is true of each."""


Simulator = Callable[[int, int, int, str], Sequence[_Simulated]]
"""Draws patients, so many videos of each, by a seed, with the beginning of their ids."""


@dataclass(frozen=True, slots=True)
class StudySize:
    """How large a study is.

    Attributes:
        pretraining: patients to pretrain on.
        labelled: of them, whose class is known.
        videos: of each patient to pretrain on.
        external: patients never pretrained on, all labelled.
        external_videos: of each of them.
    """

    pretraining: int = 120
    labelled: int = 15
    videos: int = 5
    external: int = 60
    external_videos: int = 3


def write_study(
    folder: Path,
    size: StudySize,
    seed: int,
    num_frames: int,
    image_size: int,
    processes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    simulate: Simulator = simulate_cohort,
) -> TrainingClips:
    """Draw a study's cohort into a frame cache, with the true joint angles beside it as a reference.

    Args:
        folder: the cache's.
        size: size of the study.
        seed: decides it all.
        num_frames: T.
        image_size: S.
        processes: how many draw at once.
        progress: told (videos done, in all).
        simulate: draws the patients.
    """
    inside = simulate(size.pretraining, size.videos, 2 * seed, f"in{seed}")
    outside = simulate(size.external, size.external_videos, 2 * seed + 1, f"ex{seed}")
    class_of = {recording.patient_id: recording.label for recording in inside}
    labelled = labelled_sets(class_of, size.labelled)[0]
    recordings = [*inside, *outside]
    drawn: list[Drawn] = []
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        draw = partial(drawn_clips, num_frames=num_frames, size=image_size)
        for number, (recording, found) in enumerate(
            zip(recordings, pool.map(draw, recordings, chunksize=4), strict=True)
        ):
            external = number >= len(inside)
            known = external or recording.patient_id in labelled
            clips = tuple(
                replace(clip, label=clip.label if known else "", split=HELD_OUT if external else "")
                for clip in found.clips
            )
            drawn.append(replace(found, clips=clips))
            progress(number + 1, len(recordings))
    frames, angles = (np.concatenate([getattr(one, key) for one in drawn]) for key in ("frames", "truth"))
    write_cache(folder, frames, [clip for one in drawn for clip in one.clips])
    write_references(folder, {"true joint angles": angles})
    return read_cache(folder)


def labelled_sets(class_of: Mapping[str, str], patients: int) -> list[list[str]]:
    """Disjoint sets of patients, each with the two classes in the share the cohort has; in the cohort's order.

    Args:
        class_of: each patient's class.
        patients: the patients of one set.
    """
    of_class = {label: [patient for patient, found in class_of.items() if found == label] for label in PAPER.names}
    extle = round(patients * len(of_class[PAPER.names[1]]) / len(class_of))
    each = {PAPER.names[0]: patients - extle, PAPER.names[1]: extle}
    sets = min(len(of_class[label]) // each[label] for label in PAPER.names if each[label])
    return [
        [p for label in PAPER.names for p in of_class[label][i * each[label] :][: each[label]]] for i in range(sets)
    ]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One video's clips.

    Attributes:
        frames: (K, T, S, S, 3) uint8.
        truth: (K, F) what the simulator knows of each.
        clips: what is known of each, its class too.
    """

    frames: NDArray[np.uint8]
    truth: NDArray[np.float32]
    clips: tuple[TrainingClip, ...]


def drawn_clips(recording: _Simulated, num_frames: int, size: int) -> Drawn:
    """Draw one video's clips."""
    frames, truth = recording.draw(num_frames, size)
    plans = clips_of(round(recording.seconds * FPS), num_frames)
    return Drawn(frames, truth, tuple(_clip(recording, plan) for plan in plans))


def _clip(recording: _Simulated, plan: ClipPlan) -> TrainingClip:
    return TrainingClip(
        video_id=recording.video_id,
        patient_id=recording.patient_id,
        clip_index=plan.clip_index,
        label=recording.label,
        camera=recording.camera,
        source_sha256=f"{recording.patient_id}/{recording.seed}",
        signs=recording.signs_between(plan.start_s, plan.start_s + plan.valid_seconds),
        valid_seconds=plan.valid_seconds,
        begins_s=plan.start_s,
    )
