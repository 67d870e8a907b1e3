"""Training sign heads: from tags of whole videos and of stretches to a probability for each sign in each clip.

A tag of a video says that the sign is somewhere in it, not in which clips. So a video shows a sign as one of its clips
does (noisy or: 1 less the product of the clips' probabilities that it is missing). Clips of which it is known take
part by themselves: those in a stretch that a person marked, and those before an onset or after an end, which show none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from encoder.signs import SignHeads, SignsCard
from index.semiology import LearnedSign
from index.vectors.whitening import Whitening
from index.words import counted
from trainer.judging.classifiers import Features
from trainer.judging.folds import Fold, dealt
from trainer.judging.intervals import auroc_over_patients
from trainer.judging.sign_examples import SignExamples

LEAST_PATIENTS = 5
"""That must show a sign, and as many that must not: fewer say too little of patients to come."""
_FOLDS, _INNER_FOLDS = 5, 3
_SHRINKAGE = 0.1
_STEPS = 80
_NEVER = 1e-6


def train_signs(
    examples: SignExamples, seed: int = 0, progress: Callable[[int, int], None] = lambda done, total: None
) -> SignHeads:
    """Train, calibrate and examine sign heads; those that would not keep a promise are left out, with the reason.

    Calibration and examination are by heads that had not seen the patient.

    Args:
        examples: what to learn from.
        seed: of the folds.
        progress: told (folds done, in all).
    """
    left_out: dict[str, str] = {}
    for number, name in enumerate(examples.names):
        counts = [len(examples.patients_with(number, shown=shown)) for shown in (True, False)]
        if counts[0] < LEAST_PATIENTS:
            left_out[name] = f"{counted(counts[0], 'patient')} with it: {LEAST_PATIENTS} are needed"
        elif counts[1] < LEAST_PATIENTS:
            left_out[name] = f"{counted(counts[1], 'patient')} without it: {LEAST_PATIENTS} are needed"
    enough = examples.only([name for name in examples.names if name not in left_out])
    signs, weights, bias = [], np.empty((0, examples.vectors_ND.shape[1])), np.empty(0)
    if enough.names:
        unseen_NS = _unseen_logits(enough, _FOLDS, seed, progress)
        weights, bias = _fit(enough)
        slope_S, offset_S = _calibrated(unseen_NS, enough)
        weights, bias = weights * slope_S[:, None], bias * slope_S + offset_S
        signs = [_examined(number, unseen_NS * slope_S + offset_S, enough) for number in range(len(enough.names))]
    for sign in signs:
        if sign.auroc_low <= 0.5:
            told = f"{sign.auroc:.2f}, {sign.auroc_low:.2f} to {sign.auroc_high:.2f}"
            left_out[sign.name] = f"told no better than by chance in patients that were left out (AUROC {told})"
    judged = [number for number, sign in enumerate(signs) if sign.name not in left_out]
    card = SignsCard(
        encoder_id=examples.encoder_id,
        signs=tuple(signs[number] for number in judged),
        not_judged=tuple(sorted(left_out.items())),
        training_sha256=_digest(examples),
        clips=len(examples.clips),
        videos=len(examples.patient_V),
        patients=len(set(examples.patient_V.tolist())),
        seed=seed,
        training_patients=tuple(sorted(set(examples.patient_V.tolist()))),
    )
    return SignHeads(weights[judged].astype(np.float32), bias[judged].astype(np.float32), card)


class BySigns:
    """Probabilities of signs as features of clips, for a small readable model of the class on top of them.

    A clip of a patient who is learned from has those of heads that had not seen this patient either, as a clip that is
    judged has: else the second stage would trust the first too much.
    """

    def __init__(self, examples: SignExamples, vectors_ND: NDArray[np.float32], patients: Sequence[str]) -> None:
        """Take what there is.

        Args:
            examples: what sign heads learn from.
            vectors_ND: embeddings of the clips that are to be judged or learned from.
            patients: of these.
        """
        names = [name for n, name in enumerate(examples.names) if len(examples.patients_with(n, shown=True)) > 1]
        self._examples, self._vectors_ND, self._patients = examples.only(names), vectors_ND, np.array(patients)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the signs; none where too few patients show any."""
        return self._examples.names

    def __call__(self, fold: Fold) -> Features:
        """(N, S) float32, with heads that learn from the fold's training patients alone."""
        learned = self._examples.of(fold.training)
        features = np.zeros((len(self._vectors_ND), len(self.names)), np.float32)
        # Dealt without a look at the tags, so that nothing of a patient's own gets into what others are judged by.
        inner = [fold, *dealt({"": sorted(fold.training)}, _INNER_FOLDS, 0)]
        for one in inner:
            test = np.isin(self._patients, one.test)
            weights, bias = _fit(learned.of(one.training))
            odds = self._vectors_ND[test] @ weights.T.astype(np.float32) + bias.astype(np.float32)
            features[test] = 1 / (1 + np.exp(-odds))
        return features


def _folds(examples: SignExamples, folds: int, seed: int) -> list[Fold]:
    groups = {name: examples.patients_with(number, shown=True) for number, name in enumerate(examples.names)}
    everyone = sorted(set(examples.patient_V.tolist()))
    return dealt({**groups, "": everyone}, min(folds, len(everyone)), seed)


def _unseen_logits(
    examples: SignExamples, folds: int, seed: int, progress: Callable[[int, int], None]
) -> NDArray[np.float64]:
    """(N, S) by heads that had not seen the clip's patient."""
    logits = np.zeros((len(examples.clips), len(examples.names)))
    parts = _folds(examples, folds, seed)
    for number, fold in enumerate(parts):
        progress(number, len(parts))
        weights, bias = _fit(examples.of(fold.training))
        test = np.isin(examples.patient_V[examples.video_N], fold.test)
        logits[test] = examples.vectors_ND[test] @ weights.T + bias
    progress(len(parts), len(parts))
    return logits


def _fit(examples: SignExamples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (S, D) and bias (S,), with positive and negative videos weighing the same; deterministic.

    A sign that no video here shows, or each, gets what shrinkage leaves of it; without any video there are zeros.
    """
    if not examples.clips:
        return np.zeros((len(examples.names), examples.vectors_ND.shape[1])), np.zeros(len(examples.names))
    whitening = Whitening.of(examples.vectors_ND)
    basis_DK = np.eye(len(whitening.mean_D)) if whitening.basis_DK is None else whitening.basis_DK.astype(np.float64)
    x_NK = torch.from_numpy((examples.vectors_ND - whitening.mean_D) @ basis_DK).double()
    weights_SK = torch.zeros(len(examples.names), x_NK.shape[1], dtype=torch.float64, requires_grad=True)
    bias_S = torch.zeros(len(examples.names), dtype=torch.float64, requires_grad=True)
    evidence = _Evidence.of(examples)
    optimiser = torch.optim.LBFGS([weights_SK, bias_S], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = evidence.loss(x_NK @ weights_SK.T + bias_S, balanced=True) + _SHRINKAGE * (weights_SK**2).sum()
        found.backward()
        return found

    optimiser.step(loss)
    weights_SD = (weights_SK.detach().numpy() @ basis_DK.T).astype(np.float64)
    return weights_SD, bias_S.detach().numpy() - weights_SD @ whitening.mean_D.astype(np.float64)


def _calibrated(unseen_NS: NDArray[np.float64], examples: SignExamples) -> tuple[NDArray[np.float64], ...]:
    """Slope and offset of each sign's logits, so that probabilities of videos and known clips are what they say."""
    logits = torch.from_numpy(unseen_NS)
    log_slope_S = torch.zeros(unseen_NS.shape[1], dtype=torch.float64, requires_grad=True)
    offset_S = torch.zeros(unseen_NS.shape[1], dtype=torch.float64, requires_grad=True)
    evidence = _Evidence.of(examples)
    optimiser = torch.optim.LBFGS([log_slope_S, offset_S], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = evidence.loss(logits * log_slope_S.exp() + offset_S, balanced=False)
        # As one patient more and one less would have it: a perfect separation is no reason to be certain.
        found = found + ((log_slope_S**2).sum() + 0.1 * (offset_S**2).sum()) / len(examples.patient_V)
        found.backward()
        return found

    optimiser.step(loss)
    return log_slope_S.detach().exp().numpy(), offset_S.detach().numpy()


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What is known, as tensors."""

    video_N: Tensor
    tagged_VS: Tensor
    known_NS: Tensor

    @classmethod
    def of(cls, examples: SignExamples) -> _Evidence:
        arrays = (examples.video_N, examples.tagged_VS.astype(np.float64), examples.known_NS.astype(np.float64))
        return cls(*map(torch.from_numpy, arrays))

    def loss(self, logits_NS: Tensor, *, balanced: bool) -> Tensor:
        """Mean negative log likelihood of the videos' tags and of the clips that are known, over signs in sum."""
        absent_VS = torch.zeros_like(self.tagged_VS).index_add(0, self.video_N, F.logsigmoid(-logits_NS))
        there = -torch.log((-torch.expm1(absent_VS)).clamp_min(_NEVER))
        videos = torch.where(self.tagged_VS > 0, there, -absent_VS)
        known = ~self.known_NS.isnan()
        targets = self.known_NS.nan_to_num()
        clips = F.binary_cross_entropy_with_logits(logits_NS, targets, reduction="none") * known
        total = (videos * self._weights(self.tagged_VS, balanced=balanced)).sum()
        if known.any():
            total = total + clips.sum() / known.sum() * known.any(0).sum()
        return total

    @staticmethod
    def _weights(tagged_VS: Tensor, *, balanced: bool) -> Tensor:
        """Weights of each video for each sign: the same for all, or so that each side weighs the same."""
        if not balanced:
            return torch.full_like(tagged_VS, 1 / len(tagged_VS))
        shown = tagged_VS.mean(0).clamp(1 / len(tagged_VS), 1 - 1 / len(tagged_VS))
        return torch.where(tagged_VS > 0, 0.5 / shown, 0.5 / (1 - shown)) / len(tagged_VS)


def _examined(number: int, unseen_NS: NDArray[np.float64], examples: SignExamples) -> LearnedSign:
    """How well a sign is told in videos of patients that were left out."""
    absent_V = np.zeros(len(examples.patient_V))
    np.add.at(absent_V, examples.video_N, -np.logaddexp(0, unseen_NS[:, number]))
    probability, shown = -np.expm1(absent_V), examples.tagged_VS[:, number]
    _, patient = np.unique(examples.patient_V, return_inverse=True)
    value = float(roc_auc_score(shown, probability))
    low, high = auroc_over_patients(value, probability[shown], probability[~shown], (patient[shown], patient[~shown]))
    with_it, without = (len(examples.patients_with(number, shown=there)) for there in (True, False))
    return LearnedSign(examples.names[number], with_it, without, value, low, high)


def _digest(examples: SignExamples) -> str:
    digest = hashlib.sha256()
    for clip in examples.clips:
        digest.update(f"{clip.video_id} {clip.start_s:.12g}\n".encode())
    for values in (examples.vectors_ND, examples.tagged_VS, examples.known_NS):
        digest.update(values.tobytes())
    digest.update("\n".join(examples.names).encode())
    return digest.hexdigest()
