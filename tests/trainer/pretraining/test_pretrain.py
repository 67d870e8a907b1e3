"""Pretraining learns what can be learned, shows collapse, repeats itself, and goes on where it was stopped."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from encoder.model.architecture import preset
from encoder.model.embed import advised_precision
from encoder.model.identity import encoder_id_of, new_encoder
from encoder.model.timesformer import TimeSformer
from index.errors import DamagedData, InvalidInput, StateError
from tests.conftest import tiny_architecture
from tests.trainer.cohort import coloured_clips
from trainer.judging.probes import embed_clips, spread
from trainer.pretraining.augment import RECIPES, Recipe, augment
from trainer.pretraining.checkpoint import checkpoints
from trainer.pretraining.config import PretrainConfig, trained_on
from trainer.pretraining.pretrain import (
    Interrupted,
    NonFiniteLoss,
    StepLog,
    Watch,
    planned_batches,
    pretrain,
    schedule,
    trouble,
)
from trainer.pretraining.ranks import alone, check_device

ALONE = alone()


def tiny_model(seed=0):
    return new_encoder(tiny_architecture(), seed=seed).model


def trained(config, folder=None, watch=None, clips=None):
    model = tiny_model()
    logs = pretrain(model, clips or coloured_clips(), PretrainConfig(**config), ALONE, folder, watch)
    return logs, encoder_id_of(model)


def test_the_loss_falls_well_below_chance_on_clips_that_can_be_told_apart():
    logs, _ = trained({"epochs": 30, "learning_rate": 5e-4, "augmentation": "none"})

    assert np.mean([log.loss for log in logs[-20:]]) < 0.7 * logs[-1].chance


def test_each_step_says_its_loss_beside_chance():
    seen = []
    trained({"max_steps": 2}, watch=Watch(on_step=seen.append))

    assert [(log.step, log.epoch) for log in seen] == [(1, 0), (2, 0)]
    assert (seen[0].video_chance, seen[0].patient_chance) == (pytest.approx(math.log(7)), pytest.approx(math.log(5)))
    assert seen[0].chance == pytest.approx(math.log(7) + math.log(5))
    assert seen[0].loss == pytest.approx(seen[0].video_loss + seen[0].patient_loss)
    assert seen[0].cross_video_chance == pytest.approx(math.log(5))
    assert 0 < seen[0].cross_video_loss != seen[0].patient_loss


def test_positives_of_other_videos_only_are_what_the_patient_level_trains_on():
    seen = []
    trained({"max_steps": 1, "patient_positives": "other_video"}, watch=Watch(on_step=seen.append))

    assert seen[0].patient_loss == pytest.approx(seen[0].cross_video_loss)


def phased_clips():
    """Seizures from second 10 to 25 of each video, and a video of background of each patient."""
    clips = coloured_clips(videos=3, clips=3)
    patients = sorted({clip.patient_id for clip in clips.clips})
    first = {patient: next(c.video_id for c in clips.clips if c.patient_id == patient) for patient in patients}
    known = (
        replace(clip, onset_s=10.0, seizure_end_s=25.0, background=clip.video_id == first[clip.patient_id])
        for clip in clips.clips
    )
    return replace(clips, clips=tuple(known))


def test_seizures_only_trains_on_no_background_and_nothing_before_the_onset():
    clips = phased_clips()
    kept = trained_on(clips, PretrainConfig(seizures_only=True))

    assert {clip.clip_index for clip in kept.clips} <= {1, 2}
    assert not any(clip.background for clip in kept.clips)
    assert len(kept.frames) == len(kept.clips) > 0
    planned = planned_batches(clips, PretrainConfig(seizures_only=True, clips=1, levels="patient"))
    assert max(max(batch) for _, batch in planned) < len(kept.clips)
    everything = replace(clips, clips=tuple(replace(clip, background=True) for clip in clips.clips))
    with pytest.raises(InvalidInput, match="seizures_only leaves no clip"):
        trained_on(everything, PretrainConfig(seizures_only=True))


def test_what_the_patient_level_needs_is_asked_for_before_a_step():
    clips = coloured_clips()
    with pytest.raises(InvalidInput, match="no seizure has a known onset: within_s needs the column onset_s"):
        planned_batches(clips, PretrainConfig(patient_positives="other_video", within_s=5.0))
    first = {patient: video for video, patient in reversed([(c.video_id, c.patient_id) for c in clips.clips])}
    lone = clips.of(lambda clip: clip.video_id == first[clip.patient_id])
    with pytest.raises(InvalidInput, match="no patient has two videos"):
        planned_batches(lone, PretrainConfig(patient_positives="other_video"))
    with pytest.raises(ValidationError, match="expected at least 2 videos of a patient in a batch"):
        PretrainConfig(patient_positives="other_video", videos=1)


def test_an_epoch_ends_with_its_last_batch_and_the_model_is_shown():
    seen = []

    def on_epoch(epoch, model):
        seen.append((epoch, model.training))

    trained({"epochs": 3}, watch=Watch(on_epoch=on_epoch))

    assert seen == [(0, False), (1, False), (2, False)]


@pytest.mark.parametrize(
    "config",
    [
        {"augmentation": "full"},
        {"memory": 12, "projection": 16},
        {"at_once": 3},
        {"activation_checkpointing": "selective", "precision": "bf16"},
        {"activation_checkpointing": "full"},
    ],
    ids=str,
)
def test_a_stopped_run_ends_with_the_same_weights_as_one_that_was_not(config, tmp_path):
    config = {"epochs": 4, "checkpoint_every": 2, **config}
    whole, wanted = trained(config, tmp_path / "whole")
    asked = iter([False] * 4 + [True])

    with pytest.raises(Interrupted, match="stopped after step 5 of 8: run the same command again"):
        trained(config, tmp_path / "run", Watch(should_stop=lambda: next(asked)))
    begun = []
    rest, found = trained(config, tmp_path / "run", Watch(on_begin=begun.append))

    assert begun == [5]
    assert rest == whole[5:]
    assert found == wanted


def test_a_run_that_ended_has_nothing_left_to_do(tmp_path):
    logs, wanted = trained({"max_steps": 3}, tmp_path)

    assert trained({"max_steps": 3}, tmp_path) == ([], wanted)
    assert len(logs) == 3


def test_two_checkpoints_are_kept_and_a_torn_one_is_named(tmp_path):
    trained({"epochs": 4, "checkpoint_every": 1}, tmp_path)
    last = checkpoints(tmp_path)[-1]
    assert [path.name for path in checkpoints(tmp_path)] == [
        "checkpoint-00000007.safetensors",
        "checkpoint-00000008.safetensors",
    ]

    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(
        DamagedData, match=r"checkpoint-00000008.safetensors is torn .*: delete it, and the run resumes"
    ):
        trained({"epochs": 4}, tmp_path)


def test_an_altered_checkpoint_is_refused(tmp_path):
    trained({"max_steps": 1}, tmp_path)
    path = checkpoints(tmp_path)[-1]
    spoiled = bytearray(path.read_bytes())
    spoiled[-5] ^= 1
    path.write_bytes(spoiled)

    with pytest.raises(DamagedData, match="is not what was written"):
        trained({"max_steps": 1}, tmp_path)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    trained({"max_steps": 1}, tmp_path)
    other = new_encoder(tiny_architecture(num_frames=2), seed=0).model

    with pytest.raises(
        InvalidInput, match=r"another architecture: 1 weights differ, .*time_embeddings, expected \(1, 2"
    ):
        pretrain(other, coloured_clips(num_frames=2), PretrainConfig(max_steps=1), ALONE, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch():
    model = tiny_model()
    with torch.no_grad():
        model.layernorm.weight.fill_(torch.nan)

    with pytest.raises(NonFiniteLoss, match=r"nan at step 1, on v\d-\d clip \d, .*lower the learning rate"):
        pretrain(model, coloured_clips(), PretrainConfig(), ALONE)


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path):
    model = tiny_model()
    model.layernorm.weight.register_hook(lambda gradient: gradient * torch.inf)

    with pytest.raises(NonFiniteLoss, match=r"the gradient is (nan|inf) at step 1"):
        pretrain(model, coloured_clips(), PretrainConfig(), ALONE, tmp_path)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        *({"tau": 0}, {"epochs": 0}, {"patients": 1}, {"learnin_rate": 1}, {"warmup": 1.0}, {"augmentation": "wild"}),
        *({"clips": 1}, {"clips": 1, "levels": "video"}, {"clips": 1, "videos": 1, "levels": "patient"}),
    ],
    ids=str,
)
def test_a_wrong_or_unknown_setting_is_refused(wrong):
    with pytest.raises(ValidationError):
        PretrainConfig(**wrong)


def test_more_ranks_than_clips_in_a_batch_are_refused():
    with pytest.raises(InvalidInput, match="at most 8 ranks, one for each clip of the smallest batch, got 9"):
        planned_batches(coloured_clips(), PretrainConfig(), world_size=9)


def test_the_rate_rises_then_falls():
    rates = [schedule(step, 100, 0.1) for step in range(1, 101)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert 0 < rates[-1] < 0.01
    assert all(a >= b for a, b in pairwise(rates[9:]))


def test_collapse_and_chance_are_said_in_words_after_the_warm_up():
    recipe = PretrainConfig(warmup=0.1)
    well = StepLog(1, 0, 2.0, 3.5, 1.0, 1.9, 1.0, 1.6, 1.2, 1.6, 0.3, 5.0, 1e-3)
    logs = [replace(well, step=step) for step in range(1, 31)]

    assert trouble(logs, 100, recipe) == ""
    assert trouble([replace(log, effective_rank=1.2) for log in logs], 100, recipe).startswith("collapse: ")
    assert "at chance (3.50, guessing gives 3.50)" in trouble([replace(log, loss=3.5) for log in logs], 100, recipe)
    assert trouble([replace(log, effective_rank=1.2) for log in logs], 1000, recipe) == ""
    again = [replace(log, cross_video_loss=1.6) for log in logs]
    said = "the different videos of a patient are not told from other patients' (loss 1.60, guessing gives 1.60)"
    assert trouble(again, 100, recipe).startswith(said)
    assert trouble(again, 100, PretrainConfig(levels="video")) == ""


def test_spread_tells_collapse_from_variety():
    assert spread(torch.ones(6, 4)) == (pytest.approx(1), pytest.approx(1, abs=1e-3))
    assert spread(torch.eye(6)) == (pytest.approx(0, abs=1e-6), pytest.approx(6, abs=1e-3))


@pytest.mark.parametrize("name", ["crop", "tint", "full"])
def test_augmentation_changes_all_frames_of_a_clip_alike_and_repeats_itself(name):
    still = torch.randn(6, 1, 3, 32, 32).expand(-1, 5, -1, -1, -1)

    changed = augment(still, RECIPES[name], range(6))

    assert changed.shape == still.shape
    assert not torch.allclose(changed, still, atol=0.05)
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed))
    torch.testing.assert_close(changed[2:4], augment(still[2:4], RECIPES[name], [2, 3]))


def test_each_change_does_what_it_says():
    clip = torch.arange(5.0)[None, :, None, None, None] + torch.rand(1, 5, 3, 8, 8)

    flipped = augment(clip, Recipe(flip=1.0), [0])
    grey = augment(clip, Recipe(grey=1.0), [0])
    erased = augment(clip, Recipe(erase=1.0), [0])
    shortened = augment(clip.floor(), Recipe(shorten=0.5), [1])

    torch.testing.assert_close(flipped, clip.flip(-1))
    torch.testing.assert_close(grey[:, :, 0], clip.mean(2))
    torch.testing.assert_close(grey[:, :, 1], grey[:, :, 2])
    covered = (erased == 0).all(2).all(1)
    assert 0 < covered.sum() <= 16
    torch.testing.assert_close(erased[:, :, :, ~covered[0]], clip[:, :, :, ~covered[0]])
    times = shortened[0, :, 0, 0, 0].tolist()
    assert times == sorted(times)
    assert times[-1] - times[0] < 4
    assert augment(clip, RECIPES["none"], [0]) is clip


def in_recordings(clips, quiet):
    described = (
        replace(clip, recording_id="night", background=quiet and clip.video_id.endswith("1")) for clip in clips.clips
    )
    return replace(clips, clips=tuple(described))


BACKGROUND = {"same_patient_negatives": "background", "epochs": 2, "memory": 6, "checkpoint_every": 1}


def test_a_run_with_background_beside_seizures_resumes_as_if_it_had_not_stopped(tmp_path):
    clips = in_recordings(coloured_clips(), quiet=True)
    whole, wanted = trained(BACKGROUND, clips=clips)
    asked = iter([False, True])

    with pytest.raises(Interrupted):
        trained(BACKGROUND, tmp_path, Watch(should_stop=lambda: next(asked)), clips)
    rest, found = trained(BACKGROUND, tmp_path, clips=clips)

    assert (rest, found) == (whole[2:], wanted)
    plain, _ = trained({**BACKGROUND, "same_patient_negatives": False}, clips=clips)
    assert plain[0].video_chance < whole[0].video_chance  # background is among the negatives


def test_background_where_there_is_none_is_refused_with_what_to_do():
    with pytest.raises(InvalidInput, match="events import --background"):
        trained(BACKGROUND, clips=in_recordings(coloured_clips(), quiet=False))
    with pytest.raises(ValueError, match="a seizure, and background beside it"):
        PretrainConfig(**BACKGROUND, videos=1)


def test_what_is_background_decides_whether_ranks_train_on_the_same():
    clips = coloured_clips()

    assert in_recordings(clips, quiet=False).digest() == clips.digest()
    assert in_recordings(clips, quiet=True).digest() != clips.digest()


class Small:
    """A device on which activations of so many clips fit: a `TimeSformer.forward` of it."""

    def __init__(self, fits):
        self.fits, self.forward, self.seen = fits, TimeSformer.forward, []

    def __call__(self, model, frames):
        self.seen.append(len(frames))
        if len(frames) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.forward(model, frames)


def test_without_memory_for_a_batch_half_as_many_clips_are_taken_at_once_and_it_is_said(monkeypatch):
    told = []
    wanted, _ = trained({"max_steps": 4, "at_once": 2})
    device = Small(3)
    monkeypatch.setattr(TimeSformer, "forward", lambda model, frames: device(model, frames))

    found, _ = trained({"max_steps": 4}, watch=Watch(on_smaller=told.append))

    assert told == [2]
    assert [log.loss for log in found] == pytest.approx([log.loss for log in wanted], abs=1e-5)
    assert device.seen[:3] == [8, 4, 2]
    assert set(device.seen[3:]) == {2}  # what did not fit once is not tried again


def test_a_clip_that_does_not_fit_alone_ends_the_run_with_what_to_do(monkeypatch):
    device = Small(0)
    monkeypatch.setattr(TimeSformer, "forward", lambda model, frames: device(model, frames))
    with pytest.raises(StateError, match='one clip at a time: use activation_checkpointing = "full"'):
        trained({"max_steps": 1})


def test_embedding_takes_fewer_clips_at_once_where_memory_is_short(monkeypatch):
    clips, model = coloured_clips(), tiny_model().eval()
    wanted = embed_clips(model, clips.frames, ALONE.device, at_once=16)
    device = Small(5)
    monkeypatch.setattr(TimeSformer, "forward", lambda model, frames: device(model, frames))

    np.testing.assert_allclose(embed_clips(model, clips.frames, ALONE.device, at_once=16), wanted, atol=1e-6)
    assert device.seen == [16, 8, 4, 4, 4, 4]


def test_bfloat16_is_refused_on_a_gpu_that_has_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an older GPU")
    with pytest.raises(InvalidInput, match='an older GPU has no bfloat16: use precision = "fp32"'):
        check_device("cuda", "bf16")
    check_device("cuda", "fp32")
    check_device("cpu", "bf16")
    assert advised_precision(preset("timesformer-l"), "cuda") == ("fp32", "this GPU has no bfloat16")
