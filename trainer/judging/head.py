"""Training the head on stored embeddings of a frozen encoder: cross entropy, class-weighted, patients held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.head import Head, HeadCard
from index.errors import InvalidInput
from index.records import Clip
from index.semiology import PAPER, Classes


class HeadConfig(BaseModel):
    """Everything that decides a head, besides its data."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    hidden: tuple[int, ...] = (256, 64)
    """Widths between the embedding and the classes. The paper says "several linear layers"."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the clips; the paper has 10."""
    batch: int = Field(default=32, ge=1)
    """Clips a step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay of AdamW."""
    class_weights: bool = True
    """Weigh each clip by the inverse frequency of its class, so that the rarer class is not drowned."""
    seed: int = 0
    """Seed of initial weights and batches."""
    from_onset_s: float | None = Field(default=None, gt=0)
    """Seconds from the onset that are learned and judged, of seizures whose onset is known; by default all of them."""


class HeadModel(nn.Module):
    """The head as it is trained: linear layers with ReLU between them."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out in pairwise(widths):
            layers += [nn.Linear(into, out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, vectors_ND: Tensor) -> Tensor:
        """Logits (N, classes)."""
        logits: Tensor = self.layers(vectors_ND)
        return logits

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Weights and biases as `encoder.head.Head` takes them."""
        return {name: tensor.numpy() for name, tensor in self.state_dict().items()}


@dataclass(frozen=True, slots=True)
class LabelledClips:
    """What a head learns from.

    Attributes:
        encoder_id: the encoder of the embeddings.
        clips: one for each row.
        labels: class of each.
        vectors: (N, D) float32.
        outside_seizure: how many clips of the same videos are left out, since they lie before an onset or after an end.
        classes: what they are told apart into.
    """

    encoder_id: str
    clips: Sequence[Clip]
    labels: Sequence[str]
    vectors: NDArray[np.float32]
    outside_seizure: int = 0
    classes: Classes = PAPER


def train_head(
    data: LabelledClips,
    config: HeadConfig,
    held_out: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Head:
    """Train a head.

    Args:
        data: labelled clips to learn from.
        config: the run's settings.
        held_out: patients whose clips are left out.
        progress: told (epochs done, in all).

    Raises:
        InvalidInput: If a held-out patient is unknown, or the clips that remain are not of every class.
    """
    patients = {clip.patient_id for clip in data.clips}
    if unknown := sorted(set(held_out) - patients):
        raise InvalidInput(f"{len(unknown)} of {len(held_out)} held-out patients have no labelled clips here")
    rows = [row for row, clip in enumerate(data.clips) if clip.patient_id not in set(held_out)]
    names = data.classes.names
    targets = np.array([data.classes.number(data.labels[row]) for row in rows], np.int64)
    counts = np.bincount(targets, minlength=len(names))
    if counts.min() == 0:
        counted = ", ".join(f"{count} {name}" for name, count in zip(names, counts.tolist(), strict=True))
        raise InvalidInput(f"expected labelled clips of every class to train on, got {counted}: label more videos")
    vectors = np.ascontiguousarray(data.vectors[rows], np.float32)
    widths = (vectors.shape[1], *config.hidden, len(names))
    model = fit(vectors, targets, config, progress)
    clips = [data.clips[row] for row in rows]
    card = HeadCard(
        widths=widths,
        class_names=names,
        threshold=0.5,
        temperature=1.0,
        encoder_id=data.encoder_id,
        training_sha256=_digest(clips, targets, vectors),
        clips=len(clips),
        videos=len({clip.video_id for clip in clips}),
        patients=len({clip.patient_id for clip in clips}),
        held_out_patients=tuple(sorted(set(held_out))),
        seed=config.seed,
        epochs=config.epochs,
        training_patients=tuple(sorted({clip.patient_id for clip in clips})),
        from_onset_s=config.from_onset_s,
        outside_seizure=data.outside_seizure or None,
    )
    return Head(model.arrays(), card)


def fit(
    vectors: NDArray[np.float32],
    targets: NDArray[np.int64],
    config: HeadConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> HeadModel:
    """Train a head's layers.

    Args:
        vectors: (N, D) embeddings.
        targets: (N,) numbers of classes, from 0; each must occur.
        config: the run's settings.
        progress: told (epochs done, in all).
    """
    x_ND, y_N = torch.from_numpy(vectors), torch.from_numpy(targets)
    counts = np.bincount(targets)
    widths = (vectors.shape[1], *config.hidden, len(counts))
    weights = torch.from_numpy(len(targets) / (len(counts) * counts)).float() if config.class_weights else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = HeadModel(widths)
        optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        for epoch in range(config.epochs):
            progress(epoch, config.epochs)
            for batch in torch.randperm(len(y_N)).split(config.batch):
                loss = F.cross_entropy(model(x_ND[batch]), y_N[batch], weight=weights)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
    progress(config.epochs, config.epochs)
    return model


def _digest(clips: Sequence[Clip], targets: NDArray[np.int64], vectors: NDArray[np.float32]) -> str:
    digest = hashlib.sha256()
    for clip, target in zip(clips, targets.tolist(), strict=True):
        digest.update(f"{clip.clip_id} {target}\n".encode())
    digest.update(vectors.tobytes())
    return digest.hexdigest()
