"""Checkpoints of the original TimeSformer code: their names, their shapes, and tensors only."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor
from transformers import TimesformerConfig

from encoder.model.architecture import architecture
from encoder.model.checkpoint import filled
from encoder.model.identity import Encoder, identified
from index.errors import InvalidInput

# Torch's restricted unpickler, on bytes that are no pickle of tensors, runs into any of these.
_UNPICKLING_ERRORS = (
    *(pickle.UnpicklingError, EOFError, OSError, RuntimeError),
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)
_LAYER_NAMES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.qkv": "attention.attention.qkv",
    "attn.proj": "attention.output.dense",
    "temporal_norm1": "temporal_layernorm",
    "temporal_attn.qkv": "temporal_attention.attention.qkv",
    "temporal_attn.proj": "temporal_attention.output.dense",
    "temporal_fc": "temporal_dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_TOP_NAMES = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "time_embed": "embeddings.time_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}


def import_pyth(file: Path, num_attention_heads: int | None = None) -> Encoder:
    """Read a checkpoint of the original TimeSformer code.

    Accepts `{model_state | state_dict | model: {...}}` or a bare state dict, with `model.` or `module.` prefixes.

    Args:
        file: the `.pyth` or `.pth` file.
        num_attention_heads: the one thing the weights don't tell; by default 64 channels a head, as in every
            published TimeSformer.

    Raises:
        InvalidInput: If it is not such a checkpoint, holds anything but tensors, or a weight is missing.
    """
    if not file.is_file():
        raise InvalidInput("the checkpoint can't be read: give the path of a .pyth or .pth file, or of a folder")
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except _UNPICKLING_ERRORS as error:
        raise InvalidInput(
            f"not a checkpoint of tensors only ({type(error).__name__}): a file whose pickle holds anything else "
            "is never run"
        ) from None
    state = _original_state(loaded)
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not name.startswith("head."):
            renamed[_transformers_name(name)] = tensor.to(torch.float32)
    model = filled(_config_of(renamed, num_attention_heads), renamed)
    return identified(model, "imported from an original TimeSformer checkpoint", trained=True)


def _original_state(loaded: object) -> dict[str, Tensor]:
    if not isinstance(loaded, dict):
        raise InvalidInput(f"expected a checkpoint with a dictionary of weights, got {type(loaded).__name__}")
    nested = (loaded.get(key) for key in ("model_state", "state_dict", "model"))
    weights: dict[str, object] = next((found for found in nested if isinstance(found, dict)), loaded)
    state = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    for prefix in ("module.", "model."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    if "time_embed" not in state:
        raise InvalidInput("not a TimeSformer checkpoint with divided space-time attention: time_embed is missing")
    return state


def _transformers_name(original: str) -> str:
    if original in _TOP_NAMES:
        return _TOP_NAMES[original]
    if match := re.fullmatch(r"blocks\.(\d{1,3})\.(.+)\.(weight|bias)", original):
        number, inner, kind = match.groups()
        if inner in _LAYER_NAMES:
            return f"encoder.layer.{number}.{_LAYER_NAMES[inner]}.{kind}"
    raise InvalidInput(f"not a TimeSformer checkpoint: weight {original!r} is unknown")


def _config_of(state: dict[str, Tensor], num_attention_heads: int | None) -> TimesformerConfig:
    """The architecture, read off the shapes of the weights."""
    try:
        positions = state["embeddings.position_embeddings"].shape[1] - 1
        width, _, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
    except KeyError as error:
        raise InvalidInput(f"the checkpoint lacks weight {error.args[0]!r}") from None
    except (IndexError, ValueError):
        raise InvalidInput(
            "the checkpoint's position or patch weights don't have the shape of a TimeSformer's"
        ) from None
    if num_attention_heads is None:
        if width % 64:
            raise InvalidInput(f"width {width} does not tell the number of attention heads: name it with --heads")
        num_attention_heads = width // 64
    layers = 1 + max((int(name.split(".")[2]) for name in state if name.startswith("encoder.layer.")), default=-1)
    return architecture(
        num_frames=state["embeddings.time_embeddings"].shape[1],
        image_size=patch * round(positions**0.5),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=num_attention_heads,
        patch_size=patch,
        embedding_dim=width,
    )
