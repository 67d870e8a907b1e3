"""TimeSformer with divided space-time attention, on the parameters and names of transformers' checkpoints.

Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (2021). A layer attends first
along time (each patch position on its own), then over the patches of each frame, then applies an MLP. The forward
pass is our own: transformers' takes any number of frames and groups their tokens wrongly, ours demands the shape it
was made for, and attention goes through PyTorch's fused kernels.

Shape suffixes: B clips, T frames, C colours, H W pixels, P patches a frame, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import TimesformerConfig

from index.errors import InvalidInput

EMBEDDING_DIM = 768
"""Width of the embeddings of all presets; a narrower encoder learns a projection to it."""

# Kinetics normalisation, the same on every channel.
PIXEL_MEAN, PIXEL_STD = 0.45, 0.225

_PRESETS: dict[str, dict[str, int]] = {
    "timesformer-l": {"num_frames": 96, "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12},
    "timesformer-b": {"num_frames": 8, "image_size": 224, "hidden_size": 768, "num_hidden_layers": 12},
    "timesformer-demo": {"num_frames": 16, "image_size": 112, "hidden_size": 192, "num_hidden_layers": 4},
}
PRESETS = tuple(_PRESETS)


def preset(name: str) -> TimesformerConfig:
    """The architecture of a named preset.

    Raises:
        InvalidInput: no such preset.
    """
    if name not in _PRESETS:
        raise InvalidInput(f"expected a preset of {', '.join(PRESETS)}, got {name!r}")
    values = _PRESETS[name]
    return architecture(**values, num_attention_heads=values["hidden_size"] // 64)


def architecture(
    num_frames: int,
    image_size: int,
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    patch_size: int = 16,
    embedding_dim: int = EMBEDDING_DIM,
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

    Raises:
        InvalidInput: the numbers don't fit each other.
    """
    if min(num_frames, image_size, hidden_size, num_hidden_layers, num_attention_heads, patch_size) < 1:
        raise InvalidInput("expected frames, size, width, depth, heads and patch of at least 1")
    if image_size % patch_size or hidden_size % num_attention_heads:
        raise InvalidInput(
            f"expected a patch size that divides {image_size} and heads that divide {hidden_size}, "
            f"got {patch_size} and {num_attention_heads}"
        )
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
    )


class TimeSformer(nn.Module):
    """Frames in, one embedding a clip out.

    Its state dict has the keys of `transformers.TimesformerModel`, and `projection.weight` where the embedding is
    wider than the model.
    """

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        self.config = config
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)
        self.layernorm = nn.LayerNorm(width, eps)
        self.projection = None
        if self.embedding_dim != width:
            self.projection = nn.Linear(width, self.embedding_dim, bias=False)
        self.apply(self._initialise)

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return int(getattr(self.config, "embedding_dim", self.config.hidden_size))

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """Embed clips.

        Args:
            frames_BTCHW: normalised frames (see `normalise`), in the model's dtype.

        Returns:
            (B, embedding_dim), of any length.

        Raises:
            InvalidInput: the frames are not of the shape this model was made for.
        """
        config = self.config
        expected = (config.num_frames, config.num_channels, config.image_size, config.image_size)
        if frames_BTCHW.ndim != 5 or tuple(frames_BTCHW.shape[1:]) != expected:
            raise InvalidInput(f"expected frames (B, {str(expected)[1:]}, got {tuple(frames_BTCHW.shape)}")
        cls_B1D, tokens_BPTD = self.embeddings(frames_BTCHW)
        for layer in self.encoder.layer:
            cls_B1D, tokens_BPTD = layer(cls_B1D, tokens_BPTD)
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
        elif isinstance(module, _Layer):
            # As the original: attention along time joins in as training goes on. The random weights above stay
            # for the output projection, so that it has a gradient.
            nn.init.zeros_(module.temporal_dense.weight)


class _Layers(nn.Module):
    """Holds the layers under the name that transformers gives them."""

    def __init__(self, config: TimesformerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))


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


class _Attention(nn.Module):
    """Multi-head self-attention over the second-last dimension."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width, bias=qkv_bias)})
        self.output = nn.ModuleDict({"dense": nn.Linear(width, width)})

    def forward(self, x_NLD: Tensor) -> Tensor:
        qkv = self.attention["qkv"](x_NLD).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (N, heads, L, D / heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.output["dense"](mixed.transpose(1, 2).flatten(2))
        return out


class _Layer(nn.Module):
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
        self.output = nn.ModuleDict({"dense": nn.Linear(config.intermediate_size, width)})

    def forward(self, cls_B1D: Tensor, tokens_BPTD: Tensor) -> tuple[Tensor, Tensor]:
        clips, patches, frames, _ = tokens_BPTD.shape
        along_time = self.temporal_attention(self.temporal_layernorm(tokens_BPTD).flatten(0, 1))
        tokens_BPTD = tokens_BPTD + self.temporal_dense(along_time).unflatten(0, (clips, patches))

        # Each frame attends over its patches and a copy of the CLS token; the copies are averaged.
        frame_tokens = tokens_BPTD.transpose(1, 2).flatten(0, 1)
        frame_cls = cls_B1D[:, None].expand(-1, frames, -1, -1).flatten(0, 1)
        over_frame = self.attention(self.layernorm_before(torch.cat((frame_cls, frame_tokens), 1)))
        cls_B1D = cls_B1D + over_frame[:, :1].unflatten(0, (clips, frames)).mean(1)
        tokens_BPTD = tokens_BPTD + over_frame[:, 1:].unflatten(0, (clips, frames)).transpose(1, 2)

        return cls_B1D + self._mlp(cls_B1D), tokens_BPTD + self._mlp(tokens_BPTD)

    def _mlp(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.intermediate["dense"](self.layernorm_after(x)))
        out: Tensor = self.output["dense"](hidden)
        return out
