"""One random change for all frames of a clip: against telling patients by their room instead of their movements."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST_SIDE = 0.7
_COLOUR = 0.3


def augment(frames_BTCHW: Tensor, random: torch.Generator) -> Tensor:
    """Crop a random box of each clip back to full size, and change its brightness, contrast and tint.

    Left and right are never exchanged: the side of a sign means something.

    Args:
        frames_BTCHW: normalised frames.
        random: the only source of chance.
    """
    return torch.stack([_tinted(_cropped(clip, random), random) for clip in frames_BTCHW])


def _cropped(clip_TCHW: Tensor, random: torch.Generator) -> Tensor:
    size = clip_TCHW.shape[-1]
    side = int(size * _between(_LEAST_SIDE, 1, random))
    top, left = (int(torch.randint(0, size - side + 1, (), generator=random)) for _ in range(2))
    box = clip_TCHW[..., top : top + side, left : left + side]
    return F.interpolate(box, size=(size, size), mode="bilinear", align_corners=False)


def _tinted(clip_TCHW: Tensor, random: torch.Generator) -> Tensor:
    contrast = _between(1 - _COLOUR, 1 + _COLOUR, random)
    shift_C = (torch.rand(3, generator=random) * 2 - 1) * _COLOUR
    mean = clip_TCHW.mean()
    return (clip_TCHW - mean) * contrast + mean + shift_C.to(clip_TCHW)[:, None, None]


def _between(low: float, high: float, random: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=random))
