"""Ways to judge clips by their features: the head, and the cheap ones it has to beat.

A judge learns from some clips and gives the probability of exTLE of others. It sees features and classes only; who may
be learned from is decided by `trainer.judging.folds`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer.judging.head import HeadConfig, fit

Features = NDArray[np.float32]
Judge = Callable[[Features, NDArray[np.int64], Features], NDArray[np.float64]]
"""(training features (N, D), their classes (N,) 0 or 1 for exTLE, features to judge (M, D)) -> (M,) P(exTLE)."""

_GRID = 6
_NEIGHBOURS = 10
_MEAN_SIDE = 8


def head_judge(config: HeadConfig) -> Judge:
    """The paper's: linear layers on the frozen embedding."""

    def judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
        model = fit(np.ascontiguousarray(training), targets, config).eval()
        with torch.inference_mode():
            probabilities: NDArray[np.float64] = (
                model(torch.from_numpy(np.array(judged))).double().softmax(1)[:, 1].numpy()
            )
        return probabilities

    return judge


def neighbour_judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
    """Share of exTLE among the 10 nearest clips, by cosine; nothing is trained."""
    similarity = _unit(judged) @ _unit(training).T
    nearest = np.argsort(-similarity, axis=1)[:, :_NEIGHBOURS]
    share: NDArray[np.float64] = targets[nearest].mean(1)
    return share


def logistic_judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
    """Logistic regression on standardised features, classes weighted to balance."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    model.fit(training, targets)
    probabilities: NDArray[np.float64] = model.predict_proba(judged)[:, 1]
    return probabilities


def majority_judge(
    training: Features,  # noqa: ARG001  a judge's arguments
    targets: NDArray[np.int64],
    judged: Features,
) -> NDArray[np.float64]:
    """The more frequent class of those learned from; TLE when both are equally common."""
    return np.full(len(judged), float(targets.mean() > 0.5))


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


def mean_image(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The clip's mean picture at 8 x 8: what a model would know that saw the room and no movement: (192,)."""
    mean_HWC = frames_THWC.mean(0, dtype=np.float32)
    rows, columns = (np.array_split(np.arange(size), _MEAN_SIDE) for size in mean_HWC.shape[:2])
    cells = [mean_HWC[r[:, None], c].mean((0, 1)) for r in rows for c in columns]
    image: NDArray[np.float32] = (np.concatenate(cells) / 255).astype(np.float32)
    return image


def _unit(vectors: Features) -> Features:
    unit: Features = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
