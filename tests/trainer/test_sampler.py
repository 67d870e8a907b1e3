"""Batches hold both levels and see everybody equally often."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import InvalidInput
from trainer.sampler import contrastive_batches

cohorts = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=2, max_size=7)


@settings(max_examples=80, deadline=None)
@given(
    cohort=cohorts,
    patients=st.integers(2, 4),
    videos=st.integers(1, 3),
    clips=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_batches_are_patients_of_videos_of_clips(cohort, patients, videos, clips, seed):
    video_of = [100 * p + v for p, owned in enumerate(cohort) for v, count in enumerate(owned) for _ in range(count)]
    patient_of = [video // 100 for video in video_of]
    draw = {"patients": patients, "videos": videos, "clips": clips, "steps": 30, "seed": seed}
    if len(cohort) < patients:
        with pytest.raises(InvalidInput):
            next(contrastive_batches(video_of, patient_of, **draw))
        return

    batches = list(contrastive_batches(video_of, patient_of, **draw))

    assert batches == list(contrastive_batches(video_of, patient_of, **draw))
    for batch in batches:
        assert len(set(batch)) == len(batch)
        assert len({patient_of[clip] for clip in batch}) == patients
        for patient in {patient_of[clip] for clip in batch}:
            seen = {video_of[clip] for clip in batch if patient_of[clip] == patient}
            assert len(seen) == min(videos, len(cohort[patient]))
            for video in seen:
                assert sum(video_of[clip] == video for clip in batch) == min(clips, cohort[patient][video % 100])
    times = Counter(patient_of[batch[0]] for batch in batches)
    shown = Counter(patient for batch in batches for patient in {patient_of[clip] for clip in batch})
    assert sum(times.values()) == 30
    assert max(shown.values()) - min(shown.get(p, 0) for p in range(len(cohort))) <= 2


def test_another_seed_gives_other_batches():
    video_of = [v for v in range(20) for _ in range(3)]
    patient_of = [v // 2 for v in video_of]
    draw = {"patients": 2, "videos": 2, "clips": 2, "steps": 5}

    one, two = (list(contrastive_batches(video_of, patient_of, **draw, seed=seed)) for seed in (0, 1))
    assert one != two


def test_one_patient_is_not_enough():
    with pytest.raises(InvalidInput, match="at least 2 patients, got 1"):
        next(contrastive_batches([0, 1], [0, 0], patients=2, videos=2, clips=1, steps=1, seed=0))
