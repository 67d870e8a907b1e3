"""What a torchvision built for CUDA lacks beside a CPU build of torch: its operators, in plain torch, for one test.

Import `registered` and call it before torchvision is imported. Right, and far too slow for a product.
"""

import importlib.util
import subprocess
import sys

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "qroi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    *(
        f"{name}(Tensor input, Tensor other) -> Tensor"
        for name in (
            *("_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool", "_roi_pool_backward"),
            *("ps_roi_pool", "_ps_roi_pool_backward", "deform_conv2d", "_deform_conv2d_backward"),
        )
    ),
)


def registered():
    """Define the operators, unless torchvision brings its own; what comes back must be kept alive."""
    found = importlib.util.find_spec("torchvision")
    whole = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    if found is None or whole.returncode == 0:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    library.impl("nms", nms, "CPU")
    library.impl("roi_align", roi_align, "CPU")

    import torchvision.extension

    torchvision.extension._has_ops = lambda: True
    return library


def nms(boxes, scores, iou_threshold):
    """Greedy: the best box goes on, those that overlap it too much go out."""
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


def roi_align(features, rois, spatial_scale, pooled_height, pooled_width, sampling_ratio, aligned):
    """The mean of `sampling_ratio` squared bilinear samples in each cell of each box (He et al., 2017)."""
    shift = 0.5 if aligned else 0.0
    corners = rois[:, 1:] * spatial_scale - shift
    sides = corners[:, 2:] - corners[:, :2]
    sides = sides if aligned else sides.clamp(min=1.0)
    samples = sampling_ratio if sampling_ratio > 0 else 2
    out = features.new_empty(len(rois), features.shape[1], pooled_height, pooled_width)
    height, width = features.shape[-2:]

    def places(cells):
        return (torch.arange(cells * samples) + 0.5) / (cells * samples)

    for number, (image, low, side) in enumerate(zip(rois[:, 0].long(), corners[:, :2], sides, strict=True)):
        x = low[0] + places(pooled_width) * side[0]
        y = low[1] + places(pooled_height) * side[1]
        across, down = (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
        grid = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], -1)[None]
        seen = torch.nn.functional.grid_sample(
            features[image : image + 1], grid, "bilinear", "border", align_corners=False
        )
        out[number] = torch.nn.functional.avg_pool2d(seen, samples)[0]
    return out
