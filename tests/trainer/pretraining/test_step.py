"""One batch has one gradient: on any number of ranks, with any number of clips at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.trainer.pretraining.gradient_worker import OBJECTIVE, gradient
from trainer.pretraining.losses import Memory, contrastive_loss
from trainer.pretraining.ranks import alone
from trainer.pretraining.step import Batch, remember

ALONE = alone()
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize(("world_size", "ways"), [(2, ("64", "1")), (4, ("64", "2"))])
def test_the_gradient_is_the_same_on_any_number_of_ranks(world_size, ways, tmp_path):
    # Two steps, and with four ranks parts of 3 and 2 clips of which 2 fit: ranks must meet in the same collectives.
    loss, z_BD, wanted = gradient(ALONE, at_once=64, steps=2)

    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)),
            *(str(ROOT / "tests/trainer/pretraining/gradient_worker.py"), str(tmp_path), *ways),
        ],
        check=False,
        cwd=ROOT,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    assert wanted.abs().max() > 0.1
    for way in ways:
        found = torch.load(tmp_path / f"{way}.pt")
        assert found["loss"].item() == pytest.approx(loss.total.item(), abs=1e-6)
        torch.testing.assert_close(found["z"], z_BD, atol=1e-6, rtol=1e-6)
        difference = (found["gradient"] - wanted).abs().max()
        # About 1e-6 of at most 0.1, which is what float32 allows; the two passes round twice.
        assert difference < (2e-6 if way == "64" else 5e-6)


@pytest.mark.parametrize("at_once", [1, 3, 9])
def test_the_gradient_is_the_same_a_few_clips_at_a_time(at_once):
    _, _, wanted = gradient(ALONE, at_once=64)
    _, _, found = gradient(ALONE, at_once=at_once)

    assert (found - wanted).abs().max() < 5e-6  # of at most 0.1


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_activation_checkpointing_changes_nothing(recompute):
    _, _, wanted = gradient(ALONE, at_once=64)
    _, _, found = gradient(ALONE, at_once=64, recompute=recompute)

    assert (found - wanted).abs().max() < 5e-6  # of at most 0.1


def test_in_bfloat16_the_gradient_points_the_same_way_and_the_loss_is_float32():
    loss, _, wanted = gradient(ALONE, at_once=64)
    rounded, z_BD, found = gradient(ALONE, at_once=64, dtype=torch.bfloat16)

    assert z_BD.dtype is rounded.total.dtype is found.dtype is torch.float32
    assert rounded.total.item() == pytest.approx(loss.total.item(), rel=0.02)
    assert F.cosine_similarity(found, wanted, dim=0) > 0.98


def test_remembered_clips_are_negatives_and_nothing_else():
    z = torch.randn(4, 8, requires_grad=True)
    video, patient = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    memory = Memory(F.normalize(torch.randn(3, 8), dim=1), torch.tensor([5, 0, 6]), torch.tensor([2, 0, 0]))

    found = contrastive_loss(z, video, patient, 0.5, memory=memory)

    joined = torch.cat((F.normalize(z, dim=1), memory.z_MD))
    cosine = (joined @ joined.T / 0.5).exp()
    others = {0: [2, 3, 4, 6], 1: [2, 3, 4, 6], 2: [0, 1, 4, 5, 6], 3: [0, 1, 4, 5, 6]}
    wanted = torch.stack(
        [
            -(cosine[i, j] / (cosine[i, j] + cosine[i, others[i]].sum())).log()
            for i, j in ((0, 1), (1, 0), (2, 3), (3, 2))
        ]
    ).mean()
    assert found.video.pairs == 4
    torch.testing.assert_close(found.video.loss, wanted)


def test_the_memory_keeps_the_newest():
    memory = None
    for number in range(4):
        batch = Batch(torch.tensor([number] * 3), torch.tensor([number] * 3), [3], lambda places: torch.empty(0))
        memory = remember(memory, torch.full((3, 2), float(number + 1)), batch, size=5)

    assert memory.video_M.tolist() == memory.patient_M.tolist() == [2, 2, 3, 3, 3]
    torch.testing.assert_close(memory.z_MD, torch.full((5, 2), 0.5**0.5))
    assert remember(None, torch.ones(3, 2), batch, size=0) is None


def test_a_batch_without_the_level_trained_on_gives_a_zero_gradient():
    z = torch.randn(3, 4, requires_grad=True)
    numbers = torch.tensor([0, 1, 2])

    OBJECTIVE(z, Batch(numbers, numbers, [3], lambda places: z), None).total.backward()

    assert z.grad.abs().sum() == 0
