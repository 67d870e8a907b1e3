"""Encoder folders: safetensors weights, config, preprocessing and a card; and the identity that all of it gives.

A folder is what transformers' `save_pretrained` writes for a TimesformerModel (`config.json`, `model.safetensors`,
`preprocessor_config.json`), so published checkpoints load and ours load elsewhere. The original authors' `.pyth`
files are read too, with their pickle restricted to tensors.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from transformers import TimesformerConfig

from encoder.timesformer import INPUT_VIEWS, PIXEL_MEAN, PIXEL_STD, TimeSformer, architecture
from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.files import write_atomically, write_text_atomically
from index.records import CLIP_SECONDS
from index.workspace import current, set_current

_WEIGHTS, _CONFIG, _PREPROCESSING, _CARD = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "README.md",
)
_SIZES = (
    *("num_frames", "image_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size"),
    *("intermediate_size", "num_channels"),
)
_ARCHITECTURE_KEYS = (
    *("num_frames", "image_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size"),
    *("intermediate_size", "layer_norm_eps", "attention_type", "qkv_bias", "num_channels", "hidden_act"),
)
# How frames are chosen and shaped: a change of any of it is another encoder.
_FRAMES_POLICY = {
    "clip_seconds": CLIP_SECONDS,
    "sampling": "middles of equal parts of the valid seconds, the frame shown at that time",
    "resize": "short side, bilinear, antialiased; centre crop",
    "crop": "manifest box, else the whole picture",
    "mean": PIXEL_MEAN,
    "std": PIXEL_STD,
}
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


@dataclass(frozen=True, slots=True)
class Encoder:
    """A model and who it is.

    Attributes:
        model: in evaluation mode, on the CPU, float32.
        encoder_id: 16 hex digits, a digest over weights, architecture, preprocessing, sampling and crop policy.
        origin: one line on where the weights come from.
        trained: False for random initial weights, whose embeddings mean little.
    """

    model: TimeSformer
    encoder_id: str
    origin: str
    trained: bool


def new_encoder(config: TimesformerConfig, seed: int) -> Encoder:
    """An encoder with random initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TimeSformer(config)
    return identified(model, f"random initial weights, seed {seed}", trained=False)


def identified(model: TimeSformer, origin: str, *, trained: bool) -> Encoder:
    """Give a model its id."""
    return Encoder(model.eval(), encoder_id_of(model), origin, trained)


def encoder_id_of(model: TimeSformer) -> str:
    """Digest over everything that decides an embedding."""
    digest = hashlib.sha256()
    shape = {key: getattr(model.config, key) for key in _ARCHITECTURE_KEYS}
    described: dict[str, object] = {"architecture": shape, "embedding_dim": model.embedding_dim}
    described["frames"] = _FRAMES_POLICY
    if model.input_view != "rgb":
        described["input_view"] = model.input_view
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_encoder(encoder: Encoder, folder: Path) -> Path:
    """Write an encoder into `folder/<encoder id>`, each file whole or absent; the weights last.

    Returns:
        The encoder's own folder.
    """
    target = folder / encoder.encoder_id
    target.mkdir(parents=True, exist_ok=True)
    config = encoder.model.config
    config.architectures = ["TimesformerModel"]
    write_text_atomically(target / _CONFIG, config.to_json_string(use_diff=False))
    preprocessing = {
        "video_processor_type": "TimesformerVideoProcessor",
        "image_mean": [PIXEL_MEAN] * 3,
        "image_std": [PIXEL_STD] * 3,
        "size": {"shortest_edge": config.image_size},
        "crop_size": {"height": config.image_size, "width": config.image_size},
        "semiome": _FRAMES_POLICY,
    }
    write_text_atomically(target / _PREPROCESSING, json.dumps(preprocessing, indent=2) + "\n")
    write_text_atomically(target / _CARD, _card(encoder))
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.model.state_dict().items()}
    metadata = {"format": "pt", "origin": encoder.origin, "trained": str(encoder.trained).lower()}
    write_atomically(target / _WEIGHTS, lambda path: safetensors.torch.save_file(state, path, metadata))
    return target


def load_encoder(folder: Path) -> Encoder:
    """Read an encoder folder: ours, or one that transformers' `save_pretrained` wrote.

    Raises:
        InvalidInput: a file is missing, damaged, or does not fit the config.
    """
    try:
        config = _checked_config(json.loads((folder / _CONFIG).read_text(encoding="utf-8")))
        state = safetensors.torch.load_file(folder / _WEIGHTS)
        with safetensors.safe_open(folder / _WEIGHTS, "pt") as archive:
            metadata = archive.metadata() or {}
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name if error.filename else _WEIGHTS
        raise InvalidInput(f"not an encoder folder: {missing} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError, safetensors.SafetensorError) as error:
        raise InvalidInput(f"the encoder folder is damaged: {error}") from None
    state = {name.removeprefix("timesformer."): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}
    origin = metadata.get("origin", "imported from a folder of transformers weights")
    return identified(_filled(config, state), origin, trained=metadata.get("trained", "true") == "true")


def import_pyth(file: Path, num_attention_heads: int | None = None) -> Encoder:
    """Read a checkpoint of the original TimeSformer code.

    Accepts `{model_state | state_dict | model: {...}}` or a bare state dict, with `model.` or `module.` prefixes.

    Args:
        file: the `.pyth` or `.pth` file.
        num_attention_heads: the one thing the weights don't tell; by default 64 channels a head, as in every
            published TimeSformer.

    Raises:
        InvalidInput: it is not such a checkpoint, holds anything but tensors, or a weight is missing.
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
    model = _filled(_config_of(renamed, num_attention_heads), renamed)
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


def _checked_config(values: dict[str, object]) -> TimesformerConfig:
    if values.get("model_type") != "timesformer" or values.get("attention_type") != "divided_space_time":
        raise InvalidInput("expected the config of a TimeSformer with divided space-time attention")
    if values.get("hidden_act", "gelu") != "gelu":
        raise InvalidInput(f"expected hidden_act gelu, got {values['hidden_act']!r}")
    if values.get("input_view", "rgb") not in INPUT_VIEWS:
        raise InvalidInput(f"expected an input_view of {', '.join(INPUT_VIEWS)}, got {values['input_view']!r}")
    for key in (*_SIZES, "embedding_dim"):
        value = values.get(key, 1)
        if not (isinstance(value, int) and 0 < value < 2**20):
            raise InvalidInput(f"expected a whole number above 0 for {key}, got {value!r}")
    return TimesformerConfig.from_dict({"embedding_dim": values.get("hidden_size"), **values})


def _filled(config: TimesformerConfig, state: dict[str, Tensor]) -> TimeSformer:
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


def _card(encoder: Encoder) -> str:
    config = encoder.model.config
    ours = not encoder.trained or encoder.origin.startswith("stage 0")
    licence = "Apache-2.0" if ours else "unknown: ask where the weights come from"
    if encoder.origin.startswith("imported"):
        licence += ". Weights trained on Kinetics-400 by the TimeSformer authors are CC-BY-NC-4.0: no commercial use"
    return f"""# Encoder {encoder.encoder_id}

TimeSformer, divided space-time attention: {config.num_frames} frames of {config.image_size} x {config.image_size},
{config.num_hidden_layers} layers of width {config.hidden_size}, embedding of {encoder.model.embedding_dim}.

- Weights: {encoder.origin}{"" if encoder.trained else " (untrained: neighbours and verdicts mean nothing)"}
- Licence of the weights: {licence}
- Intended use: research on seizure semiology. Not a medical device.
"""


def current_encoder(folder: Path, encoder_id: str | None = None) -> Encoder:
    """The encoder in use in a folder of encoders, or the one named.

    Raises:
        StateError: none is in use.
        NotFound: no encoder of that id.
        DamagedData: its files are not those that gave it its id.
    """
    if encoder_id is None:
        encoder_id = current(folder)
        if encoder_id is None:
            raise StateError(
                "this workspace has no encoder: import weights with `semiome encoder import`, "
                "or make untrained ones with `semiome encoder init`"
            )
    # An id becomes a path: only its own kind of characters.
    if not encoder_id.isalnum() or not (folder / encoder_id).is_dir():
        raise NotFound(f"no encoder {encoder_id!r} in this workspace")
    encoder = load_encoder(folder / encoder_id)
    if encoder.encoder_id != encoder_id:
        raise DamagedData(
            f"encoder {encoder_id} is not what was saved, or this version treats frames differently: import it again"
        )
    return encoder


def install_encoder(encoder: Encoder, folder: Path) -> None:
    """Save an encoder into a folder of encoders and make it the one in use."""
    save_encoder(encoder, folder)
    set_current(folder, encoder.encoder_id)
