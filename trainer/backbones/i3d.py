"""Inflated Inception (I3D) for RGB frames: Carreira and Zisserman, "Quo Vadis, Action Recognition?" (2017).

Names and shapes are those of the usual PyTorch weights trained on Kinetics-400 (`Conv3d_1a_7x7.conv3d.weight`,
`Mixed_3b.b1a.bn.bias`, ...), so that such a file loads. Padding is TensorFlow's "same".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 1024
"""Width of a feature."""

_Triple = tuple[int, int, int]
_MIXED: dict[str, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
_POOLED_BEFORE: dict[str, tuple[_Triple, _Triple]] = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


_LAST_POOL = (2, 7, 7)


class I3D(nn.Module):
    """Snippets of frames to features, before the classifier.

    Args:
        classes: of the classifier, which is part of the weights; features are taken before it.
    """

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, (3, 3, 3))
        for name, (into, widths) in _MIXED.items():
            self.add_module(name, _Mixed(into, widths))
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(WIDTH, classes, 1)})

    def forward(self, frames_BCTHW: Tensor) -> Tensor:
        """Features (B, 1024) of RGB frames scaled to -1 to 1.

        As in the original: the mean of 2 x 7 x 7 at every place, then the mean over these. Of more than two moments,
        that is from snippets of 17 frames on, the first and the last count half.
        """
        x = frames_BCTHW
        for name, module in self.named_children():
            if name == "logits":
                continue
            if name in _POOLED_BEFORE:
                x = _pooled(x, *_POOLED_BEFORE[name])
            x = module(x)
        window = [min(size, most) for size, most in zip(x.shape[2:], _LAST_POOL, strict=True)]
        features: Tensor = F.avg_pool3d(x, window, stride=1).mean((2, 3, 4))
        return features


class _Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, into: int, out: int, kernel: _Triple = (1, 1, 1), stride: _Triple = (1, 1, 1)) -> None:
        super().__init__()
        self._kernel, self._stride = kernel, stride
        self.conv3d = nn.Conv3d(into, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = F.relu(self.bn(self.conv3d(_padded(x, self._kernel, self._stride))))
        return out


class _Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, into: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = _Unit(into, widths[0])
        self.b1a = _Unit(into, widths[1])
        self.b1b = _Unit(widths[1], widths[2], (3, 3, 3))
        self.b2a = _Unit(into, widths[3])
        self.b2b = _Unit(widths[3], widths[4], (3, 3, 3))
        self.b3b = _Unit(into, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)), 1)


def _pooled(x: Tensor, kernel: _Triple, stride: _Triple) -> Tensor:
    return F.max_pool3d(_padded(x, kernel, stride), kernel, stride)


def _padded(x: Tensor, kernel: _Triple, stride: _Triple) -> Tensor:
    """Zeros around, so that the output is the input's size over the stride, rounded up; the odd one comes last."""
    around: list[int] = []
    for size, width, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        missing = max(width - (step if size % step == 0 else size % step), 0)
        around += [missing // 2, missing - missing // 2]
    return F.pad(x, around)
