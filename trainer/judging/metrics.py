"""Figures of a table: each with the interval that so few patients allow, and tests of the difference of two rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from encoder.head import POSITIVE
from index.intervals import over_groups
from index.records import LABELS


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
    """A figure and its 95 % interval over patients drawn with replacement."""

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


def scores(predictions: Sequence[Prediction], draws: int = 1000, seed: int = 0) -> Scores:
    """All figures of one row."""
    truth, verdict, probability = _arrays(predictions)
    by_patient = _rows_by_patient(predictions)
    random = np.random.default_rng(seed)
    samples = [
        np.concatenate([by_patient[i] for i in random.integers(0, len(by_patient), len(by_patient))])
        for _ in range(draws)
    ]

    def estimate(figure: Callable[[Arrays], float]) -> Estimate:
        value = figure((truth, verdict, probability))
        drawn = np.array([figure((truth[rows], verdict[rows], probability[rows])) for rows in samples])
        low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (np.nan, np.nan)
        return Estimate(value, float(low), float(high))

    folds = np.array([prediction.fold for prediction in predictions])
    confusion = metrics.confusion_matrix(truth, verdict, labels=[0, 1]).ravel().tolist()
    return Scores(
        accuracy=estimate(_accuracy),
        balanced_accuracy=estimate(_balanced),
        f1=estimate(_f1),
        macro_f1=estimate(_macro_f1),
        auroc=estimate(_auroc),
        confusion=(confusion[0], confusion[1], confusion[2], confusion[3]),
        accuracy_by_fold=tuple(float((truth == verdict)[folds == fold].mean()) for fold in np.unique(folds)),
        majority=float(max(truth.mean(), 1 - truth.mean())),
        videos=len(predictions),
        patients=len(by_patient),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more often one row is right than another, on the same videos.

    Attributes:
        value: difference of accuracies.
        low: 2.5 % quantile over patients drawn with replacement.
        high: 97.5 % quantile.
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
    random = np.random.default_rng(seed)
    low, high = over_groups(gains, counts, random, draws)
    flips = random.choice([-1, 1], (draws, len(gains)))
    extreme = np.abs((flips * gains).sum(1)) >= abs(gains.sum()) - 1e-9
    return Difference(float(gain.mean()), float(low), float(high), float((extreme.sum() + 1) / (draws + 1)))


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


def _balanced(arrays: Arrays) -> float:
    truth, verdict, _ = arrays
    shares = [(verdict[truth == label] == label).mean() for label in (0, 1) if (truth == label).any()]
    return float(np.mean(shares))


def _f1(arrays: Arrays, label: int = 1) -> float:
    truth, verdict, _ = arrays
    said, there = verdict == label, truth == label
    total = said.sum() + there.sum()
    return float(2 * (said & there).sum() / total) if total else 0.0


def _macro_f1(arrays: Arrays) -> float:
    return (_f1(arrays, 0) + _f1(arrays, 1)) / 2


def _auroc(arrays: Arrays) -> float:
    """Share of (exTLE, TLE) pairs in the right order, ties half; NaN with one class only."""
    truth, _, probability = arrays
    positive, negative = probability[truth == 1], probability[truth == 0]
    if not len(positive) or not len(negative):
        return float("nan")
    order = np.concatenate((negative, positive)).argsort(kind="stable")
    ranks = np.empty(len(order))
    values = np.concatenate((negative, positive))[order]
    first, counts = np.unique(values, return_index=True, return_counts=True)[1:]
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    total = ranks[len(negative) :].sum() - len(positive) * (len(positive) + 1) / 2
    return float(total / (len(positive) * len(negative)))
