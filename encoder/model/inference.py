"""The forward pass for inference on a CPU: the same weights, prepared once, and tokens that stay in the cache.

Preparing folds the two projections along time into one, moves the scale and mean of pixels into the patch weights,
and lays the weights out as oneDNN's kernels want them, which `F.linear` does again with each call.

What `TimeSformer.forward` does layer by layer over all tokens is done here in blocks of tokens: a whole layer's
products would write tens of megabytes into fresh memory each, and wait for it. One clip at a time, always in the
same blocks: a clip's embedding does not depend, to the bit, on the clips that came with it.

Shape suffixes: T frames, P patches a frame, L = 1 + P tokens of a frame (the CLS token first), D width, N rows.
"""

from __future__ import annotations

import copy
import time
from contextlib import suppress
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import TimesformerConfig

from encoder.model.backbone import Shape
from encoder.model.timesformer import PIXEL_MEAN, PIXEL_STD, Layer, TimeSformer, normalise
from encoder.model.views import viewed
from index.errors import InvalidInput

_BLOCK_TOKENS = 2000


def flop_of_clip(config: TimesformerConfig | Shape) -> float:
    """Floating-point operations of one clip's forward pass, as it is done here; norms and activations left out."""
    frames, width, layers = int(config.num_frames), int(config.hidden_size), int(config.num_hidden_layers)
    frames //= int(getattr(config, "frames_a_moment", 1))
    patches = int(config.image_size // config.patch_size) ** 2
    in_time = frames * patches * (4 * width**2 + 2 * frames * width)
    in_space = frames * (1 + patches) * (12 * width**2 + 2 * (1 + patches) * width)
    embedded = frames * patches * int(config.num_channels * config.patch_size**2) * width
    return 2.0 * (layers * in_time + (layers - 1) * in_space + embedded)


class Product(nn.Module):
    """A linear map with its weights laid out for oneDNN, and GELU behind it where it is asked for.

    The operators are those that torch.compile puts in the place of linear layers when it freezes weights; a build of
    torch without them, or a processor without their kernels, computes the same, slower.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, gelu: bool = False) -> None:
        super().__init__()
        self._bias, self._gelu = bias, gelu
        self._packed = False
        self._weight = weight.detach().contiguous()
        if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
            with suppress(RuntimeError):  # this processor has no kernel for this precision
                self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, _BLOCK_TOKENS)
                self._packed = True

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if not self._packed:
            plain = F.linear(x, self._weight, self._bias)
            return F.gelu(plain) if self._gelu else plain
        then, algorithm = ("gelu", "none") if self._gelu else ("none", "")
        mapped: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, then, [], algorithm)
        return mapped


def matrix_rate(dtype: torch.dtype, seconds: float = 0.1, device: str = "cpu") -> float:
    """Floating-point operations a second of the model's largest matrix product, the best of what fits into the time."""
    rows, width, inner = (_BLOCK_TOKENS if device == "cpu" else 16_000), 768, 3072
    left = torch.ones(rows, width, dtype=dtype, device=device)
    right = torch.ones(inner, width, dtype=dtype, device=device)
    best, until = float("inf"), time.perf_counter() + seconds
    with torch.inference_mode():
        mapped = Product(right, None) if device == "cpu" else lambda x: F.linear(x, right)
        mapped(left)  # the first one prepares
        while (started := time.perf_counter()) < until or best == float("inf"):
            mapped(left)
            if device == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
    return 2 * rows * width * inner / best


class Prepared:
    """A TimeSformer's weights as inference wants them.

    Args:
        model: left as it is.
        dtype: what to compute in.
    """

    def __init__(self, model: TimeSformer, dtype: torch.dtype) -> None:
        # Layer by layer, so that no more than one of them is there a second time in full precision.
        self._layers = [_prepared(layer, dtype, last=layer is model.layers[-1]) for layer in model.layers]
        without_layers = {id(model.encoder): nn.Identity()}
        self._model = copy.deepcopy(model, without_layers).requires_grad_(requires_grad=False).eval().to(dtype)
        self._dtype = dtype
        self._patches = (model.config.image_size // model.config.patch_size) ** 2
        # Pixels come in as 0 to 255, which every precision holds exactly: their scale and mean move into the weights.
        convolution = cast(nn.Conv2d, model.embeddings.patch_embeddings["projection"])
        weight = convolution.weight.detach().double().permute(0, 2, 3, 1).flatten(1)  # columns as pixels lie: y, x, RGB
        bias = torch.zeros(len(weight)) if convolution.bias is None else convolution.bias.detach()
        if model.input_view == "rgb":
            bias = bias.double() - weight.sum(1) * PIXEL_MEAN / PIXEL_STD
        if model.input_view == "change":  # which is not linear in the pixels
            self._patch_product = Product(weight.to(dtype), bias.to(dtype))
        else:
            self._patch_product = Product((weight / (255 * PIXEL_STD)).to(dtype), bias.to(dtype))

    @torch.inference_mode()
    def embed(self, frames_THWC: Tensor) -> Tensor:
        """Embed one clip.

        Args:
            frames_THWC: (T, S, S, 3) uint8 RGB.

        Returns:
            (embedding_dim,) float32, of any length.

        Raises:
            InvalidInput: If the frames are not of the shape the model was made for.
        """
        config = self._model.config
        expected = (config.num_frames, config.image_size, config.image_size, config.num_channels)
        if tuple(frames_THWC.shape) != expected:
            raise InvalidInput(f"expected frames {expected}, got {tuple(frames_THWC.shape)}")
        tokens_TLD = self._tokens(frames_THWC)
        *layers, last = self._layers
        for layer in layers:
            self._along_time(layer, tokens_TLD)
            self._over_frames(layer, tokens_TLD)
        self._along_time(last, tokens_TLD)
        seen = [last.attention.of_first(last.layernorm_before(block)) for block in self._frame_blocks(tokens_TLD)]
        cls_1D = _with_mlp(last, tokens_TLD[0, :1] + _mean(torch.cat(seen)[:, 0]))
        return self._model.embedding(cls_1D[None])[0].float()

    def _tokens(self, frames_THWC: Tensor) -> Tensor:
        """Patches behind a copy of the CLS token in each frame, with their places in space and time."""
        if self._model.input_view == "change":
            seen_BMCHW = viewed(normalise(frames_THWC[None]), "change", self._model.frames_a_moment)
            frames_THWC = seen_BMCHW[0].permute(0, 2, 3, 1)
        frames, size = frames_THWC.shape[:2]
        embeddings, patch = self._model.embeddings, self._model.config.patch_size
        tokens_TLD = torch.empty(frames, 1 + self._patches, self._model.config.hidden_size, dtype=self._dtype)
        still = None
        if self._model.input_view == "motion":
            still = frames_THWC.sum(0, dtype=torch.float32) / frames
        places_LD = embeddings.position_embeddings[0]
        tokens_TLD[:, 0] = embeddings.cls_token[0, 0] + places_LD[0]
        step = max(_BLOCK_TOKENS // self._patches, 1)
        for start in range(0, frames, step):
            pixels = frames_THWC[start : start + step]
            if still is not None:
                pixels = pixels - still
            grid = pixels.unflatten(2, (size // patch, patch)).unflatten(1, (size // patch, patch))
            rows_NP = grid.transpose(2, 3).to(self._dtype).reshape(len(pixels), self._patches, -1)
            block = self._patch_product(rows_NP)
            block += places_LD[1:]
            tokens_TLD[start : start + step, 1:] = block
            tokens_TLD[start : start + step, 1:] += embeddings.time_embeddings[0, start : start + step, None]
        return tokens_TLD

    def _along_time(self, layer: Layer, tokens_TLD: Tensor) -> None:
        frames = len(tokens_TLD)
        step = max(_BLOCK_TOKENS // frames, 1)
        for start in range(1, 1 + self._patches, step):
            block_NTD = tokens_TLD[:, start : start + step].transpose(0, 1)
            block_NTD += layer.temporal_attention(layer.temporal_layernorm(block_NTD.contiguous()))

    def _over_frames(self, layer: Layer, tokens_TLD: Tensor) -> None:
        cls_1D = tokens_TLD[0, :1].clone()
        seen = []
        for block_NLD in self._frame_blocks(tokens_TLD):
            attended_NLD = layer.attention(layer.layernorm_before(block_NLD))
            seen.append(attended_NLD[:, 0])
            block_NLD += attended_NLD
            block_NLD += layer.mlp(block_NLD)  # the copies of the CLS token too: they are set right below
        tokens_TLD[:, 0] = _with_mlp(layer, cls_1D + _mean(torch.cat(seen)))

    def _frame_blocks(self, tokens_TLD: Tensor) -> tuple[Tensor, ...]:
        blocks: tuple[Tensor, ...] = tokens_TLD.split(max(_BLOCK_TOKENS // tokens_TLD.shape[1], 1))
        return blocks


def _prepared(layer: Layer, dtype: torch.dtype, *, last: bool) -> Layer:
    """A copy of a layer for inference; of the last one only what the CLS token needs is asked."""
    own = copy.deepcopy(layer).requires_grad_(requires_grad=False).eval()
    own.fold()
    own.to(dtype)
    own.activation = nn.Identity()  # its product does it
    blocks = [own.temporal_attention.attention, own.temporal_attention.output, own.attention.output]
    if not last:  # `of_first` takes these weights apart
        blocks.append(own.attention.attention)
    for block in (*blocks, own.intermediate, own.output):
        for name, module in block.items():
            linear = cast(nn.Linear, module)
            block[name] = Product(linear.weight, linear.bias, gelu=block is own.intermediate)
    return own


def _mean(rows_ND: Tensor) -> Tensor:
    return rows_ND.float().mean(0, keepdim=True).to(rows_ND.dtype)


def _with_mlp(layer: Layer, rows_ND: Tensor) -> Tensor:
    return rows_ND + layer.mlp(rows_ND)
