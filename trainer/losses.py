"""Patient-level and video-level contrastive losses (Li et al., eq. 1 to 3), in float32 whatever the model runs in.

For an anchor i and a positive j of the same group:

    loss(i, j) = -log( exp(cos(i, j) / tau) / (exp(cos(i, j) / tau) + sum over n of exp(cos(i, n) / tau)) )

where n runs over the anchor's negatives: clips of other videos (eq. 1) or of other patients (eq. 2). Other positives
of the anchor are left out of its denominator. Both orders of a pair count, and a level is the mean over its pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from index.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class LevelLoss:
    """One level's loss beside what guessing gives.

    Attributes:
        loss: mean over the ordered positive pairs, in nats; exactly 0, with a zero gradient, when there is none.
        chance: mean of ln(1 + negatives) over the same pairs: the loss of an encoder that maps all clips to one point.
        pairs: number of ordered positive pairs.
    """

    loss: Tensor
    chance: float
    pairs: int


@dataclass(frozen=True, slots=True)
class ContrastiveLoss:
    """Both levels and their sum (eq. 3)."""

    total: Tensor
    video: LevelLoss
    patient: LevelLoss


def pair_losses(z_BD: Tensor, group_B: Tensor, negative_BB: Tensor, tau: float) -> Tensor:
    """Loss of every ordered positive pair, in nats (eq. 1 and 2).

    Args:
        z_BD: clip embeddings, any length.
        group_B: the video (eq. 1) or the patient (eq. 2) of each clip.
        negative_BB: [i, n] is whether clip n is a negative of anchor i.
        tau: temperature, > 0.

    Returns:
        (P,) one loss for each ordered pair of different clips of one group; empty when there is none.

    Raises:
        InvalidInput: tau is not above 0.
    """
    if not tau > 0:
        raise InvalidInput(f"expected a temperature tau above 0, got {tau}")
    unit_BD = F.normalize(z_BD.float(), dim=1)
    logits_BB = unit_BD @ unit_BD.T / tau
    # log of the sum over negatives; -inf where an anchor has none, so that the pair's loss becomes -log(1) = 0.
    negatives_B = logits_BB.masked_fill(~negative_BB, -torch.inf).logsumexp(1)
    anchor_P, positive_P = _positive_pairs(group_B)
    positives_P = logits_BB[anchor_P, positive_P]
    return F.softplus(negatives_B[anchor_P] - positives_P)


def level_loss(z_BD: Tensor, group_B: Tensor, negative_BB: Tensor, tau: float) -> LevelLoss:
    """Mean pair loss of one level, and its chance value."""
    losses_P = pair_losses(z_BD, group_B, negative_BB, tau)
    anchor_P, _ = _positive_pairs(group_B)
    negatives_P = negative_BB.sum(1)[anchor_P].tolist()
    pairs = len(negatives_P)
    chance = sum(math.log1p(n) for n in negatives_P) / pairs if pairs else 0.0
    # Without a pair: a zero that still belongs to the graph.
    loss = losses_P.mean() if pairs else z_BD.float().sum() * 0
    return LevelLoss(loss, chance, pairs)


def contrastive_loss(
    z_BD: Tensor, video_B: Tensor, patient_B: Tensor, tau: float, *, same_patient_negatives: bool = True
) -> ContrastiveLoss:
    """Eq. 3: video level plus patient level.

    Args:
        z_BD: clip embeddings, any length.
        video_B: number of each clip's video, unique over patients.
        patient_B: number of each clip's patient.
        tau: temperature, > 0.
        same_patient_negatives: whether, at video level, other videos of the anchor's patient are negatives. In the
            paper they are, although eq. 2 draws them together.
    """
    other_video = video_B[:, None] != video_B[None]
    other_patient = patient_B[:, None] != patient_B[None]
    video = level_loss(z_BD, video_B, other_video if same_patient_negatives else other_patient, tau)
    patient = level_loss(z_BD, patient_B, other_patient, tau)
    return ContrastiveLoss(video.loss + patient.loss, video, patient)


def _positive_pairs(group_B: Tensor) -> tuple[Tensor, Tensor]:
    """Anchor and positive of every ordered pair of different clips of one group."""
    same_BB = group_B[:, None] == group_B[None]
    same_BB.fill_diagonal_(fill_value=False)
    anchor_P, positive_P = same_BB.nonzero(as_tuple=True)
    return anchor_P, positive_P
