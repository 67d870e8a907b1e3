"""Features of the baselines' frozen backbones: checked before anything long begins, made once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from index.files.durable import write_atomically
from trainer.backbones.baselines import BaselineConfig, backbone, check_snippets, segment_features, snippet_features
from trainer.clips import TrainingClip, TrainingClips
from trainer.judging.classifiers import Features
from trainer.study.pretrained_encoders import Reporter, StudyClips

Found = tuple[Features, Sequence[TrainingClip], str]
"""Features, the clip that each row of them stands for, and the row's name in a table."""


class Baselines:
    """The baselines of a study.

    Args:
        clips: the study's.
        configs: the baselines.
        config_folder: where paths of weights begin.
        folder: of the study, where features are kept.

    Raises:
        InvalidInput: If weights can't be read or are of another model, or snippets are longer than clips.
    """

    def __init__(self, clips: StudyClips, configs: Sequence[BaselineConfig], config_folder: Path, folder: Path) -> None:
        self._clips, self._folder = clips, folder
        self._models: dict[BaselineConfig, nn.Module] = {}
        for config in configs:
            self._models[config] = backbone(config, config_folder)
            check_snippets(config, config.frames or clips.judged.frames.shape[1])

    def features(self, config: BaselineConfig, device: str, reporter: Reporter) -> Found:
        """Features of the labelled clips, or of segments of the labelled videos."""
        clips = self._clips.judged
        if config.frames is not None and self._clips.decoded is not None:
            clips = self._clips.decoded(config.frames, config.size)
        labelled = clips.of(lambda clip: bool(clip.label))
        title = config.titled(labelled.frames.shape[1])
        make = segment_features if config.kind == "perez-garcia" else snippet_features
        path = self._folder / "baselines" / f"{config.kind}-{_digest(config, self._models[config], labelled)}.npy"
        if not path.exists():
            progress = partial(reporter.step, f"{title}: features")
            made = make(labelled, self._models[config], config, progress, device)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, partial(_save, made))
        standing_for = labelled.first_of_each_video() if config.kind == "perez-garcia" else labelled.clips
        return np.load(path), standing_for, title


def _digest(config: BaselineConfig, model: nn.Module, clips: TrainingClips) -> str:
    digest = hashlib.sha256(f"{config.model_dump_json()} {clips.digest()}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def _save(features: Features, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, features)
