"""A small detector of one kind of object, as a transformers model: YOLOS, a plain ViT with detection tokens.

Fang et al., "You Only Look at One Sequence" (2021). Small enough to train on two cores in minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import YolosConfig, YolosForObjectDetection

from encoder.picture import Crop

HEIGHT, WIDTH = 96, 128
_MEAN, _STD = 0.45, 0.225


def small_detector(name: str, seed: int) -> nn.Module:
    """An untrained detector of one class with this name, for pictures of `HEIGHT` x `WIDTH`."""
    config = YolosConfig(
        hidden_size=128,
        num_hidden_layers=5,
        num_attention_heads=4,
        intermediate_size=256,
        image_size=[HEIGHT, WIDTH],
        patch_size=16,
        num_detection_tokens=1,
        use_mid_position_embeddings=False,
        id2label={0: name},
        label2id={name: 0},
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = YolosForObjectDetection(config)
        return model


def detection_loss(model: nn.Module, pictures_BHWC: NDArray[np.uint8], boxes: Sequence[Crop | None]) -> Tensor:
    """The detector's own loss: the best match of its answers to the true boxes, in class, corners and overlap."""
    targets = [
        {"class_labels": torch.zeros(int(box is not None), dtype=torch.long), "boxes": _relative(box)} for box in boxes
    ]
    pixels = (torch.from_numpy(pictures_BHWC).permute(0, 3, 1, 2).float() / 255 - _MEAN) / _STD
    loss: Tensor = model(pixel_values=pixels, labels=targets).loss
    return loss


def save_detector(model: nn.Module, folder: Path) -> None:
    """Write it as a folder that `encoder.bed.detector` reads."""
    from transformers import YolosImageProcessorPil

    model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
    size = {"height": HEIGHT, "width": WIDTH}
    processor = YolosImageProcessorPil(size=size, do_pad=False, image_mean=[_MEAN] * 3, image_std=[_STD] * 3)
    processor.save_pretrained(folder)


def _relative(box: Crop | None) -> Tensor:
    """(0 or 1, 4): centre, width and height as shares of the picture."""
    if box is None:
        return torch.zeros(0, 4)
    values = ((box.x + box.w / 2) / WIDTH, (box.y + box.h / 2) / HEIGHT, box.w / WIDTH, box.h / HEIGHT)
    return torch.tensor([values])
