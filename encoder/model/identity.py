"""An encoder: a model and the id that everything which decides its embeddings gives it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import TimesformerConfig

from encoder.bed.crop import CropPolicy
from encoder.bed.detector import Detector, load_detector
from encoder.clips import LastClip
from encoder.model.backbone import Backbone
from encoder.model.kind import kind_of
from encoder.model.timesformer import PIXEL_MEAN, PIXEL_STD, TimeSformer
from encoder.picture import RESIZE
from index.errors import InvalidInput
from index.records import CLIP_SECONDS

PRECISIONS = ("fp32", "bf16")
_ARCHITECTURE_KEYS = (
    *("num_frames", "image_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size"),
    *("intermediate_size", "layer_norm_eps", "attention_type", "qkv_bias", "num_channels", "hidden_act"),
)
SAMPLING = {
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
        precision: of the model's products, one of `PRECISIONS`: about one of fifty of the ten nearest clips is another
            by vectors of the other, so it is part of the id.
    """

    model: TimeSformer | Backbone
    encoder_id: str
    origin: str
    trained: bool
    crop: CropPolicy | None = None
    detector_folder: Path | None = None
    last_clip: LastClip = LastClip.OVERLAPPING
    precision: str = "fp32"

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
    precision: str = "fp32",
) -> Encoder:
    """Give a model its id.

    Raises:
        InvalidInput: If there is no such precision.
    """
    if precision not in PRECISIONS:
        raise InvalidInput(f"expected a precision of {' or '.join(PRECISIONS)}, got {precision!r}")
    encoder_id = encoder_id_of(model, crop, last_clip, precision)
    return Encoder(model.eval(), encoder_id, origin, trained, crop, detector_folder, last_clip, precision)


def with_crop(encoder: Encoder, crop: CropPolicy, detector_folder: Path) -> Encoder:
    """The same weights as another encoder: one that crops to the bed."""
    return identified(
        encoder.model,
        encoder.origin,
        trained=encoder.trained,
        crop=crop,
        detector_folder=detector_folder,
        last_clip=encoder.last_clip,
        precision=encoder.precision,
    )


def with_precision(encoder: Encoder, precision: str) -> Encoder:
    """The same weights as another encoder: one that computes in another precision.

    Raises:
        InvalidInput: If there is no such precision.
    """
    return identified(
        encoder.model,
        encoder.origin,
        trained=encoder.trained,
        crop=encoder.crop,
        detector_folder=encoder.detector_folder,
        last_clip=encoder.last_clip,
        precision=precision,
    )


def encoder_id_of(
    model: TimeSformer | Backbone,
    crop: CropPolicy | None = None,
    last_clip: LastClip = LastClip.OVERLAPPING,
    precision: str = "fp32",
) -> str:
    """Digest over everything that decides an embedding."""
    digest = hashlib.sha256()
    if isinstance(model, Backbone):
        shape = model.described()
    else:
        shape = {key: getattr(model.config, key) for key in _ARCHITECTURE_KEYS}
    described: dict[str, object] = {"architecture": shape, "embedding_dim": model.embedding_dim}
    described["frames"] = frames_policy(crop, last_clip)
    if model.input_view != "rgb":
        described["input_view"] = model.input_view
    if not isinstance(model, Backbone) and model.frames_a_moment != 1:
        described["frames_a_moment"] = model.frames_a_moment
    if precision != "fp32":
        described["precision"] = precision
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def frames_policy(crop: CropPolicy | None, last_clip: LastClip) -> dict[str, object]:
    """How frames are chosen and shaped, as the id and the encoder's folder say it."""
    policy = {**_FRAMES_POLICY, "sampling": SAMPLING[last_clip]}
    return policy if crop is None else {**policy, "crop": asdict(crop)}
