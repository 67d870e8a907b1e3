"""What an embedding gives away: nearest-neighbour probes for patient, camera, class and sign, and collapse.

A shortcut shows here before it shows anywhere else: an encoder that knows the camera and not the class has learned the
room. Every share stands beside what guessing gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from encoder.model.backbone import Backbone
from encoder.model.timesformer import TimeSformer, normalise
from trainer.clips import Frames, TrainingClip

_NEIGHBOURS = 10


@dataclass(frozen=True, slots=True)
class Share:
    """How often a neighbour is right, beside how often a random one would be."""

    found: float
    chance: float


@dataclass(frozen=True, slots=True)
class Probes:
    """Probes on clips that were not trained on. None where nothing is known to probe for.

    Attributes:
        patient: the nearest clip of another video is of the same patient.
        camera: the nearest clip of another patient is from the same camera.
        label: the vote of the 10 nearest labelled clips of other patients is the clip's class.
        mean_cosine: mean cosine over all pairs.
        effective_rank: effective rank of all embeddings.
    """

    patient: Share | None
    camera: Share | None
    label: Share | None
    mean_cosine: float
    effective_rank: float


def probe(vectors_ND: NDArray[np.float32], clips: Sequence[TrainingClip]) -> Probes:
    """Probe unit embeddings of clips."""
    similarity_NN = vectors_ND @ vectors_ND.T
    video, patient, camera, label = (
        np.unique([getattr(clip, key) for clip in clips], return_inverse=True)[1]
        for key in ("video_id", "patient_id", "camera", "label")
    )
    elsewhere = patient[:, None] != patient
    known_camera, labelled = (np.array([bool(getattr(clip, key)) for clip in clips]) for key in ("camera", "label"))
    cosine, rank = spread(torch.from_numpy(vectors_ND))
    return Probes(
        patient=_nearest(similarity_NN, patient, video[:, None] != video),
        camera=_nearest(similarity_NN, camera, elsewhere & known_camera & known_camera[:, None]),
        label=_nearest(similarity_NN, label, elsewhere & labelled & labelled[:, None], _NEIGHBOURS),
        mean_cosine=cosine,
        effective_rank=rank,
    )


def _nearest(
    similarity_NN: NDArray[np.float32], group_N: NDArray[np.intp], may_NN: NDArray[np.bool_], k: int = 1
) -> Share | None:
    """Share of clips of which most of the k nearest allowed clips are of the same group."""
    same_NN = group_N[:, None] == group_N
    # Only clips that could be right: those with an allowed neighbour of their group.
    asked = (same_NN & may_NN).any(1)
    if not asked.any() or (same_NN | ~may_NN)[asked].all():
        return None
    allowed = np.where(may_NN, similarity_NN, -np.inf)[asked]
    relevant, allowed_N = (same_NN & may_NN)[asked].sum(1), may_NN[asked].sum(1)
    chance = np.array([_vote_by_chance(int(n), int(r), k) for n, r in zip(allowed_N, relevant, strict=True)])
    order = np.argsort(-allowed, axis=1)[:, :k]
    votes = np.where(np.take_along_axis(may_NN[asked], order, 1), np.take_along_axis(same_NN[asked], order, 1), np.nan)
    return Share(float((np.nanmean(votes, 1) > 0.5).mean()), float(chance.mean()))


@cache
def _vote_by_chance(clips: int, relevant: int, k: int) -> float:
    """Probability that of k clips drawn at random more than half are relevant."""
    k = min(k, clips)
    ways = sum(math.comb(relevant, i) * math.comb(clips - relevant, k - i) for i in range(k // 2 + 1, k + 1))
    return ways / math.comb(clips, k)


def embed_clips(
    model: TimeSformer | Backbone,
    frames: Frames,
    device: torch.device,
    at_once: int = 32,
    dtype: torch.dtype = torch.float32,
    numbers: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Unit embeddings (N, D) of clips, by a model that may be in training.

    Args:
        model: the model, on the device.
        frames: frames of clips.
        device: cpu or cuda.
        at_once: clips at once; half as many where the device has no memory for them.
        dtype: bfloat16 for autocast.
        numbers: which clips; all by default.
    """
    chosen = list(range(len(frames))) if numbers is None else list(numbers)
    parts = [torch.empty(0, model.embedding_dim)]
    start = 0
    with torch.inference_mode():
        while start < len(chosen):
            some = chosen[start : start + at_once]
            try:
                batch = torch.from_numpy(np.array(frames[some])).to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
                    embedded = model(normalise(batch))
                parts.append(F.normalize(embedded.float(), dim=1).cpu())
                start += len(some)
                continue
            except torch.OutOfMemoryError:
                if len(some) == 1:
                    raise
            # Outside the handler, which would keep what did not fit.
            at_once = len(some) // 2
            torch.cuda.empty_cache()
    vectors: NDArray[np.float32] = torch.cat(parts).numpy()
    return vectors


def spread(z_BD: Tensor) -> tuple[float, float]:
    """Mean cosine over all pairs, and effective rank (exponential of the entropy of the singular values).

    Roy and Vetterli, "The effective rank" (2007). A collapsed encoder has 1 and 1.
    """
    unit_BD = F.normalize(z_BD.float(), dim=1)
    count = len(unit_BD)
    cosine = float((unit_BD @ unit_BD.T).sum() - count) / max(count * (count - 1), 1)
    weights = torch.linalg.svdvals(unit_BD)
    weights = weights / weights.sum()
    entropy = -(weights * weights.clamp_min(1e-12).log()).sum()
    return cosine, float(entropy.exp())
