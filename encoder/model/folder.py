"""Encoder folders: safetensors weights, config, preprocessing and a card; and the identity that all of it gives.

A folder is what transformers' `save_pretrained` writes for a TimesformerModel (`config.json`, `model.safetensors`,
`preprocessor_config.json`), so published checkpoints load and ours load elsewhere. An encoder that crops to the bed
has its detector's folder and `crop.json` beside them. (`encoder.model.original` reads the original authors' files.)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn
from transformers import PretrainedConfig, TimesformerConfig

from encoder.bed.crop import CropPolicy, read_policy, write_policy
from encoder.bed.detector import Detector, copy_detector, load_detector
from encoder.clips import LastClip
from encoder.model.backbone import Backbone, is_backbone, read_backbone
from encoder.model.checkpoint import checked_config, filled
from encoder.model.kind import kind_of
from encoder.model.timesformer import PIXEL_MEAN, PIXEL_STD, TimeSformer
from encoder.picture import RESIZE
from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.files.durable import is_plain, small_file, write_atomically, write_text_atomically
from index.records import CLIP_SECONDS
from index.workspace import current, set_current

_WEIGHTS, _CONFIG, _PREPROCESSING, _CARD = (
    "model.safetensors",
    "config.json",
    "preprocessor_config.json",
    "README.md",
)
_ARCHITECTURE_KEYS = (
    *("num_frames", "image_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size"),
    *("intermediate_size", "layer_norm_eps", "attention_type", "qkv_bias", "num_channels", "hidden_act"),
)
_SAMPLING = {
    LastClip.STRETCHED: "middles of equal parts of the valid seconds, the frame shown at that time",
    LastClip.OVERLAPPING: "middles of equal parts of the valid seconds, the frame shown at that time; "
    "the last clip is the last ten seconds",
}
# How frames are chosen and shaped: a change of any of it is another encoder.
_FRAMES_POLICY = {
    "clip_seconds": CLIP_SECONDS,
    "resize": RESIZE,
    "crop": "manifest box, else the whole picture",
    "mean": PIXEL_MEAN,
    "std": PIXEL_STD,
}
_DETECTOR = "detector"


@dataclass(frozen=True, slots=True)
class Encoder:
    """A model and who it is.

    Attributes:
        model: in evaluation mode, on the CPU, float32.
        encoder_id: 16 hex digits, a digest over weights, architecture, preprocessing, sampling and crop policy.
        origin: one line on where the weights come from.
        trained: False for random initial weights, whose embeddings mean little.
        crop: how the bed's box becomes a crop; None for whole pictures.
        detector_folder: where the policy's detector lies.
        last_clip: what the last clip of a video is.
    """

    model: TimeSformer | Backbone
    encoder_id: str
    origin: str
    trained: bool
    crop: CropPolicy | None = None
    detector_folder: Path | None = None
    last_clip: LastClip = LastClip.OVERLAPPING

    @property
    def trainable(self) -> TimeSformer:
        """The model, where it can be pretrained.

        Raises:
            InvalidInput: If it is a backbone of transformers, which stays frozen.
        """
        if isinstance(self.model, Backbone):
            raise InvalidInput(
                f"expected a TimeSformer to pretrain, got {self.model.kind}: imported backbones stay frozen; name them "
                "as encoders of `semiome ablate`, or encode with them"
            )
        return self.model

    @property
    def kind(self) -> str:
        """Where the weights come from, in one word; see `encoder.model.kind`."""
        return kind_of(self.origin, trained=self.trained)

    def bed_detector(self, device: str = "cpu") -> Detector | None:
        """The detector of the crop policy; None where there is no policy.

        Raises:
            InvalidInput: If the detector can't be loaded here.
            DamagedData: If its files were changed.
        """
        if self.crop is None or self.detector_folder is None:
            return None
        return load_detector(self.detector_folder, self.crop.confidence, device, self.crop.detector_id)


def new_encoder(config: TimesformerConfig, seed: int) -> Encoder:
    """An encoder with random initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TimeSformer(config)
    return identified(model, f"random initial weights, seed {seed}", trained=False)


def identified(
    model: TimeSformer | Backbone,
    origin: str,
    *,
    trained: bool,
    crop: CropPolicy | None = None,
    detector_folder: Path | None = None,
    last_clip: LastClip = LastClip.OVERLAPPING,
) -> Encoder:
    """Give a model its id."""
    encoder_id = encoder_id_of(model, crop, last_clip)
    return Encoder(model.eval(), encoder_id, origin, trained, crop, detector_folder, last_clip)


def with_crop(encoder: Encoder, crop: CropPolicy, detector_folder: Path) -> Encoder:
    """The same weights as another encoder: one that crops to the bed."""
    return identified(
        encoder.model,
        encoder.origin,
        trained=encoder.trained,
        crop=crop,
        detector_folder=detector_folder,
        last_clip=encoder.last_clip,
    )


def encoder_id_of(
    model: TimeSformer | Backbone, crop: CropPolicy | None = None, last_clip: LastClip = LastClip.OVERLAPPING
) -> str:
    """Digest over everything that decides an embedding."""
    digest = hashlib.sha256()
    if isinstance(model, Backbone):
        shape = model.described()
    else:
        shape = {key: getattr(model.config, key) for key in _ARCHITECTURE_KEYS}
    described: dict[str, object] = {"architecture": shape, "embedding_dim": model.embedding_dim}
    described["frames"] = _frames_policy(crop, last_clip)
    if model.input_view != "rgb":
        described["input_view"] = model.input_view
    if not isinstance(model, Backbone) and model.frames_a_moment != 1:
        described["frames_a_moment"] = model.frames_a_moment
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _frames_policy(crop: CropPolicy | None, last_clip: LastClip) -> dict[str, object]:
    policy = {**_FRAMES_POLICY, "sampling": _SAMPLING[last_clip]}
    return policy if crop is None else {**policy, "crop": asdict(crop)}


def _last_clip_of(folder: Path) -> LastClip:
    """What an encoder's folder says; one of other software says nothing."""
    try:
        values = json.loads(small_file(folder / _PREPROCESSING))
    except FileNotFoundError:
        return LastClip.OVERLAPPING
    ours = values.get("semiome") if isinstance(values, dict) else None
    if not isinstance(ours, dict):
        return LastClip.OVERLAPPING
    for last_clip, text in _SAMPLING.items():
        if ours.get("sampling") == text:
            return last_clip
    raise InvalidInput("the encoder chooses frames in a way that this version does not know: use a newer one")


def save_encoder(encoder: Encoder, folder: Path) -> Path:
    """Write an encoder into `folder/<encoder id>`, each file whole or absent; the weights last.

    Returns:
        The encoder's own folder.
    """
    target = folder / encoder.encoder_id
    target.mkdir(parents=True, exist_ok=True)
    policy = _frames_policy(encoder.crop, encoder.last_clip)
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
        last_clip = _last_clip_of(folder)
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
    return identified(model, origin, trained=trained, crop=crop, detector_folder=detector, last_clip=last_clip)


def _read_backbone(folder: Path, values: dict[str, object], pooling: str | None) -> Encoder:
    model = read_backbone(folder, values, pooling)
    origin = f"imported from a folder of transformers weights ({model.kind})"
    crop = read_policy(folder)
    detector = None if crop is None else folder / _DETECTOR
    last_clip = _last_clip_of(folder)
    return identified(model, origin, trained=True, crop=crop, detector_folder=detector, last_clip=last_clip)


def _card(encoder: Encoder) -> str:
    config = encoder.model.config
    named = "TimeSformer, divided space-time attention"
    if isinstance(encoder.model, Backbone):
        named = f"{encoder.model.kind} of transformers, frozen, pooling {encoder.model.pooling}"
    ours = not encoder.trained or encoder.origin.startswith("stage 0")
    licence = "Apache-2.0" if ours else "unknown: ask where the weights come from"
    if encoder.origin.startswith("imported"):
        licence += ". Weights trained on Kinetics-400 by the TimeSformer authors are CC-BY-NC-4.0: no commercial use"
    crop = ""
    if encoder.crop is not None:
        crop = f"- Crop: the bed that detector {encoder.crop.detector_id} finds in the first frame, and a margin\n"
    return f"""# Encoder {encoder.encoder_id}

{named}: {config.num_frames} frames of {config.image_size} x {config.image_size},
{config.num_hidden_layers} layers of width {config.hidden_size}, embedding of {encoder.model.embedding_dim}.

- Weights: {encoder.origin}{"" if encoder.trained else " (untrained: neighbours and verdicts mean nothing)"}
- Licence of the weights: {licence}
{crop}- Intended use: research on seizure semiology. Not a medical device.
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
