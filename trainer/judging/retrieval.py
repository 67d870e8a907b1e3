"""How well nearest neighbours answer "which past seizures look like this one?", with the query's patient left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from index.intervals import share
from trainer.clips import TrainingClip
from trainer.judging.metrics import Estimate


@dataclass(frozen=True, slots=True)
class Ranking:
    """Quality of rankings of clips of other patients, with intervals over the queries' patients.

    Attributes:
        recall_at_1: the nearest one is relevant.
        recall_at_5: one of the 5 nearest is.
        mean_average_precision: mean average precision of whole rankings.
        chance_at_1: what a random ranking would reach, for each of the three.
        chance_at_5: chance value of `recall_at_5`.
        chance: likewise, of the mean average precision.
        queries: number of queries.
        patients: of how many patients.
    """

    recall_at_1: Estimate
    recall_at_5: Estimate
    mean_average_precision: Estimate
    chance_at_1: float
    chance_at_5: float
    chance: float
    queries: int
    patients: int


def label_ranking(vectors_ND: NDArray[np.float32], clips: Sequence[TrainingClip]) -> Ranking | None:
    """Relevant is a clip of the same class. None without both classes, or without two patients of one."""
    rows = [row for row, clip in enumerate(clips) if clip.label]
    label = np.array([clips[row].label for row in rows])
    if len(set(label)) < 2:
        return None
    return _ranking(vectors_ND[rows], [clips[row] for row in rows], [label[:, None] == label])


def sign_ranking(vectors_ND: NDArray[np.float32], clips: Sequence[TrainingClip]) -> Ranking | None:
    """Relevant is a clip that shows the same sign; every clip is asked once for each sign it shows.

    None where it is not known which clip shows what: only simulated cohorts tell.
    """
    signs = sorted({sign for clip in clips for sign in clip.signs})
    if not signs:
        return None
    shows = np.array([[sign in clip.signs for clip in clips] for sign in signs])
    return _ranking(vectors_ND, clips, [of_sign[:, None] & of_sign for of_sign in shows])


def _ranking(
    vectors_ND: NDArray[np.float32], clips: Sequence[TrainingClip], relevants: Sequence[NDArray[np.bool_]]
) -> Ranking | None:
    _, patient = np.unique([clip.patient_id for clip in clips], return_inverse=True)
    elsewhere = patient[:, None] != patient
    similarity = np.where(elsewhere, vectors_ND @ vectors_ND.T, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")
    figures, asked_by = [], []
    for relevant in relevants:
        for query in np.flatnonzero((relevant & elsewhere).any(1)):
            ranked = order[query][: elsewhere[query].sum()]
            hits = relevant[query][ranked]
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            found = (hits[0], hits[:5].any(), precision[hits].mean())
            figures.append((*found, *_by_chance(len(hits), int(hits.sum()))))
            asked_by.append(patient[query])
    return _summary(np.array(figures, float), np.array(asked_by)) if figures else None


def _summary(figures: NDArray[np.float64], patient: NDArray[np.intp]) -> Ranking:
    names, place = np.unique(patient, return_inverse=True)
    sums = np.stack([np.bincount(place, weights=column) for column in figures.T], axis=1)
    counts = np.bincount(place)
    value = figures.mean(0)
    first, fifth, average = (Estimate(float(value[i]), *share(sums[:, i], counts)) for i in range(3))
    chances = value[3:6].tolist()
    return Ranking(first, fifth, average, chances[0], chances[1], chances[2], len(figures), len(names))


@cache
def _by_chance(clips: int, relevant: int) -> tuple[float, float, float]:
    """Expected recall at 1 and at 5, and average precision, of a random order of clips.

    The last is Bestgen, "Exact Expected Average Precision of the Random Baseline for System Evaluation" (2015).
    """
    harmonic = sum(1 / rank for rank in range(1, clips + 1)) / clips
    rest = (relevant - 1) / (clips - 1) if clips > 1 else 0.0
    none_of_5 = math.comb(clips - relevant, min(5, clips)) / math.comb(clips, min(5, clips))
    return relevant / clips, 1 - none_of_5, harmonic + rest * (1 - harmonic)
