"""What of its frames an encoder looks at: the pictures, what moves in them, or how much changes where.

Shape suffixes: B clips, T frames, M moments, C colours, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

INPUT_VIEWS = ("rgb", "motion", "change")
_GREY = (0.299, 0.587, 0.114)
_LEAST_SPREAD, _LEAST_CHANGE = 0.02, 1e-3
_USUAL = 0.8


def viewed(frames_BTCHW: Tensor, view: str, frames_a_moment: int) -> Tensor:
    """What the first layer is given.

    Args:
        frames_BTCHW: normalised frames.
        view: one of `INPUT_VIEWS`.
        frames_a_moment: frames that one moment of `change` is made of; 1 for the other views.

    Returns:
        (B, M, C, H, W) in the dtype of the frames; M is T over the frames of a moment.
    """
    if view == "motion":
        return frames_BTCHW - frames_BTCHW.mean(1, keepdim=True)
    if view == "change":
        return _changes(frames_BTCHW.float(), frames_a_moment).to(frames_BTCHW.dtype)
    return frames_BTCHW


def _changes(frames_BTCHW: Tensor, frames_a_moment: int) -> Tensor:
    """Three grey pictures of each moment in the place of colours.

    The middle frame less the mean of the clip, in units of the clip's spread; how much changes from frame to frame, of
    which a movement of two a second leaves most, and of twelve frames in ten seconds nothing; and how much from moment
    to moment. Changes are told as multiples of what changes in the middle pixel of the clip, the sensor's noise, so
    that light, infrared and noise tell little.
    """
    grey_BTHW = (frames_BTCHW * frames_BTCHW.new_tensor(_GREY)[:, None, None]).sum(2)
    moved_BTHW = grey_BTHW - grey_BTHW.mean(1, keepdim=True)
    moved_BTHW = moved_BTHW / moved_BTHW.flatten(1).std(1).clamp_min(_LEAST_SPREAD)[:, None, None, None]
    small_BThw = F.avg_pool2d(grey_BTHW, 2)  # halves the noise
    means_BMhw = small_BThw.unflatten(1, (-1, frames_a_moment)).mean(2)
    quick_BThw, slow_BMhw = _relative(_changed(small_BThw)), _relative(_changed(means_BMhw))
    quick_BMhw = quick_BThw.unflatten(1, (-1, frames_a_moment)).mean(2)
    middle_BMHW = moved_BTHW[:, frames_a_moment // 2 :: frames_a_moment]
    told = (F.interpolate(torch.log1p(change) - _USUAL, scale_factor=2.0) for change in (quick_BMhw, slow_BMhw))
    return torch.stack([middle_BMHW, *told], dim=2)


def _changed(pictures_BTHW: Tensor) -> Tensor:
    """Absolute change from the picture before; of the first one, to the second."""
    change = (pictures_BTHW[:, 1:] - pictures_BTHW[:, :-1]).abs()
    return torch.cat([change[:, :1], change], dim=1)


def _relative(change_BTHW: Tensor) -> Tensor:
    """Change in units of its median over the clip."""
    median_B = change_BTHW.flatten(1).median(1).values.clamp_min(_LEAST_CHANGE)
    return change_BTHW / median_B[:, None, None, None]
