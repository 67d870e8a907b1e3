"""Batches hold both levels, an epoch shows every clip, and ranks share what one process would see."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import InvalidInput
from trainer.pretraining.sampler import BatchShape, Coverage, coverage, epoch_batches, share

cohorts = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=2, max_size=7)


def numbered(cohort):
    """(video, patient) of each clip of a cohort given as clips of each video of each patient."""
    video_of = [100 * p + v for p, owned in enumerate(cohort) for v, count in enumerate(owned) for _ in range(count)]
    return video_of, [video // 100 for video in video_of]


@settings(max_examples=120, deadline=None)
@given(
    cohort=cohorts,
    patients=st.integers(2, 4),
    videos=st.integers(1, 3),
    clips=st.integers(1, 3),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 3),
)
def test_an_epoch_shows_every_clip_in_batches_of_both_levels(cohort, patients, videos, clips, seed, epoch):
    video_of, patient_of = numbered(cohort)
    shape = BatchShape(patients, videos, clips)
    able = {p for p, owned in enumerate(cohort) if sum(owned) > 1}
    if len(able) < patients:
        with pytest.raises(InvalidInput, match=f"at least {patients} patients with two clips"):
            epoch_batches(video_of, patient_of, shape, seed, epoch)
        return

    batches = epoch_batches(video_of, patient_of, shape, seed, epoch)

    assert batches == epoch_batches(video_of, patient_of, shape, seed, epoch)
    assert {clip for batch in batches for clip in batch} == {c for c, p in enumerate(patient_of) if p in able}
    for batch in batches:
        assert len(set(batch)) == len(batch)
        present = {patient_of[clip] for clip in batch}
        assert len(present) == patients
        for patient in present:
            seen = Counter(video_of[clip] for clip in batch if patient_of[clip] == patient)
            assert len(seen) == min(videos, len(cohort[patient]))
            assert all(count == min(clips, cohort[patient][video % 100]) for video, count in seen.items())


@settings(max_examples=60, deadline=None)
@given(
    patients=st.integers(4, 9),
    videos=st.integers(1, 3).map(lambda n: 2 * n),
    clips=st.integers(1, 2).map(lambda n: 2 * n),
    seed=st.integers(0, 99),
)
def test_in_an_even_cohort_no_clip_is_seen_twice(patients, videos, clips, seed):
    video_of, patient_of = numbered([[clips] * videos] * (2 * patients))

    batches = epoch_batches(video_of, patient_of, BatchShape(2, 2, 2), seed, 0)

    assert sorted(clip for batch in batches for clip in batch) == list(range(len(video_of)))


def test_the_last_patients_get_company_that_was_seen_least():
    video_of, patient_of = numbered([[2] * 12, [2, 2], [2, 2], [2, 2]])

    batches = epoch_batches(video_of, patient_of, BatchShape(2, 2, 2), 0, 0)

    company = Counter(p for batch in batches for p in {patient_of[clip] for clip in batch} if p)
    assert len(batches) == 6
    assert max(company.values()) - min(company.values()) <= 1


def test_other_seeds_and_epochs_give_other_batches():
    video_of, patient_of = numbered([[3, 3]] * 10)
    shape = BatchShape(2, 2, 2)

    drawn = [epoch_batches(video_of, patient_of, shape, seed, epoch) for seed, epoch in ((0, 0), (1, 0), (0, 1))]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_patients_of_a_batch_come_from_one_camera_as_far_as_there_are_any():
    cohort = [[2, 2]] * 8
    video_of, patient_of = numbered(cohort)
    names = list(dict.fromkeys(video_of))
    numbers = [names.index(video) for video in video_of]
    cameras = ["ward" if patient_of[video_of.index(name)] < 4 else "lab" for name in names]

    batches = epoch_batches(numbers, patient_of, BatchShape(2, 2, 2), 0, 0, cameras)

    assert all(len({cameras[numbers[clip]] for clip in batch}) == 1 for batch in batches)
    assert sorted(clip for batch in batches for clip in batch) == list(range(len(video_of)))


@given(count=st.integers(1, 40), world_size=st.integers(1, 8))
def test_the_shares_of_all_ranks_are_the_batch(count, world_size):
    parts = [share(range(count), rank, world_size) for rank in range(world_size)]

    assert [clip for part in parts for clip in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_what_can_not_serve_is_counted():
    video_of, patient_of = numbered([[1], [3], [1, 2], [2, 2]])

    assert coverage(video_of, patient_of) == Coverage(
        clips=11, lone_clips=1, single_clip_videos=2, single_video_patients=2, several_video_patients=2
    )


def test_one_patient_is_not_enough():
    with pytest.raises(InvalidInput, match="at least 2 patients with two clips or more, got 1"):
        epoch_batches([0, 1], [0, 0], BatchShape(2, 2, 1), 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    cohort=st.lists(
        st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(1, 4)), min_size=1, max_size=6),
        min_size=2,
        max_size=5,
    ),
    seed=st.integers(0, 99),
)
def test_a_seizure_comes_with_background_of_its_recording_where_there_is_some(cohort, seed):
    rows = [
        (100 * p + v, p, 2 * (10 * p + recording) + quiet)
        for p, owned in enumerate(cohort)
        for v, (recording, quiet, clips) in enumerate(owned)
        for _ in range(clips)
    ]
    video_of, patient_of, scene_of = zip(*rows, strict=True)
    able = {p for p in range(len(cohort)) if patient_of.count(p) > 1}
    if len(able) < 2:
        return

    batches = epoch_batches(video_of, patient_of, BatchShape(2, 2, 2), seed, 0, scene_of=scene_of)

    assert {clip for batch in batches for clip in batch} == {c for c, p in enumerate(patient_of) if p in able}
    for batch in batches:
        for patient in {patient_of[clip] for clip in batch}:
            scenes = {scene_of[clip] for clip in batch if patient_of[clip] == patient}
            first = {scene for scene in scenes if scene ^ 1 in scene_of}
            # One of the two videos decides; where its recording has the other kind, that is the second.
            assert not first or any(scene ^ 1 in scenes for scene in scenes) or len(first) < len(scenes)
