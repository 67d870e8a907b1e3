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
    """

    total: Tensor
    chance: float
    video: LevelLoss
    patient: LevelLoss


def pair_losses(
    z_BD: Tensor,
    group_B: Tensor,
    negative_BN: Tensor,
    tau: float,
    pairs: Pairs = "both",
    memory_MD: Tensor | None = None,
) -> Tensor:
    """Loss of every positive pair, in nats (eq. 1 and 2).

    Args:
        z_BD: clip embeddings, any length and dtype; the loss is computed in float32.
        group_B: the video (eq. 1) or the patient (eq. 2) of each clip.
        negative_BN: [i, n] is whether clip n is a negative of anchor i; N is B, or B + M with a memory.
        tau: temperature, > 0.
        pairs: `both` takes every ordered pair, `first` each pair once with its earlier clip as the anchor.
        memory_MD: remembered embeddings, of unit length.

    Returns:
        (P,) one loss for each pair of different clips of one group; empty when there is none.

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
        anchor_P, positive_P = _positive_pairs(group_B, pairs)
        positives_P = logits_BN[anchor_P, positive_P]
        return F.softplus(negatives_B[anchor_P] - positives_P)


def level_loss(
    z_BD: Tensor,
    group_B: Tensor,
    negative_BN: Tensor,
    tau: float,
    pairs: Pairs = "both",
    memory_MD: Tensor | None = None,
) -> LevelLoss:
    """Mean pair loss of one level, and its chance value; arguments as for `pair_losses`."""
    losses_P = pair_losses(z_BD, group_B, negative_BN, tau, pairs, memory_MD)
    anchor_P, _ = _positive_pairs(group_B, pairs)
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

    Raises:
        InvalidInput: If tau is not above 0, or scenes are needed and there are none.
    """
    video_N, patient_N, memory_MD = video_B, patient_B, None
    if memory is not None:
        video_N, patient_N = torch.cat((video_B, memory.video_M)), torch.cat((patient_B, memory.patient_M))
        memory_MD = memory.z_MD
    other_video = video_B[:, None] != video_N[None]
    other_patient = patient_B[:, None] != patient_N[None]
    at_video, at_patient_B = other_video if same_patient_negatives else other_patient, patient_B
    if same_patient_negatives == "background":
        remembered = None if memory is None else memory.scene_M
        if scene_B is None or (memory is not None and remembered is None):
            raise InvalidInput("expected the scenes of all clips, got none: background can't be told without them")
        scene_N = scene_B if remembered is None else torch.cat((scene_B, remembered))
        # Of one recording, and one of the two alone is background: numbers 2 r and 2 r + 1.
        at_video = other_patient | ((scene_B[:, None] ^ scene_N[None]) == 1)
        at_patient_B = 2 * patient_B + scene_B % 2
    video = level_loss(z_BD, video_B, at_video, tau, pairs, memory_MD)
    patient = level_loss(z_BD, at_patient_B, other_patient, tau, pairs, memory_MD)
    total = {"video": video.loss, "patient": patient.loss, "both": video.loss + patient.loss}[levels]
    chance = {"video": video.chance, "patient": patient.chance, "both": video.chance + patient.chance}[levels]
    return ContrastiveLoss(total, chance, video, patient)


def _positive_pairs(group_B: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Anchor and positive of every pair of different clips of one group."""
    same_BB = group_B[:, None] == group_B[None]
    same_BB = same_BB.triu(1) if pairs == "first" else same_BB.fill_diagonal_(fill_value=False)
    anchor_P, positive_P = same_BB.nonzero(as_tuple=True)
    return anchor_P, positive_P
