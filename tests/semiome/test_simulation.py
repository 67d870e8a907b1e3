"""The simulated cohort: real files, looks without class, signs that are written down."""

import ast
import csv
import math
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.stats import chi2_contingency, ttest_ind

from encoder.manifest import read_manifest
from index.semiology import PAPER
from index.semiology import SIGNS as HED_SIGNS
from semiome.simulation import second
from semiome.simulation.cohort import CAMERAS, ROOMS, simulate_cohort
from semiome.simulation.figure import MATTRESS, Motion, lying
from semiome.simulation.files import write_cohort, write_recording
from semiome.simulation.render import View
from semiome.simulation.second.acts import OF_SIGN
from semiome.simulation.second.body import TURNS
from semiome.simulation.second.cohort import simulate_second
from semiome.simulation.signs import ACTIVITIES, SIGNS, Event, move
from trainer.judging.classifiers import motion_energy


def test_the_same_seed_gives_the_same_cohort():
    assert simulate_cohort(8, 2, seed=3) == simulate_cohort(8, 2, seed=3)
    assert simulate_cohort(8, 2, seed=3) != simulate_cohort(8, 2, seed=4)


@pytest.mark.parametrize("patients", [4, 6, 20, 45])
def test_both_classes_are_held_out_and_trained_on(patients):
    cohort = {r.patient.patient_id: r.patient for r in simulate_cohort(patients, 2, seed=0)}.values()

    assert len(cohort) == patients
    for held_out in (True, False):
        assert {p.label for p in cohort if p.held_out is held_out} == set(PAPER.names)
    assert 0.2 <= sum(p.held_out for p in cohort) / patients <= 0.5


def test_looks_do_not_tell_the_class():
    """Over many patients, no room, camera or colour goes with a class."""
    cohort = [r.patient for r in simulate_cohort(2000, 1, seed=1)]
    extle = np.array([p.label == "exTLE" for p in cohort])
    for values in ([p.room for p in cohort], [p.camera for p in cohort], [p.side for p in cohort]):
        for value in set(values):
            share = extle[np.array(values) == value].mean()
            assert share == pytest.approx(0.4, abs=0.08)
    assert np.corrcoef(extle, [sum(p.look.top) for p in cohort])[0, 1] == pytest.approx(0, abs=0.07)


def test_signs_are_likely_not_certain():
    recordings = simulate_cohort(300, 2, seed=2)
    for sign in SIGNS:
        share = {
            label: np.mean([sign.name in r.signs_between(0, r.seconds) for r in recordings if r.patient.label == label])
            for label in PAPER.names
        }
        assert 0.02 < share["TLE"] < 0.95
        assert 0.02 < share["exTLE"] < 0.95
        if abs(sign.tle - sign.extle) > 0.2:
            assert (share["TLE"] > share["exTLE"]) == (sign.tle > sign.extle)


def test_seizures_of_one_patient_resemble_each_other():
    """More than those of two patients of one class: without it, the patient level has nothing to learn but looks."""
    recordings = [r for r in simulate_cohort(200, 2, seed=2) if r.patient.label == "TLE"]
    signs = [set(r.signs_between(0, r.seconds)) for r in recordings]

    def shared(distance):
        pairs = [(signs[i], signs[(i + distance) % len(signs)]) for i in range(0, len(signs), 2)]
        return np.mean([len(a & b) / len(a | b) for a, b in pairs])

    assert shared(1) > shared(3) + 0.15


@pytest.mark.parametrize("name", [*ACTIVITIES, *(sign.name for sign in SIGNS)])
def test_every_activity_and_sign_is_drawn_and_no_limb_sinks_into_the_bed(name):
    event = Event(name, 1.0, 7.0, side=1, vigour=1.2, tempo=1.1)
    moving = move([event], 8.0, 10, np.random.default_rng(0))
    still = move([], 8.0, 10, np.random.default_rng(0))

    assert all(np.isfinite(angle).all() for angle in moving.angles.values())
    for limb in lying(moving, 1.0, 1.0):
        assert np.isfinite(limb.a).all()
        if limb.part != "hair":
            assert min(limb.b[:, 2].min(), limb.a[:, 2].min()) > MATTRESS - 0.2
    if name not in {"lying-still", "behavioral-arrest"}:
        change = sum(np.abs(moving.angles[key] - still.angles[key])[20:60].mean() for key in moving.angles)
        assert change > 0.02
    before = {key: angle[:9] for key, angle in still.angles.items()}
    for key, angle in before.items():
        np.testing.assert_allclose(moving.angles[key][:9], angle)


def test_the_nurse_passes_and_the_night_is_grey():
    by_night = View(ROOMS[0], CAMERAS[0], night=True, noise=np.random.default_rng(0))
    by_day = View(ROOMS[0], CAMERAS[0], night=False, noise=np.random.default_rng(0))
    look = simulate_cohort(4, 1, 0)[0].patient.look
    body = lying(Motion.resting(1), 1.0, 1.0)

    night, day = (next(iter(view.frames([(body, look)]))).astype(int) for view in (by_night, by_day))
    assert np.abs(night - night.mean(-1, keepdims=True)).max() < 1
    assert np.abs(day - day.mean(-1, keepdims=True)).mean() > 2


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    recordings = simulate_cohort(4, 1, seed=5)
    return folder, recordings, write_cohort(recordings, folder, processes=2)


def test_videos_are_real_h264_files_of_the_right_length(written):
    folder, recordings, _ = written
    for recording in recordings:
        with av.open(str(folder / "videos" / f"{recording.video_id}.mp4")) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 240)
            assert stream.average_rate == 25
            assert stream.frames == round(recording.seconds * 25)


def test_the_manifest_can_be_read_and_the_truth_is_written_beside_it(written):
    folder, recordings, path = written
    rows = {row.video_id: row for row in read_manifest(path).rows}
    with (folder / "truth.csv").open() as stream:
        truth = list(csv.DictReader(stream))

    tag_of = {sign.name: sign.tag for sign in SIGNS}
    assert rows.keys() == {recording.video_id for recording in recordings}
    assert len({recording.recorded_at for recording in recordings}) == len(recordings)
    for recording in recordings:
        row = rows[recording.video_id]
        assert (row.label, row.patient_id) == (recording.patient.label, recording.patient.patient_id)
        assert row.split == ("test" if recording.patient.held_out else "train")
        clips = [line for line in truth if line["video_id"] == recording.video_id]
        assert [int(line["clip_index"]) for line in clips] == list(range(int(np.ceil(recording.seconds / 10))))
        seen = {sign for line in clips for sign in line["signs"].split(";") if sign}
        assert {tag_of[name] for name in seen} <= set(row.semiology) <= set(HED_SIGNS)
        assert row.recorded_at == recording.recorded_at.isoformat()
        assert (recording.recorded_at.hour in {22, 23, 0, 1, 2, 3, 4, 5}) == recording.night


def test_a_seizure_moves_more_than_sleep(tmp_path):
    """What is drawn follows what is written: hypermotor signs move, an arrest does not."""
    from dataclasses import replace

    base = next(r for r in simulate_cohort(20, 2, 0) if not r.night)
    energy = {}
    for name in ("thrashing", "lying-still"):
        event = Event(name, 0.5, 11.5, side=0, vigour=1.0, tempo=1.0)
        recording = replace(base, video_id=name, seconds=12.0, events=(event,), nurse_s=None, blanket=None)
        write_recording(recording, tmp_path)
        with av.open(str(tmp_path / f"{name}.mp4")) as container:
            frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])[25:250:5]
        energy[name] = np.expm1(motion_energy(frames)).sum()
    assert energy["thrashing"] > 2 * energy["lying-still"]


SECOND = Path(second.__file__).parent


def test_the_second_simulator_shares_the_list_of_signs_and_nothing_else():
    imported = {
        (node.module, alias.name)
        for path in SECOND.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module.startswith("semiome.simulation")
        for alias in node.names
    }
    shared = {(module, name) for module, name in imported if ".second" not in module}
    assert shared == {("semiome.simulation.signs", "SIGNS")}
    assert set(OF_SIGN) == {sign.name for sign in SIGNS}


def test_the_second_simulator_draws_the_same_twice_and_its_signs_move():
    recordings = simulate_second(6, 1, seed=4)
    assert recordings == simulate_second(6, 1, seed=4)
    frames, angles = recordings[0].draw(12, 96)
    again, _ = recordings[0].draw(12, 96)
    clips = len(frames)

    assert frames.shape == (clips, 12, 96, 96, 3)
    assert angles.shape == (clips, 2 * (len(TURNS) + 3))
    assert (frames == again).all()
    assert clips == math.ceil(recordings[0].seconds / 10)
    resting = replace(recordings[0], doings=(replace(recordings[0].doings[0], name="resting"),))
    thrashing = replace(resting, doings=(replace(resting.doings[0], name="thrashing", end_s=30.0),))
    still, moved = (
        np.abs(np.diff(one.draw(48, 96)[0][0].astype(float), axis=0)).mean() for one in (resting, thrashing)
    )
    assert moved > still + 0.3


def test_the_second_simulator_tells_no_class_by_looks():
    """Looks, rooms and durations are drawn without regard to class."""
    recordings = simulate_second(200, 1, seed=9)
    extle = [one for one in recordings if one.label == "exTLE"]
    assert len(extle) == 90
    for key in ("seconds", "dark"):
        of_class, of_others = (
            [float(getattr(one, key)) for one in recordings if (one.label == "exTLE") is wanted]
            for wanted in (True, False)
        )
        assert ttest_ind(of_class, of_others).pvalue > 0.01
    cameras = sorted({one.camera for one in recordings})
    counts = [[sum((r.camera, r.label) == (c, label) for r in recordings) for c in cameras] for label in PAPER.names]
    assert chi2_contingency(counts).pvalue > 0.01
