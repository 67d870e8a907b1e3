"""Probes and rankings against plain loops, and what they say of encoders made to be bad."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.cohort import coloured_clips
from trainer.clips import TrainingClip
from trainer.judging.probes import probe
from trainer.judging.retrieval import label_ranking, sign_ranking
from trainer.pretraining.run import shortcut


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def knows(clips, of, noise=0.05, seed=0):
    """Embeddings that say one thing about a clip, and nothing else."""
    random = np.random.default_rng(seed)
    names = sorted({of(clip) for clip in clips})
    axes = np.eye(len(names) + 4)[[names.index(of(clip)) for clip in clips]]
    return unit(axes + random.normal(0, noise, axes.shape))


def test_an_encoder_that_knows_the_room_is_found_out():
    clips = coloured_clips(patients=8).clips
    shuffled = [replace(clip, camera=f"room{int(clip.patient_id[1:]) // 2 % 2}") for clip in clips]

    found = probe(knows(shuffled, lambda clip: clip.camera), shuffled)

    assert found.camera.found == 1.0
    assert found.camera.chance == pytest.approx(3 / 7)
    assert found.label.found < 0.9
    assert shortcut(found).startswith("shortcut: the nearest clip of another patient is from the same camera in 100%")


def test_an_encoder_that_knows_the_class_is_not():
    clips = coloured_clips(patients=8).clips
    found = probe(knows(clips, lambda clip: clip.label), clips)

    assert found.label.found == 1.0
    assert found.label.chance < 0.4
    assert shortcut(found) == ""


def test_an_encoder_that_knows_the_patient_is_asked_across_videos():
    clips = coloured_clips(patients=5).clips
    found = probe(knows(clips, lambda clip: clip.patient_id), clips)

    assert found.patient.found == 1.0
    assert found.patient.chance == pytest.approx(2 / 18)
    assert probe(knows(clips, lambda clip: clip.video_id), clips).patient.found < 0.7


def test_what_is_not_known_is_not_probed():
    bare = [TrainingClip(f"v{i}", f"p{i}", 0) for i in range(4)]
    found = probe(unit(np.random.default_rng(0).normal(size=(4, 3))), bare)

    assert (found.patient, found.camera, found.label) == (None, None, None)
    assert shortcut(found) == ""


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 14))
def test_average_precision_equals_its_definition(seed, count):
    random = np.random.default_rng(seed)
    vectors = unit(random.normal(size=(count, 4)))
    clips = [
        TrainingClip(f"v{i}", f"p{random.integers(0, 4)}", 0, label=str(random.choice(["TLE", "exTLE"])))
        for i in range(count)
    ]
    wanted, first = [], []
    for query in range(count):
        others = [i for i in range(count) if clips[i].patient_id != clips[query].patient_id]
        ranked = sorted(others, key=lambda i: -float(vectors[query] @ vectors[i]))
        hits = [clips[i].label == clips[query].label for i in ranked]
        if any(hits):
            precisions = [sum(hits[: n + 1]) / (n + 1) for n, hit in enumerate(hits) if hit]
            wanted.append(np.mean(precisions))
            first.append(hits[0])

    found = label_ranking(vectors, clips)

    if len({clip.label for clip in clips}) < 2 or not wanted:
        assert found is None
    else:
        assert found.mean_average_precision.value == pytest.approx(np.mean(wanted))
        assert found.recall_at_1.value == pytest.approx(np.mean(first))
        assert found.mean_average_precision.low <= found.mean_average_precision.value + 1e-9


def test_an_encoder_that_sees_signs_finds_them_in_other_patients_and_a_blind_one_is_at_chance():
    random = np.random.default_rng(0)
    signs = ["version", "clonic", "tonic"]
    clips = [
        TrainingClip(f"v{p}-{i}", f"p{p}", 0, signs=(signs[random.integers(0, 3)],))
        for p in range(30)
        for i in range(5)
    ]

    seeing = sign_ranking(knows(clips, lambda clip: clip.signs[0]), clips)
    blind = sign_ranking(unit(random.normal(size=(150, 8))), clips)

    assert seeing.mean_average_precision.value > 0.98
    assert (seeing.queries, seeing.patients) == (150, 30)
    assert blind.mean_average_precision.value == pytest.approx(blind.chance, abs=0.05)
    assert sign_ranking(unit(random.normal(size=(16, 8))), coloured_clips().clips) is None


def test_random_embeddings_are_at_chance_by_every_figure():
    """Chance is what a random encoder scores, not the share of relevant clips."""
    random = np.random.default_rng(0)
    found, rankings, signed = [], [], []
    for seed in range(60):
        clips = [
            TrainingClip(
                f"v{p}-{i}",
                f"p{p}",
                0,
                label=("TLE", "exTLE")[p % 4 == 0],
                camera=f"c{p % 3}",
                signs=("rare",) if random.random() < 0.15 else (),
            )
            for p in range(20)
            for i in range(4)
        ]
        vectors = unit(np.random.default_rng(seed).normal(size=(80, 16)))
        found.append(probe(vectors, clips))
        rankings.append(label_ranking(vectors, clips))
        signed.append(sign_ranking(vectors, clips))

    for name in ("patient", "camera", "label"):
        shares = [getattr(one, name) for one in found]
        assert np.mean([s.found for s in shares]) == pytest.approx(np.mean([s.chance for s in shares]), abs=0.03), name
    for told in (rankings, [one for one in signed if one is not None]):
        for name, chance in (
            ("recall_at_1", "chance_at_1"),
            ("recall_at_5", "chance_at_5"),
            ("mean_average_precision", "chance"),
        ):
            value = np.mean([getattr(one, name).value for one in told])
            assert value == pytest.approx(np.mean([getattr(one, chance) for one in told]), abs=0.04), name
