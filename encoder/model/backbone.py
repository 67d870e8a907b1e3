"""Any frozen video backbone of transformers as an encoder: it has its own frames, size, normalisation and width.

The forward pass is transformers' own. What comes in is what every encoder here is given, frames normalised as for
Kinetics (`encoder.model.timesformer.normalise`), and is brought to what the backbone was trained with first.

Shape suffixes: B clips, T frames, C colours, H W pixels, L tokens, D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoder.model.timesformer import PIXEL_MEAN, PIXEL_STD
from index.errors import InvalidInput
from index.files.durable import small_file

POOLINGS: dict[str, str] = {
    "timesformer": "cls",
    "vivit": "cls",
    "videomae": "mean",
    "vjepa2": "mean",
    "xclip": "frames",
    "xclip_vision_model": "frames",
}
"""What a clip's embedding is, for each kind of backbone that can be imported: its first token, the mean of all tokens,
or, of backbones that see frames one by one, the mean of their embeddings."""

_CLASSES = {
    "timesformer": "TimesformerModel",
    "vivit": "VivitModel",
    "videomae": "VideoMAEModel",
    "vjepa2": "VJEPA2Model",
    "xclip": "XCLIPVisionModel",
    "xclip_vision_model": "XCLIPVisionModel",
}
_PREPROCESSING = ("video_preprocessor_config.json", "preprocessor_config.json")
_UNUSED = ("pooler.", "predictor.", "post_layernorm.")
"""Beginnings of weights that a file may lack: no embedding depends on them."""
_TOWER = ("encoder.", "embeddings.", "layers.")
"""Beginnings of weights that belong to the tower itself."""
_MOST_FRAMES, _MOST_PIXELS = 256, 1024


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What is made of a pixel from 0 to 255: (pixel x scale - offset - mean) / std, by colour.

    Attributes:
        scale: that pixels are multiplied by.
        offset: taken from them then.
        mean: of each colour.
        std: of each colour.
    """

    scale: float
    offset: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a backbone, by the names that TimeSformer's has."""

    num_frames: int
    image_size: int
    hidden_size: int
    num_hidden_layers: int
    patch_size: int
    num_channels: int = 3


class Backbone(nn.Module):
    """Frames in, one embedding a clip out, by a model of transformers.

    Args:
        model: of transformers.
        kind: its `model_type`.
        normalisation: that it was trained with.
        pooling: what of its output is the embedding.

    Attributes:
        config: its size.
        embedding_dim: width of the embeddings.
        input_view: always `rgb`.
    """

    input_view = "rgb"

    def __init__(
        self,
        model: Any,  # noqa: ANN401  transformers' models have no type that says what they take
        kind: str,
        normalisation: Normalisation,
        pooling: str,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.kind, self.normalisation, self.pooling = kind, normalisation, pooling
        self.config = shape_of(model.config.to_dict())
        self.embedding_dim: int = self.config.hidden_size
        pixel = [(scale, offset) for scale, offset in _from_kinetics(normalisation)]
        self.register_buffer("_gain", torch.tensor([p[0] for p in pixel])[:, None, None], persistent=False)
        self.register_buffer("_shift", torch.tensor([p[1] for p in pixel])[:, None, None], persistent=False)

    def forward(self, frames_BTCHW: Tensor) -> Tensor:
        """Embed clips.

        Args:
            frames_BTCHW: frames as `normalise` gives them, of the backbone's number and size.

        Returns:
            (B, embedding_dim), of any length.

        Raises:
            InvalidInput: If the frames are not of the shape it was made for.
        """
        shape = self.config
        expected = (shape.num_frames, shape.num_channels, shape.image_size, shape.image_size)
        if frames_BTCHW.ndim != 5 or tuple(frames_BTCHW.shape[1:]) != expected:
            raise InvalidInput(f"expected frames (B, {str(expected)[1:]}, got {tuple(frames_BTCHW.shape)}")
        pixels = frames_BTCHW * self._gain.to(frames_BTCHW) + self._shift.to(frames_BTCHW)  # type: ignore[operator]
        if self.pooling == "frames":
            pooled = self.model(pixel_values=pixels.flatten(0, 1)).pooler_output
            of_frames: Tensor = pooled.unflatten(0, (len(pixels), -1)).mean(1)
            return of_frames
        if self.kind == "vjepa2":
            tokens_BLD = self.model(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state
        else:
            tokens_BLD = self.model(pixel_values=pixels).last_hidden_state
        embedding_BD: Tensor = tokens_BLD[:, 0] if self.pooling == "cls" else tokens_BLD.mean(1)
        return embedding_BD

    def described(self) -> dict[str, object]:
        """Everything beside its weights that decides an embedding."""
        ignored = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
        config = {key: value for key, value in self.model.config.to_dict().items() if key not in ignored}
        return {
            "kind": self.kind,
            "config": json.loads(json.dumps(config, default=str)),
            "normalisation": asdict(self.normalisation),
            "pooling": self.pooling,
        }


def shape_of(values: Mapping[str, Any]) -> Shape:
    """The size that a configuration of transformers names.

    Raises:
        InvalidInput: If it is of no square frames, or of too many or too large ones.
    """
    frames = values.get("num_frames", values.get("frames_per_clip"))
    size = values.get("crop_size", values.get("image_size"))
    if not (isinstance(frames, int) and isinstance(size, int)):
        raise InvalidInput(f"expected a backbone for a number of square frames, got {frames} of {size}")
    if not (0 < frames <= _MOST_FRAMES and 0 < size <= _MOST_PIXELS):
        raise InvalidInput(f"expected 1 to {_MOST_FRAMES} frames of 1 to {_MOST_PIXELS} pixels, got {frames} of {size}")
    patch = values.get("patch_size") or values["tubelet_size"][-1]
    return Shape(frames, size, values["hidden_size"], values["num_hidden_layers"], patch)


def _from_kinetics(to: Normalisation) -> list[tuple[float, float]]:
    """Gain and shift of each colour, from frames normalised as for Kinetics."""
    # x = (p / 255 - 0.45) / 0.225, so p = 255 (0.225 x + 0.45); wanted is (p scale - offset - mean) / std.
    gain = 255 * PIXEL_STD * to.scale
    shift = 255 * PIXEL_MEAN * to.scale - to.offset
    return [(gain / std, (shift - mean) / std) for mean, std in zip(to.mean, to.std, strict=True)]


def is_backbone(values: Mapping[str, object]) -> bool:
    """Whether a folder's `config.json` is of a backbone that transformers runs; TimeSformer's own kind is not."""
    kind = values.get("model_type")
    return kind in _CLASSES and not (kind == "timesformer" and values.get("attention_type") == "divided_space_time")


def read_backbone(folder: Path, values: Mapping[str, Any], pooling: str | None = None) -> Backbone:
    """Read a backbone's folder, as `save_pretrained` wrote it; weights are safetensors, and no code is run.

    Args:
        folder: with `config.json`, `model.safetensors` and a `preprocessor_config.json`.
        values: of its `config.json`.
        pooling: in place of the kind's own.

    Raises:
        InvalidInput: If a file is missing or damaged, or weights are missing.
    """
    import transformers
    from transformers.utils import logging

    kind = str(values["model_type"])
    normalisation = _normalisation(folder)
    kept = _ours(folder).get("pooling")
    chosen = pooling or kept or POOLINGS[kind]
    # Only those whose own embedding is it have a token of its own for the whole clip.
    allowed = ("cls", "mean") if POOLINGS[kind] == "cls" else (POOLINGS[kind],)
    if chosen not in allowed:
        raise InvalidInput(f"expected a pooling of {' or '.join(allowed)} for {kind}, got {chosen!r}")
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    of_kind = getattr(transformers, _CLASSES[kind])
    try:
        config = of_kind.config_class.from_dict(values["vision_config"] if kind == "xclip" else dict(values))
        shape_of(config.to_dict())  # before anything of that size is made
        model, found = of_kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named here
            dtype=torch.float32,
        )
    except InvalidInput:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        said = f"{type(error).__name__}: {_first_line(error)}"
        raise InvalidInput(f"the {kind} backbone can't be read ({said})") from None
    finally:
        logging.set_verbosity(before)
    missing = sorted(name for name in found["missing_keys"] if not name.split("model.")[-1].startswith(_UNUSED))
    wrong = sorted(str(one) for one in found["mismatched_keys"])
    if missing or wrong:
        named = (missing or wrong)[0]
        raise InvalidInput(f"{len(missing or wrong)} weights of the {kind} backbone are missing or misshapen: {named}")
    # Classifiers, decoders and text towers may be there too; what belongs to the tower itself may not.
    prefix = f"{of_kind.base_model_prefix}."
    surplus = [name for name in found["unexpected_keys"] if name.removeprefix(prefix).startswith(_TOWER)]
    if surplus:
        raise InvalidInput(f"{len(surplus)} weights do not belong to the {kind} backbone that is named: {min(surplus)}")
    if any(not torch.isfinite(tensor).all() for tensor in model.state_dict().values() if tensor.is_floating_point()):
        raise InvalidInput(f"the {kind} backbone holds weights that are not finite")
    return Backbone(model.eval().requires_grad_(requires_grad=False), kind, normalisation, chosen).eval()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason was given"


def _preprocessing(folder: Path) -> dict[str, Any]:
    for name in _PREPROCESSING:
        try:
            values = json.loads(small_file(folder / name))
        except FileNotFoundError:
            continue
        except ValueError:
            raise InvalidInput(f"{name} of the backbone can't be read: expected a JSON object") from None
        if isinstance(values, dict):
            return values
    raise InvalidInput(
        "the backbone's folder has no preprocessor_config.json, which says how it wants its pixels: save its image or "
        "video processor beside it"
    )


def _ours(folder: Path) -> dict[str, Any]:
    ours = _preprocessing(folder).get("semiome")
    return ours if isinstance(ours, dict) else {}


def _normalisation(folder: Path) -> Normalisation:
    values = _preprocessing(folder)
    try:
        scale = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
        # ViViT's processor takes 1 from what it has scaled.
        offset = 1.0 if values.get("offset") and values.get("do_rescale", True) else 0.0
        plain = not values.get("do_normalize", True)
        mean = (0.0, 0.0, 0.0) if plain else _three(values["image_mean"])
        std = (1.0, 1.0, 1.0) if plain else _three(values["image_std"])
    except (KeyError, TypeError, ValueError):
        raise InvalidInput(
            "expected an image_mean and an image_std of 3 numbers in the backbone's preprocessor_config.json"
        ) from None
    if not (scale > 0 and min(std) > 0):
        raise InvalidInput("expected rescale_factor and image_std above 0 in the backbone's preprocessor_config.json")
    return Normalisation(scale, offset, mean, std)


def _three(values: Any) -> tuple[float, float, float]:  # noqa: ANN401  from JSON
    red, green, blue = map(float, values)
    return red, green, blue
