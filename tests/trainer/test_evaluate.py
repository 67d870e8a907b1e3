"""What stands beside an accuracy."""

import numpy as np
import pytest

from encoder.manifest import read_manifest
from trainer.clips import decode_all
from trainer.evaluate import accuracy_over_patients, majority_class, motion_energy, motion_energy_verdicts


def test_the_interval_is_over_patients_not_videos():
    """Ten videos of one patient say no more than one."""
    right = [True] * 10 + [False] * 10
    two = accuracy_over_patients(right, ["a"] * 10 + ["b"] * 10)
    twenty = accuracy_over_patients(right, [f"p{i}" for i in range(20)])

    assert (two.accuracy, two.low, two.high, two.videos, two.patients) == (0.5, 0.0, 1.0, 20, 2)
    assert (twenty.low, twenty.high) == (pytest.approx(0.3, abs=0.06), pytest.approx(0.7, abs=0.06))


def test_the_majority_class_is_tle_on_a_tie():
    assert majority_class(["exTLE", "TLE", "exTLE"]) == "exTLE"
    assert majority_class(["exTLE", "TLE"]) == "TLE"


def test_motion_energy_sees_where_something_moves():
    frames = np.zeros((10, 60, 60, 3), np.uint8)
    frames[::2, 0:10, 50:60] = 200

    energy = motion_energy(frames).reshape(2, 6, 6)
    assert energy[0, 0, 5] == pytest.approx(np.log1p(200))
    assert np.count_nonzero(energy[0]) == 1


def test_motion_energy_verdicts_follow_the_motion():
    random = np.random.default_rng(0)
    still, moving = random.uniform(0, 1, (20, 72)), random.uniform(2, 3, (20, 72))

    verdicts = motion_energy_verdicts(
        np.concatenate([still[:15], moving[:15]]),
        ["TLE"] * 15 + ["exTLE"] * 15,
        np.concatenate([still[15:], moving[15:]]),
        ["a"] * 5 + ["b"] * 5,
    )
    assert verdicts == {"a": "TLE", "b": "exTLE"}


def test_training_clips_are_decoded_in_the_order_of_the_manifest(hospital):
    manifest = read_manifest(
        hospital(("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"), ("exactly_10s.mp4", "p1", "v3"))
    )

    clips = decode_all(manifest, 4, 32, decoders=2)

    assert clips.frames.shape == (5, 4, 32, 32, 3)
    assert [row.video_id for row in clips.rows] == ["v1", "v1", "v1", "v2", "v3"]
    assert (clips.video_of, clips.patient_of) == ([0, 0, 0, 1, 2], [0, 0, 0, 1, 0])
    kept = clips.of(lambda row: row.patient_id == "p2")
    np.testing.assert_array_equal(kept.frames, clips.frames[3:4])
