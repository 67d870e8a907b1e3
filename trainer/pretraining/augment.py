"""One random change for all frames of a clip: against telling patients by room and clothes instead of movement.

Each clip has a seed of its own, so that the change does not depend on which process makes it, or on how often.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from index.errors import InvalidInput


class Recipe(BaseModel):
    """What may be changed, and by how much."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    crop: float = Field(default=1.0, gt=0.2, le=1)
    """Least side of a random box, as a share of the picture's; the box is enlarged to full size."""
    shorten: float = Field(default=1.0, gt=0.2, le=1)
    """Temporal jitter: least share of the clip's time that is looked at, spread over all T frames."""
    flip: float = Field(default=0.0, ge=0, le=1)
    """Probability of exchanging left and right. It makes the encoder blind to the side of a sign."""
    colour: float = Field(default=0.0, ge=0, lt=1)
    """Largest change of contrast (a factor) and tint (in standard deviations of the input)."""
    grey: float = Field(default=0.0, ge=0, le=1)
    """Probability of taking the colours away."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """Probability of covering a random box, of up to a quarter of the picture, with grey."""


RECIPES = {
    "none": Recipe(),
    "crop": Recipe(crop=0.7, shorten=0.8),
    "tint": Recipe(crop=0.7, colour=0.3),
    "full": Recipe(crop=0.6, shorten=0.8, flip=0.5, colour=0.4, grey=0.3, erase=0.3),
}


def recipe(name: str) -> Recipe:
    """A named recipe.

    Raises:
        InvalidInput: If there is no such recipe.
    """
    if name not in RECIPES:
        raise InvalidInput(f"expected an augmentation of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]


def augment(frames_BTCHW: Tensor, recipe: Recipe, seeds: Sequence[int]) -> Tensor:
    """Change each clip at random, all its frames alike.

    Args:
        frames_BTCHW: normalised frames.
        recipe: what may change.
        seeds: one for each clip; the only source of chance.
    """
    if recipe == RECIPES["none"]:
        return frames_BTCHW
    return torch.stack([_changed(clip, recipe, seed) for clip, seed in zip(frames_BTCHW, seeds, strict=True)])


def _changed(clip_TCHW: Tensor, recipe: Recipe, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    # All draws are made, used or not: one setting must not change what another draws.
    share, start, side, top, left, flip, grey, erase = torch.rand(8, generator=random).tolist()
    height, width, erase_top, erase_left = torch.rand(4, generator=random).tolist()
    contrast, *shift = (torch.rand(4, generator=random) * 2 - 1).tolist()
    clip_TCHW = _shortened(clip_TCHW, 1 - (1 - recipe.shorten) * share, start)
    clip_TCHW = _cropped(clip_TCHW, 1 - (1 - recipe.crop) * side, top, left)
    if flip < recipe.flip:
        clip_TCHW = clip_TCHW.flip(-1)
    if recipe.colour:
        mean = clip_TCHW.mean()
        shift_C = torch.tensor(shift).to(clip_TCHW)[:, None, None] * recipe.colour
        clip_TCHW = (clip_TCHW - mean) * (1 + contrast * recipe.colour) + mean + shift_C
    if grey < recipe.grey:
        clip_TCHW = clip_TCHW.mean(1, keepdim=True).expand_as(clip_TCHW)
    if erase < recipe.erase:
        clip_TCHW = _erased(clip_TCHW, 0.2 + 0.3 * height, 0.2 + 0.3 * width, erase_top, erase_left)
    return clip_TCHW


def _shortened(clip_TCHW: Tensor, share: float, start: float) -> Tensor:
    frames = len(clip_TCHW)
    if share >= 1 or frames == 1:
        return clip_TCHW
    chosen = (1 - share) * start * (frames - 1) + torch.linspace(0, share * (frames - 1), frames)
    return clip_TCHW[chosen.round().long()]


def _cropped(clip_TCHW: Tensor, share: float, top: float, left: float) -> Tensor:
    height, width = clip_TCHW.shape[-2:]
    h, w = round(share * height), round(share * width)
    if (h, w) == (height, width):
        return clip_TCHW
    y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
    box = clip_TCHW[..., y : y + h, x : x + w]
    return F.interpolate(box, size=(height, width), mode="bilinear", align_corners=False)


def _erased(clip_TCHW: Tensor, height: float, width: float, top: float, left: float) -> Tensor:
    rows, columns = clip_TCHW.shape[-2:]
    h, w = max(int(height * rows), 1), max(int(width * columns), 1)
    y, x = int(top * (rows - h + 1)), int(left * (columns - w + 1))
    erased = clip_TCHW.clone()
    erased[..., y : y + h, x : x + w] = 0
    return erased
