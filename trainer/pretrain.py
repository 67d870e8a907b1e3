"""Contrastive pretraining of an encoder on unlabelled clips (Li et al., eq. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from encoder.timesformer import TimeSformer, normalise
from index.errors import SemiomeError
from trainer.augment import augment
from trainer.losses import contrastive_loss
from trainer.sampler import contrastive_batches


class PretrainConfig(BaseModel):
    """Everything that decides the result of a pretraining run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=1000, ge=1)
    """Optimiser steps."""
    patients: int = Field(default=2, ge=2)
    """Patients in a batch."""
    videos: int = Field(default=2, ge=1)
    """Videos of each patient in a batch."""
    clips: int = Field(default=2, ge=1)
    """Clips of each video in a batch. 2 x 2 x 2 is the paper's batch of 8."""
    tau: float = Field(default=0.5, gt=0)
    """Temperature. The paper does not give it; TCL, which it follows, has 0.5."""
    same_patient_negatives: bool = True
    """Whether other videos of the same patient are negatives at video level, as in the paper."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak rate of AdamW."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Of AdamW."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises; after it, it falls along a cosine."""
    gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this length."""
    augmentation: bool = True
    """Random crop and tint, the same on all frames of a clip."""
    seed: int = 0
    """Of batches and augmentation."""


@dataclass(frozen=True, slots=True)
class StepLog:
    """One step, with what shows a shortcut or a collapse.

    Attributes:
        step: from 1.
        loss: eq. 3, in nats.
        chance: what an encoder that tells nothing apart would score.
        video_loss: eq. 1.
        patient_loss: eq. 2.
        mean_cosine: over all pairs of the batch; near 1 is collapse.
        effective_rank: of the batch's embeddings; near 1 is collapse.
        learning_rate: of this step.
    """

    step: int
    loss: float
    chance: float
    video_loss: float
    patient_loss: float
    mean_cosine: float
    effective_rank: float
    learning_rate: float


class NonFiniteLoss(SemiomeError):
    """Training has diverged; the message names the batch."""


def pretrain(
    model: TimeSformer,
    frames_NTHWC: NDArray[np.uint8],
    video_of: Sequence[int],
    patient_of: Sequence[int],
    config: PretrainConfig,
    on_step: Callable[[StepLog], None] = lambda log: None,
) -> list[StepLog]:
    """Train a model in place.

    Args:
        model: on the device it trains on.
        frames_NTHWC: all clips; may be a memory map.
        video_of: number of each clip's video.
        patient_of: number of each clip's patient.
        config: the run.
        on_step: told each step as it is done.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite; nothing is skipped.
    """
    device = next(model.parameters()).device
    random = torch.Generator().manual_seed(config.seed)
    optimiser = torch.optim.AdamW(_parameter_groups(model, config.weight_decay), lr=config.learning_rate)
    batches = contrastive_batches(
        video_of,
        patient_of,
        patients=config.patients,
        videos=config.videos,
        clips=config.clips,
        steps=config.steps,
        seed=config.seed,
    )
    logs = []
    model.train()
    for step, batch in enumerate(batches, start=1):
        rate = config.learning_rate * schedule(step, config.steps, config.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        frames_BTCHW = normalise(torch.from_numpy(frames_NTHWC[batch]).to(device))
        if config.augmentation:
            frames_BTCHW = augment(frames_BTCHW, random)
        z_BD = model(frames_BTCHW)
        loss = contrastive_loss(
            z_BD,
            torch.tensor([video_of[clip] for clip in batch], device=device),
            torch.tensor([patient_of[clip] for clip in batch], device=device),
            config.tau,
            same_patient_negatives=config.same_patient_negatives,
        )
        if not torch.isfinite(loss.total):
            raise NonFiniteLoss(f"the loss is {loss.total.item()} at step {step}, on clips {batch}: lower the rate")
        optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
        optimiser.step()
        cosine, rank = spread(z_BD.detach())
        log = StepLog(
            step=step,
            loss=loss.total.item(),
            chance=loss.video.chance + loss.patient.chance,
            video_loss=loss.video.loss.item(),
            patient_loss=loss.patient.loss.item(),
            mean_cosine=cosine,
            effective_rank=rank,
            learning_rate=rate,
        )
        logs.append(log)
        on_step(log)
    model.eval()
    return logs


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step, 1 to `steps`: up a line, then down a cosine."""
    rising = warmup * steps
    if step < rising:
        return step / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (steps - rising + 1))


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


def _parameter_groups(model: TimeSformer, weight_decay: float) -> list[dict[str, object]]:
    """Biases, norms and embeddings are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim == 2 or p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
