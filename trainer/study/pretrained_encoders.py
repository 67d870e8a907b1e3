"""The four ways of pretraining that an ablation compares, each done once and kept with its embeddings."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from encoder.model.identity import Encoder
from index.errors import InvalidInput
from index.files.durable import write_atomically
from trainer.clips import TrainingClips
from trainer.judging.folds import check_leaks
from trainer.judging.probes import Probes, probe
from trainer.judging.retrieval import Ranking, label_ranking, sign_ranking
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.run import RunConfig, embedded_by_all, read_log, run_pretraining

Setting = Literal["none", "video", "patient", "both"]
SETTINGS: tuple[Setting, ...] = ("none", "video", "patient", "both")


@dataclass(frozen=True, slots=True)
class Embedded:
    """What one setting's encoder makes of all clips, and what that is worth for retrieval.

    Attributes:
        encoder_id: the encoder's.
        vectors: (N, D), unit length.
        probes: on patients that were kept out of pretraining, or on all where none was.
        labels: ranking by class, of the same clips.
        signs: ranking by sign, where it is known.
        log: of the pretraining, a line a step and an epoch.
    """

    encoder_id: str
    vectors: NDArray[np.float32]
    probes: Probes
    labels: Ranking | None
    signs: Ranking | None
    log: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Reporter:
    """Called with how far a study is: (what, done, total), and with what should be known before it is believed."""

    step: Callable[[str, int, int], None] = lambda what, done, total: None
    warn: Callable[[str], None] = lambda text: None


@dataclass(frozen=True, slots=True)
class StudyClips:
    """What a study looks at.

    Attributes:
        judged: the cohort that is judged, labelled or partly so.
        pretraining: what is pretrained on; the same, unless the unlabelled videos are others.
        decoded: gives the judged clips at another number of frames and another size, for a baseline that wants these.
    """

    judged: TrainingClips
    pretraining: TrainingClips
    decoded: Callable[[int, int], TrainingClips] | None = None

    @classmethod
    def of_one_manifest(cls, clips: TrainingClips) -> StudyClips:
        """All clips are pretrained on, and the labelled ones judged."""
        return cls(clips, clips)


class Pretrained:
    """Makes and keeps the encoders of a study.

    Args:
        clips: the cohort.
        start: initial weights of all settings.
        recipe: its `levels` are replaced by those of each setting.
        folder: the study's.
        ranks: the processes.
        device: cpu or cuda.
        reporter: told how far it is.
    """

    def __init__(
        self,
        clips: StudyClips,
        start: Encoder,
        recipe: PretrainConfig,
        folder: Path,
        ranks: Ranks,
        device: str,
        reporter: Reporter,
    ) -> None:
        self._judged, self._training, self._start, self._recipe = clips.judged, clips.pretraining, start, recipe
        self._folder, self._ranks, self._device, self._reporter = folder, ranks, device, reporter
        self._decoded = clips.decoded
        self._made: dict[str, str] = {}

    def make(self, setting: Setting, kept_out: set[str]) -> None:
        """Pretrain an encoder and embed all clips that are judged, unless an earlier call did; all ranks together.

        Args:
            setting: which levels are pretrained on.
            kept_out: patients whose clips are not.
        """
        name = _name(setting, kept_out)
        if name not in self._made:
            encoder = self._encoder(setting, kept_out, name)
            self._embed(encoder, self._judged, self._path(encoder.encoder_id, name), name.split("-")[0])
            self._made[name] = encoder.encoder_id

    def embedded(self, setting: Setting, kept_out: set[str]) -> Embedded:
        """What a setting's encoder makes of all clips that are judged, after `make`."""
        name = _name(setting, kept_out)
        encoder_id = self._made[name]
        vectors: NDArray[np.float32] = np.load(self._path(encoder_id, name))
        rows = [row for row, clip in enumerate(self._judged.clips) if not kept_out or clip.patient_id in kept_out]
        chosen = [self._judged.clips[row] for row in rows]
        return Embedded(
            encoder_id,
            vectors,
            probe(vectors[rows], chosen),
            label_ranking(vectors[rows], chosen),
            sign_ranking(vectors[rows], chosen),
            read_log(self._folder / name),
        )

    def embedded_frozen(self, name: str, encoder: Encoder) -> NDArray[np.float32]:
        """What another encoder makes of all clips that are judged, at its own frames; all ranks together."""
        shape = encoder.model.config
        clips = self._judged
        if clips.frames.shape[1:3] != (shape.num_frames, shape.image_size):
            if self._decoded is None:
                frames, side = clips.frames.shape[1:3]
                raise InvalidInput(
                    f"{name} sees {shape.num_frames} frames of {shape.image_size} pixels, and the frame cache has "
                    f"{frames} of {side}: name the manifest too"
                )
            clips = self._decoded(shape.num_frames, shape.image_size)
            if [(c.video_id, c.clip_index) for c in clips.clips] != [
                (c.video_id, c.clip_index) for c in self._judged.clips
            ]:
                raise InvalidInput(f"the frames of {name} are of other clips than the study's: delete the frame cache")
        path = self._path(encoder.encoder_id, "frozen")
        self._embed(encoder, clips, path, name)
        self._ranks.agree("the embeddings of another encoder", encoder.encoder_id)
        vectors: NDArray[np.float32] = np.load(path)
        return vectors

    def _encoder(self, setting: Setting, kept_out: set[str], name: str) -> Encoder:
        if setting == "none":
            return self._start
        clips = self._training.of(lambda clip: clip.patient_id not in kept_out)
        check_leaks(clips.clips, [clip for clip in self._judged.clips if clip.patient_id in kept_out])
        config = RunConfig(
            name=name,
            manifest=Path("study"),
            hold_out_split="",
            device=self._device,
            pretrain=self._recipe.model_copy(update={"levels": setting}),
        )
        # A run that has ended only loads its last checkpoint; one of another recipe or other clips is refused.
        return run_pretraining(
            replace(self._start, model=copy.deepcopy(self._start.model)),
            clips,
            config,
            self._folder / name,
            self._ranks,
            on_step=lambda log: self._reporter.step(f"pretraining: {setting}", log.step, 0),
            warn=lambda text: self._reporter.warn(f"{setting}: {text}"),
        )

    def _embed(self, encoder: Encoder, clips: TrainingClips, path: Path, what: str) -> None:
        self._reporter.step(f"embedding: {what}", 0, 0)
        if self._ranks.any(path.exists()):
            return
        vectors = embedded_by_all(encoder.model.to(self._ranks.device), clips, self._recipe, self._ranks)
        encoder.model.cpu()
        if self._ranks.rank == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, partial(_save, vectors))

    def _path(self, encoder_id: str, name: str) -> Path:
        precision = "" if self._recipe.precision == "fp32" else f"-{self._recipe.precision}"
        return self._folder / name / f"vectors-{encoder_id}-{self._judged.digest()[:8]}{precision}.npy"


def _name(setting: Setting, kept_out: set[str]) -> str:
    """Folder of an encoder; names a choice of patients without naming them."""
    return f"{setting}-{hashlib.sha256(chr(10).join(sorted(kept_out)).encode()).hexdigest()[:8]}"


def _save(vectors: NDArray[np.float32], path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, vectors)
