"""Stage 0: a small encoder learns to see movement from simulated actions whose joint angles are known.

It gives small encoders what Kinetics-400 gives the full-size one. Supervision is dense, since there is little time:
the embedding tells how much each joint moved, the tokens of a frame how far each joint is from where it usually is,
and each token whether a hand, a knee or the head is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.model.timesformer import TimeSformer, normalise
from trainer.pretraining.pretrain import schedule

_MOVED_PX = 2.0
_WARMUP = 0.02
_LEAST_SIDE = 0.79


@dataclass(frozen=True, slots=True)
class Actions:
    """Clips of movements that are known.

    Attributes:
        frames: (N, T, S, S, 3) uint8; may be a memory map.
        spread: (N, J) standard deviation of each joint angle.
        deviation: (N, T, J) each angle less its mean over the clip.
        points: (N, T, K, 2) pixels across and down.
        mirrored_joints: (J,) number of each joint's counterpart in a mirror.
        signed: (J,) -1 for angles that change sign in a mirror, else 1.
        mirrored_points: (K,) number of each point's counterpart.
    """

    frames: NDArray[np.uint8]
    spread: NDArray[np.float32]
    deviation: NDArray[np.float32]
    points: NDArray[np.float32]
    mirrored_joints: tuple[int, ...]
    signed: tuple[int, ...]
    mirrored_points: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Targets:
    """What is to be told of a batch: standardised log spread (B, J), deviation (B, T, J), points (B, T, K, 2)."""

    spread: Tensor
    deviation: Tensor
    points: Tensor


class Reader(nn.Module):
    """Heads that read movement off an encoder; dropped afterwards."""

    def __init__(self, encoder: TimeSformer, joints: int, points: int) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Linear(encoder.embedding_dim, joints)
        self.deviation = nn.Linear(width, joints)
        self.points = nn.Linear(width, points)

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Spread (B, J), deviation (B, T, J), and the score of each patch for each point (B, P, T, K)."""
        cls_B1D, tokens_BPTD = self.encoder.tokens(frames_BTCHW)
        tokens_BPTD = self.norm(tokens_BPTD)
        return (
            self.spread(self.encoder.embedding(cls_B1D)),
            self.deviation(tokens_BPTD.mean(1)),
            self.points(tokens_BPTD),
        )


class Scale:
    """Spread as standardised logarithms, deviation in units of its own; taken from the clips trained on."""

    def __init__(self, actions: Actions) -> None:
        log_NJ = np.log(actions.spread + 0.02)
        self._mean, self._std = torch.from_numpy(log_NJ.mean(0)), torch.from_numpy(log_NJ.std(0))
        self._unit = torch.from_numpy(actions.deviation.std((0, 1)))

    def targets(self, actions: Actions, numbers: NDArray[np.intp]) -> Targets:
        """What is to be learned of some clips."""
        log_BJ = torch.from_numpy(actions.spread[numbers] + 0.02).log()
        return Targets(
            (log_BJ - self._mean) / self._std,
            torch.from_numpy(actions.deviation[numbers]) / self._unit,
            torch.from_numpy(actions.points[numbers]),
        )


def train_stage0(
    encoder: TimeSformer,
    actions: Actions,
    steps: int,
    batch: int,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Reader:
    """Train an encoder in place, with heads that tell movement.

    Hidden matrices are trained by Muon, all else by AdamW: measured on the same clips, it was ahead of AdamW alone from
    the first minute on.

    Args:
        encoder: to train.
        actions: to train on.
        steps: number of steps.
        batch: clips a step.
        seed: of the heads, batches and augmentation.
        on_step: called with (step, loss).
    """
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader(encoder, actions.spread.shape[1], actions.points.shape[2])
        _open_up(encoder)
    scale = Scale(actions)
    hidden = [p for name, p in encoder.encoder.named_parameters() if p.ndim == 2]
    known = {id(p) for p in hidden}
    others = [p for p in reader.parameters() if id(p) not in known]
    optimisers: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.Muon(hidden, lr=0.02, weight_decay=0.05, momentum=0.95),
        torch.optim.AdamW(others, lr=2e-3, weight_decay=0.05, betas=(0.9, 0.98)),
    )
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    reader.train()
    for step in range(1, steps + 1):
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * schedule(step, steps, _WARMUP)
        numbers = np.sort(random.choice(len(actions.frames), batch, replace=False))
        frames, targets = _varied(
            normalise(torch.from_numpy(actions.frames[numbers])), scale.targets(actions, numbers), actions, random
        )
        loss = stage0_loss(reader(frames), targets, frames.shape[-1])
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        on_step(step, loss.item())
    reader.eval()
    return reader


def stage0_loss(told: tuple[Tensor, Tensor, Tensor], targets: Targets, size: int) -> Tensor:
    """Squared errors of spread and deviation, and cross entropy of the patch that each moving point is in."""
    spread_BJ, deviation_BTJ, scores_BPTK = told
    points = targets.points
    moved = (points - points.mean(1, keepdim=True)).norm(dim=-1) > _MOVED_PX
    inside = ((points >= 0) & (points < size)).all(-1)
    side = round(scores_BPTK.shape[1] ** 0.5)
    across, down = (points.clamp(0, size - 1) // (size / side)).long().unbind(-1)
    place_BTK = F.cross_entropy(scores_BPTK, down * side + across, reduction="none")
    weight = moved & inside
    place = (place_BTK * weight).sum() / weight.sum().clamp_min(1)
    loss: Tensor = F.mse_loss(spread_BJ, targets.spread) + F.mse_loss(deviation_BTJ, targets.deviation) + 0.5 * place
    return loss


def explained(reader: Reader, actions: Actions, scale: Scale, at_once: int = 50) -> tuple[float, float]:
    """Share of variance explained in unseen clips: of spread, by the embedding; of deviation, by the tokens."""
    targets = scale.targets(actions, np.arange(len(actions.frames)))
    with torch.inference_mode():
        told = [
            reader(normalise(torch.from_numpy(np.array(actions.frames[start : start + at_once]))))
            for start in range(0, len(actions.frames), at_once)
        ]
    spread, deviation = (torch.cat([part[i] for part in told]) for i in (0, 1))

    def share(found: Tensor, wanted: Tensor, over: tuple[int, ...]) -> float:
        return float((1 - ((found - wanted) ** 2).mean(over) / wanted.var(over)).mean())

    return share(spread, targets.spread, (0,)), share(deviation, targets.deviation, (0, 1))


def _open_up(encoder: TimeSformer) -> None:
    """Larger initial weights than for fine-tuning: attention along time takes part from the first step."""
    for parameter in encoder.encoder.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.7 * parameter.shape[1] ** -0.5)


def _varied(
    frames_BTCHW: Tensor, targets: Targets, actions: Actions, random: np.random.Generator
) -> tuple[Tensor, Targets]:
    """A box of the pictures, and every second time the mirror image; the targets follow."""
    size = frames_BTCHW.shape[-1]
    side = int(random.integers(int(_LEAST_SIDE * size), size + 1))
    top, left = (int(random.integers(0, size - side + 1)) for _ in range(2))
    box = frames_BTCHW[..., top : top + side, left : left + side].flatten(0, 1)
    frames = F.interpolate(box, size=(size, size), mode="bilinear").unflatten(0, frames_BTCHW.shape[:2])
    points = (targets.points - torch.tensor([left, top])) * (size / side)
    if random.random() < 0.5:
        return frames, Targets(targets.spread, targets.deviation, points)
    joints, signs = list(actions.mirrored_joints), torch.tensor(actions.signed)
    points = points[:, :, list(actions.mirrored_points)]
    points = torch.stack((size - points[..., 0], points[..., 1]), -1)
    return frames.flip(-1), Targets(targets.spread[:, joints], targets.deviation[..., joints] * signs, points)
