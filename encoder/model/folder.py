"""Encoder folders: safetensors weights, config, preprocessing and a card; and the identity that all of it gives.

A folder is what transformers' `save_pretrained` writes for a TimesformerModel (`config.json`, `model.safetensors`,
`preprocessor_config.json`), so published checkpoints load and ours load elsewhere. An encoder that crops to the bed
has its detector's folder and `crop.json` beside them. (`encoder.model.original` reads the original authors' files.)
"""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn
from transformers import PretrainedConfig

from encoder.bed.crop import read_policy, write_policy
from encoder.bed.detector import copy_detector
from encoder.clips import LastClip
from encoder.model.backbone import Backbone, is_backbone, read_backbone
from encoder.model.checkpoint import checked_config, filled
from encoder.model.identity import SAMPLING, Encoder, frames_policy, identified
from encoder.model.timesformer import PIXEL_MEAN, PIXEL_STD
from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.files.durable import is_plain, small_file, write_atomically, write_text_atomically
from index.workspace import current, set_current

_WEIGHTS, _CONFIG, _PREPROCESSING, _CARD = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "README.md",
)
_DETECTOR = "detector"


def _last_clip_of(ours: dict[str, object]) -> LastClip:
    """What an encoder's folder says of the last clip; one of other software says nothing."""
    if not ours:
        return LastClip.OVERLAPPING
    for last_clip, text in SAMPLING.items():
        if ours.get("sampling") == text:
            return last_clip
    raise InvalidInput("the encoder chooses frames in a way that this version does not know: use a newer one")


def _said_in(folder: Path) -> dict[str, object]:
    """What an encoder's folder says for us beside what it says for transformers."""
    try:
        values = json.loads(small_file(folder / _PREPROCESSING))
    except FileNotFoundError:
        return {}
    ours = values.get("semiome") if isinstance(values, dict) else None
    return ours if isinstance(ours, dict) else {}


def save_encoder(encoder: Encoder, folder: Path) -> Path:
    """Write an encoder into `folder/<encoder id>`, each file whole or absent; the weights last.

    Returns:
        The encoder's own folder.
    """
    target = folder / encoder.encoder_id
    target.mkdir(parents=True, exist_ok=True)
    policy = frames_policy(encoder.crop, encoder.last_clip)
    if encoder.precision != "fp32":
        policy = {**policy, "precision": encoder.precision}
    if isinstance(encoder.model, Backbone):
        config, saved, processor, pixels = _of_backbone(encoder.model)
        policy = {**policy, "pooling": encoder.model.pooling}
    else:
        config, saved = encoder.model.config, encoder.model
        config.architectures = ["TimesformerModel"]
        processor = "TimesformerVideoProcessor"
        pixels = {"image_mean": [PIXEL_MEAN] * 3, "image_std": [PIXEL_STD] * 3}
    write_text_atomically(target / _CONFIG, config.to_json_string(use_diff=False))
    side = encoder.model.config.image_size
    preprocessing = {
        "video_processor_type": processor,
        **pixels,
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "semiome": policy,
    }
    write_text_atomically(target / _PREPROCESSING, json.dumps(preprocessing, indent=2) + "\n")
    write_text_atomically(target / _CARD, _card(encoder))
    if encoder.crop is not None and encoder.detector_folder is not None:
        copy_detector(encoder.detector_folder, target / _DETECTOR)
        write_policy(encoder.crop, target)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in saved.state_dict().items()}
    metadata = {"format": "pt", "origin": encoder.origin, "trained": str(encoder.trained).lower()}
    write_atomically(target / _WEIGHTS, lambda path: safetensors.torch.save_file(state, path, metadata))
    return target


def _of_backbone(model: Backbone) -> tuple[PretrainedConfig, nn.Module, str, dict[str, object]]:
    """Configuration and weights of a backbone, the name of its processor, and what that does with pixels."""
    how = model.normalisation
    pixels = {
        "do_rescale": True,
        "rescale_factor": how.scale,
        "offset": how.offset == 1.0,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }
    inner = model.model
    return inner.config, inner, "VideoMAEVideoProcessor", pixels


def load_encoder(folder: Path, pooling: str | None = None) -> Encoder:
    """Read an encoder folder: ours, or one that transformers' `save_pretrained` wrote, of TimeSformer or another kind.

    Args:
        folder: the folder.
        pooling: of a backbone, in place of its kind's own.

    Raises:
        InvalidInput: If a file is missing, damaged, or does not fit the config.
    """
    if (folder / _WEIGHTS).exists() and not is_plain(folder / _WEIGHTS):
        raise InvalidInput(f"the encoder folder is damaged: {_WEIGHTS} is no plain file")
    try:
        values = json.loads(small_file(folder / _CONFIG))
        if isinstance(values, dict) and is_backbone(values):
            return _read_backbone(folder, values, pooling)
        if pooling is not None:
            raise InvalidInput("a pooling can be chosen for other backbones only: TimeSformer's is its first token")
        config = checked_config(values)
        state = safetensors.torch.load_file(folder / _WEIGHTS)
        with safetensors.safe_open(folder / _WEIGHTS, "pt") as archive:
            metadata = archive.metadata() or {}
        ours = _said_in(folder)
        last_clip, precision = _last_clip_of(ours), str(ours.get("precision", "fp32"))
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name if error.filename else _WEIGHTS
        raise InvalidInput(f"not an encoder folder: {missing} is missing") from None
    except InvalidInput:
        raise
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"the encoder folder is damaged: {said}") from None
    state = {name.removeprefix("timesformer."): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith("classifier.")}
    origin = metadata.get("origin", "imported from a folder of transformers weights")
    trained, crop = metadata.get("trained", "true") == "true", read_policy(folder)
    detector = None if crop is None else folder / _DETECTOR
    model = filled(config, state)
    return identified(
        *(model, origin),
        trained=trained,
        crop=crop,
        detector_folder=detector,
        last_clip=last_clip,
        precision=precision,
    )


def _read_backbone(folder: Path, values: dict[str, object], pooling: str | None) -> Encoder:
    model = read_backbone(folder, values, pooling)
    origin = f"imported from a folder of transformers weights ({model.kind})"
    crop = read_policy(folder)
    detector = None if crop is None else folder / _DETECTOR
    ours = _said_in(folder)
    return identified(
        *(model, origin),
        trained=True,
        crop=crop,
        detector_folder=detector,
        last_clip=_last_clip_of(ours),
        precision=str(ours.get("precision", "fp32")),
    )


def _card(encoder: Encoder) -> str:
    config = encoder.model.config
    named = "TimeSformer, divided space-time attention"
    if isinstance(encoder.model, Backbone):
        named = f"{encoder.model.kind} of transformers, frozen, pooling {encoder.model.pooling}"
    ours = not encoder.trained or encoder.origin.startswith("stage 0")
    licence = "Apache-2.0" if ours else "unknown: ask where the weights come from"
    if encoder.origin.startswith("imported"):
        licence += ". Weights trained on Kinetics-400 by the TimeSformer authors are CC-BY-NC-4.0: no commercial use"
    precision = "" if encoder.precision == "fp32" else f"- Precision: {encoder.precision}\n"
    crop = ""
    if encoder.crop is not None:
        crop = f"- Crop: the bed that detector {encoder.crop.detector_id} finds in the first frame, and a margin\n"
    return f"""# Encoder {encoder.encoder_id}

{named}: {config.num_frames} frames of {config.image_size} x {config.image_size},
{config.num_hidden_layers} layers of width {config.hidden_size}, embedding of {encoder.model.embedding_dim}.

- Weights: {encoder.origin}{"" if encoder.trained else " (untrained: neighbours and verdicts mean nothing)"}
- Licence of the weights: {licence}
{precision}{crop}- Intended use: research on seizure semiology. Not a medical device.
"""


def current_encoder(folder: Path, encoder_id: str | None = None) -> Encoder:
    """The encoder in use in a folder of encoders, or the one named.

    Raises:
        StateError: If none is in use.
        NotFound: If there is no encoder of that id.
        DamagedData: If its files are not those that gave it its id.
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
