"""The models the paper is compared with: features of short snippets, and a recurrent network over them.

- Karacsony: I3D features of a clip's snippets, LSTM, a probability a clip, vote of the clips.
- The same with R(2+1)D of 18 layers.
- Perez-Garcia, "Transfer Learning of Deep Spatiotemporal Networks to Model Arbitrarily Long Videos of Seizures" (2021):
  R(2+1)D of 34 layers, a video cut into 16 segments, one snippet drawn from each (jitter), bidirectional LSTM of 64.

The backbones are frozen. Their published weights are loaded from a file the user gives; without one they are random,
which the report says.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from index.errors import InvalidInput
from trainer.backbones.i3d import I3D
from trainer.backbones.r2plus1d import MEAN, STD, R2Plus1D
from trainer.clips import TrainingClip, TrainingClips
from trainer.judging.classifiers import Features, Judge

SEGMENTS = 16
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
    size: int = Field(default=112, ge=32)
    """Side of the frames the backbone sees, in pixels. I3D was made for 224, R(2+1)D for 112."""
    snippet_frames: int = Field(default=16, ge=1)
    """Frames a feature is made from."""
    hidden: int = Field(default=64, ge=1)
    """Width of the LSTM."""
    epochs: int = Field(default=20, ge=1)
    """Passes over the training clips or videos."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of AdamW."""
    seed: int = Field(default=0, ge=0)
    """Seed of random weights, batches and jitter."""

    @property
    def title(self) -> str:
        """Name in a table."""
        named = {"i3d": "I3D + LSTM", "r2plus1d": "R(2+1)D + LSTM", "perez-garcia": "Perez-Garcia"}[self.kind]
        return named if self.weights else f"{named}, random backbone"


def backbone(config: BaselineConfig, folder: Path) -> nn.Module:
    """The frozen feature extractor.

    Raises:
        InvalidInput: If its weights can't be read, or are of another model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        state = None if config.weights is None else _state(folder / config.weights)
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


def _state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        inner = loaded.get("state_dict", loaded)
        return {name.removeprefix("module."): tensor for name, tensor in inner.items()}
    except (*_UNREADABLE, AttributeError) as error:
        raise InvalidInput(f"the weights can't be read as tensors only ({type(error).__name__})") from None


def _classes(state: dict[str, Tensor], kind: Kind) -> int:
    name = "logits.conv3d.bias" if kind == "i3d" else "fc.bias"
    if name not in state:
        raise InvalidInput(f"not the weights of {kind}: {name} is missing")
    return len(state[name])


def snippet_features(
    clips: TrainingClips,
    model: nn.Module,
    config: BaselineConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> Features:
    """Features (N, S, F) of the consecutive snippets of every clip."""
    count = clips.frames.shape[1] // config.snippet_frames
    if count < 1:
        raise InvalidInput(f"expected snippets of at most {clips.frames.shape[1]} frames, got {config.snippet_frames}")
    features = []
    model = model.to(device)
    with torch.inference_mode():
        for number in range(len(clips.clips)):
            progress(number, len(clips.clips))
            used = np.array(clips.frames[number][: count * config.snippet_frames])
            frames_TCHW = torch.from_numpy(used).to(device).permute(0, 3, 1, 2).float() / 255
            frames_TCHW = F.interpolate(frames_TCHW, size=(config.size, config.size), mode="bilinear", antialias=True)
            snippets = scaled(frames_TCHW, config.kind).unflatten(0, (count, -1)).transpose(1, 2)
            features.append(model(snippets).cpu().numpy())
    return np.stack(features).astype(np.float32)


def scaled(frames_TCHW: Tensor, kind: Kind) -> Tensor:
    """RGB from 0 to 1 to what the published weights want."""
    if kind == "i3d":
        return frames_TCHW * 2 - 1
    mean, std = (torch.tensor(values).to(frames_TCHW)[:, None, None] for values in (MEAN, STD))
    return (frames_TCHW - mean) / std


class Recurrent(nn.Module):
    """An LSTM over snippets, and a linear layer on its last state."""

    def __init__(self, width: int, hidden: int, *, both_ways: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=both_ways)
        self.classify = nn.Linear(hidden * (2 if both_ways else 1), 2)

    def forward(self, features_BSF: Tensor) -> Tensor:
        """Logits (B, 2)."""
        _, (last, _) = self.lstm(features_BSF)
        logits: Tensor = self.classify(last.transpose(0, 1).flatten(1))
        return logits


def recurrent_judge(config: BaselineConfig) -> Judge:
    """Learns from (N, S, F) features; with Perez-Garcia's (V, 16, J, F), one of the J of each segment is drawn."""

    def judge(training: Features, targets: NDArray[np.int64], judged: Features) -> NDArray[np.float64]:
        mean, std = training.mean(tuple(range(training.ndim - 1))), training.std(tuple(range(training.ndim - 1))) + 1e-6
        x, y = torch.from_numpy((training - mean) / std), torch.from_numpy(targets)
        counts = torch.bincount(y, minlength=2)
        weight = len(y) / (2 * counts.float())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = Recurrent(x.shape[-1], config.hidden, both_ways=config.kind == "perez-garcia")
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
            probabilities: NDArray[np.float64] = model(middle).double().softmax(1)[:, 1].numpy()
        return probabilities

    return judge


def _jittered(features: Tensor) -> Tensor:
    if features.ndim == 3:
        return features
    videos, segments, choices = features.shape[:3]
    drawn = torch.randint(0, choices, (videos, segments))
    return features[torch.arange(videos)[:, None], torch.arange(segments)[None], drawn]


def by_segments(
    features_NSF: Features, clips: Sequence[TrainingClip], choices: int = 3
) -> tuple[Features, list[TrainingClip]]:
    """Each video's snippets as 16 segments of `choices` candidates (V, 16, J, F), and a clip that stands for it."""
    rows: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        rows.setdefault(clip.video_id, []).append(row)
    videos = []
    for of_video in rows.values():
        snippets = features_NSF[of_video].reshape(-1, features_NSF.shape[-1])
        places = (np.arange(SEGMENTS * choices) + 0.5) * len(snippets) / (SEGMENTS * choices)
        videos.append(snippets[places.astype(int)].reshape(SEGMENTS, choices, -1))
    return np.stack(videos), [clips[of_video[0]] for of_video in rows.values()]
