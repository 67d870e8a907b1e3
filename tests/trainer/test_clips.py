"""Training clips and their frame cache: in the manifest's order, broken videos by name, the cache whole or refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from encoder.manifest import read_manifest
from encoder.picture import Crop
from encoder.video.decoder import Decoder
from index.errors import DamagedData, InvalidInput, StateError
from tests.conftest import EXPECTED
from tests.trainer.cohort import coloured_clips
from trainer.clips import LATER, ChosenFrames, LeftOut
from trainer.decoding import as_described, decode_all
from trainer.frame_cache import (
    build_cache,
    check_room,
    clip_counts,
    frame_bytes,
    matches,
    read_cache,
    read_references,
    write_cache,
    write_references,
)

ROWS = (("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"), ("exactly_10s.mp4", "p1", "v3"))


def test_training_clips_are_decoded_in_the_order_of_the_manifest(hospital):
    clips = decode_all(read_manifest(hospital(*ROWS)), 4, 32, decoders=2)

    assert clips.frames.shape == (5, 4, 32, 32, 3)
    assert [(clip.video_id, clip.clip_index) for clip in clips.clips] == [
        *(("v1", 0), ("v1", 1), ("v1", 2), ("v2", 0), ("v3", 0))
    ]
    assert (clips.video_of, clips.patient_of) == ([0, 0, 0, 1, 2], [0, 0, 0, 1, 0])
    kept = clips.of(lambda clip: clip.patient_id == "p2")
    np.testing.assert_array_equal(kept.frames, clips.frames[3:4])


def test_a_cache_holds_what_decoding_gives_and_is_as_large_as_it_said(hospital, tmp_path):
    manifest = read_manifest(hospital(*ROWS))

    said = sum(clip_counts(manifest, 2, lambda done, total: None)) * frame_bytes(4, 32)
    built = build_cache(manifest, tmp_path / "cache", 4, 32, decoders=2)

    decoded = decode_all(manifest, 4, 32, decoders=1)
    assert said == decoded.frames.nbytes == (tmp_path / "cache" / "frames.u8").stat().st_size
    np.testing.assert_array_equal(built.frames[:], decoded.frames)
    assert read_cache(tmp_path / "cache").clips == built.clips == decoded.clips
    assert built.digest() == decoded.digest()
    matches(built, manifest, 4, 32)


@pytest.mark.parametrize("decoders", [1, 2])
def test_a_broken_video_is_left_out_by_name_and_nothing_takes_its_place(hospital, tmp_path, decoders):
    broken = next(name for name in EXPECTED if EXPECTED[name]["verdict"] == "reject")
    manifest = read_manifest(hospital(ROWS[0], (broken, "p3", "bad"), ROWS[1], ("absent.mp4", "p4", "gone")))

    built = build_cache(manifest, tmp_path / "cache", 4, 32, decoders)

    assert {clip.video_id for clip in built.clips} == {"v1", "v2"}
    assert [video.video_id for video in built.left_out] == ["bad", "gone"]
    assert built.left_out[1] == LeftOut("gone", "the file is missing, or may not be read")
    matches(read_cache(tmp_path / "cache"), manifest, 4, 32)


def test_no_video_that_can_be_read_is_an_error(hospital):
    with pytest.raises(InvalidInput, match="none of 1 videos can be read; the first: the file is missing"):
        decode_all(read_manifest(hospital(("absent.mp4", "p", "v"))), 4, 32, decoders=1)


def test_a_cache_of_another_manifest_or_shape_is_refused(hospital, tmp_path):
    manifest = read_manifest(hospital(*ROWS))
    built = build_cache(manifest, tmp_path / "cache", 4, 32, decoders=2)
    relabelled = replace(manifest, rows=(replace(manifest.rows[0], label="TLE"), *manifest.rows[1:]))

    with pytest.raises(InvalidInput, match="made from another manifest or other files: 1 videos differ"):
        matches(built, relabelled, 4, 32)
    with pytest.raises(InvalidInput, match="expected a frame cache of 8 frames of 32 pixels, got 4 of 32"):
        matches(built, manifest, 8, 32)


def test_a_torn_cache_is_refused(tmp_path):
    clips = coloured_clips()
    write_cache(tmp_path, clips.frames, clips.clips)
    whole = (tmp_path / "frames.u8").read_bytes()
    (tmp_path / "frames.u8").write_bytes(whole[:-1])
    with pytest.raises(DamagedData, match=f"expected {len(whole)} bytes of frames in the cache, got {len(whole) - 1}"):
        read_cache(tmp_path)
    (tmp_path / "frames.u8").write_bytes(whole)
    card = json.loads((tmp_path / "clips.json").read_text())
    (tmp_path / "clips.json").write_text(json.dumps({**card, "clips": [{"patient": 1}]}))
    with pytest.raises(DamagedData, match="can't be read"):
        read_cache(tmp_path)
    (tmp_path / "clips.json").unlink()
    with pytest.raises(InvalidInput, match="no frame cache"):
        read_cache(tmp_path)


def test_a_cache_that_does_not_fit_is_refused_before_it_is_written(tmp_path):
    with pytest.raises(StateError, match=r"takes 1048576\.0 GiB and the disk has"):
        check_room(tmp_path / "cache", 2**50)


def test_references_come_back(tmp_path):
    assert read_references(tmp_path) == {}
    angles = np.random.default_rng(0).random((3, 2)).astype(np.float32)
    write_references(tmp_path, {"true joint angles": angles})

    found = read_references(tmp_path)
    assert list(found) == ["true joint angles"]
    np.testing.assert_array_equal(found["true joint angles"], angles)


def test_a_cropped_or_replaced_video_is_another_file(hospital, tmp_path):
    path = hospital(*ROWS)
    built = build_cache(read_manifest(path), tmp_path / "cache", 4, 32, decoders=2)
    cropped = replace(read_manifest(path).rows[0], crop=Crop(0, 0, 64, 64))

    with pytest.raises(InvalidInput, match="1 videos differ"):
        matches(built, replace(read_manifest(path), rows=(cropped, *read_manifest(path).rows[1:])), 4, 32)
    shutil.copy(path.parent / "short_7s.mp4", path.parent / "exactly_10s.mp4")
    with pytest.raises(InvalidInput, match="1 videos differ"):
        matches(built, read_manifest(path), 4, 32)


def test_chosen_clips_of_a_cache_are_read_when_they_are_asked_for(tmp_path):
    made = coloured_clips()
    write_cache(tmp_path, made.frames, made.clips)

    chosen = read_cache(tmp_path).of(lambda clip: clip.patient_id in {"p1", "p3"}).of(lambda clip: clip.clip_index == 1)

    wanted = made.of(lambda clip: clip.patient_id in {"p1", "p3"} and clip.clip_index == 1)
    assert isinstance(chosen.frames, ChosenFrames)
    assert (chosen.clips, chosen.frames.shape, len(chosen.frames)) == (wanted.clips, wanted.frames.shape, 4)
    np.testing.assert_array_equal(np.stack(list(chosen.frames)), wanted.frames)
    np.testing.assert_array_equal(chosen.frames[[2, 0]], wanted.frames[[2, 0]])
    np.testing.assert_array_equal(chosen.frames[1], wanted.frames[1])
    assert chosen.digest() == wanted.digest()


def test_half_a_cache_is_not_left_behind(hospital, tmp_path, monkeypatch):
    def fails(self, path, crop=None, track=None):
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(Decoder, "decode", fails)
    with pytest.raises(ZeroDivisionError):
        build_cache(read_manifest(hospital(*ROWS)), tmp_path / "cache", 4, 32, decoders=2)

    assert list((tmp_path / "cache").iterdir()) == []


def test_when_a_seizure_is_comes_from_the_manifest_and_an_older_cache_does_without(hospital, tmp_path):
    columns = ("file_name", "patient_id", "video_id", "start_s", "end_s", "onset_s", "seizure_end_s")
    manifest = read_manifest(
        hospital(
            ("h264_25fps.mp4", "p1", "v1", "2", "17.5", "4.25", "12"),
            ("short_7s.mp4", "p2", "v2", "", "", "", ""),
            columns=columns,
        )
    )
    built = build_cache(manifest, tmp_path / "cache", 4, 32, decoders=1)
    card = json.loads((tmp_path / "cache" / "clips.json").read_text())
    for clip in card["clips"]:
        for name in LATER:
            del clip[name]
    (tmp_path / "cache" / "clips.json").write_text(json.dumps(card))
    older = read_cache(tmp_path / "cache")

    timed = as_described(built, manifest).clips

    assert [(clip.start_s, clip.valid_seconds, clip.onset_s, clip.seizure_end_s) for clip in timed] == [
        (0.0, 10.0, 2.25, 10.0),
        (5.5, 10.0, 2.25, 10.0),
        (0.0, 7.0, None, None),
    ]
    assert [clip.valid_seconds for clip in older.clips] == [10.0, 10.0, 10.0]
    assert older.digest() == as_described(built, manifest).digest()


def test_clips_know_their_recording_and_whether_they_are_background(hospital, tmp_path):
    columns = ("file_name", "patient_id", "video_id", "start_s", "end_s", "recorded_at", "recording_id", "background")
    manifest = read_manifest(
        hospital(
            ("h264_25fps.mp4", "p1", "v1", "2", "12", "2024-03-01T23:00:02", "night1", ""),
            ("h264_25fps.mp4", "p1", "v2", "14", "", "2024-03-01T23:00:14", "night1", "yes"),
            ("short_7s.mp4", "p2", "v3", "", "", "2024-03-01", "", ""),
            columns=columns,
        )
    )

    clips = decode_all(manifest, 4, 32, decoders=1)

    assert [(clip.recording_id, clip.file_began, clip.background) for clip in clips.clips] == [
        ("night1", "2024-03-01T23:00:00", False),
        ("night1", "2024-03-01T23:00:00", True),
        ("", "", False),
    ]
    assert clips.scene_of == [0, 1, 2]
