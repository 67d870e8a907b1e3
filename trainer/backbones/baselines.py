"""The models the paper is compared with: features of short snippets, and a recurrent network over them.

- Karacsony: I3D features of a clip's snippets, LSTM, a probability a clip, vote of the clips.
- The same with R(2+1)D of 18 layers.
- Perez-Garcia, "Transfer Learning of Deep Spatiotemporal Networks to Model Arbitrarily Long Videos of Seizures" (2021):
  R(2+1)D of 34 layers, a video cut into 16 segments, from each a snippet of 8 successive frames at 15 a second that may
  begin at any frame (jitter), bidirectional LSTM of 64; rate and epochs as in the authors' code.

The backbones are frozen. Their published weights are loaded from a file the user gives; without one they are random,
which the report says.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from index.errors import InvalidInput
from index.files.durable import sha256_of_file
from index.records import CLIP_SECONDS
from trainer.backbones.i3d import I3D
from trainer.backbones.r2plus1d import MEAN, STD, R2Plus1D
from trainer.clips import TrainingClip, TrainingClips
from trainer.judging.classifiers import Features, Judge

SEGMENTS = 16
_RATE = 15
_SNIPPETS_AT_ONCE = 32
_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    EOFError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
)
Kind = Literal["i3d", "r2plus1d", "perez-garcia"]


class BaselineConfig(BaseModel):
    """One baseline."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Kind
    """i3d, r2plus1d (18 layers) or perez-garcia (R(2+1)D of 34)."""
    weights: Path | None = None
    """File of published weights, relative to the configuration file; random weights without one."""
    sha256: str = Field(default="", pattern=r"^[0-9a-f]{0,64}$")
    """What the digest of that file begins with; published names often hold its first digits."""
    frames: int | None = Field(default=None, ge=1)
    """Frames of a clip, decoded for this baseline alone at its own size; by default it sees the study's. Perez-Garcia's
    15 a second are 150."""
    size: int = Field(default=112, ge=32)
    """Side of the frames the backbone sees, in pixels. I3D was made for 224, R(2+1)D for 112."""
    snippet_frames: int = Field(default=16, ge=1)
    """Frames a feature is made from. Perez-Garcia has 8 unless told otherwise."""
    starts: int | None = Field(default=None, ge=1)
    """Perez-Garcia: frames of a segment where a snippet may begin, evenly spread; by default any, as in the paper."""
    hidden: int = Field(default=64, ge=1)
    """Width of the LSTM."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the training clips or videos. Perez-Garcia has 400 unless told otherwise."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of AdamW. Perez-Garcia has 1e-2 unless told otherwise."""
    seed: int = Field(default=0, ge=0)
    """Seed of random weights, batches and jitter."""

    @model_validator(mode="before")
    @classmethod
    def _as_its_authors(cls, values: object) -> object:
        if isinstance(values, dict) and values.get("kind") == "perez-garcia":
            return {"snippet_frames": 8, "epochs": 400, "learning_rate": 1e-2, **values}
        return values

    @property
    def title(self) -> str:
        """Name in a table."""
        named = {"i3d": "I3D + LSTM", "r2plus1d": "R(2+1)D + LSTM", "perez-garcia": "Perez-Garcia"}[self.kind]
        return named if self.weights else f"{named}, random backbone"

    def titled(self, frames: int) -> str:
        """Name in a table, with the rate of frames where it is not the authors' own."""
        rate = frames / CLIP_SECONDS
        return self.title if self.kind != "perez-garcia" or rate == _RATE else f"{self.title}, {rate:g} frames a second"


def backbone(config: BaselineConfig, folder: Path) -> nn.Module:
    """The frozen feature extractor.

    Raises:
        InvalidInput: If its weights can't be read, or are of another model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        state = None if config.weights is None else _state(folder / config.weights, config.sha256)
        classes = 400 if state is None else _classes(state, config.kind)
        model: nn.Module = I3D(classes) if config.kind == "i3d" else R2Plus1D(_DEPTH[config.kind], classes)
    if state is not None:
        wanted = model.state_dict()
        # Older files lack the counters of batch norm, which nothing here reads.
        counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
        values = {**counters, **state}
        wrong = [k for k in wanted.keys() | values.keys() if k not in wanted or k not in values]
        wrong += [k for k in wanted.keys() & values.keys() if wanted[k].shape != values[k].shape]
        if wrong:
            raise InvalidInput(
                f"expected the {len(wanted)} weights of {config.title}, got {len(values)}: {len(wrong)} differ, the "
                f"first is {min(wrong)}"
            )
        model.load_state_dict(values)
    return model.eval()


_DEPTH = {"r2plus1d": 18, "perez-garcia": 34}


def _state(path: Path, sha256: str) -> dict[str, Tensor]:
    try:
        if not (digest := sha256_of_file(path)).startswith(sha256):
            raise InvalidInput(f"expected weights of SHA-256 {sha256}…, got {digest[:16]}…: fetch the file again")
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        inner = loaded.get("state_dict", loaded)
        return {name.removeprefix("module."): tensor for name, tensor in inner.items()}
    except FileNotFoundError:
        where = "docs/weights.md says where the published ones are"
        raise InvalidInput(f"there is no file of weights {path.name}: {where}") from None
    except (*_UNREADABLE, AttributeError) as error:
        raise InvalidInput(f"weights {path.name} can't be read as tensors only ({type(error).__name__})") from None


def _classes(state: dict[str, Tensor], kind: Kind) -> int:
    name = "logits.conv3d.bias" if kind == "i3d" else "fc.bias"
    if name not in state:
        raise InvalidInput(f"not the weights of {kind}: {name} is missing")
    return len(state[name])


def check_snippets(config: BaselineConfig, frames: int) -> None:
    """Make sure that a clip of so many frames holds a snippet.

    Raises:
        InvalidInput: If it does not.
    """
    if config.snippet_frames > frames:
        raise InvalidInput(f"expected snippets of at most {frames} frames, got {config.snippet_frames}")


def snippet_features(
    clips: TrainingClips,
    model: nn.Module,
    config: BaselineConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> Features:
    """Features (N, S, F) of the consecutive snippets of every clip."""
    check_snippets(config, clips.frames.shape[1])
    count = clips.frames.shape[1] // config.snippet_frames
    features = []
    model = model.to(device)
    with torch.inference_mode():
        for number in range(len(clips.clips)):
            progress(number, len(clips.clips))
            used = np.array(clips.frames[number][: count * config.snippet_frames])
            snippets = _prepared(used, config, device).unflatten(0, (count, -1)).transpose(1, 2)
            features.append(model(snippets).cpu().numpy())
    return np.stack(features).astype(np.float32)


def segment_features(
    clips: TrainingClips,
    model: nn.Module,
    config: BaselineConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> Features:
    """Features (V, 16, J, F) of each video's segments: of the snippets that begin at J frames of each.

    J is `config.starts`, or the frames of the longest segment: shorter ones have some of their snippets twice.
    """
    check_snippets(config, clips.frames.shape[1])
    timelines = [_timeline(clips, rows) for rows in _rows_by_video(clips.clips)]
    starts = [_starts(len(timeline), config) for timeline in timelines]
    most = config.starts or max(len(of_segment) for of_video in starts for of_segment in of_video)
    features = np.empty((len(timelines), SEGMENTS, most, 0), np.float32)
    model = model.to(device)
    with torch.inference_mode():
        for video, (timeline, of_video) in enumerate(zip(timelines, starts, strict=True)):
            progress(video, len(timelines))
            frames_TCHW = _prepared(_picked(clips, timeline), config, device)
            windows = frames_TCHW.unfold(0, config.snippet_frames, 1).permute(0, 1, 4, 2, 3)  # each (C, 8, H, W)
            wanted = np.unique(np.concatenate(of_video))
            made: dict[int, NDArray[np.float32]] = {}
            for some in torch.from_numpy(wanted).split(_SNIPPETS_AT_ONCE):
                found = model(windows[some]).cpu().numpy()
                made.update(zip(some.tolist(), found, strict=True))
            if not features.shape[-1]:
                features = np.empty((*features.shape[:3], len(found[0])), np.float32)
            for segment, of_segment in enumerate(of_video):
                places = of_segment[np.arange(most) * len(of_segment) // most]
                features[video, segment] = [made[int(place)] for place in places]
    return features


def _prepared(frames_THWC: NDArray[np.uint8], config: BaselineConfig, device: str) -> Tensor:
    frames_TCHW = torch.from_numpy(frames_THWC).to(device).permute(0, 3, 1, 2).float() / 255
    frames_TCHW = F.interpolate(frames_TCHW, size=(config.size, config.size), mode="bilinear", antialias=True)
    return scaled(frames_TCHW, config.kind)


def _rows_by_video(clips: Sequence[TrainingClip]) -> list[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        rows.setdefault(clip.video_id, []).append(row)
    return list(rows.values())


def _timeline(clips: TrainingClips, rows: Sequence[int]) -> list[tuple[int, int]]:
    """(clip, number in it) of a video's successive frames; where clips overlap, those of the earlier one."""
    frames, until = clips.frames.shape[1], -np.inf
    timeline = []
    for row in sorted(rows, key=lambda row: clips.clips[row].start_s):
        clip = clips.clips[row]
        step = clip.valid_seconds / frames
        for number in range(frames):
            at = clip.start_s + (number + 0.5) * step
            if at > until + step / 2:
                timeline.append((row, number))
                until = at
    return timeline


def _picked(clips: TrainingClips, timeline: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    of_clip = {row: np.array(clips.frames[row]) for row in dict.fromkeys(row for row, _ in timeline)}
    return np.stack([of_clip[row][number] for row, number in timeline])


def _starts(frames: int, config: BaselineConfig) -> list[NDArray[np.intp]]:
    """Where the snippets of each segment begin: in the segment, and early enough to end in the video."""
    borders = np.linspace(0, frames, SEGMENTS + 1).round().astype(np.intp)
    last = frames - config.snippet_frames
    found = []
    for begin, end in pairwise(borders.tolist()):
        at = np.arange(min(begin, last), max(min(end, last + 1), min(begin, last) + 1))
        if config.starts is not None:
            at = at[((np.arange(config.starts) + 0.5) * len(at) / config.starts).astype(np.intp)]
        found.append(at.astype(np.intp))
    return found


def scaled(frames_TCHW: Tensor, kind: Kind) -> Tensor:
    """RGB from 0 to 1 to what the published weights want."""
    if kind == "i3d":
        return frames_TCHW * 2 - 1
    mean, std = (torch.tensor(values).to(frames_TCHW)[:, None, None] for values in (MEAN, STD))
    return (frames_TCHW - mean) / std


class Recurrent(nn.Module):
    """An LSTM over snippets, and a linear layer on its last state."""

    def __init__(self, width: int, hidden: int, classes: int, *, both_ways: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=both_ways)
        self.classify = nn.Linear(hidden * (2 if both_ways else 1), classes)

    def forward(self, features_BSF: Tensor) -> Tensor:
        """Logits (B, classes)."""
        _, (last, _) = self.lstm(features_BSF)
        logits: Tensor = self.classify(last.transpose(0, 1).flatten(1))
        return logits


def recurrent_judge(config: BaselineConfig) -> Judge:
    """Learns from (N, S, F) features; with Perez-Garcia's (V, 16, J, F), one of the J of each segment is drawn."""

    def judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
        mean, std = training.mean(tuple(range(training.ndim - 1))), training.std(tuple(range(training.ndim - 1))) + 1e-6
        x, y = torch.from_numpy((training - mean) / std), torch.from_numpy(targets)
        counts = torch.bincount(y)
        weight = len(y) / (len(counts) * counts.float())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = Recurrent(x.shape[-1], config.hidden, len(counts), both_ways=config.kind == "perez-garcia")
            optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
            for _ in range(config.epochs):
                for batch in torch.randperm(len(y)).split(16):
                    loss = F.cross_entropy(model(_jittered(x[batch])), y[batch], weight=weight)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    optimiser.step()
        with torch.inference_mode():
            test = torch.from_numpy((judged - mean) / std)
            middle = test if test.ndim == 3 else test[:, :, test.shape[2] // 2]
            probabilities: NDArray[np.float64] = model(middle).double().softmax(1).numpy()
        return probabilities

    return judge


def _jittered(features: Tensor) -> Tensor:
    if features.ndim == 3:
        return features
    videos, segments, choices = features.shape[:3]
    drawn = torch.randint(0, choices, (videos, segments))
    return features[torch.arange(videos)[:, None], torch.arange(segments)[None], drawn]
