"""The gradient of one contrastive batch, however many clips fit into memory and however many ranks share the work.

The loss needs all embeddings of the batch at once, their gradients do not: Gao et al., "Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup" (2021). So the loss is taken on the embeddings alone, every rank for the
whole batch, and each rank then carries the gradient of its own embeddings into the model, a few clips at a time. The
sum over ranks is the gradient of the whole batch.

Shape suffixes: B clips of the batch, b clips of this rank, M remembered clips, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from index.errors import StateError
from trainer.pretraining.losses import (
    ContrastiveLoss,
    Levels,
    Memory,
    Pairs,
    PatientPositives,
    SamePatient,
    contrastive_loss,
)
from trainer.pretraining.ranks import Ranks

Load = Callable[[Sequence[int]], Tensor]
"""Normalised, augmented frames of some of the rank's clips, by their place in its part of the batch."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What is minimised; see `trainer.pretraining.losses.contrastive_loss`."""

    tau: float
    levels: Levels
    pairs: Pairs
    same_patient_negatives: SamePatient
    patient_positives: PatientPositives = "any"
    within_s: float | None = None

    def __call__(self, z_BD: Tensor, batch: Batch, memory: Memory | None) -> ContrastiveLoss:
        """The loss of a whole batch."""
        return contrastive_loss(
            z_BD,
            batch.video_B,
            batch.patient_B,
            self.tau,
            levels=self.levels,
            pairs=self.pairs,
            same_patient_negatives=self.same_patient_negatives,
            memory=memory,
            scene_B=batch.scene_B,
            patient_positives=self.patient_positives,
            moment_B=batch.moment_B,
            within_s=self.within_s,
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, of which this rank embeds a part.

    Attributes:
        video_B: number of each clip's video.
        patient_B: number of each clip's patient.
        sizes: clips of each rank.
        load: frames of this rank's clips.
        scene_B: twice the number of each clip's recording, and one more for background; None where they do not matter.
        moment_B: seconds from the onset of each clip's seizure to where it begins, NaN where that is not known.
    """

    video_B: Tensor
    patient_B: Tensor
    sizes: list[int]
    load: Load
    scene_B: Tensor | None = None
    moment_B: Tensor | None = None


class Projected(nn.Module):
    """An encoder, and during pretraining a projection behind it that is dropped afterwards (Chen et al., SimCLR).

    Args:
        encoder: frames to (B, D).
        width: of the encoder's embeddings.
        projection: output width of the projection; 0 for none.
    """

    def __init__(self, encoder: nn.Module, width: int, projection: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection: nn.Module = nn.Identity()
        if projection:
            self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """What the loss looks at: (B, projection), or the embeddings themselves."""
        projected: Tensor = self.projection(self.encoder(frames_BTCHW))
        return projected


def backward(
    model: nn.Module,
    batch: Batch,
    objective: Objective,
    ranks: Ranks,
    *,
    at_once: int,
    dtype: torch.dtype = torch.float32,
    memory: Memory | None = None,
) -> tuple[ContrastiveLoss, Tensor]:
    """Add the gradient of a batch's loss to the model's parameters.

    Args:
        model: a `Projected`, wrapped in DistributedDataParallel where there is more than one rank.
        batch: the batch.
        objective: the loss.
        ranks: this process among the others.
        at_once: clips that fit into memory with their activations. With more than these on the rank, all are embedded
            twice, first without activations; the gradient is the same.
        dtype: bfloat16 for autocast; parameters, gradients and the loss stay float32.
        memory: remembered clips that serve as more negatives.

    Returns:
        The loss, and (B, D) what the model made of all clips, both without a graph.
    """
    mine = range(batch.sizes[ranks.rank])
    chunks = [mine[start : start + at_once] for start in range(0, len(mine), at_once)]
    inner = model.module if isinstance(model, DistributedDataParallel) else model

    def embed(through: nn.Module, chunk: Sequence[int]) -> Tensor:
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            embedded: Tensor = through(batch.load(chunk))
        return embedded.float()

    # Decided by the largest part: ranks that differed here would meet in different collectives.
    whole = max(batch.sizes) <= at_once
    with torch.set_grad_enabled(whole):
        z_bD = torch.cat([embed(model if whole else inner, chunk) for chunk in chunks])
    z_BD = ranks.gather(z_bD.detach(), batch.sizes).requires_grad_()
    with torch.enable_grad():
        loss = objective(z_BD, batch, memory)
        (gradient_BD,) = torch.autograd.grad(loss.total, z_BD)
    if torch.isfinite(loss.total):
        # DistributedDataParallel takes the mean over ranks; the parts have to be summed.
        start = sum(batch.sizes[: ranks.rank])
        gradient_bD = gradient_BD[start : start + len(z_bD)] * ranks.world_size
        if whole:
            z_bD.backward(gradient_bD)
        else:
            for chunk, last in _marked(chunks):
                with _without_sync(model, wanted=not last):
                    embed(model, chunk).backward(gradient_bD[chunk.start : chunk.stop])
    return loss, z_BD.detach()


def backward_that_fits(
    model: nn.Module,
    batch: Batch,
    objective: Objective,
    ranks: Ranks,
    *,
    at_once: int,
    dtype: torch.dtype = torch.float32,
    memory: Memory | None = None,
) -> tuple[ContrastiveLoss, Tensor, int]:
    """Do as `backward` does with fewer clips at once where the device has no memory for so many.

    Returns:
        The loss, what the model made of all clips, and how many clips at once fitted.

    Raises:
        StateError: If one clip does not fit, or ranks share the batch: one of them can't begin again alone.
    """
    at_once = min(at_once, max(batch.sizes))
    while True:
        try:
            return (*backward(model, batch, objective, ranks, at_once=at_once, dtype=dtype, memory=memory), at_once)
        except torch.OutOfMemoryError:
            if at_once == 1:
                raise StateError(
                    'out of memory with one clip at a time: use activation_checkpointing = "full", or a larger device'
                ) from None
            if ranks.world_size > 1:
                raise StateError(
                    f"out of memory with {at_once} clips at a time: set at_once = {at_once // 2}"
                ) from None
        # Outside the handler, which would keep what did not fit.
        at_once //= 2
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()


def remember(memory: Memory | None, z_BD: Tensor, batch: Batch, size: int) -> Memory | None:
    """The latest `size` embeddings, the newest last; None for a size of 0."""
    if not size:
        return None
    newest = Memory(F.normalize(z_BD.detach(), dim=1), batch.video_B, batch.patient_B, batch.scene_B)
    if memory is None:
        joined = newest
    else:
        joined = Memory(
            torch.cat((memory.z_MD, newest.z_MD)),
            torch.cat((memory.video_M, newest.video_M)),
            torch.cat((memory.patient_M, newest.patient_M)),
            None if memory.scene_M is None or newest.scene_M is None else torch.cat((memory.scene_M, newest.scene_M)),
        )
    scenes = None if joined.scene_M is None else joined.scene_M[-size:]
    return Memory(joined.z_MD[-size:], joined.video_M[-size:], joined.patient_M[-size:], scenes)


def _marked(chunks: list[range]) -> Iterator[tuple[range, bool]]:
    """Each chunk, and whether it is the last."""
    return ((chunk, number == len(chunks)) for number, chunk in enumerate(chunks, start=1))


def _without_sync(model: nn.Module, *, wanted: bool) -> AbstractContextManager[object]:
    """Gradients are exchanged once a step, behind the last chunk."""
    return model.no_sync() if wanted and isinstance(model, DistributedDataParallel) else nullcontext()
