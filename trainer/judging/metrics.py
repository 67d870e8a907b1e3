"""Figures of a table: each with the interval that so few patients allow, and tests of the difference of two rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from index.intervals import difference as interval_of_difference
from index.semiology import PAPER, Classes
from trainer.judging.intervals import (
    auroc_over_patients,
    f1_over_patients,
    mean_of_independent,
    share_over_patients,
)

_LEAST_SHOWN = 0.001


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted of one video by a model that had not seen its patient.

    Attributes:
        video_id: the video's id.
        patient_id: its patient, the unit of every interval.
        truth: its class.
        verdict: the class it was given.
        probabilities: of each class, the mean over its clips.
        fold: in which fold, from 0.
    """

    video_id: str
    patient_id: str
    truth: str
    verdict: str
    probabilities: tuple[float, ...]
    fold: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval over patients; see `trainer.judging.intervals`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of one row, pooled over folds.

    Attributes:
        accuracy: share of videos judged rightly.
        balanced_accuracy: mean of the classes' shares.
        f1: F1 of the positive class; None where there is none.
        macro_f1: mean F1 of the classes that a video is of or was given.
        auroc: of the positive class against the others; where there is none, the mean over all classes.
        confusion: for each true class, how many videos were given each class.
        accuracy_by_fold: accuracy of each fold.
        majority: share of the more frequent class: the accuracy of always answering with it.
        videos: number of videos judged.
        patients: of how many patients; this is the N that counts.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    f1: Estimate | None
    macro_f1: Estimate
    auroc: Estimate
    confusion: tuple[tuple[int, ...], ...]
    accuracy_by_fold: tuple[float, ...]
    majority: float
    videos: int
    patients: int


Arrays = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]
"""Number of the true class, of the class given, and (V, C) probabilities of each video."""


def scores(predictions: Sequence[Prediction], classes: Classes = PAPER) -> Scores:
    """All figures of one row."""
    arrays = truth, verdict, _ = _arrays(predictions, classes)
    _, patient = np.unique([p.patient_id for p in predictions], return_inverse=True)
    folds = np.array([prediction.fold for prediction in predictions])
    numbers = range(len(classes))
    confusion = metrics.confusion_matrix(truth, verdict, labels=list(numbers)).tolist()
    f1s = [Estimate(_f1(arrays, n), *f1_over_patients(verdict == n, truth == n, patient)) for n in numbers]
    return Scores(
        accuracy=Estimate(_accuracy(arrays), *share_over_patients(truth == verdict, patient)),
        balanced_accuracy=_balanced(arrays, patient),
        f1=None if classes.positive is None else f1s[classes.number(classes.positive)],
        # What one class gains another gains too, mostly: their bounds come together.
        macro_f1=_mean([f1s[n] for n in np.union1d(truth, verdict).tolist()]),
        auroc=_auroc(arrays, patient, classes),
        confusion=tuple(map(tuple, confusion)),
        accuracy_by_fold=tuple(float((truth == verdict)[folds == fold].mean()) for fold in np.unique(folds)),
        majority=float(np.bincount(truth).max() / len(truth)),
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

    @property
    def shown_p(self) -> str:
        """That probability with three decimals, and never as if it were none."""
        return f"{self.p:.3f}" if self.p >= _LEAST_SHOWN else f"< {_LEAST_SHOWN}"


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


def curves(predictions: Sequence[Prediction], label: str, classes: Classes = PAPER) -> dict[str, list[list[float]]]:
    """Points of a class's ROC (false and true positive rate) and precision-recall curves; empty with one side only."""
    truth, probability = _one_against_others(predictions, label, classes)
    if truth.min() == truth.max():
        return {"roc": [], "precision_recall": []}
    fpr, tpr, _ = metrics.roc_curve(truth, probability)
    precision, recall, _ = metrics.precision_recall_curve(truth, probability)
    return {
        "roc": [[float(x), float(y)] for x, y in zip(fpr, tpr, strict=True)],
        "precision_recall": [[float(x), float(y)] for x, y in zip(recall, precision, strict=True)],
    }


def reliability(
    predictions: Sequence[Prediction], label: str, classes: Classes = PAPER, bins: int = 5
) -> list[tuple[float, float, int]]:
    """(mean probability of a class, share that is of it, videos) of each filled bin of the probabilities."""
    truth, probability = _one_against_others(predictions, label, classes)
    place = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        (float(probability[place == b].mean()), float(truth[place == b].mean()), int((place == b).sum()))
        for b in range(bins)
        if (place == b).any()
    ]


def _arrays(predictions: Sequence[Prediction], classes: Classes) -> Arrays:
    truth, verdict = (
        np.array([classes.number(getattr(p, key)) for p in predictions], np.intp) for key in ("truth", "verdict")
    )
    return truth, verdict, np.array([p.probabilities for p in predictions])


def _one_against_others(
    predictions: Sequence[Prediction], label: str, classes: Classes
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Whether each video is of the class, 0 or 1, and how probable that was."""
    truth, _, probabilities_VC = _arrays(predictions, classes)
    number = classes.number(label)
    return (truth == number).astype(np.intp), probabilities_VC[:, number]


def _rows_by_patient(predictions: Sequence[Prediction]) -> list[NDArray[np.intp]]:
    _, patient = np.unique([p.patient_id for p in predictions], return_inverse=True)
    return [np.flatnonzero(patient == number) for number in range(patient.max() + 1)]


def _accuracy(arrays: Arrays) -> float:
    return float((arrays[0] == arrays[1]).mean())


def _balanced(arrays: Arrays, patient: NDArray[np.intp]) -> Estimate:
    truth, verdict, _ = arrays
    classes = [truth == number for number in np.unique(truth)]
    shares = [float((truth == verdict)[of_class].mean()) for of_class in classes]
    bounds = [share_over_patients((truth == verdict)[of_class], patient[of_class]) for of_class in classes]
    if len(classes) == 1:
        return Estimate(shares[0], *bounds[0])
    return Estimate(sum(shares) / len(shares), *mean_of_independent(shares, bounds))


def _f1(arrays: Arrays, number: int) -> float:
    truth, verdict, _ = arrays
    said, there = verdict == number, truth == number
    total = said.sum() + there.sum()
    return float(2 * (said & there).sum() / total) if total else 0.0


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of figures of the same videos, and of their bounds: none can be less certain than the least certain."""
    return Estimate(*(float(np.mean([getattr(one, key) for one in estimates])) for key in ("value", "low", "high")))


def _auroc(arrays: Arrays, patient: NDArray[np.intp], classes: Classes) -> Estimate:
    if classes.positive is not None:
        return _auroc_of(arrays, patient, classes.number(classes.positive))
    found = [_auroc_of(arrays, patient, number) for number in range(len(classes))]
    return _mean([one for one in found if not math.isnan(one.value)] or found[:1])


def _auroc_of(arrays: Arrays, patient: NDArray[np.intp], number: int) -> Estimate:
    """Share of (of the class, of another) pairs in the right order, ties half; NaN with one side only."""
    truth, _, probabilities_VC = arrays
    there, probability = truth == number, probabilities_VC[:, number]
    if there.all() or not there.any():
        return Estimate(math.nan, math.nan, math.nan)
    value = float(metrics.roc_auc_score(there, probability))
    sides = (patient[there], patient[~there])
    return Estimate(value, *auroc_over_patients(value, probability[there], probability[~there], sides))
