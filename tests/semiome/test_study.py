"""What is drawn straight into clips: as the decoded video has it, with the truth of it; and the study's cohort."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoder.model.architecture import architecture
from encoder.model.identity import new_encoder
from encoder.video.decoder import Decoder
from index.errors import StateError
from semiome.simulation.actions import JOINTS, SIGNED, draw_action, mirrored
from semiome.simulation.cohort import simulate_cohort
from semiome.simulation.figure import POINTS
from semiome.simulation.files import write_recording
from semiome.simulation.render import FPS
from semiome.simulation.signs import move
from semiome.simulation.study import HELD_OUT, StudySize, write_study
from trainer.frame_cache import read_cache, read_references
from trainer.judging.folds import check_leaks
from trainer.pretraining import stage0
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

    assert all(action.frames.shape == (8, 48, 48) for action in actions)
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
    points = np.stack([draw_action(4, 48, seed).points for seed in range(120)])

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
        *(np.stack([getattr(a, key) for a in drawn]) for key in ("frames", "spread", "rhythm", "deviation", "points")),
        mirrored_joints=tuple(JOINTS.index(mirrored(joint)) for joint in JOINTS),
        signed=tuple(-1 if joint in SIGNED else 1 for joint in JOINTS),
        mirrored_points=tuple(POINTS.index(mirrored(point)) for point in POINTS),
    )


def trained(actions, checkpoint=None, stop=None, view="motion", each=1):
    shape = architecture(4, 32, 32, 2, 1, input_view=view, frames_a_moment=each)
    encoder, losses = new_encoder(shape, seed=0).model, []

    def on_step(step, loss):
        losses.append(loss)
        if step == stop:
            raise KeyboardInterrupt

    reader = train_stage0(encoder, actions, 60, 16, 0, on_step, checkpoint)
    return losses, explained(reader, actions, Scale(actions, each))


@pytest.mark.parametrize(("view", "each"), [("motion", 1), ("change", 2)])
def test_stage_0_learns_to_tell_movement_and_repeats_itself(actions, view, each, monkeypatch):
    """In one light: what so small an encoder sees of 64 clips in any other takes longer than a test has."""
    monkeypatch.setattr(stage0, "_recorded_otherwise", lambda frames, random: frames)
    found = [trained(actions, view=view, each=each) for _ in range(2)]

    losses, shares = found[0]
    assert np.mean(losses[-10:]) < 0.95 * np.mean(losses[:5])
    assert shares["spread"] > 0.02
    assert set(shares) == {"spread", "rhythm", "deviation"}
    assert found[0] == found[1]


def test_a_stopped_stage_0_goes_on_as_if_it_had_not_been(actions, tmp_path, monkeypatch):
    monkeypatch.setattr(stage0, "_SAVED_EVERY", 20)
    whole, shares = trained(actions)
    with pytest.raises(KeyboardInterrupt):
        trained(actions, tmp_path / "state.pt", stop=33)

    rest, again = trained(actions, tmp_path / "state.pt")

    assert rest == whole[20:]
    assert again == shares
    assert trained(actions, tmp_path / "state.pt") == ([], shares)  # it has ended
    other = new_encoder(architecture(4, 32, 32, 2, 1), seed=0).model
    with pytest.raises(StateError, match="is of another training"):
        train_stage0(other, actions, 61, 16, 0, checkpoint=tmp_path / "state.pt")


def test_points_and_signs_follow_how_a_clip_is_turned_and_mirrored(actions, monkeypatch):
    """A point that is drawn as a dot is where the dot is afterwards."""
    monkeypatch.setattr(stage0, "_recorded_otherwise", lambda frames, random: frames)
    points = np.full((4, 4, len(POINTS), 2), 12.0, np.float32)
    points += (np.arange(len(POINTS))[:, None] % 3 * 4).astype(np.float32)
    frames = np.zeros((4, 4, 32, 32), np.uint8)
    rows, columns = points[0, 0, :, 1].astype(int), points[0, 0, :, 0].astype(int)
    frames[:, :, rows, columns] = 255
    chosen = replace(
        actions,
        frames=frames,
        points=points,
        **{key: getattr(actions, key)[:4] for key in ("spread", "rhythm", "deviation")},
    )
    targets = Scale(actions, 1).targets(chosen, np.arange(4))
    for seed in range(6):
        seen, told = stage0._varied(stage0._normalised(frames), targets, chosen, np.random.default_rng(seed))
        bright = (seen - seen.flatten(1).median(1).values[:, None, None, None]).abs()
        for clip in range(4):
            for across, down in told.points[clip, 0].tolist():
                if 2 <= across < 29 and 2 <= down < 29:
                    near = bright[clip, 0, round(down) - 1 : round(down) + 2, round(across) - 1 : round(across) + 2]
                    assert near.max() > 0.15 * bright[clip, 0].max()


def test_another_camera_changes_how_pictures_look_and_not_where_things_are():
    """What is bright beside what is dark stays so, or is inverted: the two stay apart in every clip."""
    frames = torch.full((16, 8, 32, 32), -1.0)
    frames[:, :, 8:24, 8:24] = 1.0

    seen = stage0._recorded_otherwise(frames, np.random.default_rng(0))
    again = stage0._recorded_otherwise(frames, np.random.default_rng(0))

    assert seen.isfinite().all()
    assert torch.equal(seen, again)
    inner, outer = seen[:, :, 10:22, 10:22].flatten(2), torch.cat([seen[:, :, :6], seen[:, :, 26:]], 2).flatten(2)
    apart = (inner.mean(-1) - outer.mean(-1)).abs() / inner.std(-1)
    assert (apart > 3).all()
    assert len({round(float(clip.mean()), 3) for clip in seen}) == 16


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
