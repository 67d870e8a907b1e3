"""Pretraining learns what can be learned, shows collapse, and repeats itself."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from encoder.weights import encoder_id_of, new_encoder
from tests.conftest import tiny_architecture
from trainer.augment import augment
from trainer.pretrain import NonFiniteLoss, PretrainConfig, pretrain, schedule, spread


def coloured_clips():
    """4 patients x 2 videos x 2 clips; each video has a colour of its own, near that of its patient's other one."""
    random = np.random.default_rng(0)
    video_of = [v for v in range(8) for _ in range(2)]
    base = random.integers(0, 200, (4, 1, 1, 1, 3))
    frames = np.stack([base[v // 2] + 20 * (v % 2) + random.integers(0, 9, (4, 32, 32, 3)) for v in video_of])
    return frames.clip(0, 255).astype(np.uint8), video_of, [v // 2 for v in video_of]


def test_the_loss_falls_well_below_chance_on_clips_that_can_be_told_apart():
    model = new_encoder(tiny_architecture(), seed=0).model
    logs = pretrain(model, *coloured_clips(), PretrainConfig(steps=60, learning_rate=5e-4, augmentation=False))

    assert np.mean([log.loss for log in logs[-20:]]) < 0.7 * logs[-1].chance
    assert not model.training


def test_each_step_says_its_loss_beside_chance():
    logs = []
    pretrain(new_encoder(tiny_architecture(), seed=0).model, *coloured_clips(), PretrainConfig(steps=2), logs.append)

    assert [log.step for log in logs] == [1, 2]
    assert logs[0].chance == pytest.approx(math.log(7) + math.log(5))
    assert logs[0].loss == pytest.approx(logs[0].video_loss + logs[0].patient_loss)


def test_the_same_seed_gives_the_same_weights():
    ids = set()
    for _ in range(2):
        model = new_encoder(tiny_architecture(), seed=0).model
        pretrain(model, *coloured_clips(), PretrainConfig(steps=3))
        ids.add(encoder_id_of(model))

    assert len(ids) == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch():
    model = new_encoder(tiny_architecture(), seed=0).model
    with torch.no_grad():
        model.layernorm.weight.fill_(torch.nan)

    with pytest.raises(NonFiniteLoss, match=r"step 1, on clips \["):
        pretrain(model, *coloured_clips(), PretrainConfig(steps=3))


@pytest.mark.parametrize("wrong", [{"tau": 0}, {"steps": 0}, {"patients": 1}, {"learnin_rate": 1}, {"warmup": 1.0}])
def test_a_wrong_or_unknown_setting_is_refused(wrong):
    with pytest.raises(ValidationError):
        PretrainConfig(**wrong)


def test_the_rate_rises_then_falls():
    rates = [schedule(step, 100, 0.1) for step in range(1, 101)]

    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert 0 < rates[-1] < 0.01
    assert all(a >= b for a, b in pairwise(rates[9:]))


def test_spread_tells_collapse_from_variety():
    assert spread(torch.ones(6, 4)) == (pytest.approx(1), pytest.approx(1, abs=1e-3))
    assert spread(torch.eye(6)) == (pytest.approx(0, abs=1e-6), pytest.approx(6, abs=1e-3))


def test_augmentation_changes_all_frames_of_a_clip_alike_and_repeats_itself():
    still = torch.randn(2, 1, 3, 32, 32).expand(-1, 5, -1, -1, -1)

    changed = augment(still, torch.Generator().manual_seed(0))

    assert changed.shape == still.shape
    assert not torch.allclose(changed, still, atol=0.05)
    torch.testing.assert_close(changed, changed[:, :1].expand_as(changed))
    torch.testing.assert_close(changed, augment(still, torch.Generator().manual_seed(0)))
