"""What an accuracy must be read beside: the majority class, motion energy, and an interval over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from index.records import LABELS

_GRID = 6


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right verdicts with its interval.

    Attributes:
        accuracy: [0, 1].
        low: 2.5 % quantile over patients drawn with replacement.
        high: 97.5 % quantile.
        videos: verdicts judged.
        patients: of how many patients; this is the N that counts.
    """

    accuracy: float
    low: float
    high: float
    videos: int
    patients: int


def accuracy_over_patients(
    right: Sequence[bool], patient_ids: Sequence[str], draws: int = 2000, seed: int = 0
) -> Accuracy:
    """Accuracy over videos; its 95 % interval draws whole patients, since videos of one patient resemble each other."""
    names, patient_of = np.unique(patient_ids, return_inverse=True)
    hits = np.bincount(patient_of, weights=np.asarray(right, float))
    counts = np.bincount(patient_of)
    drawn = np.random.default_rng(seed).integers(0, len(names), (draws, len(names)))
    accuracies = hits[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(accuracies, [0.025, 0.975])
    return Accuracy(float(np.mean(right)), float(low), float(high), len(right), len(names))


def majority_class(training_labels: Sequence[str]) -> str:
    """The most frequent class; TLE when both are equally frequent."""
    return max(LABELS, key=lambda label: (list(training_labels).count(label), -LABELS.index(label)))


def motion_energy(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean absolute change between successive frames in each cell of a 6 x 6 grid, and its spread over time: (72,).

    Nothing is learned here: what a model scores less than this, it has not learned.
    """
    grey_THW = frames_THWC.mean(-1, dtype=np.float32)
    change_THW = np.abs(np.diff(grey_THW, axis=0))
    rows, columns = (np.array_split(np.arange(size), _GRID) for size in change_THW.shape[1:])
    cells_TG = np.stack([change_THW[:, r[:, None], c].mean((1, 2)) for r in rows for c in columns], axis=1)
    energy: NDArray[np.float32] = np.log1p(np.concatenate([cells_TG.mean(0), cells_TG.std(0)]))
    return energy


def motion_energy_verdicts(
    training: NDArray[np.float32],
    training_labels: Sequence[str],
    held_out: NDArray[np.float32],
    video_of_held_out: Sequence[str],
) -> dict[str, str]:
    """Verdict on each held-out video by logistic regression on its clips' motion energy (mean probability)."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    model.fit(training, list(training_labels))
    positive = list(model.classes_).index("exTLE")
    probability = model.predict_proba(held_out)[:, positive]
    videos = np.asarray(video_of_held_out)
    return {
        video: LABELS[int(probability[videos == video].mean() >= 0.5)] for video in dict.fromkeys(video_of_held_out)
    }
