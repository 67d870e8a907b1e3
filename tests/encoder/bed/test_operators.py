"""Operators that stand in for torchvision's compiled ones, against what each means written out box by box."""

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.bed.torchvision_operators import nms, roi_align
from tests.encoder.bed.test_detector import run_beside_torchvision


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (area - common)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 25), st.floats(0.1, 0.9))
def test_of_boxes_that_overlap_the_best_is_kept(seed, count, threshold):
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 40, (count, 2))], axis=1)
    scores = random.permutation(count) / 30

    kept: list[int] = []
    for number in np.argsort(-scores):
        if all(overlap(boxes[number], boxes[other]) <= threshold for other in kept):
            kept.append(int(number))

    found = nms(torch.from_numpy(boxes).reshape(-1, 4), torch.from_numpy(scores), threshold)
    assert found.tolist() == kept


def bilinear(plane, x, y):
    """A value between pixels; beyond the outermost ones theirs."""
    height, width = plane.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, above = min(int(x), width - 2), min(int(y), height - 2)
    dx, dy = x - left, y - above
    upper = plane[above, left] * (1 - dx) + plane[above, left + 1] * dx
    lower = plane[above + 1, left] * (1 - dx) + plane[above + 1, left + 1] * dx
    return upper * (1 - dy) + lower * dy


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([-1, 1, 2, 3]))
def test_a_cell_is_the_mean_of_its_samples(seed, aligned, ratio):
    random = np.random.default_rng(seed)
    features = random.normal(size=(2, 3, 9, 11))
    scale, cells = 0.5, (2, 3)
    rois = []
    for _ in range(4):
        left, top = random.uniform(0, 14), random.uniform(0, 10)
        rois.append([random.integers(2), left, top, random.uniform(left, 22), random.uniform(top, 18)])

    found = roi_align(
        torch.from_numpy(features), torch.tensor(rois, dtype=torch.float64), scale, *cells, ratio, aligned
    )

    samples = ratio if ratio > 0 else 2
    for number, (image, *box) in enumerate(rois):
        left, top, right, bottom = (edge * scale - 0.5 * aligned for edge in box)
        width, height = (max(side, 0 if aligned else 1) for side in (right - left, bottom - top))
        for row in range(cells[0]):
            for column in range(cells[1]):
                places = [
                    (
                        left + (column + (i + 0.5) / samples) * width / cells[1],
                        top + (row + (j + 0.5) / samples) * height / cells[0],
                    )
                    for i in range(samples)
                    for j in range(samples)
                ]
                for channel in range(3):
                    wanted = np.mean([bilinear(features[int(image), channel], x, y) for x, y in places])
                    assert abs(found[number, channel, row, column].item() - wanted) < 1e-9


def test_mask_rcnn_runs_beside_a_torch_that_its_compiled_part_does_not_fit():
    """The torchvision of the package index beside the torch of the lock; nothing is compiled at the first picture."""
    code = """
import sys
import torch
from encoder.bed.torchvision_operators import import_detection
torch.manual_seed(0)
model = import_detection().maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).eval()
with torch.inference_mode():
    found = model([torch.rand(3, 96, 128)])[0]
print(found["boxes"].shape[1], found["masks"].shape[1:] == (1, 96, 128), "torch._inductor.compile_fx" in sys.modules)
"""
    done = run_beside_torchvision("-c", code)
    assert (done.returncode, done.stdout) == (0, "4 True False\n"), done.stderr


def test_without_torchvision_nothing_is_registered():
    code = "from encoder.bed.torchvision_operators import import_detection; import_detection()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: no torchvision" in done.stderr
