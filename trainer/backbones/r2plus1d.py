"""R(2+1)D: convolutions over space, then over time (Tran et al., "A Closer Look at Spatiotemporal Convolutions", 2018).

Names and shapes are those of torchvision's weights for 18 layers, and of the usual weights trained on 65 million public
videos for 34 layers, so that such files load.
"""

from __future__ import annotations

from torch import Tensor, nn

WIDTH = 512
"""Width of a feature."""

MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)
"""Mean and deviation of RGB frames from 0 to 1, that the published weights want."""

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_EPS = {18: 1e-5, 34: 1e-3}
"""Epsilon of batch norm: the 34-layer weights were trained with Caffe2's."""


class R2Plus1D(nn.Module):
    """Snippets of frames to features, before the classifier.

    Args:
        depth: 18 or 34 layers.
        classes: of the classifier, which is part of the weights; features are taken before it.
    """

    def __init__(self, depth: int, classes: int = 400) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(45, _EPS[depth]),
            nn.ReLU(),
            nn.Conv3d(45, 64, (3, 1, 1), (1, 1, 1), (1, 0, 0), bias=False),
            nn.BatchNorm3d(64, _EPS[depth]),
            nn.ReLU(),
        )
        into = 64
        for number, (width, blocks) in enumerate(zip((64, 128, 256, 512), _BLOCKS[depth], strict=True), start=1):
            layer = [_Block(into if i == 0 else width, width, depth, first=number == 1) for i in range(blocks)]
            self.add_module(f"layer{number}", nn.Sequential(*layer))
            into = width
        self.fc = nn.Linear(WIDTH, classes)

    def forward(self, frames_BCTHW: Tensor) -> Tensor:
        """Features (B, 512) of normalised RGB frames."""
        x = self.stem(frames_BCTHW)
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        features: Tensor = x.mean((2, 3, 4))
        return features


class _Block(nn.Module):
    """Two factored convolutions and a way around them."""

    def __init__(self, into: int, width: int, depth: int, *, first: bool) -> None:
        super().__init__()
        narrows, eps = into != width and not first, _EPS[depth]
        stride = 2 if narrows else 1
        between = _between(into, width)
        # In the 34-layer weights the second pair has a width of its own; in torchvision's it has that of the first.
        second = between if depth == 18 else _between(width, width)
        self.conv1 = nn.Sequential(_Factored(into, width, between, eps, stride), nn.BatchNorm3d(width, eps), nn.ReLU())
        self.conv2 = nn.Sequential(_Factored(width, width, second, eps), nn.BatchNorm3d(width, eps))
        self.relu = nn.ReLU()
        self.downsample = None
        if narrows:
            self.downsample = nn.Sequential(
                nn.Conv3d(into, width, 1, stride, bias=False),
                nn.BatchNorm3d(width, eps),
            )

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.conv1(x)) + around)
        return out


class _Factored(nn.Sequential):
    """Space, then time."""

    def __init__(self, into: int, out: int, between: int, eps: float, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(into, between, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(between, eps),
            nn.ReLU(),
            nn.Conv3d(between, out, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


def _between(into: int, out: int) -> int:
    """The width between the two that gives as many weights as a full 3 x 3 x 3 convolution."""
    return (into * out * 27) // (into * 9 + 3 * out)
