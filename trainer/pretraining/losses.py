"""Patient-level and video-level contrastive losses (Li et al., eq. 1 to 3), in float32 whatever the model runs in.

For an anchor i and a positive j of the same group:

    loss(i, j) = -log( exp(cos(i, j) / tau) / (exp(cos(i, j) / tau) + sum over n of exp(cos(i, n) / tau)) )

where n runs over the anchor's negatives: clips of other videos (eq. 1) or of other patients (eq. 2). Other positives
of the anchor are left out of its denominator. Both orders of a pair count, and a level is the mean over its pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from index.errors import InvalidInput

Levels = Literal["video", "patient", "both"]
Pairs = Literal["both", "first"]
SamePatient = bool | Literal["background"]
PatientPositives = Literal["any", "other_video"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Embeddings of earlier batches that serve as more negatives, never as anchors or positives.

    Wang et al., "Cross-Batch Memory for Embedding Learning" (2020).

    Attributes:
        z_MD: embeddings of unit length.
        video_M: number of each one's video.
        patient_M: number of each one's patient.
        scene_M: twice the number of each one's recording, and one more for background; None where it does not matter.
    """

    z_MD: Tensor
    video_M: Tensor
    patient_M: Tensor
    scene_M: Tensor | None = None


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
    """Both levels, and the total that is trained on (eq. 3).

    Attributes:
        total: of the levels chosen, in nats.
        chance: what that total is for an encoder that tells nothing apart.
        video: eq. 1.
        patient: eq. 2.
        cross_video: of the pairs of eq. 2 those of different videos, whether they are trained on or not: what a patient
            level has to learn that knowing a recording again does not give.
    """

    total: Tensor
    chance: float
    video: LevelLoss
    patient: LevelLoss
    cross_video: LevelLoss


def pair_losses(
    z_BD: Tensor,
    positive_BB: Tensor,
    negative_BN: Tensor,
    tau: float,
    pairs: Pairs = "both",
    memory_MD: Tensor | None = None,
) -> Tensor:
    """Loss of every positive pair, in nats (eq. 1 and 2).

    Args:
        z_BD: clip embeddings, any length and dtype; the loss is computed in float32.
        positive_BB: [i, j] is whether clip j is a positive of anchor i: of its video (eq. 1) or its patient (eq. 2). A
            clip is never its own.
        negative_BN: [i, n] is whether clip n is a negative of anchor i; N is B, or B + M with a memory.
        tau: temperature, > 0.
        pairs: `both` takes every ordered pair, `first` each pair once with its earlier clip as the anchor.
        memory_MD: remembered embeddings, of unit length.

    Returns:
        (P,) one loss for each positive pair; empty when there is none.

    Raises:
        InvalidInput: If tau is not above 0.
    """
    if not tau > 0:
        raise InvalidInput(f"expected a temperature tau above 0, got {tau}")
    with torch.autocast(z_BD.device.type, enabled=False):
        unit_BD = F.normalize(z_BD.float(), dim=1)
        all_ND = unit_BD if memory_MD is None else torch.cat((unit_BD, memory_MD))
        logits_BN = unit_BD @ all_ND.T / tau
        # log of the sum over negatives; -inf where an anchor has none, so that the pair's loss becomes -log(1) = 0.
        negatives_B = logits_BN.masked_fill(~negative_BN, -torch.inf).logsumexp(1)
        anchor_P, positive_P = _chosen_pairs(positive_BB, pairs)
        positives_P = logits_BN[anchor_P, positive_P]
        return F.softplus(negatives_B[anchor_P] - positives_P)


def level_loss(
    z_BD: Tensor,
    positive_BB: Tensor,
    negative_BN: Tensor,
    tau: float,
    pairs: Pairs = "both",
    memory_MD: Tensor | None = None,
) -> LevelLoss:
    """Mean pair loss of one level, and its chance value; arguments as for `pair_losses`."""
    losses_P = pair_losses(z_BD, positive_BB, negative_BN, tau, pairs, memory_MD)
    anchor_P, _ = _chosen_pairs(positive_BB, pairs)
    negatives_P = negative_BN.sum(1)[anchor_P].tolist()
    count = len(negatives_P)
    chance = sum(math.log1p(n) for n in negatives_P) / count if count else 0.0
    # Without a pair: a zero that still belongs to the graph.
    loss = losses_P.mean() if count else z_BD.float().sum() * 0
    return LevelLoss(loss, chance, count)


def contrastive_loss(
    z_BD: Tensor,
    video_B: Tensor,
    patient_B: Tensor,
    tau: float,
    *,
    levels: Levels = "both",
    pairs: Pairs = "both",
    same_patient_negatives: SamePatient = True,
    memory: Memory | None = None,
    scene_B: Tensor | None = None,
    patient_positives: PatientPositives = "any",
    moment_B: Tensor | None = None,
    within_s: float | None = None,
) -> ContrastiveLoss:
    """Eq. 3: video level plus patient level, or one of them alone.

    Args:
        z_BD: clip embeddings, any length.
        video_B: number of each clip's video, unique over patients.
        patient_B: number of each clip's patient.
        tau: temperature, > 0.
        levels: which of them make the total; both are computed.
        pairs: see `pair_losses`.
        same_patient_negatives: whether, at video level, other videos of the anchor's patient are negatives. In the
            paper they are, although eq. 2 draws them together. With `background` only those are that show the same
            recording, one of the two being background: the same room and hour, with and without a seizure. These are
            then no positives of each other at patient level either.
        memory: further negatives.
        scene_B: twice the number of each clip's recording, and one more for background; for `background`.
        patient_positives: whether eq. 2 draws clips of one video together too, as in the paper, or only those of
            different videos of a patient.
        moment_B: seconds from the onset of its seizure to where each clip begins, NaN where it is not known.
        within_s: how far apart the moments of positives of different videos may be; None for any.

    Raises:
        InvalidInput: If tau is not above 0, or scenes or moments are needed and there are none.
    """
    video_N, patient_N, memory_MD = video_B, patient_B, None
    if memory is not None:
        video_N, patient_N = torch.cat((video_B, memory.video_M)), torch.cat((patient_B, memory.patient_M))
        memory_MD = memory.z_MD
    other_video = video_B[:, None] != video_N[None]
    other_patient = patient_B[:, None] != patient_N[None]
    at_video, at_patient_B = other_video if same_patient_negatives else other_patient, patient_B
    same_video_BB = _same(video_B)
    if same_patient_negatives == "background":
        remembered = None if memory is None else memory.scene_M
        if scene_B is None or (memory is not None and remembered is None):
            raise InvalidInput("expected the scenes of all clips, got none: background can't be told without them")
        scene_N = scene_B if remembered is None else torch.cat((scene_B, remembered))
        # Of one recording, and one of the two alone is background: numbers 2 r and 2 r + 1.
        at_video = other_patient | ((scene_B[:, None] ^ scene_N[None]) == 1)
        at_patient_B = 2 * patient_B + scene_B % 2
    same_patient_BB = _same(at_patient_B)
    crossing_BB = same_patient_BB & ~same_video_BB
    if within_s is not None:
        if moment_B is None:
            raise InvalidInput("expected the moments of all clips, got none: positives can't be matched without them")
        crossing_BB &= (moment_B[:, None] - moment_B).abs() <= within_s  # never of NaN
    kept_BB = crossing_BB if patient_positives == "other_video" else crossing_BB | (same_patient_BB & same_video_BB)
    video = level_loss(z_BD, same_video_BB, at_video, tau, pairs, memory_MD)
    patient = level_loss(z_BD, kept_BB, other_patient, tau, pairs, memory_MD)
    crossing = level_loss(z_BD.detach(), crossing_BB, other_patient, tau, pairs, memory_MD)
    total = {"video": video.loss, "patient": patient.loss, "both": video.loss + patient.loss}[levels]
    chance = {"video": video.chance, "patient": patient.chance, "both": video.chance + patient.chance}[levels]
    return ContrastiveLoss(total, chance, video, patient, crossing)


def _same(group_B: Tensor) -> Tensor:
    """Whether two different clips are of one group."""
    return (group_B[:, None] == group_B[None]).fill_diagonal_(fill_value=False)


def _chosen_pairs(positive_BB: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Anchor and positive of every pair."""
    anchor_P, positive_P = (positive_BB.triu(1) if pairs == "first" else positive_BB).nonzero(as_tuple=True)
    return anchor_P, positive_P
