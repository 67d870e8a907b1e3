"""Figures of a table: each with the interval that so few patients allow, and tests of the difference of two rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from encoder.head import POSITIVE
from index.intervals import difference as interval_of_difference
from index.records import LABELS
from trainer.judging.intervals import (
    auroc_over_patients,
    f1_over_patients,
    mean_of_independent,
    share_over_patients,
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted of one video by a model that had not seen its patient.

    Attributes:
        video_id: the video's id.
        patient_id: its patient, the unit of every interval.
        truth: its class.
        verdict: the class it was given.
        probability: of exTLE, the mean over its clips.
        fold: in which fold, from 0.
    """

    video_id: str
    patient_id: str
    truth: str
    verdict: str
    probability: float
    fold: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval over patients; see `trainer.judging.intervals`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of one row, pooled over folds; exTLE is the positive class.

    Attributes:
        accuracy: share of videos judged rightly.
        balanced_accuracy: mean of the classes' shares.
        f1: F1 of exTLE.
        macro_f1: mean of both classes'.
        auroc: of the probabilities.
        confusion: true TLE said TLE, true TLE said exTLE, true exTLE said TLE, true exTLE said exTLE.
        accuracy_by_fold: accuracy of each fold.
        majority: share of the more frequent class: the accuracy of always answering with it.
        videos: number of videos judged.
        patients: of how many patients; this is the N that counts.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    f1: Estimate
    macro_f1: Estimate
    auroc: Estimate
    confusion: tuple[int, int, int, int]
    accuracy_by_fold: tuple[float, ...]
    majority: float
    videos: int
    patients: int


Arrays = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]
"""Truth, verdict (1 for exTLE) and probability of each video."""


def scores(predictions: Sequence[Prediction]) -> Scores:
    """All figures of one row."""
    truth, verdict, probability = _arrays(predictions)
    arrays = truth, verdict, probability
    _, patient = np.unique([p.patient_id for p in predictions], return_inverse=True)
    folds = np.array([prediction.fold for prediction in predictions])
    confusion = metrics.confusion_matrix(truth, verdict, labels=[0, 1]).ravel().tolist()
    f1s = [f1_over_patients(verdict == label, truth == label, patient) for label in (0, 1)]
    return Scores(
        accuracy=Estimate(_accuracy(arrays), *share_over_patients(truth == verdict, patient)),
        balanced_accuracy=_balanced(arrays, patient),
        f1=Estimate(_f1(arrays), *f1s[1]),
        # What one class gains the other gains too, mostly: their bounds come together.
        macro_f1=Estimate(_macro_f1(arrays), *(float(np.mean(bound)) for bound in zip(*f1s, strict=True))),
        auroc=_auroc_estimate(arrays, patient),
        confusion=(confusion[0], confusion[1], confusion[2], confusion[3]),
        accuracy_by_fold=tuple(float((truth == verdict)[folds == fold].mean()) for fold in np.unique(folds)),
        majority=float(max(truth.mean(), 1 - truth.mean())),
        videos=len(predictions),
        patients=int(patient.max()) + 1,
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more often one row is right than another, on the same videos.

    Attributes:
        value: difference of accuracies.
        low: of its 95 % interval over patients.
        high: of the same.
        p: of a difference as large or larger when, for each patient, it is chance which row said what.
    """

    value: float
    low: float
    high: float
    p: float


def difference(
    ours: Sequence[Prediction], theirs: Sequence[Prediction], draws: int = 2000, seed: int = 0
) -> Difference:
    """Accuracy of `ours` less that of `theirs`, with a paired permutation test over patients (two-sided)."""
    if [p.video_id for p in ours] != [p.video_id for p in theirs]:
        raise ValueError("expected two rows that judge the same videos in the same order")
    right = [np.array([p.truth == p.verdict for p in row], float) for row in (ours, theirs)]
    gain = right[0] - right[1]
    by_patient = _rows_by_patient(ours)
    gains = np.array([gain[rows].sum() for rows in by_patient])
    counts = np.array([len(rows) for rows in by_patient])
    low, high = interval_of_difference(gains, counts)
    random = np.random.default_rng(seed)
    flips = random.choice([-1, 1], (draws, len(gains)))
    extreme = np.abs((flips * gains).sum(1)) >= abs(gains.sum()) - 1e-9
    return Difference(float(gain.mean()), low, high, float((extreme.sum() + 1) / (draws + 1)))


def curves(predictions: Sequence[Prediction]) -> dict[str, list[list[float]]]:
    """Points of the ROC (false and true positive rate) and precision-recall curves; empty with one class only."""
    truth, _, probability = _arrays(predictions)
    if truth.min() == truth.max():
        return {"roc": [], "precision_recall": []}
    fpr, tpr, _ = metrics.roc_curve(truth, probability)
    precision, recall, _ = metrics.precision_recall_curve(truth, probability)
    return {
        "roc": [[float(x), float(y)] for x, y in zip(fpr, tpr, strict=True)],
        "precision_recall": [[float(x), float(y)] for x, y in zip(recall, precision, strict=True)],
    }


def reliability(predictions: Sequence[Prediction], bins: int = 5) -> list[tuple[float, float, int]]:
    """(mean probability, share of exTLE, videos) of each filled bin of the probabilities."""
    truth, _, probability = _arrays(predictions)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        (float(probability[place == b].mean()), float(truth[place == b].mean()), int((place == b).sum()))
        for b in range(bins)
        if (place == b).any()
    ]


def _arrays(predictions: Sequence[Prediction]) -> Arrays:
    truth, verdict = (
        np.array([LABELS.index(getattr(p, key)) == POSITIVE for p in predictions]).astype(np.intp)
        for key in ("truth", "verdict")
    )
    return truth, verdict, np.array([p.probability for p in predictions])


def _rows_by_patient(predictions: Sequence[Prediction]) -> list[NDArray[np.intp]]:
    _, patient = np.unique([p.patient_id for p in predictions], return_inverse=True)
    return [np.flatnonzero(patient == number) for number in range(patient.max() + 1)]


def _accuracy(arrays: Arrays) -> float:
    return float((arrays[0] == arrays[1]).mean())


def _balanced(arrays: Arrays, patient: NDArray[np.intp]) -> Estimate:
    truth, verdict, _ = arrays
    classes = [truth == label for label in (0, 1) if (truth == label).any()]
    shares = [float((truth == verdict)[of_class].mean()) for of_class in classes]
    bounds = [share_over_patients((truth == verdict)[of_class], patient[of_class]) for of_class in classes]
    if len(classes) == 1:
        return Estimate(shares[0], *bounds[0])
    return Estimate(sum(shares) / 2, *mean_of_independent((shares[0], shares[1]), (bounds[0], bounds[1])))


def _f1(arrays: Arrays, label: int = 1) -> float:
    truth, verdict, _ = arrays
    said, there = verdict == label, truth == label
    total = said.sum() + there.sum()
    return float(2 * (said & there).sum() / total) if total else 0.0


def _macro_f1(arrays: Arrays) -> float:
    return (_f1(arrays, 0) + _f1(arrays, 1)) / 2


def _auroc_estimate(arrays: Arrays, patient: NDArray[np.intp]) -> Estimate:
    """Share of (exTLE, TLE) pairs in the right order, ties half; NaN with one class only."""
    truth, _, probability = arrays
    there = truth == 1
    if there.all() or not there.any():
        return Estimate(math.nan, math.nan, math.nan)
    value = float(metrics.roc_auc_score(truth, probability))
    sides = (patient[there], patient[~there])
    return Estimate(value, *auroc_over_patients(value, probability[there], probability[~there], sides))
