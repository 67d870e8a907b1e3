"""TimeSformer with divided space-time attention, on the parameters and names of transformers' checkpoints.

Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (2021). A layer attends first
along time (each patch position on its own), then over the patches of each frame, then applies an MLP. The forward
pass is our own: transformers' takes any number of frames and groups their tokens wrongly, ours demands the shape it
was made for, and attention goes through PyTorch's fused kernels.

Shape suffixes: B clips, T frames, C colours, H W pixels, P patches a frame, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from transformers import TimesformerConfig

from encoder.model.views import viewed
from index.errors import InvalidInput

# Kinetics normalisation, the same on every channel.
PIXEL_MEAN, PIXEL_STD = 0.45, 0.225

Recompute = Literal["off", "selective", "full"]

_PRODUCTS = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
]
_KEEP_PRODUCTS = partial(create_selective_checkpoint_contexts, _PRODUCTS)


class TimeSformer(nn.Module):
    """Frames in, one embedding a clip out.

    Its state dict has the keys of `transformers.TimesformerModel`, and `projection.weight` where the embedding is
    wider than the model.

    Attributes:
        config: its architecture.
        recompute: of a layer, what is computed again on the way back in training instead of being kept: `off`, nothing;
            `selective`, all but products and attention, which cost the time; `full`, all but its input.
    """

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute: Recompute = "off"
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)
        self.layernorm = nn.LayerNorm(width, eps)
        self.projection = None
        if self.embedding_dim != width:
            self.projection = nn.Linear(width, self.embedding_dim, bias=False)
        self.apply(self._initialise)

    kind = "timesformer"

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return int(getattr(self.config, "embedding_dim", self.config.hidden_size))

    @property
    def input_view(self) -> str:
        """One of `encoder.model.views.INPUT_VIEWS`."""
        return str(getattr(self.config, "input_view", "rgb"))

    @property
    def frames_a_moment(self) -> int:
        """Frames that one moment in time is made of."""
        return int(getattr(self.config, "frames_a_moment", 1))

    @property
    def layers(self) -> list[Layer]:
        """The layers, in order."""
        return [cast(Layer, layer) for layer in self.encoder.layer]

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """Embed clips.

        Args:
            frames_BTCHW: normalised frames (see `normalise`), in the model's dtype.

        Returns:
            (B, embedding_dim), of any length.

        Raises:
            InvalidInput: If the frames are not of the shape this model was made for.
        """
        config = self.config
        expected = (config.num_frames, config.num_channels, config.image_size, config.image_size)
        if frames_BTCHW.ndim != 5 or tuple(frames_BTCHW.shape[1:]) != expected:
            raise InvalidInput(f"expected frames (B, {str(expected)[1:]}, got {tuple(frames_BTCHW.shape)}")
        cls_B1D, tokens_BPTD = self._run(frames_BTCHW, self.layers[:-1])
        last = self.layers[-1]
        return self.embedding(self._through(last.cls_alone, cls_B1D, tokens_BPTD))

    def tokens(self, frames_BTCHW: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layer makes of clips: the CLS token (B, 1, D), and those of the patches (B, P, T, D)."""
        return self._run(frames_BTCHW, self.layers)

    def _run(self, frames_BTCHW: Tensor, layers: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
        cls_B1D, tokens_BPTD = self.embeddings(viewed(frames_BTCHW, self.input_view, self.frames_a_moment))
        for layer in layers:
            cls_B1D, tokens_BPTD = self._through(layer, cls_B1D, tokens_BPTD)
        return cls_B1D, tokens_BPTD

    def _through(self, layer: Callable[..., Any], *inputs: Tensor) -> Any:  # noqa: ANN401  whatever the layer gives
        if self.recompute == "off" or not torch.is_grad_enabled():
            return layer(*inputs)
        # Nothing in a layer is random: no generator has to be put back.
        keeping = partial(checkpoint, layer, *inputs, use_reentrant=False, preserve_rng_state=False)
        return keeping(context_fn=_KEEP_PRODUCTS) if self.recompute == "selective" else keeping()

    def embedding(self, cls_B1D: Tensor) -> Tensor:
        """The CLS token as an embedding."""
        embedding_BD: Tensor = self.layernorm(cls_B1D[:, 0])
        return embedding_BD if self.projection is None else self.projection(embedding_BD)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _Embeddings):
            for parameter in (module.cls_token, module.position_embeddings, module.time_embeddings):
                nn.init.trunc_normal_(parameter, std=0.02)
        elif isinstance(module, Layer):
            # As the original: attention along time joins in as training proceeds. The random weights above stay
            # for the output projection, so that it has a gradient.
            nn.init.zeros_(module.temporal_dense.weight)


class _Layers(nn.Module):
    """Holds the layers under the name that transformers gives them."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))


def normalise(frames_BTHWC: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """From uint8 RGB (B, T, H, W, C) to the model's input (B, T, C, H, W): (RGB / 255 - 0.45) / 0.225."""
    frames_BTCHW = frames_BTHWC.permute(0, 1, 4, 2, 3).to(torch.float32)
    return frames_BTCHW.mul_(1 / (255 * PIXEL_STD)).sub_(PIXEL_MEAN / PIXEL_STD).to(dtype)


class _Embeddings(nn.Module):
    """Patches to tokens, with their places in space and time."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.num_patches = (config.image_size // patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, self.num_patches + 1, width))
        moments = config.num_frames // int(getattr(config, "frames_a_moment", 1))
        self.time_embeddings = nn.Parameter(torch.zeros(1, moments, width))
        convolution = nn.Conv2d(config.num_channels, width, kernel_size=patch, stride=patch)
        self.patch_embeddings = nn.ModuleDict({"projection": convolution})

    def forward(self, frames_BTCHW: Tensor) -> tuple[Tensor, Tensor]:
        clips, frames = frames_BTCHW.shape[:2]
        patches = self.patch_embeddings["projection"](frames_BTCHW.flatten(0, 1))  # (B T, D, h, w)
        tokens_BTPD = patches.flatten(2).transpose(1, 2).unflatten(0, (clips, frames))
        tokens_BTPD = tokens_BTPD + self.position_embeddings[:, None, 1:] + self.time_embeddings[:, :, None]
        cls_B1D = (self.cls_token + self.position_embeddings[:, :1]).expand(clips, -1, -1)
        return cls_B1D, tokens_BTPD.transpose(1, 2)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention, each (N, heads, L, d)."""
    # Training keeps one kernel for passes with and without gradients: theirs must give the same embedding.
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or not torch.is_inference_mode_enabled():
        return F.scaled_dot_product_attention(q, k, v)
    # PyTorch's fused kernel for the CPU leaves most of the processor's bfloat16 rate unused (2.4 times slower here).
    flat_q, flat_k, flat_v = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), flat_q, flat_k.transpose(1, 2), beta=0, alpha=q.shape[-1] ** -0.5)
    mixed: Tensor = torch.bmm(scores.softmax(-1), flat_v).unflatten(0, q.shape[:2])
    return mixed


class _Attention(nn.Module):
    """Multi-head self-attention over the second-last dimension."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width, bias=qkv_bias)})
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width)})

    def forward(self, x_NLD: Tensor) -> Tensor:
        out: Tensor = self.output["dense"](self.mixed(x_NLD))
        return out

    def mixed(self, x_NLD: Tensor) -> Tensor:
        """What the heads see (N, L, D), before the output projection."""
        qkv = self.attention["qkv"](x_NLD).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, L, D / heads)
        return _attended(q, k, v).transpose(1, 2).flatten(2)

    def of_first(self, x_NLD: Tensor) -> Tensor:
        """The output (N, 1, D) for the first token only, without the keys and values of the others.

        A head's score of token x is q . (K x + b) = (K' q) . x + a constant that softmax ignores, and the mean of its
        values is V applied to the mean of the tokens: two products a head instead of two a token.
        """
        linear, width = cast(nn.Linear, self.attention["qkv"]), x_NLD.shape[-1]
        q_weight, k_weight, v_weight = linear.weight.split(width)
        q_bias, _, v_bias = (None, None, None) if linear.bias is None else linear.bias.split(width)
        q_HNd = F.linear(x_NLD[:, 0], q_weight, q_bias).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        asked_NHD = (q_HNd @ k_weight.unflatten(0, (self.heads, -1))).transpose(0, 1)
        scale = (width // self.heads) ** -0.5
        seen_NHD = F.scaled_dot_product_attention(asked_NHD[:, None], x_NLD[:, None], x_NLD[:, None], scale=scale)[:, 0]
        mixed_HNd = seen_NHD.transpose(0, 1) @ v_weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
        mixed_ND = mixed_HNd.transpose(0, 1).flatten(1)
        out: Tensor = self.output["dense"](mixed_ND if v_bias is None else mixed_ND + v_bias)
        return out[:, None]


class Layer(nn.Module):
    """Attention along time, attention over each frame, MLP; each with a residual."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.temporal_layernorm = nn.LayerNorm(width, eps)
        self.temporal_attention = _Attention(width, config.num_attention_heads, config.qkv_bias)
        self.temporal_dense = nn.Linear(width, width)
        self.layernorm_before = nn.LayerNorm(width, eps)
        self.attention = _Attention(width, config.num_attention_heads, config.qkv_bias)
        self.layernorm_after = nn.LayerNorm(width, eps)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, config.intermediate_size)})
        self.activation: nn.Module = nn.GELU()
        self.output = nn.ModuleDict({"dense": nn.Linear(config.intermediate_size, width)})

    def forward(self, cls_B1D: Tensor, tokens_BPTD: Tensor) -> tuple[Tensor, Tensor]:
        """CLS token and patches, one layer further."""
        clips, frames = tokens_BPTD.shape[0], tokens_BPTD.shape[2]
        tokens_BPTD = self._along_time(tokens_BPTD)
        over_frame = self.attention(self._frames(cls_B1D, tokens_BPTD))
        cls_B1D = cls_B1D + over_frame[:, :1].unflatten(0, (clips, frames)).mean(1)
        tokens_BPTD = tokens_BPTD + over_frame[:, 1:].unflatten(0, (clips, frames)).transpose(1, 2)
        return cls_B1D + self.mlp(cls_B1D), tokens_BPTD + self.mlp(tokens_BPTD)

    def cls_alone(self, cls_B1D: Tensor, tokens_BPTD: Tensor) -> Tensor:
        """The CLS token of `forward` alone: behind the last layer no other is used."""
        clips, frames = tokens_BPTD.shape[0], tokens_BPTD.shape[2]
        over_frame = self.attention.of_first(self._frames(cls_B1D, self._along_time(tokens_BPTD)))
        cls_B1D = cls_B1D + over_frame.unflatten(0, (clips, frames)).mean(1)
        return cls_B1D + self.mlp(cls_B1D)

    def fold(self) -> None:
        """Make one map of the temporal output projection and `temporal_dense`, for good: for inference only."""
        inner = cast(nn.Linear, self.temporal_attention.output["dense"])
        inner.weight, inner.bias = (nn.Parameter(folded, requires_grad=False) for folded in self._folded())

    def _along_time(self, tokens_BPTD: Tensor) -> Tensor:
        # The output projection and `temporal_dense` are two linear maps in a row: one product a token instead of two.
        mixed = self.temporal_attention.mixed(self.temporal_layernorm(tokens_BPTD).flatten(0, 1))
        with torch.autocast(mixed.device.type, enabled=False):
            weight, bias = self._folded()
        attended: Tensor = tokens_BPTD + F.linear(mixed, weight, bias).unflatten(0, tokens_BPTD.shape[:2])
        return attended

    def _folded(self) -> tuple[Tensor, Tensor]:
        inner, outer = cast(nn.Linear, self.temporal_attention.output["dense"]), self.temporal_dense
        return outer.weight @ inner.weight, F.linear(inner.bias, outer.weight, outer.bias)

    def _frames(self, cls_B1D: Tensor, tokens_BPTD: Tensor) -> Tensor:
        """Each frame's patches behind a copy of the CLS token, normalised; the copies are averaged afterwards."""
        frame_tokens = tokens_BPTD.transpose(1, 2).flatten(0, 1)
        frame_cls = cls_B1D[:, None].expand(-1, tokens_BPTD.shape[2], -1, -1).flatten(0, 1)
        normalised: Tensor = self.layernorm_before(torch.cat((frame_cls, frame_tokens), 1))
        return normalised

    def mlp(self, x: Tensor) -> Tensor:
        """What the MLP adds to tokens (..., D)."""
        hidden = self.activation(self.intermediate["dense"](self.layernorm_after(x)))
        out: Tensor = self.output["dense"](hidden)
        return out
