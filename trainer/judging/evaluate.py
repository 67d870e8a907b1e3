"""Judging videos of patients no head has learned from: cross-validation by patient, and held-out patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from encoder.head import vote
from index.errors import InvalidInput
from index.semiology import PAPER, Classes
from trainer.clips import TrainingClip
from trainer.judging.classifiers import Features, Judge
from trainer.judging.folds import Fold, Folds, check_leaks, patient_folds
from trainer.judging.metrics import Prediction


def labelled_patients(clips: Sequence[TrainingClip], classes: Classes = PAPER) -> dict[str, set[str]]:
    """Classes of each patient's labelled videos.

    Raises:
        InvalidInput: If a class has no video, or a label is no class.
    """
    classes_of: dict[str, set[str]] = {}
    for clip in clips:
        if clip.label:
            classes_of.setdefault(clip.patient_id, set()).add(clip.label)
    seen = {label for labels in classes_of.values() for label in labels}
    for label in seen:
        classes.number(label)
    if len(seen) < len(classes):
        wanted, got = " and ".join(classes.names), " and ".join(sorted(seen)) or "none"
        raise InvalidInput(f"expected labelled videos of every class ({wanted}), got {got}")
    return classes_of


def commonest_class(clips: Sequence[TrainingClip], classes: Classes = PAPER) -> int:
    """The number of the class that most labelled videos are of; the first of equally common ones."""
    label_of = {clip.video_id: clip.label for clip in clips if clip.label}
    counts = [list(label_of.values()).count(name) for name in classes.names]
    return counts.index(max(counts))


def cross_validate(
    features: Features | Callable[[Fold], Features],
    clips: Sequence[TrainingClip],
    judge: Judge,
    folds: Folds,
    seed: int,
    classes: Classes = PAPER,
) -> list[Prediction]:
    """Judge each labelled video by a judge that never saw its patient.

    Args:
        features: (N, D), one row a clip; or what makes them for a fold, where the encoder itself must not have seen
            the fold's test patients.
        clips: one for each row; those without a label are not used.
        judge: the classifier.
        folds: number of folds, or `patient` to leave one patient out at a time.
        seed: decides the folds.
        classes: that there are.

    Returns:
        One prediction a labelled video, in the order of the clips.

    Raises:
        InvalidInput: If there are too few patients for this number of folds.
        Leak: If something is on both sides.
    """
    predictions: list[Prediction] = []
    for number, fold in enumerate(patient_folds(labelled_patients(clips, classes), folds, seed, classes)):
        of_fold = features(fold) if callable(features) else features
        predictions += judge_patients(of_fold, clips, judge, fold.training, fold.test, number, classes)
    order = {clip.video_id: place for place, clip in reversed(list(enumerate(clips)))}
    return sorted(predictions, key=lambda prediction: order[prediction.video_id])


def judge_patients(
    features: Features,
    clips: Sequence[TrainingClip],
    judge: Judge,
    training: Sequence[str],
    test: Sequence[str],
    fold: int = 0,
    classes: Classes = PAPER,
) -> list[Prediction]:
    """Learn from the labelled clips of some patients, and judge the labelled videos of others.

    Raises:
        InvalidInput: If those learned from lack a class.
        Leak: If something is on both sides.
    """
    learned, judged = (_rows_of(clips, set(patients)) for patients in (training, test))
    check_leaks([clips[row] for row in learned], [clips[row] for row in judged])
    targets = np.array([classes.number(clips[row].label) for row in learned], np.int64)
    if len(np.unique(targets)) < len(classes):
        raise InvalidInput("expected clips of every class to learn from: label more videos, or use fewer folds")
    probabilities = judge(features[learned], targets, features[judged])
    return verdicts([clips[row] for row in judged], probabilities, fold, classes)


def verdicts(
    clips: Sequence[TrainingClip], probabilities_NC: NDArray[np.float64], fold: int = 0, classes: Classes = PAPER
) -> list[Prediction]:
    """The vote of each video's clips."""
    rows: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        rows.setdefault(clip.video_id, []).append(row)
    predictions = []
    for video_id, of_video in rows.items():
        first, verdict = clips[of_video[0]], vote(probabilities_NC[of_video], classes.names)
        predictions.append(
            Prediction(video_id, first.patient_id, first.label, verdict.label, verdict.probabilities, fold)
        )
    return predictions


def _rows_of(clips: Sequence[TrainingClip], patients: set[str]) -> list[int]:
    return [row for row, clip in enumerate(clips) if clip.label and clip.patient_id in patients]
