"""Who is trained on and who is tested: folds by patient, every class in each, and nothing on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from index.errors import InvalidInput
from index.semiology import PAPER, Classes
from trainer.clips import TrainingClip

Folds = Annotated[int, Field(ge=2)] | Literal["patient"]
"""How many folds by patient; or as many as there are patients, each left out once."""


class Leak(InvalidInput):
    """Something stands on both sides of a split; no figure of such an evaluation means anything."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One split of the labelled patients.

    Attributes:
        training: patients to learn from.
        test: patients to be judged on.
    """

    training: tuple[str, ...]
    test: tuple[str, ...]


def patient_folds(classes_of: Mapping[str, set[str]], folds: Folds, seed: int, classes: Classes = PAPER) -> list[Fold]:
    """Deal patients into folds so that each has every class among its test and its training patients.

    Leaving one patient out at a time, a fold is tested on that patient's class alone.

    Args:
        classes_of: classes of the videos of each patient; mostly one, some patients have several.
        folds: how many, at least 2; or `patient`, one for each patient.
        seed: decides who is with whom.
        classes: that there are.

    Raises:
        InvalidInput: If a class has fewer patients than there are folds; the message proposes a number that works.
    """
    patients_of = {label: sorted(p for p, of in classes_of.items() if label in of) for label in classes.names}
    fewest = min(map(len, patients_of.values()))
    counts = " and ".join(f"{len(patients)} with {label}" for label, patients in patients_of.items())
    if folds == "patient" and fewest >= 2:
        patients = sorted(classes_of)
        return [Fold(tuple(p for p in patients if p != left_out), (left_out,)) for left_out in patients]
    if folds == "patient" or fewest < 2 or folds < 2:
        raise InvalidInput(f"expected 2 folds or more, and 2 patients of each class or more, got {folds} and {counts}")
    if folds > fewest:
        raise InvalidInput(
            f"{folds} folds need {folds} patients of each class, so that each fold is tested on all; got {counts}: "
            f"use {fewest} folds, or one for each patient"
        )
    return dealt(patients_of, folds, seed)


def dealt(patients_of: Mapping[str, Sequence[str]], folds: int, seed: int) -> list[Fold]:
    """Deal patients into folds, those of each group as evenly as can be.

    Args:
        patients_of: patients of each group, sorted; one may be in several groups, is dealt once and counts for each.
        folds: how many.
        seed: decides who is with whom.
    """
    random = np.random.default_rng(seed)
    members: list[list[str]] = [[] for _ in range(folds)]
    for patients in sorted(patients_of.values(), key=len):  # the rarest group first
        alike = set(patients)
        waiting = [str(p) for p in random.permutation([p for p in patients if not _dealt(p, members)])]
        for patient in waiting:
            of_group = [sum(other in alike for other in fold) for fold in members]
            smallest = min(range(folds), key=lambda number: (of_group[number], len(members[number])))
            members[smallest].append(patient)
    return [
        Fold(tuple(sorted(p for other in members if other is not fold for p in other)), tuple(sorted(fold)))
        for fold in members
    ]


def patients_held_out(splits_of: Iterable[tuple[str, str]], hold_out_split: str) -> set[str]:
    """Patients with a video of the split that is held out: none of their clips may be learned from.

    Args:
        splits_of: patient and split of each video, labelled or not; an empty split is none.
        hold_out_split: name of the split; empty to hold none out.

    Raises:
        InvalidInput: If no video has this split though some have others: it is misspelled, or spelled otherwise.
    """
    pairs = list(splits_of)
    held_out = {patient for patient, split in pairs if hold_out_split and split == hold_out_split}
    splits = sorted({split for _, split in pairs if split})
    if hold_out_split and splits and not held_out:
        raise InvalidInput(
            f"no video has split {hold_out_split!r}, so no patient would be held out; the splits are: "
            f"{', '.join(splits)}. Name one of these, or an empty one to learn from all"
        )
    return held_out


def check_leaks(training: Sequence[TrainingClip], test: Sequence[TrainingClip]) -> None:
    """Make sure that nothing is on both sides.

    Raises:
        Leak: If a patient, a video, a clip, a file's content or a recording is; the message says what, how many, and
            which videos.
    """
    sides = [_identities(training), _identities(test)]
    for what in sides[0]:
        if both := sides[0][what].keys() & sides[1][what].keys():
            names = sorted({video for side in sides for identity in both for video in side[what][identity]})
            raise Leak(
                f"{len(both)} {what} on both sides of a split, so no figure would mean anything: videos "
                f"{', '.join(names[:6])}{', …' if len(names) > 6 else ''}; correct the manifest, or remove one of them "
                "with `semiome remove`"
            )


def _identities(clips: Sequence[TrainingClip]) -> dict[str, dict[object, set[str]]]:
    """Videos that have each identity, by its kind."""
    videos_of: dict[str, dict[object, set[str]]] = {
        what: {} for what in ("patients", "videos", "clips", "source files", "recordings")
    }
    for clip in clips:
        for what, identity in (
            ("patients", clip.patient_id),
            ("videos", clip.video_id),
            ("clips", (clip.video_id, clip.clip_index)),
            ("source files", clip.source_sha256),
            # A recording id alone may be another recording's with each patient; with when its file began it is not.
            ("recordings", (clip.recording_id, clip.file_began) if clip.recording_id and clip.file_began else None),
        ):
            if identity:
                videos_of[what].setdefault(identity, set()).add(clip.video_id)
    return videos_of


def _dealt(patient: str, members: list[list[str]]) -> bool:
    return any(patient in fold for fold in members)
