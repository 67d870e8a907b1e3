"""Judging videos of patients no head has learned from: cross-validation by patient, and held-out patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from encoder.head import POSITIVE, vote
from index.errors import InvalidInput
from index.records import LABELS
from trainer.clips import TrainingClip
from trainer.judging.classifiers import Features, Judge
from trainer.judging.folds import Fold, Folds, check_leaks, patient_folds
from trainer.judging.metrics import Prediction


def labelled_patients(clips: Sequence[TrainingClip]) -> dict[str, set[str]]:
    """Classes of each patient's labelled videos.

    Raises:
        InvalidInput: If there are labels of one class only.
    """
    classes: dict[str, set[str]] = {}
    for clip in clips:
        if clip.label:
            classes.setdefault(clip.patient_id, set()).add(clip.label)
    labels_seen = {label for labels in classes.values() for label in labels}
    if len(labels_seen) < len(LABELS):
        both, got = " and ".join(LABELS), " and ".join(sorted(labels_seen)) or "none"
        raise InvalidInput(f"expected labelled videos of both classes ({both}), got {got}")
    return classes


def cross_validate(
    features: Features | Callable[[Fold], Features],
    clips: Sequence[TrainingClip],
    judge: Judge,
    folds: Folds,
    seed: int,
) -> list[Prediction]:
    """Judge each labelled video by a judge that never saw its patient.

    Args:
        features: (N, D), one row a clip; or what makes them for a fold, where the encoder itself must not have seen
            the fold's test patients.
        clips: one for each row; those without a label are not used.
        judge: the classifier.
        folds: number of folds, or `patient` to leave one patient out at a time.
        seed: decides the folds.

    Returns:
        One prediction a labelled video, in the order of the clips.

    Raises:
        InvalidInput: If there are too few patients for this number of folds.
        Leak: If something is on both sides.
    """
    predictions: list[Prediction] = []
    for number, fold in enumerate(patient_folds(labelled_patients(clips), folds, seed)):
        of_fold = features(fold) if callable(features) else features
        predictions += judge_patients(of_fold, clips, judge, fold.training, fold.test, number)
    order = {clip.video_id: place for place, clip in reversed(list(enumerate(clips)))}
    return sorted(predictions, key=lambda prediction: order[prediction.video_id])


def judge_patients(
    features: Features,
    clips: Sequence[TrainingClip],
    judge: Judge,
    training: Sequence[str],
    test: Sequence[str],
    fold: int = 0,
) -> list[Prediction]:
    """Learn from the labelled clips of some patients, and judge the labelled videos of others."""
    learned, judged = (_rows_of(clips, set(patients)) for patients in (training, test))
    check_leaks([clips[row] for row in learned], [clips[row] for row in judged])
    targets = np.array([LABELS.index(clips[row].label) == POSITIVE for row in learned], np.int64)
    if targets.min(initial=1) == targets.max(initial=0):
        raise InvalidInput("expected clips of both classes to learn from: label more videos, or use fewer folds")
    probability = judge(features[learned], targets, features[judged])
    return verdicts([clips[row] for row in judged], probability, fold)


def verdicts(
    clips: Sequence[TrainingClip], probability: NDArray[np.float64], fold: int = 0, threshold: float = 0.5
) -> list[Prediction]:
    """The vote of each video's clips; a clip votes exTLE from the threshold on."""
    rows: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        rows.setdefault(clip.video_id, []).append(row)
    predictions = []
    for video_id, of_video in rows.items():
        first, verdict = clips[of_video[0]], vote(probability[of_video], threshold)
        predictions.append(
            Prediction(video_id, first.patient_id, first.label, verdict.label, verdict.probability, fold)
        )
    return predictions


def _rows_of(clips: Sequence[TrainingClip], patients: set[str]) -> list[int]:
    return [row for row, clip in enumerate(clips) if clip.label and clip.patient_id in patients]
