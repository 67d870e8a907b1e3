"""The right frames or none: every test video, read through a decoding child, by its barcodes."""

import _ctypes
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import islice

import numpy as np
import pytest

from encoder.clips import LastClip, Source, plan_clips
from encoder.picture import Crop
from encoder.video.decoder import DecodeLimits, Decoder
from encoder.video.decord_reader import read_decord
from encoder.video.frames import _read_pyav, _Squarer, _upright, decode_clips, frames_of, may_skip, reads_fast
from encoder.video.probe import probe
from index.errors import VideoRefused
from tests.conftest import DATA, EXPECTED
from tests.encoder.video.barcode import HALVES, SIZE, TURNED_HALVES, expected_clips, read_numbers

VIDEOS = DATA / "videos"
OK = sorted(name for name, facts in EXPECTED.items() if facts["verdict"] == "ok")
REJECT = sorted(name for name, facts in EXPECTED.items() if facts["verdict"] == "reject")
REASONS = {
    "empty.mp4": "empty file",
    "text.mp4": "not a media container",
    "ffconcat_sibling.mp4": "a playlist",
    "playlist.mp4": "a playlist",
    "picture.mp4": "a still image",
    "audio_only.mp4": "no video stream",
    "truncated_half.mp4": "header or index is missing",
    "truncated_half.mkv": "declares 24.0 s, 12.0 s are there",
    "truncated_faststart.mp4": "damaged picture data about 13",
    "corrupt_middle.mp4": "damaged picture data about 7",
    "half_second.mp4": "0.48 s of picture: shorter than the least valid length",
    "huge_16000px.avi": "16000 x 16000 pixels",
}


@pytest.fixture(scope="module")
def decoders():
    """`decoders(num_frames, size)`: one for all files, which starts no child that is not used."""
    with ExitStack() as stack:
        yield cache(lambda num_frames, size: stack.enter_context(Decoder(num_frames, size)))


@pytest.mark.parametrize("num_frames", [16, 96])
@pytest.mark.parametrize("name", OK)
def test_an_ok_file_gives_exactly_its_clips_and_frames(decoders, name, num_frames):
    turned = "rotate90" in name
    decoder = decoders(num_frames, SIZE)
    left, right = (list(decoder.decode(VIDEOS / name, crop)) for crop in (TURNED_HALVES if turned else HALVES))

    found = [
        (a.start_s, a.valid_seconds, read_numbers(a.frames, b.frames, turned)) for a, b in zip(left, right, strict=True)
    ]
    assert found == expected_clips(EXPECTED[name], num_frames)


@pytest.mark.parametrize("how", [{"stride_s": 2.5}, {"stride_s": 7}, {"last_clip": LastClip.STRETCHED}], ids=str)
@pytest.mark.parametrize("name", OK)
def test_clips_that_overlap_or_are_cut_as_before_show_exactly_their_frames(decoders, name, how):
    turned = "rotate90" in name
    source, decoder = Source(VIDEOS / name, **how), decoders(12, SIZE)
    left, right = (list(decoder.decode(source, crop)) for crop in (TURNED_HALVES if turned else HALVES))

    found = [
        (a.start_s, a.valid_seconds, read_numbers(a.frames, b.frames, turned)) for a, b in zip(left, right, strict=True)
    ]
    stride, stretched = how.get("stride_s", 10), "last_clip" in how
    assert found == expected_clips(EXPECTED[name], 12, stride=stride, stretched=stretched)


@pytest.mark.parametrize("name", OK)
def test_what_is_left_out_at_the_beginning_changes_no_picture_behind_it(decoders, name):
    source = Source(VIDEOS / name, stride_s=4)
    whole = list(decoders(12, SIZE).decode(source))

    for skip in (1, len(whole) // 2, len(whole) - 1, len(whole)):
        found = list(decoders(12, SIZE).decode(source, None, skip))
        assert [(clip.clip_index, clip.start_s, clip.clip_count) for clip in found] == [
            (clip.clip_index, clip.start_s, clip.clip_count) for clip in whole[skip:]
        ]
        for one, other in zip(found, whole[skip:], strict=True):
            np.testing.assert_array_equal(one.frames, other.frames)


@pytest.mark.parametrize("name", REJECT)
def test_a_rejected_file_is_refused_with_its_reason(decoders, name):
    with pytest.raises(VideoRefused, match=REASONS[name]):
        list(decoders(4, 32).decode(VIDEOS / name))


def test_every_rejected_file_has_a_reason_here():
    assert REASONS.keys() == set(REJECT)


@pytest.mark.parametrize("name", [name for name in OK if reads_fast(probe(VIDEOS / name))])
def test_both_readers_give_the_same_pictures(name):
    facts = probe(VIDEOS / name)
    plans = list(plan_clips(facts.timeline, 16))
    squared = _Squarer(facts, 224, None)
    assert squared.reduced is None

    fast = read_decord(VIDEOS / name, facts, plans, squared, lambda: 0)
    slow = _read_pyav(VIDEOS / name, facts, plans, squared)

    for a, b in zip(fast, slow, strict=True):
        assert np.abs(a.astype(int) - b.frames).mean() < 2


@pytest.mark.parametrize("num_frames", [3, 16])
@pytest.mark.parametrize("name", [name for name in OK if may_skip(probe(VIDEOS / name))])
def test_leaving_out_what_nobody_needs_changes_no_picture(name, num_frames):
    facts = probe(VIDEOS / name)
    plans = list(plan_clips(facts.timeline, num_frames))
    squared = _Squarer(facts, 64, None)

    whole = _read_pyav(VIDEOS / name, facts, plans, squared)
    skipping = _read_pyav(VIDEOS / name, facts, plans, squared, skip=True)

    for a, b in zip(whole, skipping, strict=True):
        assert a.plan == b.plan
        np.testing.assert_array_equal(a.frames, b.frames)


def test_leaving_out_decodes_less_of_a_video_with_b_frames():
    path = VIDEOS / "h264_bframes_longgop.mkv"
    facts = probe(path)
    needed = {number for plan in plan_clips(facts.timeline, 4) for number in plan.frame_numbers}

    decoded = [number for number, _ in frames_of(path, facts, needed)]

    assert needed < set(decoded)
    assert len(decoded) < 0.7 * len(facts.timeline.ticks)
    assert decoded == sorted(decoded)


@pytest.mark.parametrize("crop", [None, Crop(40, 60, 200, 150)], ids=["whole", "crop"])
@pytest.mark.parametrize("name", ["h264_25fps.mp4", "h264_rotate90.mp4", "mpeg2_ps.mpg", "hevc_10bit.mkv"])
def test_a_frame_resized_in_yuv_is_the_picture_resized_in_rgb(name, crop):
    facts = replace(probe(VIDEOS / name), pixel_aspect=Fraction(16, 15))
    if facts.rotation and crop:
        crop = Crop(crop.y, crop.x, crop.h, crop.w)
    squared = _Squarer(facts, 64, crop)
    assert squared.reduced is not None

    for _, frame in islice(frames_of(VIDEOS / name, facts), 0, 60, 20):
        in_rgb = squared(_upright(frame, facts)).astype(int)
        assert np.abs(squared.of_frame(frame) - in_rgb).mean() < 4


def test_decord_reads_constant_rate_mp4_mov_and_mkv_only():
    fast = {name for name in OK if reads_fast(probe(VIDEOS / name))}

    assert fast == {
        *("exactly_10s.mp4", "h264_1fps.mp4", "h264_25fps.mp4", "h264_bframes_longgop.mkv", "h264_gray.mp4"),
        *("h264_ntsc.mp4", "h264_rotate90.mp4", "h264_with_audio.mp4", "short_7s.mp4", "vp9.webm"),
    }


@pytest.mark.parametrize(("module", "loads"), [("decord", True), ("encoder.video.decord_reader", False)])
def test_what_is_for_gpus_is_not_loaded_into_a_decoder(tmp_path, module, loads):
    """Beside a torch for GPUs decord would load half a gigabyte, in each child, and a BLAS that crashes torch."""
    libraries = tmp_path / "nvidia" / "probe" / "lib"
    libraries.mkdir(parents=True)
    shutil.copy(_ctypes.__file__, libraries / "libprobe.so")
    script = f"import {module}, sys; print('libprobe.so' in open('/proc/self/maps').read(), 'nvidia' in sys.modules)"
    path = os.pathsep.join((str(tmp_path), *filter(None, sys.path)))
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [str(loads), "False"]


def test_a_complaint_hands_the_file_to_the_strict_reader():
    facts = probe(VIDEOS / "h264_25fps.mp4")
    words = iter([0, 7, 7])

    clips = list(decode_clips(VIDEOS / "h264_25fps.mp4", facts, 4, 224, complaints=lambda: next(words)))

    assert [(clip.plan.clip_index, clip.reader) for clip in clips] == [(0, "decord"), (1, "pyav"), (2, "pyav")]


def test_a_crop_outside_the_picture_is_refused():
    with Decoder(4, 32) as decoder, pytest.raises(VideoRefused, match="outside the picture of 320 x 240"):
        list(decoder.decode(VIDEOS / "short_7s.mp4", Crop(200, 0, 160, 160)))


def test_a_killed_child_is_replaced_and_no_clip_is_lost():
    with Decoder(16, 32) as decoder:
        clips = decoder.decode(VIDEOS / "h264_25fps.mp4")
        first = next(clips)
        os.kill(decoder.child_pid, signal.SIGKILL)
        rest = list(clips)
        undisturbed = list(decoder.decode(VIDEOS / "h264_25fps.mp4"))

    assert [clip.clip_index for clip in (first, *rest)] == [0, 1, 2]
    for a, b in zip((first, *rest), undisturbed, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)


def test_a_file_whose_children_die_twice_is_refused():
    with Decoder(96, 224) as decoder:
        clips = decoder.decode(VIDEOS / "h264_25fps.mp4")
        next(clips)
        os.kill(decoder.child_pid, signal.SIGKILL)
        next(clips)
        os.kill(decoder.child_pid, signal.SIGKILL)
        with pytest.raises(VideoRefused, match="crashed on this file, twice"):
            list(clips)


def test_a_hung_child_is_killed_and_the_next_video_is_read():
    with Decoder(96, 224, DecodeLimits(stall_s=10.0)) as decoder:
        clips = decoder.decode(VIDEOS / "h264_25fps.mp4")
        next(clips)
        pid = decoder.child_pid
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(VideoRefused, match="no progress for 10 s"):
            list(clips)

        assert not os.path.exists(f"/proc/{pid}")
        assert len(list(decoder.decode(VIDEOS / "short_7s.mp4"))) == 1


def test_a_child_that_wants_too_much_memory_is_refused():
    with Decoder(96, 224, DecodeLimits(memory_bytes=150 * 2**20)) as decoder, pytest.raises(VideoRefused):
        list(decoder.decode(VIDEOS / "h264_25fps.mp4"))


def test_closing_leaves_no_process():
    decoder = Decoder(4, 32)
    clips = decoder.decode(VIDEOS / "h264_25fps.mp4")
    next(clips)
    pids = [decoder.child_pid, decoder._waiting.pid]
    decoder.close()

    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_child_says_nothing_of_a_file_on_any_stream(tmp_path, capfd):
    path = tmp_path / "canary-name.mp4"
    path.write_bytes((VIDEOS / "corrupt_middle.mp4").read_bytes())
    with Decoder(4, 32) as decoder, pytest.raises(VideoRefused) as refused:
        list(decoder.decode(path))

    assert "canary" not in str(refused.value)
    assert capfd.readouterr() == ("", "")


def test_anamorphic_pixels_are_shown_in_their_true_shape():
    """Of a picture whose pixels are twice as wide as high, a square shows half as many columns."""
    facts = probe(VIDEOS / "short_7s.mp4")
    wide = replace(facts, pixel_aspect=facts.pixel_aspect * 2)
    normal, stretched = (
        next(decode_clips(VIDEOS / "short_7s.mp4", f, 4, 120)).frames[0].astype(int) for f in (facts, wide)
    )

    # The middle 120 of 240 columns of the normal square, spread over the whole one.
    spread = np.repeat(normal[:, 30:90], 2, axis=1)
    assert np.abs(stretched - spread).mean() < 12
    assert np.abs(stretched - normal).mean() > 12
