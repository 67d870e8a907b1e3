"""What a torchvision lacks that was compiled for another torch: the operators that Mask R-CNN needs, in plain torch.

Beside a torch for CPUs, the torchvision of the package index can't load its compiled part, which wants CUDA's
libraries, and then can't be imported at all. All the rest of it is Python and fits. With these two operators a picture
takes a second or so longer than with the compiled ones; of each video one picture is looked at.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_BOXES_AT_ONCE = 256
_SAMPLES = 2
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "qroi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    *(
        f"{name}(Tensor input, Tensor other) -> Tensor"  # never called here; their names are asked for at import
        for name in (
            *("_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool", "_roi_pool_backward"),
            *("ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d", "_deform_conv2d_backward"),
        )
    ),
)
_registered: list[torch.library.Library] = []


def import_detection() -> Any:  # noqa: ANN401  torchvision is optional
    """Import `torchvision.models.detection`, with operators of our own where its compiled ones don't load.

    Raises:
        ImportError: If there is no torchvision.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("no torchvision", name="torchvision")
    if not _registered and not _loads(Path(found.origin).parent):
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        library.impl("nms", nms, "CompositeExplicitAutograd")
        library.impl("roi_align", roi_align, "CompositeExplicitAutograd")
        _registered.append(library)  # what is dropped is undefined again
    if _registered:  # else it would refuse the one, and compile the other each time it starts
        for module in ("torchvision.extension", "torchvision.ops.roi_align"):
            importlib.import_module("torchvision.ops")
            sys.modules[module]._has_ops = lambda: True  # type: ignore[attr-defined]
    return importlib.import_module("torchvision.models.detection")


def _loads(folder: Path) -> bool:
    """Whether the compiled part fits the torch in use."""
    for path in sorted(folder.glob("_C*.so")):
        try:
            torch.ops.load_library(path)
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep the best box, drop those that overlap it by more, and so on with what is left.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        scores: (N,).
        iou_threshold: of the intersection over the union.

    Returns:
        Numbers of the boxes that are kept, the best first.
    """
    order = scores.argsort(descending=True, stable=True)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[rest, :2])
        high = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = (high - low).clamp(min=0).prod(1)
        order = rest[common / (areas[best] + areas[rest] - common) <= iou_threshold]
    return torch.stack(kept) if kept else order


def roi_align(
    features: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Mean of bilinear samples in each cell of each box (He et al., 2017); boxes lie within their pictures.

    Args:
        features: (B, C, H, W).
        rois: (R, 5) number of the picture, left, top, right, bottom.
        spatial_scale: pixels of `features` to one of the boxes' pixels.
        pooled_height: cells down.
        pooled_width: cells across.
        sampling_ratio: samples on each side of a cell; 2 where it is not positive.
        aligned: whether pixels are counted from their middles.

    Returns:
        (R, C, pooled_height, pooled_width).
    """
    shift = 0.5 if aligned else 0.0
    corners = rois[:, 1:] * spatial_scale - shift
    sides = corners[:, 2:] - corners[:, :2]
    sides = sides if aligned else sides.clamp(min=1.0)
    samples = sampling_ratio if sampling_ratio > 0 else _SAMPLES
    height, width = features.shape[-2:]
    out = features.new_empty(len(rois), features.shape[1], pooled_height, pooled_width)

    def places(cells: int) -> Tensor:
        return (torch.arange(cells * samples).to(features) + 0.5) / (cells * samples)

    for image in rois[:, 0].unique().long().tolist():
        for chosen in (rois[:, 0] == image).nonzero()[:, 0].split(_BOXES_AT_ONCE):
            x = corners[chosen, :1] + places(pooled_width) * sides[chosen, :1]  # (R, columns)
            y = corners[chosen, 1:2] + places(pooled_height) * sides[chosen, 1:]
            across, down = (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
            # All boxes of a picture below each other, as one grid.
            grid = torch.stack(torch.broadcast_tensors(across[:, None], down[:, :, None]), -1).flatten(0, 1)[None]
            seen = F.grid_sample(features[image : image + 1], grid, "bilinear", "border", align_corners=False)
            out[chosen] = F.avg_pool2d(seen[0].unflatten(1, (len(chosen), -1)).transpose(0, 1), samples)
    return out
