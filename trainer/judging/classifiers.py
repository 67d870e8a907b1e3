"""Ways to judge clips by their features: the head, and the cheap ones it has to beat.

A judge learns from some clips and gives the probabilities of others. It sees features and classes only; who may
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
"""(training features (N, D), their classes (N,) from 0, each of which occurs, features to judge (M, D)) -> (M, C)."""

_GRID = 6
_NEIGHBOURS = 10
_MEAN_SIDE = 8


def head_judge(config: HeadConfig) -> Judge:
    """The paper's: linear layers on the frozen embedding."""

    def judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
        model = fit(np.ascontiguousarray(training), targets, config).eval()
        with torch.inference_mode():
            probabilities: NDArray[np.float64] = model(torch.from_numpy(np.array(judged))).double().softmax(1).numpy()
        return probabilities

    return judge


def neighbour_judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
    """Share of each class among the 10 nearest clips, by cosine; nothing is trained."""
    similarity = _unit(judged) @ _unit(training).T
    nearest = np.argsort(-similarity, axis=1)[:, :_NEIGHBOURS]
    share: NDArray[np.float64] = np.eye(targets.max() + 1)[targets[nearest]].mean(1)
    return share


def logistic_judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
    """Logistic regression on standardised features, classes weighted to balance."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    model.fit(training, targets)
    probabilities: NDArray[np.float64] = model.predict_proba(judged)
    return probabilities


def sign_judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
    """Logistic regression on probabilities of signs: its weights can be read, see `what_signs_say`."""
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(training, targets)
    probabilities: NDArray[np.float64] = model.predict_proba(judged)
    return probabilities


def what_signs_say(features: Features, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C, S) by how much a sign that is certain raises a class's log odds; of two, those of the second alone."""
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(features, targets)
    weights: NDArray[np.float64] = model.coef_
    return weights


def constant_judge(number: int) -> Judge:
    """Give every clip the class of this number, whatever was learned from: a reference that owes nothing to folds."""

    def judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:  # noqa: ARG001
        return np.tile(np.eye(int(targets.max()) + 1)[number], (len(judged), 1))

    return judge


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
