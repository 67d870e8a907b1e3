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

from index.errors import InvalidInput

EMBEDDING_DIM = 768
"""Width of the embeddings of all presets; a narrower encoder learns a projection to it."""

# Kinetics normalisation, the same on every channel.
PIXEL_MEAN, PIXEL_STD = 0.45, 0.225

_PRESETS: dict[str, dict[str, int]] = {
    "timesformer-l": {"num_frames": 96, "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12},
    "timesformer-b": {"num_frames": 8, "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12},
    "timesformer-demo": {"num_frames": 12, "image_size": 96, "hidden_size": 96, "num_hidden_layers": 4},
}
PRESETS = tuple(_PRESETS)
INPUT_VIEWS = ("rgb", "motion")
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


def preset(name: str) -> TimesformerConfig:
    """The architecture of a named preset.

    Raises:
        InvalidInput: If there is no such preset.
    """
    if name not in _PRESETS:
        raise InvalidInput(f"expected a preset of {', '.join(PRESETS)}, got {name!r}")
    values = _PRESETS[name]
    demo = name == "timesformer-demo"
    return architecture(
        num_frames=values["num_frames"],
        image_size=values["image_size"],
        hidden_size=values["hidden_size"],
        num_hidden_layers=values["num_hidden_layers"],
        num_attention_heads=values["hidden_size"] // (32 if demo else 64),
        input_view="motion" if demo else "rgb",
    )


def architecture(
    num_frames: int,
    image_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    patch_size: int = 16,
    embedding_dim: int = EMBEDDING_DIM,
    input_view: str = "rgb",
) -> TimesformerConfig:
    """A checked TimeSformer architecture of any size.

    Args:
        num_frames: T.
        image_size: H and W, in pixels.
        hidden_size: D.
        num_hidden_layers: depth.
        num_attention_heads: must divide D.
        patch_size: must divide the image size.
        embedding_dim: width of the embedding; a projection is added where it differs from D.
        input_view: one of `INPUT_VIEWS`. `motion` takes from each frame the mean of its clip: what stands still, the
            room and the clothes of who lies still, is gone before the first layer.

    Raises:
        InvalidInput: If the numbers don't fit each other.
    """
    if min(num_frames, image_size, hidden_size, num_hidden_layers, num_attention_heads, patch_size) < 1:
        raise InvalidInput("expected frames, size, width, depth, heads and patch of at least 1")
    if image_size % patch_size or hidden_size % num_attention_heads:
        raise InvalidInput(
            f"expected a patch size that divides {image_size} and heads that divide {hidden_size}, "
            f"got {patch_size} and {num_attention_heads}"
        )
    if input_view not in INPUT_VIEWS:
        raise InvalidInput(f"expected an input view of {', '.join(INPUT_VIEWS)}, got {input_view!r}")
    return TimesformerConfig(
        num_frames=num_frames,
        image_size=image_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=4 * hidden_size,
        patch_size=patch_size,
        attention_type="divided_space_time",
        layer_norm_eps=1e-6,
        embedding_dim=embedding_dim,
        input_view=input_view,
    )


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
        """`rgb`, or `motion`: frames less the mean of their clip."""
        return str(getattr(self.config, "input_view", "rgb"))

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
        if self.input_view == "motion":
            frames_BTCHW = frames_BTCHW - frames_BTCHW.mean(1, keepdim=True)
        cls_B1D, tokens_BPTD = self.embeddings(frames_BTCHW)
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
        self.time_embeddings = nn.Parameter(torch.zeros(1, config.num_frames, width))
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
