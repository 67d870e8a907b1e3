"""What a study will take, before anything is decoded: clips, disk, memory, and hours on the device at hand."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch

from encoder.manifest import Manifest
from encoder.model.identity import Encoder
from encoder.model.timesformer import TimeSformer, normalise
from index.errors import StateError
from index.records import CLIP_SECONDS
from trainer.clips import TrainingClip, TrainingClips
from trainer.decoding import Progress
from trainer.frame_cache import clip_counts, frame_bytes, spare_bytes
from trainer.judging.folds import patient_folds, patients_held_out
from trainer.pretraining.config import DTYPES, PretrainConfig
from trainer.pretraining.pretrain import planned_batches
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.step import Batch, Objective, Projected, backward
from trainer.study.config import AblationConfig

_PRETRAINED = 3
"""Settings that are pretrained: video, patient, both."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a study will take.

    Attributes:
        unlabelled_clips: clips to pretrain on.
        labelled_clips: of the cohort that is judged.
        disk_bytes: of frames to be decoded into the frame cache; of those that are there nothing.
        free_bytes: what the disk has, less a reserve; None without a frame cache.
        pretrainings: how many encoders are made.
        steps: steps of one of them.
        memory_bytes: most memory of one process in a step.
        memory_there: what the device has for it; None where that is not known.
        seconds_a_step: of one process, measured here.
        hours: of all pretraining and embedding, at that rate, shared by the processes.
        device: what it was measured on.
        processes: how many share the work.
    """

    unlabelled_clips: int
    labelled_clips: int
    disk_bytes: int
    free_bytes: int | None
    pretrainings: int
    steps: int
    memory_bytes: int
    memory_there: int | None
    seconds_a_step: float
    hours: float
    device: str
    processes: int

    def check(self) -> None:
        """Check whether the study fits.

        Raises:
            StateError: If it does not; the message says what to change.
        """
        if self.free_bytes is not None and self.disk_bytes > self.free_bytes:
            raise StateError(
                f"the frames take {_gib(self.disk_bytes)} and the disk of the frame cache has {_gib(self.free_bytes)} "
                "for them: name a folder on another disk as frame_cache"
            )
        if self.memory_there is not None and self.memory_bytes > self.memory_there:
            raise StateError(
                f"a step takes {_gib(self.memory_bytes)} of memory and {self.device} has {_gib(self.memory_there)}: "
                'use a smaller at_once, activation_checkpointing = "full", or precision = "bf16"'
            )


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def check_disk(needed: Sequence[tuple[Path, int]]) -> int | None:
    """Check whether frames fit on the disks of their folders, before any is decoded.

    Args:
        needed: folders and the bytes to come into each, on one disk.

    Returns:
        What the disk has for them; None without a folder.

    Raises:
        StateError: If they don't fit.
    """
    if not needed:
        return None
    free = spare_bytes(needed[0][0])
    Estimate(0, 0, sum(size for _, size in needed), free, 0, 0, 0, None, 0, 0, "", 1).check()
    return free


def counted(manifest: Manifest, decoders: int, progress: Progress) -> TrainingClips:
    """The clips of a manifest without their frames, by the timestamps of its videos."""
    counts = clip_counts(manifest, decoders, progress)
    clips = [
        TrainingClip(
            *(row.video_id, row.patient_id, number, row.label, row.split, row.camera),
            begins_s=number * (row.stride_s or CLIP_SECONDS),
            onset_s=None if row.onset_s is None else row.onset_s - row.start_s,
            seizure_end_s=None if row.seizure_end_s is None else row.seizure_end_s - row.start_s,
        )
        for row, count in zip(manifest.rows, counts, strict=True)
        for number in range(count)
    ]
    return TrainingClips(np.empty((len(clips), 0, 0, 0, 3), np.uint8), tuple(clips))


def estimated(
    config: AblationConfig,
    start: Encoder,
    judged: TrainingClips,
    training: TrainingClips,
    needed: Sequence[tuple[Path, int]],
    ranks: Ranks,
    processes: int,
) -> Estimate:
    """Measure a step on the device at hand, and count.

    Args:
        config: the study's.
        start: initial weights.
        judged: clips of the cohort, without frames.
        training: clips to pretrain on, without frames.
        needed: folders of frame caches that are not there yet, and their bytes.
        ranks: this process, alone.
        processes: how many will share the work.

    Raises:
        InvalidInput: If the cohort does not allow the study.
    """
    recipe = config.pretrain
    outside = patients_held_out(((clip.patient_id, clip.split) for clip in judged.clips), config.hold_out_split)
    kept = training.of(lambda clip: clip.patient_id not in outside)
    steps = len(planned_batches(kept, recipe, processes))
    classes: dict[str, set[str]] = {}
    for clip in judged.clips:
        if clip.label and clip.patient_id not in outside:
            classes.setdefault(clip.patient_id, set()).add(clip.label)
    folds = len(patient_folds(classes, config.folds, config.seed)) if config.modes != ("external",) else 0
    # One for each setting serves all patients at once, and one more without the patients of each fold.
    pretrainings = _PRETRAINED * (1 + folds * ("inductive" in config.modes))
    batch = recipe.patients * recipe.videos * recipe.clips
    of_rank = ceil(batch / processes)
    step_s, embed_s, memory = measured(start.trainable, recipe, of_rank, ranks)
    seconds = pretrainings * (steps * step_s + len(judged.clips) * embed_s / processes)
    return Estimate(
        unlabelled_clips=len(kept.clips),
        labelled_clips=sum(bool(clip.label) for clip in judged.clips),
        disk_bytes=sum(size for _, size in needed),
        free_bytes=spare_bytes(needed[0][0]) if needed else None,
        pretrainings=pretrainings,
        steps=steps,
        memory_bytes=memory,
        memory_there=_memory(ranks.device),
        seconds_a_step=step_s,
        hours=seconds / 3600,
        device=_name(ranks.device),
        processes=processes,
    )


def measured(model: TimeSformer, recipe: PretrainConfig, clips: int, ranks: Ranks) -> tuple[float, float, int]:
    """Seconds of a step with so many clips, seconds to embed one, and the most memory of the process.

    On a CPU two clips stand for more of them: a step takes as long as its clips.
    """
    device, config = ranks.device, model.config
    tried = clips if device.type == "cuda" else min(clips, 2)
    at_once = min(recipe.at_once, tried) if recipe.at_once >= clips else min(recipe.at_once, max(tried - 1, 1))
    trained = Projected(model.to(device), model.embedding_dim, recipe.projection).to(device).train()
    optimiser = torch.optim.AdamW(trained.parameters(), lr=1e-9)
    model.recompute = recipe.activation_checkpointing
    objective = Objective(recipe.tau, recipe.levels, recipe.pairs, same_patient_negatives=True)
    shape = (tried, config.num_frames, config.image_size, config.image_size, 3)
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 255, shape, np.uint8))
    numbers = torch.arange(tried, device=device)

    def load(places: Sequence[int]) -> torch.Tensor:
        return normalise(frames[list(places)].to(device))

    batch = Batch(numbers // 2, numbers // 4, [tried], load)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    took = []
    for _ in range(2):  # the second is no longer the first
        began = time.monotonic()
        optimiser.zero_grad(set_to_none=True)
        backward(trained, batch, objective, ranks, at_once=at_once, dtype=DTYPES[recipe.precision])
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.monotonic() - began)
        if took[0] > _LONG_S:
            break
    model.recompute = "off"
    began = time.monotonic()
    with torch.inference_mode():
        model(load([0]))
    embedding = time.monotonic() - began
    model.cpu()
    if device.type == "cuda":
        return took[-1], embedding, torch.cuda.max_memory_allocated(device)
    return took[-1] * clips / tried, embedding, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_LONG_S = 20.0


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemTotal:")]
    return int(found[0]) * 1024 if found else None


def _name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"a CPU with {torch.get_num_threads()} threads"
    )


def frames_needed(folder: Path, clips: int, num_frames: int, size: int) -> list[tuple[Path, int]]:
    """The folder of a frame cache and its bytes; nothing where it is there already."""
    return [] if (folder / "clips.json").exists() else [(folder, clips * frame_bytes(num_frames, size))]
