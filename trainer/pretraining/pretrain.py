"""Contrastive pretraining of an encoder on unlabelled clips (Li et al., eq. 3).

Every step is a function of the configuration and its number alone: batches and augmentation are drawn from (seed,
epoch) and (seed, step, place in the batch). So a run that was stopped anywhere resumes as if it had not been, and one
rank computes what four compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from encoder.model.timesformer import Recompute, TimeSformer
from index.errors import InvalidInput, SemiomeError, StateError
from trainer.clips import TrainingClip, TrainingClips
from trainer.judging.probes import spread
from trainer.pretraining.augment import RECIPES, recipe
from trainer.pretraining.checkpoint import State, checkpoints, load_checkpoint, save_checkpoint
from trainer.pretraining.feeder import Feeder
from trainer.pretraining.losses import ContrastiveLoss, Levels, Memory, Pairs, SamePatient
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.sampler import BatchShape, epoch_batches
from trainer.pretraining.step import Objective, Projected, backward, remember

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class PretrainConfig(BaseModel):
    """Everything that decides the result of a pretraining run, besides its clips and initial weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: int = Field(default=5, ge=1)
    """Passes over the clips; the paper has 5."""
    max_steps: int | None = Field(default=None, ge=1)
    """Steps after which the schedule stops; all epochs by default."""
    patients: int = Field(default=2, ge=2)
    """Patients in a batch."""
    videos: int = Field(default=2, ge=1)
    """Videos of each patient in a batch."""
    clips: int = Field(default=2, ge=1)
    """Clips of each video in a batch. 2 x 2 x 2 is the paper's batch of 8."""
    levels: Levels = "both"
    """Eq. 1 (`video`), eq. 2 (`patient`) or their sum, eq. 3 (`both`)."""
    pairs: Pairs = "both"
    """Each positive pair in both orders, or once (`first`)."""
    tau: float = Field(default=0.5, gt=0)
    """Temperature. The paper does not give it; TCL, which it follows, has 0.5."""
    same_patient_negatives: SamePatient = True
    """Whether other videos of the same patient are negatives at video level, as in the paper. `background`: of these
    only background of the recording of a seizure, and seizures of the recording of background (`background=yes` and
    `recording_id` of the manifest); each patient gives both to a batch where there are both."""
    negatives: Literal["any", "same_camera"] = "any"
    """Whether the patients of a batch are taken from one room and camera, as far as there are enough."""
    memory: int = Field(default=0, ge=0)
    """Embeddings of earlier batches that serve as more negatives; 0 for none."""
    projection: int = Field(default=0, ge=0)
    """Width of a projection behind the encoder that the loss looks at, dropped after pretraining; 0 for none."""
    augmentation: str = "crop"
    """Named recipe of `trainer.pretraining.augment`: none, crop, tint, full."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak rate of AdamW."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of AdamW; biases, norms and embeddings are not decayed."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps in which the rate rises; after it, it falls along a cosine."""
    gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this length."""
    at_once: int = Field(default=64, ge=1)
    """Clips whose activations fit into memory; a larger part of a batch is embedded twice, see
    `trainer.pretraining.step`."""
    activation_checkpointing: Recompute = "selective"
    """What of a layer is computed again on the way back instead of being kept. `selective`: all but matrix products and
    attention, in half the memory; `full`: all but the layer's input, in a fraction of it, and a third slower; `off`:
    nothing, a tenth faster for a model as narrow as the demo's, no faster for a wide one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the model's products; weights, gradients and losses are float32."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between checkpoints."""
    seed: int = Field(default=0, ge=0)
    """Seed of batches and augmentation."""

    @model_validator(mode="after")
    def _has_pairs(self) -> PretrainConfig:
        if self.levels != "patient" and self.clips < 2:
            raise ValueError(
                "expected at least 2 clips of a video in a batch: one alone has no positive at video level"
            )
        if self.same_patient_negatives == "background" and self.videos < 2:
            raise ValueError("expected at least 2 videos of a patient in a batch: a seizure, and background beside it")
        if self.videos * self.clips < 2:
            raise ValueError("expected at least 2 clips of a patient in a batch: one alone has no positive")
        return self

    @field_validator("augmentation")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RECIPES:
            raise ValueError(f"expected an augmentation of {', '.join(RECIPES)}, got {name!r}")
        return name


@dataclass(frozen=True, slots=True)
class StepLog:
    """One step, with what shows a shortcut or a collapse.

    Attributes:
        step: from 1.
        epoch: from 0.
        loss: of the levels trained on, in nats.
        chance: what an encoder that tells nothing apart would score.
        video_loss: eq. 1.
        video_chance: its chance value.
        patient_loss: eq. 2.
        patient_chance: its chance value.
        mean_cosine: over all pairs of the batch; near 1 is collapse.
        effective_rank: of the batch's embeddings; near 1 is collapse.
        learning_rate: learning rate of this step.
    """

    step: int
    epoch: int
    loss: float
    chance: float
    video_loss: float
    video_chance: float
    patient_loss: float
    patient_chance: float
    mean_cosine: float
    effective_rank: float
    learning_rate: float


class NonFiniteLoss(SemiomeError):
    """Training has diverged; the message names the batch."""


class Interrupted(StateError):
    """The run was asked to stop; what it had come to is in its last checkpoint."""


def _nothing(_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Watch:
    """Callbacks that follow a run, and may stop it.

    Attributes:
        on_begin: called with the step of the checkpoint that the run resumes from, 0 for a new one, before anything
            else.
        on_step: told each step when it is done.
        on_epoch: given the epoch and the model in evaluation mode when an epoch is done.
        on_wait: told the seconds each step waited for its frames.
        should_stop: asked after each step.
    """

    on_begin: Callable[[int], None] = _nothing
    on_step: Callable[[StepLog], None] = _nothing
    on_epoch: Callable[[int, TimeSformer], None] = lambda epoch, model: None
    on_wait: Callable[[float], None] = _nothing
    should_stop: Callable[[], bool] = lambda: False


def pretrain(
    model: TimeSformer,
    clips: TrainingClips,
    config: PretrainConfig,
    ranks: Ranks,
    folder: Path | None = None,
    watch: Watch | None = None,
) -> list[StepLog]:
    """Train a model in place.

    Args:
        model: to train; the same on all ranks.
        clips: to train on.
        config: the run's settings.
        ranks: this process among the others.
        folder: for checkpoints; a run that has some resumes from the last. None for a run that leaves none.
        watch: callbacks.

    Returns:
        The steps done by this call.

    Raises:
        InvalidInput: If too few patients, or more ranks than clips in a batch.
        NonFiniteLoss: If the loss is NaN or infinite; nothing is skipped.
        Interrupted: If `watch` wanted it.
    """
    watch = watch or Watch()
    plan = planned_batches(clips, config, ranks.world_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        projected = Projected(model, model.embedding_dim, config.projection).to(ranks.device)
    model.recompute = config.activation_checkpointing
    optimiser = torch.optim.AdamW(_parameter_groups(projected, config.weight_decay), lr=config.learning_rate)
    memory: Memory | None = None
    done = 0
    if folder is not None and (found := checkpoints(folder)):
        done, memory = load_checkpoint(found[-1], projected, optimiser)
    ranks.agree("the checkpoint they go on from", f"step {done}")
    watch.on_begin(done)
    trained = DistributedDataParallel(projected) if ranks.world_size > 1 else projected
    objective = Objective(config.tau, config.levels, config.pairs, config.same_patient_negatives)
    logs = []
    fed = clips, _scenes(clips, config), recipe(config.augmentation), config.seed
    with _same_sums(ranks.device), Feeder(*fed, ranks, watch.on_wait) as feeder:
        for step, (epoch, numbers), batch in feeder.batches(plan, done):
            trained.train()
            rate = config.learning_rate * schedule(step, len(plan), config.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
            loss, z_BD = backward(
                trained,
                batch,
                objective,
                ranks,
                at_once=config.at_once,
                dtype=DTYPES[config.precision],
                memory=memory,
            )
            if not torch.isfinite(loss.total):
                raise _not_finite("loss", loss.total, step, [clips.clips[number] for number in numbers])
            norm = torch.nn.utils.clip_grad_norm_(projected.parameters(), config.gradient_norm)
            if not torch.isfinite(norm):
                raise _not_finite("gradient", norm, step, [clips.clips[number] for number in numbers])
            optimiser.step()
            memory = remember(memory, z_BD, batch, config.memory)
            logs.append(_log(step, epoch, loss, z_BD, rate))
            watch.on_step(logs[-1])
            last = step == len(plan)
            stopping = ranks.any(watch.should_stop()) and not last
            due = stopping or last or step % config.checkpoint_every == 0
            if due and folder is not None and ranks.rank == 0:
                save_checkpoint(folder, step, State(projected, optimiser, memory))
            if last or plan[step][0] != epoch:
                watch.on_epoch(epoch, model.eval())
            if stopping:
                raise Interrupted(f"stopped after step {step} of {len(plan)}: run the same command again to go on")
    model.recompute = "off"
    model.eval()
    return logs


def planned_batches(clips: TrainingClips, config: PretrainConfig, world_size: int = 1) -> list[tuple[int, list[int]]]:
    """All (epoch, batch) of a run, in order.

    Raises:
        InvalidInput: If too few patients, more ranks than clips in a batch, or no recording with background beside a
            seizure where that is wanted.
    """
    scenes = _scenes(clips, config)
    shape = BatchShape(config.patients, config.videos, config.clips)
    cameras = clips.camera_of_video if config.negatives == "same_camera" else None
    draw = partial(
        epoch_batches, clips.video_of, clips.patient_of, shape, config.seed, camera_of_video=cameras, scene_of=scenes
    )
    plan = [(epoch, batch) for epoch in range(config.epochs) for batch in draw(epoch=epoch)][: config.max_steps]
    if (least := min(len(batch) for _, batch in plan)) < world_size:
        raise InvalidInput(f"expected at most {least} ranks, one for each clip of the smallest batch, got {world_size}")
    return plan


def _scenes(clips: TrainingClips, config: PretrainConfig) -> list[int] | None:
    """The scene of each clip, where the configuration wants background."""
    if config.same_patient_negatives != "background":
        return None
    scenes = clips.scene_of
    if not any(scene ^ 1 in scenes for scene in set(scenes)):
        raise InvalidInput(
            'no recording has both background and another video: same_patient_negatives = "background" needs rows with '
            "background=yes, of the same file or the same recording_id; `semiome events import --background` makes them"
        )
    return scenes


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step, 1 to `steps`: up a line, then down a cosine."""
    rising = warmup * steps
    if step < rising:
        return step / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (steps - rising + 1))


def trouble(logs: Sequence[StepLog], steps: int, warmup: float) -> str:
    """What the last steps say of a collapse, in words; empty when they look well."""
    recent = [log for log in logs[-20:] if log.step > warmup * steps]
    if len(recent) < 5:
        return ""
    rank = float(np.mean([log.effective_rank for log in recent]))
    loss, chance = (float(np.mean([getattr(log, name) for log in recent])) for name in ("loss", "chance"))
    if rank < 2:
        return f"collapse: the embeddings of a batch have effective rank {rank:.1f}; lower the rate or augment less"
    if loss > chance - 0.02:
        return f"the loss is at chance ({loss:.2f}, guessing gives {chance:.2f}): nothing is being told apart"
    return ""


@contextmanager
def _same_sums(device: torch.device) -> Iterator[None]:
    """On a CPU the same sums in the same order, for the length of the block."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _log(step: int, epoch: int, loss: ContrastiveLoss, z_BD: Tensor, rate: float) -> StepLog:
    cosine, rank = spread(z_BD)
    return StepLog(
        step=step,
        epoch=epoch,
        loss=loss.total.item(),
        chance=loss.chance,
        video_loss=loss.video.loss.item(),
        video_chance=loss.video.chance,
        patient_loss=loss.patient.loss.item(),
        patient_chance=loss.patient.chance,
        mean_cosine=cosine,
        effective_rank=rank,
        learning_rate=rate,
    )


def _not_finite(what: str, value: Tensor, step: int, batch: Sequence[TrainingClip]) -> NonFiniteLoss:
    named = ", ".join(f"{clip.video_id} clip {clip.clip_index}" for clip in batch)
    return NonFiniteLoss(f"the {what} is {value.item()} at step {step}, on {named}: lower the learning rate")


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Biases, norms and embeddings are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim == 2 or p.ndim == 4]
    others = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
