"""Folds by patient, leaks, and verdicts on patients nobody has learned from."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.errors import InvalidInput
from index.semiology import PAPER
from tests.trainer.cohort import coloured_clips
from trainer.judging.classifiers import (
    constant_judge,
    head_judge,
    logistic_judge,
    mean_image,
    motion_energy,
    neighbour_judge,
)
from trainer.judging.evaluate import commonest_class, cross_validate, judge_patients, labelled_patients, verdicts
from trainer.judging.folds import Leak, check_leaks, patient_folds
from trainer.judging.head import HeadConfig

classes = st.dictionaries(
    st.integers(0, 99).map("p{}".format),
    st.sampled_from([{"TLE"}, {"exTLE"}, {"TLE", "exTLE"}]),
    min_size=4,
    max_size=20,
)


@settings(max_examples=150, deadline=None)
@given(classes_of=classes, folds=st.integers(2, 6), seed=st.integers(0, 20))
def test_every_patient_is_tested_once_and_each_fold_has_both_classes_on_both_sides(classes_of, folds, seed):
    counts = Counter(label for labels in classes_of.values() for label in labels)
    if min(counts[label] for label in PAPER.names) < max(folds, 2):
        with pytest.raises(InvalidInput, match="of each class"):
            patient_folds(classes_of, folds, seed)
        return
    try:
        made = patient_folds(classes_of, folds, seed)
    except InvalidInput:
        pytest.fail("there are enough patients of each class")

    assert made == patient_folds(classes_of, folds, seed)
    assert sorted(p for fold in made for p in fold.test) == sorted(classes_of)
    for fold in made:
        assert sorted((*fold.training, *fold.test)) == sorted(classes_of)
        for side in (fold.training, fold.test):
            assert {label for patient in side for label in classes_of[patient]} == set(PAPER.names)
    sizes = [sum("exTLE" in classes_of[p] for p in fold.test) for fold in made]
    if all(len(labels) == 1 for labels in classes_of.values()):
        assert max(sizes) - min(sizes) <= 1


def test_too_many_folds_propose_a_number_that_works():
    classes_of = {f"t{i}": {"TLE"} for i in range(12)} | {f"e{i}": {"exTLE"} for i in range(3)}

    with pytest.raises(InvalidInput, match=r"5 folds need 5 patients .* 12 with TLE and 3 with exTLE: use 3 folds"):
        patient_folds(classes_of, 5, 0)
    assert len(patient_folds(classes_of, 3, 0)) == 3


def test_one_class_only_is_refused():
    clips = [replace(clip, label="TLE") for clip in coloured_clips().clips]
    with pytest.raises(InvalidInput, match=r"every class \(TLE and exTLE\), got TLE"):
        labelled_patients(clips)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"patient_id": "p0"}, "1 patients"),
        ({"video_id": "v0-0"}, "1 videos"),
        ({"source_sha256": "0-0"}, "1 source files"),
        ({"file_began": "2024-03-01T23:00:00"}, "1 recordings"),
    ],
)
def test_a_leak_is_named(change, what):
    """The second side's recordings have the same ids, as wards number them, and began at other times."""
    began = {patient: f"2024-03-0{day}T23:00:00" for day, patient in enumerate(("p0", "p1", "p2", "p3"), start=1)}
    clips = [replace(clip, recording_id="night1", file_began=began[clip.patient_id]) for clip in coloured_clips().clips]
    training, test = clips[:8], list(clips[8:])
    check_leaks(training, test)

    with pytest.raises(Leak, match=f"{what} on both sides of a split"):
        check_leaks(training, [replace(test[0], **change), *test[1:]])


def separable(patients=10):
    """Clips whose first feature tells the class."""
    clips = coloured_clips(patients=patients).clips
    random = np.random.default_rng(0)
    features = random.normal(size=(len(clips), 6)).astype(np.float32)
    features[:, 0] += [4.0 * (clip.label == "exTLE") for clip in clips]
    return features, clips


@pytest.mark.parametrize(
    ("name", "judge"),
    [("head", head_judge(HeadConfig(epochs=40))), ("neighbours", neighbour_judge), ("logistic", logistic_judge)],
)
def test_judges_learn_what_can_be_learned_from_other_patients(name, judge):
    features, clips = separable()

    found = cross_validate(features, clips, judge, folds=5, seed=0)

    assert [p.video_id for p in found] == list(dict.fromkeys(clip.video_id for clip in clips))
    assert {p.fold for p in found} == set(range(5))
    assert np.mean([p.truth == p.verdict for p in found]) >= 0.85


def test_features_of_a_fold_can_depend_on_who_is_tested():
    features, clips = separable()
    asked = []

    def of_fold(fold):
        asked.append(fold.test)
        return features

    found = cross_validate(of_fold, clips, logistic_judge, folds=5, seed=3)

    assert found == cross_validate(features, clips, logistic_judge, folds=5, seed=3)
    assert sorted(p for test in asked for p in test) == sorted({clip.patient_id for clip in clips})


def test_clips_without_a_label_are_neither_learned_from_nor_judged():
    features, clips = separable()
    hidden = [replace(clip, label="") if clip.patient_id in {"p0", "p1"} else clip for clip in clips]
    spoiled = np.where([[clip.label == ""] for clip in hidden], 1e6, features).astype(np.float32)

    found = cross_validate(spoiled, hidden, logistic_judge, folds=4, seed=0)

    assert {p.patient_id for p in found} == {f"p{i}" for i in range(2, 10)}
    assert found == cross_validate(np.where(spoiled == 1e6, 0, spoiled), hidden, logistic_judge, folds=4, seed=0)


def test_external_patients_are_judged_by_what_was_learned_from_others():
    features, clips = separable()

    found = judge_patients(features, clips, logistic_judge, ["p0", "p1", "p2", "p3"], ["p4", "p5"])

    assert {p.patient_id for p in found} == {"p4", "p5"}
    assert all(p.truth == p.verdict for p in found)


def test_a_video_is_what_most_of_its_clips_are_and_a_tie_is_decided_by_the_mean():
    clips = [replace(coloured_clips().clips[0], video_id=name, clip_index=i) for name in "ab" for i in range(2)]
    extle = np.array([0.9, 0.2, 0.6, 0.1])
    a, b = verdicts(clips, np.stack([1 - extle, extle], 1))

    assert (a.verdict, a.probabilities) == ("exTLE", pytest.approx((0.45, 0.55)))
    assert (b.verdict, b.probabilities) == ("TLE", pytest.approx((0.65, 0.35)))


def test_always_the_commonest_class_is_as_often_right_as_it_is_common_however_the_folds_are():
    """Of two equally common classes the left-out patient's is always the rarer of the others."""
    clips = [
        clip
        for n in range(12)
        for clip in (
            replace(
                coloured_clips().clips[0],
                patient_id=f"p{n}",
                video_id=f"v{n}",
                source_sha256=f"s{n}",
                label=("TLE", "exTLE")[n % 2],
            ),
        )
    ]
    judge = constant_judge(commonest_class(clips))
    for folds in ("patient", 2, 3):
        found = cross_validate(np.zeros((len(clips), 1), np.float32), clips, judge, folds, 0)
        assert np.mean([p.truth == p.verdict for p in found]) == 0.5
    longest = [replace(clips[0], clip_index=n) for n in range(9)]  # clips of one video count once
    assert commonest_class([*longest, *clips[1:]]) == 0
    assert commonest_class([*longest, *clips[1::2]]) == 1


def test_motion_energy_sees_where_something_moves_and_the_mean_image_what_stands_still():
    frames = np.zeros((10, 60, 60, 3), np.uint8)
    frames[::2, 0:10, 50:60] = 200
    frames[:, 50:, :10, 2] = 255

    energy = motion_energy(frames).reshape(2, 6, 6)
    assert energy[0, 0, 5] == pytest.approx(np.log1p(200))
    assert np.count_nonzero(energy[0]) == 1
    assert mean_image(frames).reshape(8, 8, 3)[7, 0].tolist() == [0, 0, 1]


def test_leaving_one_patient_out_serves_a_class_of_two():
    """As 11 TLE and 4 exTLE, for which five folds can't be made."""
    classes_of = {f"p{i:02d}": {"exTLE" if i < 2 else "TLE"} for i in range(13)}
    folds = patient_folds(classes_of, "patient", 0)

    assert [fold.test for fold in folds] == [(patient,) for patient in sorted(classes_of)]
    for fold in folds:
        assert set(fold.training) == set(classes_of) - set(fold.test)
    with pytest.raises(InvalidInput, match="2 patients of each class or more, got patient and 2 with TLE and 1"):
        patient_folds({"a": {"TLE"}, "b": {"exTLE"}, "c": {"TLE"}}, "patient", 0)
