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

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from encoder.model.timesformer import TimeSformer
from index.errors import InvalidInput, SemiomeError, StateError
from trainer.clips import TrainingClip, TrainingClips
from trainer.judging.probes import spread
from trainer.pretraining.augment import recipe
from trainer.pretraining.checkpoint import State, checkpoints, load_checkpoint, save_checkpoint
from trainer.pretraining.config import DTYPES, PretrainConfig, trained_on
from trainer.pretraining.feeder import Feeder
from trainer.pretraining.losses import ContrastiveLoss, Memory
from trainer.pretraining.ranks import Ranks
from trainer.pretraining.sampler import BatchShape, coverage, epoch_batches
from trainer.pretraining.step import Objective, Projected, backward_that_fits, remember


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
        cross_video_loss: of the pairs of eq. 2 those of different videos; 0 where the batch has none.
        cross_video_chance: its chance value; 0 where the batch has none.
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
    cross_video_loss: float
    cross_video_chance: float
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
        on_smaller: told how many clips at once fit, where the device had no memory for more.
    """

    on_begin: Callable[[int], None] = _nothing
    on_step: Callable[[StepLog], None] = _nothing
    on_epoch: Callable[[int, TimeSformer], None] = lambda epoch, model: None
    on_wait: Callable[[float], None] = _nothing
    should_stop: Callable[[], bool] = lambda: False
    on_smaller: Callable[[int], None] = _nothing


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
    clips = trained_on(clips, config)
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
    objective = Objective(
        *(config.tau, config.levels, config.pairs),
        *(config.same_patient_negatives, config.patient_positives, config.within_s),
    )
    logs: list[StepLog] = []
    at_once = config.at_once
    fed = clips, _scenes(clips, config), recipe(config.augmentation), config.seed
    with _same_sums(ranks.device), Feeder(*fed, ranks, watch.on_wait) as feeder:
        for step, (epoch, numbers), batch in feeder.batches(plan, done):
            trained.train()
            rate = config.learning_rate * schedule(step, len(plan), config.warmup)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
            wanted = min(at_once, max(batch.sizes))
            loss, z_BD, fitted = backward_that_fits(
                trained,
                batch,
                objective,
                ranks,
                at_once=at_once,
                dtype=DTYPES[config.precision],
                memory=memory,
            )
            if fitted < wanted:
                at_once = fitted
                watch.on_smaller(at_once)
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
    clips = trained_on(clips, config)
    scenes = _scenes(clips, config)
    _has_partners(clips, config)
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


def _has_partners(clips: TrainingClips, config: PretrainConfig) -> None:
    if config.levels == "video" or config.patient_positives == "any":
        return
    if not coverage(clips.video_of, clips.patient_of).several_video_patients:
        raise InvalidInput(
            'no patient has two videos: patient_positives = "other_video" has no pair to draw together; use "any"'
        )
    if config.within_s is not None and all(math.isnan(clip.from_onset_s) for clip in clips.clips):
        raise InvalidInput(
            "no seizure has a known onset: within_s needs the column onset_s of the manifest, or leave it out"
        )


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at a step, 1 to `steps`: up a line, then down a cosine."""
    rising = warmup * steps
    if step < rising:
        return step / rising
    return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (steps - rising + 1))


def trouble(logs: Sequence[StepLog], steps: int, config: PretrainConfig) -> str:
    """What the last steps say of a collapse, or of a patient level that learns nothing, in words; empty when well."""
    warmup = config.warmup
    recent = [log for log in logs[-20:] if log.step > warmup * steps]
    if len(recent) < 5:
        return ""
    rank = float(np.mean([log.effective_rank for log in recent]))
    loss, chance = (float(np.mean([getattr(log, name) for log in recent])) for name in ("loss", "chance"))
    if rank < 2:
        return f"collapse: the embeddings of a batch have effective rank {rank:.1f}; lower the rate or augment less"
    if loss > chance - 0.02:
        return f"the loss is at chance ({loss:.2f}, guessing gives {chance:.2f}): nothing is being told apart"
    crossing = [log for log in recent if log.cross_video_chance > 0]
    if config.levels == "video" or not crossing:
        return ""
    loss, chance = (
        float(np.mean([getattr(log, name) for log in crossing])) for name in ("cross_video_loss", "cross_video_chance")
    )
    if loss > chance - 0.02:
        return (
            f"the different videos of a patient are not told from other patients' (loss {loss:.2f}, guessing gives "
            f"{chance:.2f}): what the patient level learns is to know a recording again"
        )
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
        cross_video_loss=loss.cross_video.loss.item(),
        cross_video_chance=loss.cross_video.chance,
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
