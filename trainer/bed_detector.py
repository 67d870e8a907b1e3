"""Training a small bed detector on pictures whose beds are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from encoder.bed.small_detector import WIDTH, detection_loss, small_detector
from encoder.picture import Crop

_WARM_UP = 200
"""Steps; fewer in a short training."""


def train_detector(
    pictures_NHWC: NDArray[np.uint8],
    beds: Sequence[Crop | None],
    steps: int,
    batch: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    learning_rate: float = 1e-3,
) -> nn.Module:
    """Train from random weights.

    Args:
        pictures_NHWC: RGB, of the detector's size.
        beds: of each picture, in its pixels; None where there is none.
        steps: number of steps.
        batch: pictures a step.
        seed: of weights, order and augmentation.
        progress: told (steps done, steps in all).
        learning_rate: at its highest; it rises at first and falls along half a cosine.
    """
    model = small_detector("bed", seed).train()
    random = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=1e-4)
    warm_up = min(_WARM_UP, max(steps // 10, 1))
    for step in range(steps):
        rate = learning_rate * min((step + 1) / warm_up, 1.0) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        chosen = random.integers(len(pictures_NHWC), size=batch)
        pairs = [_varied(pictures_NHWC[i], beds[i], random) for i in chosen]
        loss = detection_loss(model, np.stack([picture for picture, _ in pairs]), [bed for _, bed in pairs])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        progress(step + 1, steps)
    return model.eval()


def _varied(
    picture_HWC: NDArray[np.uint8], bed: Crop | None, random: np.random.Generator
) -> tuple[NDArray[np.uint8], Crop | None]:
    """Mirrored half of the time, brighter or darker, grey now and then, with the sensor's noise."""
    picture = picture_HWC.astype(float)
    if random.random() < 0.5:
        picture = picture[:, ::-1]
        bed = None if bed is None else Crop(WIDTH - bed.x - bed.w, bed.y, bed.w, bed.h)
    if random.random() < 0.2:
        picture = np.repeat(picture.mean(-1, keepdims=True), 3, axis=-1)
    picture = picture * random.uniform(0.6, 1.4, (1, 1, 3)) + random.uniform(-20, 20)
    picture = picture + random.normal(0, random.uniform(0, 6), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8), bed
