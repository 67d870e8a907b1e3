"""A TimeSformer's configuration and weights as they are read from files, checked before anything is made of them."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import TimesformerConfig

from encoder.model.architecture import check_view
from encoder.model.timesformer import TimeSformer
from index.errors import InvalidInput

_SIZES = (
    *("num_frames", "image_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size"),
    *("intermediate_size", "num_channels"),
)


def checked_config(values: dict[str, object]) -> TimesformerConfig:
    """A configuration of the kind that `TimeSformer` runs.

    Raises:
        InvalidInput: If it is of another kind, or a number in it can't be.
    """
    if values.get("model_type") != "timesformer" or values.get("attention_type") != "divided_space_time":
        said = str(values.get("model_type"))[:64]
        raise InvalidInput(
            f"expected the config of a TimeSformer, VideoMAE, ViViT, V-JEPA 2 or X-CLIP, got model_type {said!r}"
        )
    if values.get("hidden_act", "gelu") != "gelu":
        raise InvalidInput(f"expected hidden_act gelu, got {values['hidden_act']!r}")
    for key in (*_SIZES, "embedding_dim", "frames_a_moment"):
        value = values.get(key, 1)
        if not (isinstance(value, int) and 0 < value < 2**20):
            raise InvalidInput(f"expected a whole number above 0 for {key}, got {value!r}")
    config = TimesformerConfig.from_dict({"embedding_dim": values.get("hidden_size"), **values})
    view, several = str(values.get("input_view", "rgb")), getattr(config, "frames_a_moment", 1)
    check_view(config.num_frames, config.image_size, view, several)
    return config


def filled(config: TimesformerConfig, state: dict[str, Tensor]) -> TimeSformer:
    """A model with exactly these weights."""
    with torch.device("meta"):
        model = TimeSformer(config)
    expected = model.state_dict()
    missing, surplus = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or surplus:
        named = ", ".join((missing or surplus)[:3])
        what = "lacks" if missing else "has weights that don't belong to it,"
        raise InvalidInput(
            f"expected {len(expected)} weights, got {len(state)}: the checkpoint {what} {len(missing or surplus)} "
            f"({named}{', …' if len(missing or surplus) > 3 else ''})"
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise InvalidInput(f"weight {name}: expected shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}")
        if not torch.isfinite(state[name]).all():
            raise InvalidInput(f"weight {name} holds values that are not finite")
    model.load_state_dict({name: tensor.to(torch.float32) for name, tensor in state.items()}, assign=True)
    return model
