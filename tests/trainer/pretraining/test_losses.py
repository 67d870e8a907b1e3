"""Eq. 1 to 3 against plain loops, closed forms and symmetry."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import NTXentLoss

from index.errors import InvalidInput
from tests.conftest import DATA
from trainer.pretraining.losses import Memory, contrastive_loss, level_loss, pair_losses

CASES = json.loads((DATA / "contrastive" / "cases.json").read_text())["cases"]


def numbers(names):
    order = {name: i for i, name in enumerate(dict.fromkeys(map(str, names)))}
    return torch.tensor([order[str(name)] for name in names])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_losses_equal_the_oracle(case):
    z = torch.tensor(case["embeddings"]).requires_grad_()

    loss = contrastive_loss(z, numbers(case["video"]), numbers(case["patient"]), case["tau"])
    loss.total.backward()

    found = (loss.video.loss.item(), loss.patient.loss.item(), loss.total.item())
    assert found == pytest.approx((case["video_loss"], case["patient_loss"], case["loss"]), rel=1e-6, abs=1e-6)
    assert (loss.video.pairs, loss.patient.pairs) == (
        2 * case["video_positive_pairs"],
        2 * case["patient_positive_pairs"],
    )
    assert torch.isfinite(z.grad).all()


def reference(z, group, negative, tau):
    """Eq. 1 as it stands, in plain Python."""
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in z]
    cosine = [[sum(a * b for a, b in zip(p, q, strict=True)) / tau for q in unit] for p in unit]
    return [
        -math.log(
            math.exp(cosine[i][j])
            / (math.exp(cosine[i][j]) + sum(math.exp(c) for c, n in zip(cosine[i], negative[i], strict=True) if n))
        )
        for i in range(len(z))
        for j in range(len(z))
        if i != j and group[i] == group[j]
    ]


def pairs_of(group):
    return (group[:, None] == group) & ~torch.eye(len(group), dtype=torch.bool)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 9), tau=st.floats(0.1, 2.0))
def test_pair_losses_equal_the_formula(seed, count, tau):
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 5, generator=random)
    video = torch.randint(0, 4, (count,), generator=random)
    negative = video[:, None] != video[None]

    found = pair_losses(z, pairs_of(video), negative, tau)

    wanted = reference(z.tolist(), video.tolist(), negative.tolist(), tau)
    torch.testing.assert_close(found, torch.tensor(wanted), atol=1e-4, rtol=1e-4)


def test_the_same_point_for_all_scores_chance():
    video = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])

    loss = contrastive_loss(torch.ones(8, 4), video, video // 2, tau=0.3)

    assert loss.video.loss.item() == pytest.approx(math.log(7)) == pytest.approx(loss.video.chance)
    assert loss.patient.loss.item() == pytest.approx(math.log(5)) == pytest.approx(loss.patient.chance)


def test_the_order_of_clips_does_not_matter():
    z, video = torch.randn(8, 6), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    order = torch.randperm(8)

    a = contrastive_loss(z, video, video // 2, 0.2).total
    b = contrastive_loss(z[order], video[order], video[order] // 2, 0.2).total
    torch.testing.assert_close(a, b)


def test_without_same_patient_negatives_the_video_level_does_not_fight_the_patient_level():
    video = torch.tensor([0, 0, 1, 1])
    patient = torch.zeros(4, dtype=torch.long)

    with_them = contrastive_loss(torch.randn(4, 3), video, patient, 0.5)
    without = contrastive_loss(torch.randn(4, 3), video, patient, 0.5, same_patient_negatives=False)
    assert with_them.video.loss > 0
    assert without.video.loss == 0


@settings(deadline=None, max_examples=60)
@given(
    clips=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans()), min_size=2, max_size=10),
    remembered=st.integers(0, 4),
    seed=st.integers(0, 999),
)
def test_background_of_the_same_recording_is_the_only_negative_of_the_same_patient(clips, remembered, seed):
    torch.manual_seed(seed)
    videos = {clip: number for number, clip in enumerate(dict.fromkeys(clips))}  # one of a kind in a recording
    video = torch.tensor([videos[clip] for clip in clips])
    patient = torch.tensor([patient for patient, _, _ in clips])
    scene = torch.tensor([2 * (2 * patient + recording) + quiet for patient, recording, quiet in clips])
    z = torch.nn.functional.normalize(torch.randn(len(clips), 5), dim=1)
    memory = Memory(z[:remembered].flip(1), video[:remembered], patient[:remembered], scene[:remembered])

    loss = contrastive_loss(z, video, patient, 0.3, same_patient_negatives="background", memory=memory, scene_B=scene)

    known = [*clips, *clips[:remembered]]
    all_z = torch.cat((z, memory.z_MD))

    def level(same, negative):
        losses = []
        for i, anchor in enumerate(clips):
            others = [n for n, clip in enumerate(known) if negative(anchor, clip)]
            for j, positive in enumerate(clips):
                if i != j and same(anchor, positive):
                    similar = math.exp(float(z[i] @ z[j]) / 0.3)
                    against = sum(math.exp(float(z[i] @ all_z[n]) / 0.3) for n in others)
                    losses.append(-math.log(similar / (similar + against)))
        return sum(losses) / len(losses) if losses else 0.0

    def at_other_time(a, b):
        return a[:2] == b[:2] and a[2] != b[2]

    wanted = level(lambda a, b: a == b, lambda a, b: a[0] != b[0] or at_other_time(a, b))
    assert loss.video.loss.item() == pytest.approx(wanted, abs=1e-4)
    wanted = level(lambda a, b: (a[0], a[2]) == (b[0], b[2]), lambda a, b: a[0] != b[0])
    assert loss.patient.loss.item() == pytest.approx(wanted, abs=1e-4)


def test_background_without_scenes_is_refused():
    video = torch.tensor([0, 0, 1, 1])

    with pytest.raises(InvalidInput, match="scenes"):
        contrastive_loss(torch.randn(4, 3), video, video, 0.5, same_patient_negatives="background")


def test_half_precision_is_computed_in_float32():
    z, video = torch.randn(8, 64), torch.arange(8) // 2

    exact = contrastive_loss(z.bfloat16().float(), video, video // 2, 0.05).total
    half = contrastive_loss(z.bfloat16(), video, video // 2, 0.05).total
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact)


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_a_bad_temperature_is_refused(tau):
    with pytest.raises(InvalidInput, match="tau above 0"):
        contrastive_loss(torch.randn(4, 3), torch.zeros(4), torch.zeros(4), tau)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_pair_once_equals_the_oracle(case):
    video, patient = numbers(case["video"]), numbers(case["patient"])

    loss = contrastive_loss(torch.tensor(case["embeddings"]), video, patient, case["tau"], pairs="first")

    wanted = (case["video_loss_first_anchor_only"], case["patient_loss_first_anchor_only"])
    assert (loss.video.loss.item(), loss.patient.loss.item()) == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    assert (loss.video.pairs, loss.patient.pairs) == (case["video_positive_pairs"], case["patient_positive_pairs"])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 16), tau=st.floats(0.05, 2.0))
def test_a_level_equals_another_librarys(seed, count, tau):
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 8, generator=random)
    group = torch.cat((torch.tensor([0, 0]), torch.randint(0, 4, (count - 2,), generator=random)))

    found = level_loss(z, pairs_of(group), group[:, None] != group[None], tau)

    torch.testing.assert_close(found.loss, NTXentLoss(temperature=tau)(z, group), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("levels", ["video", "patient", "both"])
def test_one_level_alone_can_be_trained_on(levels):
    z, video = torch.randn(8, 6, requires_grad=True), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])

    loss = contrastive_loss(z, video, video // 2, tau=0.5, levels=levels)

    of_level = {"video": loss.video.loss, "patient": loss.patient.loss, "both": loss.video.loss + loss.patient.loss}
    assert loss.total.item() == pytest.approx(of_level[levels].item())
    assert loss.chance == pytest.approx(math.log(7) * (levels != "patient") + math.log(5) * (levels != "video"))


def test_the_loss_is_float32_under_autocast():
    z, group = torch.randn(6, 4), torch.tensor([0, 0, 1, 1, 2, 2])
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(z.bfloat16(), group, group, tau=0.5)

    wanted = contrastive_loss(z.bfloat16().float(), group, group, tau=0.5)
    assert loss.total.dtype is torch.float32
    assert loss.total.item() == wanted.total.item()


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 12),
    tau=st.floats(0.05, 2.0),
    positives=st.sampled_from(["any", "other_video"]),
    within_s=st.sampled_from([None, 4.0]),
)
def test_positives_of_other_videos_equal_the_formula(seed, count, tau, positives, within_s):
    """Clip by clip: which pairs eq. 2 has, and what each costs."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, 5, generator=random)
    video = torch.randint(0, 6, (count,), generator=random)
    patient = video // 2
    moment = torch.randint(-5, 15, (count,), generator=random).float()
    moment[torch.rand(count, generator=random) < 0.2] = math.nan

    found = contrastive_loss(z, video, patient, tau, patient_positives=positives, moment_B=moment, within_s=within_s)

    unit = torch.nn.functional.normalize(z.double(), dim=1)
    cosine = (unit @ unit.T / tau).tolist()

    def mean_loss(wanted):
        losses = [
            math.log(1 + sum(math.exp(cosine[i][n] - cosine[i][j]) for n in range(count) if patient[n] != patient[i]))
            for i in range(count)
            for j in range(count)
            if i != j and patient[i] == patient[j] and wanted(i, j)
        ]
        return sum(losses) / len(losses) if losses else 0.0

    def crossing(i, j):
        return bool(video[i] != video[j]) and (within_s is None or bool(abs(moment[i] - moment[j]) <= within_s))

    def kept(i, j):
        return crossing(i, j) or (positives == "any" and bool(video[i] == video[j]))

    assert found.cross_video.loss.item() == pytest.approx(mean_loss(crossing), abs=1e-4)
    assert found.patient.loss.item() == pytest.approx(mean_loss(kept), abs=1e-4)
    assert found.total.item() == pytest.approx(found.video.loss.item() + mean_loss(kept), abs=1e-4)


def test_the_loss_across_videos_is_watched_without_training_on_it():
    z = torch.randn(8, 6, requires_grad=True)
    video = torch.arange(8) // 2
    found = contrastive_loss(z, video, video // 2, 0.5, levels="video")

    assert not found.cross_video.loss.requires_grad
    assert (found.cross_video.pairs, found.cross_video.chance) == (16, pytest.approx(math.log(5)))


def test_moments_are_needed_to_match_by_them():
    with pytest.raises(InvalidInput, match="expected the moments of all clips, got none"):
        contrastive_loss(torch.randn(4, 3), torch.arange(4), torch.arange(4) // 2, 0.5, within_s=5.0)
