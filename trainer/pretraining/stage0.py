"""Stage 0: a small encoder learns to see movement from simulated actions whose joint angles are known.

It gives small encoders what Kinetics-400 gives the full-size one. Supervision is dense, since there is little time:
the embedding tells how much each joint moved and in which rhythm, the tokens of a moment how far each joint is from
where it usually is, and each token whether a hand, a knee or the head is there.

Every step is a function of the seed and its number alone, so that a training that was stopped goes on as if it had not
been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from encoder.model.timesformer import PIXEL_MEAN, PIXEL_STD, TimeSformer
from index.errors import StateError
from index.files.durable import write_atomically
from trainer.pretraining.pretrain import schedule

_MOVED_PX = 2.0
_WARMUP = 0.02
_LEAST_SPREAD, _LEAST_RHYTHM = 0.02, 0.01
_SAVED_EVERY = 250


@dataclass(frozen=True, slots=True)
class Actions:
    """Clips of movements that are known.

    Attributes:
        frames: (N, T, S, S) uint8, grey; may be a memory map.
        spread: (N, J) standard deviation of each joint angle.
        rhythm: (N, J, R) the part of it in each band of rhythms.
        deviation: (N, T, J) each angle less its mean over the clip.
        points: (N, T, K, 2) pixels across and down.
        mirrored_joints: (J,) number of each joint's counterpart in a mirror.
        signed: (J,) -1 for angles that change sign in a mirror, else 1.
        mirrored_points: (K,) number of each point's counterpart.
    """

    frames: NDArray[np.uint8]
    spread: NDArray[np.float32]
    rhythm: NDArray[np.float32]
    deviation: NDArray[np.float32]
    points: NDArray[np.float32]
    mirrored_joints: tuple[int, ...]
    signed: tuple[int, ...]
    mirrored_points: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What a reader says of a batch, or should say.

    Attributes:
        spread: (B, J) standardised logarithms.
        rhythm: (B, J, R) standardised logarithms.
        deviation: (B, M, J) in units of its own.
        points: (B, M, K, 2) pixels; or the score of each patch for each point (B, P, M, K).
    """

    spread: Tensor
    rhythm: Tensor
    deviation: Tensor
    points: Tensor


class Reader(nn.Module):
    """Heads that read movement off an encoder; dropped afterwards."""

    def __init__(self, encoder: TimeSformer, joints: int, rhythms: int, points: int) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.norm = nn.LayerNorm(width)
        self.spread = nn.Linear(encoder.embedding_dim, joints)
        self.rhythm = nn.Linear(encoder.embedding_dim, joints * rhythms)
        self.deviation = nn.Linear(width, joints)
        self.points = nn.Linear(width, points)

    def forward(self, frames_BTCHW: Tensor) -> Told:
        """Read clips."""
        cls_B1D, tokens_BPMD = self.encoder.tokens(frames_BTCHW)
        tokens_BPMD = self.norm(tokens_BPMD)
        embedding_BD = self.encoder.embedding(cls_B1D)
        spread_BJ = self.spread(embedding_BD)
        return Told(
            spread_BJ,
            self.rhythm(embedding_BD).unflatten(1, (spread_BJ.shape[1], -1)),
            self.deviation(tokens_BPMD.mean(1)),
            self.points(tokens_BPMD),
        )


class Scale:
    """Spread and rhythm as standardised logarithms, deviation in units of its own; taken from the clips trained on."""

    def __init__(self, actions: Actions, frames_a_moment: int) -> None:
        self._each = frames_a_moment
        self._spread = _standard(actions.spread, _LEAST_SPREAD)
        self._rhythm = _standard(actions.rhythm, _LEAST_RHYTHM)
        self._unit = torch.from_numpy(actions.deviation.std((0, 1)))

    def targets(self, actions: Actions, numbers: NDArray[np.intp]) -> Told:
        """What is to be told of some clips."""
        told = []
        for values, least, (mean, std) in (
            (actions.spread, _LEAST_SPREAD, self._spread),
            (actions.rhythm, _LEAST_RHYTHM, self._rhythm),
        ):
            told.append(((torch.from_numpy(values[numbers]) + least).log() - mean) / std)
        deviation_BTJ, points_BTK2 = (torch.from_numpy(of[numbers]) for of in (actions.deviation, actions.points))
        deviation_BMJ = deviation_BTJ.unflatten(1, (-1, self._each)).mean(2) / self._unit
        return Told(told[0], told[1], deviation_BMJ, points_BTK2.unflatten(1, (-1, self._each)).mean(2))


def _standard(values: NDArray[np.float32], least: float) -> tuple[Tensor, Tensor]:
    logarithms = np.log(values + least)
    return torch.from_numpy(logarithms.mean(0)), torch.from_numpy(logarithms.std(0) + 1e-6)


def train_stage0(
    encoder: TimeSformer,
    actions: Actions,
    steps: int,
    batch: int,
    seed: int,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    checkpoint: Path | None = None,
    threads: int | None = None,
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
        checkpoint: file that the state is kept in, and taken from where it is there; None for none.
        threads: of the process; torch's choice by default.

    Raises:
        StateError: If the file there is of another training.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = Reader(encoder, actions.spread.shape[1], actions.rhythm.shape[2], actions.points.shape[2])
        _open_up(encoder)
    scale = Scale(actions, encoder.frames_a_moment)
    hidden = [p for name, p in encoder.encoder.named_parameters() if p.ndim == 2]
    matrices = {id(p) for p in hidden}
    others = [p for p in reader.parameters() if id(p) not in matrices]
    optimisers: tuple[torch.optim.Optimizer, ...] = (
        torch.optim.Muon(hidden, lr=0.02, weight_decay=0.05, momentum=0.95),
        torch.optim.AdamW(others, lr=2e-3, weight_decay=0.05, betas=(0.9, 0.98)),
    )
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]
    described = {"steps": steps, "batch": batch, "seed": seed, "clips": len(actions.frames)}
    done = 0
    if checkpoint is not None and checkpoint.exists():
        done = _load(checkpoint, described, reader, optimisers)
    reader.train()
    for step in range(done + 1, steps + 1):
        for optimiser, peak in zip(optimisers, peaks, strict=True):
            optimiser.param_groups[0]["lr"] = peak * schedule(step, steps, _WARMUP)
        random = np.random.default_rng([seed, step])
        numbers = np.sort(random.choice(len(actions.frames), batch, replace=False))
        frames, targets = _varied(
            _normalised(actions.frames[numbers]), scale.targets(actions, numbers), actions, random
        )
        loss = stage0_loss(reader(_as_colours(frames)), targets, frames.shape[-1])
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        on_step(step, loss.item())
        if checkpoint is not None and (step % _SAVED_EVERY == 0 or step == steps):
            state = {
                "described": described,
                "step": step,
                "reader": reader.state_dict(),
                "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            }
            write_atomically(checkpoint, partial(torch.save, state))
    reader.eval()
    return reader


def _load(path: Path, described: dict[str, int], reader: Reader, optimisers: tuple[torch.optim.Optimizer, ...]) -> int:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["described"] != described:
        raise StateError(f"{path.name} is of another training ({state['described']}): name another file, or delete it")
    reader.load_state_dict(state["reader"])
    for optimiser, values in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(values)
    return int(state["step"])


def stage0_loss(told: Told, targets: Told, size: int) -> Tensor:
    """Squared errors of spread, rhythm and deviation, and cross entropy of the patch that each moving point is in."""
    points, scores_BPMK = targets.points, told.points
    moved = (points - points.mean(1, keepdim=True)).norm(dim=-1) > _MOVED_PX
    inside = ((points >= 0) & (points < size)).all(-1)
    side = round(scores_BPMK.shape[1] ** 0.5)
    across, down = (points.clamp(0, size - 1) // (size / side)).long().unbind(-1)
    place_BMK = F.cross_entropy(scores_BPMK, down * side + across, reduction="none")
    weight = moved & inside
    place = (place_BMK * weight).sum() / weight.sum().clamp_min(1)
    squares = (F.mse_loss(getattr(told, key), getattr(targets, key)) for key in ("spread", "rhythm", "deviation"))
    loss: Tensor = sum(squares, 0.5 * place)
    return loss


def explained(reader: Reader, actions: Actions, scale: Scale, at_once: int = 50) -> dict[str, float]:
    """Share of variance explained in unseen clips: spread and rhythm by the embedding, deviation by the tokens."""
    targets = scale.targets(actions, np.arange(len(actions.frames)))
    with torch.inference_mode():
        told = [
            reader(_as_colours(_normalised(actions.frames[start : start + at_once])))
            for start in range(0, len(actions.frames), at_once)
        ]
    shares = {}
    for key, over in (("spread", (0,)), ("rhythm", (0,)), ("deviation", (0, 1))):
        found, wanted = torch.cat([getattr(part, key) for part in told]), getattr(targets, key)
        shares[key] = float((1 - ((found - wanted) ** 2).mean(over) / wanted.var(over)).mean())
    return shares


def _open_up(encoder: TimeSformer) -> None:
    """Larger initial weights than for fine-tuning: attention along time takes part from the first step."""
    for parameter in encoder.encoder.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.7 * parameter.shape[1] ** -0.5)


def _normalised(frames_BTHW: NDArray[np.uint8]) -> Tensor:
    return (torch.from_numpy(np.array(frames_BTHW)).float() / 255 - PIXEL_MEAN) / PIXEL_STD


def _as_colours(frames_BTHW: Tensor) -> Tensor:
    """Grey as red, green and blue."""
    return frames_BTHW[:, :, None].expand(-1, -1, 3, -1, -1)


def _varied(frames_BTHW: Tensor, targets: Told, actions: Actions, random: np.random.Generator) -> tuple[Tensor, Told]:
    """Turned, nearer or farther, seen by another camera, and every second time in a mirror; the targets follow."""
    clips, size = len(frames_BTHW), frames_BTHW.shape[-1]

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(random.uniform(low, high, (clips, *shape))).float()

    turn, scale, narrow, away = (
        drawn(-0.7, 0.7),
        drawn(-0.35, 0.25).exp(),
        drawn(-0.2, 0.2).exp(),
        drawn(-0.15, 0.15, 2),
    )
    cos, sin = turn.cos() * scale, turn.sin() * scale
    # From places in the new picture to places in the old one, both from -1 to 1.
    back_B22 = torch.stack([torch.stack([cos * narrow, -sin], -1), torch.stack([sin * narrow, cos], -1)], -2)
    grid = F.affine_grid(torch.cat([back_B22, away[:, :, None]], -1), [*frames_BTHW.shape], align_corners=False)
    frames = F.grid_sample(frames_BTHW, grid, "bilinear", "reflection", align_corners=False)
    frames = _recorded_otherwise(frames, random)
    places = (2 * targets.points + 1) / size - 1
    places = torch.einsum("bij,bmkj->bmki", torch.linalg.inv(back_B22), places - away[:, None, None])
    points = ((places + 1) * size - 1) / 2
    if random.random() < 0.5:
        return frames, Told(targets.spread, targets.rhythm, targets.deviation, points)
    joints, signs = list(actions.mirrored_joints), torch.tensor(actions.signed)
    points = points[:, :, list(actions.mirrored_points)]
    points = torch.stack((size - 1 - points[..., 0], points[..., 1]), -1)
    mirrored = Told(
        targets.spread[:, joints], targets.rhythm[:, joints], targets.deviation[..., joints] * signs, points
    )
    return frames.flip(-1), mirrored


def _recorded_otherwise(frames_BTHW: Tensor, random: np.random.Generator) -> Tensor:
    """Record clips with another camera in another light: both differ between hospitals and say nothing of seizures.

    Brightness and contrast, inverted or not; light that flickers, and that drifts; pictures that are blurred or
    sharpened; another tone; noise, fine and coarse. Without flicker, drift, tone and coarse noise an encoder that
    trained longer was better with the simulator that drew its actions, and worse with another one.
    """
    clips, moments, size, _ = frames_BTHW.shape

    def drawn(low: float, high: float) -> Tensor:
        return torch.from_numpy(random.uniform(low, high, (clips, 1, 1, 1))).float()

    def noise(*shape: int) -> Tensor:
        return torch.from_numpy(random.standard_normal((clips, moments, *shape), np.float32))

    contrast = drawn(-0.5, 0.5).exp() * torch.where(drawn(0, 1) < 0.3, -1.0, 1.0)
    frames = frames_BTHW * contrast + drawn(-0.4, 0.4)
    frames = frames * (1 + noise(1, 1) * drawn(0.0, 0.04))
    soft = F.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
    frames = frames + (soft - frames) * drawn(-0.6, 1.0)
    frames = frames.sign() * frames.abs().clamp_min(1e-4) ** drawn(-0.5, 0.5).exp()
    turns = torch.linspace(0, 2 * torch.pi, moments)[None, :, None, None] * drawn(0.1, 1.0)
    frames = frames + drawn(0.0, 0.25) * torch.sin(turns + drawn(0, 2 * torch.pi))
    coarse = F.interpolate(noise(size // 4, size // 4), size=(size, size), mode="bilinear")
    return frames + noise(size, size) * drawn(0.0, 0.12) + coarse * drawn(0.0, 0.08)
