"""Who finds a bed in a picture: Mask R-CNN, as the paper did, or any detector or Mask2Former of transformers'.

A detector is a folder: `config.json`, `model.safetensors` and, for transformers, `preprocessor_config.json`. Its id is
a digest over them. Nothing is downloaded: weights come from a file, or from where torchvision keeps its own.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from encoder.bed.torchvision_operators import import_detection
from index.errors import DamagedData, InvalidInput, VideoRefused
from index.files.durable import sha256_of_file, write_atomically, write_text_atomically

MASK_RCNN = "maskrcnn"
"""The name that stands for torchvision's Mask R-CNN where a detector's folder could stand."""

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_PREPROCESSING = ("preprocessor_config.json", "processor_config.json")
"""How pictures are prepared: transformers reads either."""
_MASK_RCNN_TYPE = "maskrcnn_resnet50_fpn"
_MASK_RCNN_CLASSES = 91
_COCO_BED = 65
"""Number of COCO's category "bed" in the numbering that torchvision's weights have."""
_SEGMENTING = ("mask2former", "maskformer")
"""Models of transformers that outline things instead of drawing boxes round them."""
_CACHED_WEIGHTS = "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"


@dataclass(frozen=True, slots=True)
class FoundBed:
    """A bed in a picture: left, top, right, bottom in pixels, and the detector's confidence, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    confidence: float


class Detector(Protocol):
    """Finds beds."""

    def beds(self, picture_HWC: NDArray[np.uint8]) -> Sequence[FoundBed]:
        """Every bed in an RGB picture that the detector holds for one, with at least its least confidence."""


def detector_id(folder: Path) -> str:
    """16 hex digits over the files that decide what a detector finds.

    Raises:
        InvalidInput: If a file is missing.
    """
    digest = hashlib.sha256()
    for name in (_CONFIG, _WEIGHTS, *_PREPROCESSING):
        path = folder / name
        if name in _PREPROCESSING and not path.exists():
            continue
        try:
            digest.update(f"{name} {sha256_of_file(path)} ".encode())
        except OSError:
            raise InvalidInput(
                f"not a detector's folder: {name} is missing or can't be read; expected what save_pretrained of a "
                f"transformers object detector writes, or the word {MASK_RCNN}"
            ) from None
    return digest.hexdigest()[:16]


def copy_detector(source: Path, target: Path) -> None:
    """Copy a detector's folder, each file whole or absent."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (*_PREPROCESSING, _CONFIG, _WEIGHTS):
        origin = source / name
        if origin.exists() and origin.resolve() != (target / name).resolve():
            write_atomically(target / name, partial(shutil.copyfile, origin))


@contextmanager
def prepared_detector(source: str, weights: Path | None = None) -> Iterator[Path]:
    """A detector's folder for the length of the block: the one named, or one made for Mask R-CNN.

    Args:
        source: a folder of transformers', or `MASK_RCNN`.
        weights: of Mask R-CNN; torchvision's cache by default.

    Raises:
        InvalidInput: If `import_mask_rcnn` raises it, or the weights go with another detector.
    """
    if source != MASK_RCNN:
        if weights is not None:
            raise InvalidInput(f"weights are named for {MASK_RCNN} only: another detector's lie in its folder")
        yield Path(source)
        return
    with tempfile.TemporaryDirectory() as scratch:
        import_mask_rcnn(weights, Path(scratch))
        yield Path(scratch)


def import_mask_rcnn(weights: Path | None, target: Path) -> None:
    """Write the folder of a Mask R-CNN with the weights of a file of torchvision's, or those in torchvision's cache.

    Raises:
        InvalidInput: If torchvision or the weights are missing, or they are of another model.
    """
    _torchvision()
    if weights is None:
        weights = Path(torch.hub.get_dir()) / "checkpoints" / _CACHED_WEIGHTS
        if not weights.is_file():
            raise InvalidInput(
                f"torchvision's cache has no {_CACHED_WEIGHTS}: bring that file there, or name it with --weights; "
                "nothing is downloaded here"
            )
    try:
        if weights.suffix == ".safetensors":
            state = safetensors.torch.load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _no_mask_rcnn(error) from error
    if not isinstance(state, dict):
        raise _no_mask_rcnn(TypeError())
    try:
        _mask_rcnn(state, confidence=0.5)
    except RuntimeError as error:  # torch's for names or shapes that do not fit
        raise _no_mask_rcnn(error) from error
    target.mkdir(parents=True, exist_ok=True)
    write_text_atomically(target / _CONFIG, json.dumps({"model_type": _MASK_RCNN_TYPE}) + "\n")
    own = {name: tensor.contiguous() for name, tensor in state.items()}
    write_atomically(target / _WEIGHTS, lambda path: safetensors.torch.save_file(own, path))


def load_detector(
    folder: Path, confidence: float, device: str = "cpu", expected_id: str | None = None
) -> MaskRcnn | TransformersDetector:
    """Read a detector's folder.

    Args:
        folder: what `save_pretrained` wrote, or `import_mask_rcnn`.
        confidence: what is less sure is not a bed.
        device: `cpu` or `cuda`.
        expected_id: what `detector_id` of it must be.

    Raises:
        InvalidInput: If it can't be used; the message says what is missing.
        DamagedData: If its files are not the expected ones.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("no CUDA device is here: use --device cpu")
    actual_id = detector_id(folder)
    if expected_id is not None and actual_id != expected_id:
        raise DamagedData(
            f"expected bed detector {expected_id}, got {actual_id}: its files were changed, import it again"
        )
    try:
        kind = json.loads((folder / _CONFIG).read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise InvalidInput(f"the detector's {_CONFIG} can't be read: expected a JSON object") from None
    if kind == _MASK_RCNN_TYPE:
        try:
            state = safetensors.torch.load_file(folder / _WEIGHTS)
        except safetensors.SafetensorError as error:
            raise InvalidInput(f"the detector's weights are damaged: {error}") from None
        return MaskRcnn(_mask_rcnn(state, confidence), device)
    return TransformersDetector(folder, confidence, device, segments=kind in _SEGMENTING)


class MaskRcnn:
    """Mask R-CNN with a ResNet-50 and a feature pyramid (He et al., 2017), by torchvision, on COCO's classes."""

    def __init__(self, model: Any, device: str) -> None:  # noqa: ANN401  torchvision is optional
        self._model = model.to(device)
        self._device = device

    def beds(self, picture_HWC: NDArray[np.uint8]) -> Sequence[FoundBed]:
        """Beds of a picture, as torchvision finds them; masks are not drawn."""
        picture = torch.from_numpy(picture_HWC.copy()).permute(2, 0, 1).to(self._device).float() / 255
        with torch.inference_mode():
            outputs = self._model([picture])[0]
        return _beds(outputs, _COCO_BED)


class TransformersDetector:
    """Any object detector of transformers, Mask2Former or MaskFormer, that has a class named bed.

    The bed of one that outlines things is the box round the outline.
    """

    def __init__(self, folder: Path, confidence: float, device: str, *, segments: bool = False) -> None:
        _hide_unfit_torchvision()
        from transformers import AutoImageProcessor, AutoModelForObjectDetection, AutoModelForUniversalSegmentation
        from transformers.utils import logging

        logging.disable_progress_bar()
        if not any((folder / name).exists() for name in _PREPROCESSING):
            raise InvalidInput(
                f"not a folder that transformers can load as an object detector: {_PREPROCESSING[0]} is missing"
            )
        kind: Any = AutoModelForUniversalSegmentation if segments else AutoModelForObjectDetection
        try:
            # PIL prepares the picture: the same numbers with and without torchvision.
            self._prepare = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, backend="pil"
            )
            self._model = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except ImportError as error:
            missing = str(error).strip().partition("\n")[0][:200]
            raise InvalidInput(f"this detector needs a library that is not installed: {missing}") from None
        except (OSError, ValueError, KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise InvalidInput(
                "not a folder that transformers can load as an object detector, with its image processor "
                f"({type(error).__name__})"
            ) from None
        names: dict[int, str] = self._model.config.id2label
        beds = [number for number, name in names.items() if name.lower() == "bed"]
        if not beds:
            raise InvalidInput(
                f"expected a detector that knows a class named bed, got {len(names)} classes without one "
                f"({', '.join(list(names.values())[:5])}, …)"
            )
        self._bed = beds[0]
        self._model = self._model.eval().to(device)
        self._confidence, self._device, self._segments = confidence, device, segments

    def beds(self, picture_HWC: NDArray[np.uint8]) -> Sequence[FoundBed]:
        """Beds of a picture."""
        try:
            inputs = self._prepare(images=[picture_HWC], return_tensors="pt", input_data_format="channels_last")
        except ValueError:
            height, width = picture_HWC.shape[:2]
            raise VideoRefused(f"the bed detector can't take a picture of {width} x {height} pixels") from None
        inputs = inputs.to(self._device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        size = [picture_HWC.shape[:2]]
        if self._segments:
            outlined = self._prepare.post_process_instance_segmentation(
                outputs, threshold=self._confidence, target_sizes=size, return_binary_maps=True
            )
            return _outlined_beds(outlined[0], self._bed)
        detections = self._prepare.post_process_object_detection(outputs, threshold=self._confidence, target_sizes=size)
        return _beds(detections[0], self._bed)


class OneAtATime:
    """A detector that several threads may ask; each waits for its turn."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._lock = threading.Lock()

    def beds(self, picture_HWC: NDArray[np.uint8]) -> Sequence[FoundBed]:
        """Find a bed as the detector does."""
        with self._lock:
            return self._detector.beds(picture_HWC)


def _beds(detections: dict[str, torch.Tensor], bed: int) -> list[FoundBed]:
    rows = zip(detections["boxes"].tolist(), detections["scores"].tolist(), detections["labels"].tolist(), strict=True)
    return [
        FoundBed(left, top, right, bottom, confidence)
        for (left, top, right, bottom), confidence, label in rows
        if label == bed
    ]


def _outlined_beds(found: dict[str, Any], bed: int) -> list[FoundBed]:
    """Boxes round outlines: from the first to the last pixel, across and down."""
    beds = []
    for mask_HW, segment in zip(
        found["segmentation"], found["segments_info"], strict=False
    ):  # no mask without a segment
        rows, columns = (mask_HW > 0).nonzero(as_tuple=True)
        if segment["label_id"] == bed and len(rows):
            left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            beds.append(FoundBed(float(left), float(top), float(right), float(bottom), float(segment["score"])))
    return beds


def _hide_unfit_torchvision() -> None:
    """Keep transformers from a torchvision for another torch: it would import it, and use nothing of it here."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        if getattr(error, "name", None) != "torchvision":  # it is there
            sys.modules["torchvision"] = None  # type: ignore[assignment]


def _torchvision() -> Any:  # noqa: ANN401
    try:
        return import_detection()
    except (ImportError, RuntimeError) as error:  # the latter from one for another version of torch
        # Versions go together: 0.28 of torchvision with 2.13 of torch, 0.29 with 2.14.
        minor = int(torch.__version__.split(".")[1]) + 15
        raise InvalidInput(
            f"Mask R-CNN needs torchvision 0.{minor} beside this torch ({torch.__version__}), and it can't be imported "
            f"({type(error).__name__}): pip install --no-deps 'torchvision==0.{minor}.*', or name the folder of a "
            "transformers detector instead"
        ) from None


def _no_mask_rcnn(error: Exception) -> InvalidInput:
    return InvalidInput(
        f"expected the weights of torchvision's {_MASK_RCNN_TYPE} with {_MASK_RCNN_CLASSES} classes, tensors only, "
        f"got a file that is not ({type(error).__name__})"
    )


def _mask_rcnn(state: dict[str, torch.Tensor], confidence: float) -> Any:  # noqa: ANN401
    build = _torchvision().maskrcnn_resnet50_fpn
    model = build(
        weights=None, weights_backbone=None, num_classes=_MASK_RCNN_CLASSES, box_score_thresh=confidence
    ).eval()
    model.load_state_dict(state)
    model.roi_heads.mask_roi_pool = None  # masks are not used: boxes are the same without them, and sooner there
    return model
