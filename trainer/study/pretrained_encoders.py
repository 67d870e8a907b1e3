"""The four ways of pretraining that an ablation compares, each done once and kept with its embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from encoder.model.folder import Encoder, load_encoder, save_encoder
from index.files.durable import write_atomically
from trainer.clips import TrainingClips
from trainer.judging.folds import check_leaks
from trainer.judging.probes import Probes, embed_clips, probe
from trainer.judging.retrieval import Ranking, label_ranking, sign_ranking
from trainer.pretraining.config import PretrainConfig
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.run import RunConfig, read_log, run_pretraining

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


class Pretrained:
    """Makes and keeps the encoders of a study.

    Args:
        clips: the cohort.
        start: initial weights of all settings.
        recipe: its `levels` are replaced by those of each setting.
        folder: the study's.
        ranks: the processes; one.
        device: cpu or cuda.
        reporter: told how far it is.
    """

    def __init__(
        self,
        clips: TrainingClips,
        start: Encoder,
        recipe: PretrainConfig,
        folder: Path,
        ranks: Ranks,
        device: str,
        reporter: Reporter,
    ) -> None:
        self._clips, self._start, self._recipe = clips, start, recipe
        self._folder, self._ranks, self._device, self._reporter = folder, ranks, device, reporter

    def embedded(self, setting: Setting, kept_out: set[str]) -> Embedded:
        """What a setting's encoder makes of all clips.

        Args:
            setting: which levels are pretrained on.
            kept_out: patients whose clips are not.
        """
        name = f"{setting}-{_digest(kept_out)}"
        encoder = self._encoder(setting, kept_out, name)
        vectors = self._vectors(encoder, name)
        rows = [row for row, clip in enumerate(self._clips.clips) if not kept_out or clip.patient_id in kept_out]
        chosen = [self._clips.clips[row] for row in rows]
        return Embedded(
            encoder.encoder_id,
            vectors,
            probe(vectors[rows], chosen),
            label_ranking(vectors[rows], chosen),
            sign_ranking(vectors[rows], chosen),
            read_log(self._folder / name),
        )

    def _encoder(self, setting: Setting, kept_out: set[str], name: str) -> Encoder:
        if setting == "none":
            return self._start
        clips = self._clips.of(lambda clip: clip.patient_id not in kept_out)
        check_leaks(clips.clips, [clip for clip in self._clips.clips if clip.patient_id in kept_out])
        config = RunConfig(
            name=name,
            manifest=Path("study"),
            hold_out_split="",
            device=self._device,
            pretrain=self._recipe.model_copy(update={"levels": setting}),
        )
        # A run that has ended only loads its last checkpoint; one of another recipe or other clips is refused.
        return run_pretraining(
            _fresh(self._start, self._folder),
            clips,
            config,
            self._folder / name,
            self._ranks,
            on_step=lambda log: self._reporter.step(f"pretraining: {setting}", log.step, 0),
            warn=lambda text: self._reporter.warn(f"{setting}: {text}"),
        )

    def _vectors(self, encoder: Encoder, name: str) -> NDArray[np.float32]:
        self._reporter.step(f"embedding: {name.split('-')[0]}", 0, 0)
        path = self._folder / name / f"vectors-{encoder.encoder_id}-{self._clips.digest()[:8]}.npy"
        if path.exists():
            found: NDArray[np.float32] = np.load(path)
            return found
        model = encoder.model.to(self._ranks.device)
        vectors = embed_clips(model, self._clips.frames, self._ranks.device)
        model.cpu()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, partial(_save, vectors))
        return vectors


def _save(vectors: NDArray[np.float32], path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, vectors)


def _fresh(start: Encoder, folder: Path) -> Encoder:
    """The same weights in a model of their own: training changes a model in place."""
    return load_encoder(save_encoder(start, folder / "initial"))


def _digest(patients: set[str]) -> str:
    """Names a choice of patients without naming them."""
    return hashlib.sha256("\n".join(sorted(patients)).encode()).hexdigest()[:8]
