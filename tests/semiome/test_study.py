"""What is drawn straight into clips: as the decoded video has it, with the truth of it; and the study's cohort."""

from collections import Counter

import numpy as np
import pytest

from encoder.model.architecture import architecture
from encoder.model.folder import new_encoder
from encoder.video.decoder import Decoder
from semiome.simulation.actions import JOINTS, SIGNED, draw_action, mirrored
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.figure import POINTS
from semiome.simulation.files import write_recording
from semiome.simulation.render import FPS
from semiome.simulation.signs import move
from semiome.simulation.study import HELD_OUT, StudySize, write_study
from trainer.frame_cache import read_cache, read_references
from trainer.judging.folds import check_leaks
from trainer.pretraining.stage0 import Actions, Scale, explained, train_stage0

pytestmark = pytest.mark.slow


def test_clips_drawn_at_the_encoders_size_are_those_that_decoding_gives(tmp_path):
    recording = simulate_cohort(6, 1, seed=1)[2]
    write_recording(recording, tmp_path)
    random = np.random.default_rng(recording.seed)
    motion = move(list(recording.events), recording.seconds, FPS, random)

    drawn = recording.scene.clips(motion, 6, 96, random)
    with Decoder(6, 96) as decoder:
        decoded = np.stack([clip.frames for clip in decoder.decode(tmp_path / f"{recording.video_id}.mp4")])

    assert drawn.shape == decoded.shape
    assert np.abs(drawn.astype(int) - decoded).mean() < 5
    motions = [
        np.abs(np.diff(frames.astype(int), axis=1)).mean((-1, -2, -3)).reshape(-1) for frames in (drawn, decoded)
    ]
    assert np.corrcoef(*motions)[0, 1] > 0.9


def test_an_action_is_what_its_truth_says():
    actions = [draw_action(8, 48, seed) for seed in range(40)]

    assert all(action.frames.shape == (8, 48, 48, 3) for action in actions)
    for action in actions:
        assert action.spread.shape == (len(JOINTS),)
        np.testing.assert_allclose(action.deviation.mean(0), 0, atol=1e-5)
        assert action.points.shape == (8, len(POINTS), 2)
    by_movement = sorted(actions, key=lambda action: action.points.std(0).mean())
    energy = [np.abs(np.diff(action.frames.astype(int), axis=0)).mean() for action in by_movement]
    assert np.median(energy[-10:]) > 1.3 * np.median(energy[:10])
    again = draw_action(8, 48, 0)
    np.testing.assert_array_equal(again.frames, actions[0].frames)


def test_points_of_the_body_are_in_the_picture():
    points = np.stack([draw_action(4, 48, seed).points for seed in range(30)])

    inside = ((points >= 0) & (points < 48)).all(-1)
    assert inside[..., POINTS.index("head")].mean() > 0.9
    assert inside.mean() > 0.8


def test_a_mirror_exchanges_sides_and_twice_is_nothing():
    assert (mirrored("elbow_l"), mirrored("knee_r"), mirrored("roll")) == ("elbow_r", "knee_l", "roll")
    assert [mirrored(mirrored(name)) for name in (*JOINTS, *POINTS)] == [*JOINTS, *POINTS]


@pytest.fixture(scope="module")
def actions():
    drawn = [draw_action(4, 32, seed) for seed in range(64)]
    return Actions(
        *(np.stack([getattr(a, key) for a in drawn]) for key in ("frames", "spread", "deviation", "points")),
        mirrored_joints=tuple(JOINTS.index(mirrored(joint)) for joint in JOINTS),
        signed=tuple(-1 if joint in SIGNED else 1 for joint in JOINTS),
        mirrored_points=tuple(POINTS.index(mirrored(point)) for point in POINTS),
    )


def test_stage_0_learns_to_tell_movement_and_repeats_itself(actions):
    found = []
    for _ in range(2):
        encoder = new_encoder(architecture(4, 32, 32, 2, 1, input_view="motion"), seed=0).model
        losses = []
        reader = train_stage0(encoder, actions, 60, 16, seed=0, on_step=lambda step, loss, to=losses: to.append(loss))
        found.append((losses, explained(reader, actions, Scale(actions))))

    losses, (spread, _) = found[0]
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:5])
    assert spread > 0.05
    assert found[0] == found[1]


def test_a_study_has_patients_to_pretrain_on_some_labelled_and_others_nobody_sees(tmp_path):
    size = StudySize(pretraining=8, labelled=5, videos=2, external=4, external_videos=1)

    write_study(tmp_path, size, seed=3, num_frames=4, image_size=32, processes=2)

    clips = read_cache(tmp_path)
    inside = [clip for clip in clips.clips if clip.split != HELD_OUT]
    outside = [clip for clip in clips.clips if clip.split == HELD_OUT]
    labels = {clip.patient_id: clip.label for clip in inside}
    assert (len(labels), len({clip.patient_id for clip in outside})) == (8, 4)
    assert Counter(labels.values()) == {"": 3, "TLE": 3, "exTLE": 2}
    assert {clip.label for clip in outside} == {"TLE", "exTLE"}
    assert any(clip.signs for clip in clips.clips)
    check_leaks(inside, outside)
    assert read_references(tmp_path)["true joint angles"].shape == (len(clips.clips), 2 * len(JOINTS))
