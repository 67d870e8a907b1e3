"""Legitimate files that are easily read wrong, and damage that is easily missed."""

import subprocess
import sys
from pathlib import Path

import av
import pytest

from encoder.video.decoder import SAMPLE, DecodeLimits, Decoder
from encoder.video.probe import probe
from index.errors import StateError, VideoRefused
from tests.encoder.video.awkward import write
from tests.encoder.video.barcode import HALVES, SIZE, expected_clips, read_numbers
from tests.waiting import until

X264 = "x264-params"
KINDS = {
    "open GOP.mp4": {"options": {X264: "open-gop=1:keyint=50:bframes=3"}},
    "open GOP.mkv": {"options": {X264: "open-gop=1:keyint=50:bframes=3"}},
    "intra refresh.mp4": {"options": {X264: "intra-refresh=1:keyint=50"}},
    "intra refresh.mkv": {"options": {X264: "intra-refresh=1:keyint=50"}},
    "B-frames.mp4": {"codec": "mpeg4", "options": {"b": "2M"}, "b_frames": 2},
    "B-frames.mov": {"codec": "mpeg4", "options": {"b": "2M"}, "b_frames": 2},
    "x264 B-frames.avi": {"options": {X264: "bframes=3"}},
    "msmpeg4.avi": {"codec": "msmpeg4", "options": {"b": "2M"}},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": {"b": "2M"}},
    "vp8.webm": {"codec": "libvpx", "options": {"b": "1M", "deadline": "realtime"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
}


def numbers_of(path, num_frames=24):
    with Decoder(num_frames, SIZE) as decoder:
        left, right = (list(decoder.decode(path, crop)) for crop in HALVES)
    return [(a.start_s, a.valid_seconds, read_numbers(a.frames, b.frames)) for a, b in zip(left, right, strict=True)]


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_stream_gives_the_right_frames(tmp_path, name):
    path = write(tmp_path / name, **KINDS[name])

    assert numbers_of(path) == expected_clips({"frames": 300, "fps": "25", "seconds": 12.0}, 24)


def test_titles_that_are_not_utf8_do_not_matter(tmp_path):
    path = write(tmp_path / "x.mp4", frames=range(50))
    data = path.read_bytes()
    with av.open(str(path)) as container, av.open(str(tmp_path / "titled.mp4"), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        out.metadata["title"] = "Muenchen"
        for packet in container.demux(container.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = (tmp_path / "titled.mp4").read_bytes().replace(b"Muenchen", b"M\xfcnchen ")
    path.write_bytes(data)

    assert b"M\xfcnchen" in data
    assert len(numbers_of(path)) == 1


def test_a_stream_that_begins_between_key_frames_begins_with_its_first_picture(tmp_path):
    """Cut at a transport packet, as a recorder does: what comes before the first key frame can't be shown."""
    whole = write(tmp_path / "whole.ts", options={X264: "keyint=50:min-keyint=50:scenecut=0:bframes=0"})
    data = whole.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[: 188 * 3] + data[len(data) // 3 // 188 * 188 :])

    clips = numbers_of(cut, 12)

    first = clips[0][2][0]
    step = clips[0][1] * 25 / 12
    assert all(abs(n - (first + i * step)) <= 1 for i, n in enumerate(clips[0][2]))
    facts = probe(cut)
    assert facts.exact_clock
    assert len(facts.timeline.ticks) in {200, 150}


def test_two_recordings_in_one_file_are_refused(tmp_path):
    one = write(tmp_path / "one.ts", frames=range(100))
    two = write(tmp_path / "two.ts", frames=range(1000, 1100))
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + two.read_bytes())

    with Decoder(4, 32) as decoder, pytest.raises(VideoRefused):
        list(decoder.decode(both))


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "av.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "queue.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.mp4", frames=range(50))

    assert len(numbers_of(tmp_path / "x.mp4")) == 1
    assert not (tmp_path / "ran").exists()


def test_an_installation_that_cannot_decode_blames_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Decoder(4, 32) as decoder, pytest.raises(StateError, match="not even one that is known to be whole"):
        list(decoder.decode(write(tmp_path / "x.mp4", frames=range(50))))


def child_that(folder, does):
    """A decoding child that does this with any file but the one that shows whether decoding works at all."""
    fake = folder / "python"
    real = f"printf '%s\\n' \"$line\" | {sys.executable} -P -m encoder.video.worker | {{ read -r _; cat; }}; exit"
    fake.write_text(
        f'#!/bin/sh\necho \'{{"event": "ready"}}\'\nread -r line\ncase "$line" in *{SAMPLE}*) {real};; esac\n{does}\n'
    )
    fake.chmod(0o755)
    return fake


@pytest.mark.parametrize(
    "answer",
    [
        *("garbage", "{}", '{"event": "clip"}', "x" * 100_000, "[" * 50_000),
        *('{"event": "planned", "clips": Infinity}', '{"event": "picture", "width": 2, "height": 2}'),
        *('{"event": "ready"}', '{"event": "planned", "clips": 100000}', '{"event": "planned", "clips": 0}'),
        '{"event": "planned", "clips": 5}\\n{"event": "done"}',
    ],
)
def test_a_child_that_does_not_keep_to_the_protocol_is_not_believed(tmp_path, monkeypatch, answer):
    fake = child_that(tmp_path, f"printf '%s\\n' '{answer}'")
    path = write(tmp_path / "x.mp4", frames=range(50))
    monkeypatch.setattr(sys, "executable", str(fake))

    with Decoder(4, 32, DecodeLimits(stall_s=60)) as decoder, pytest.raises(VideoRefused, match="crashed on this file"):
        list(decoder.decode(path))


@pytest.mark.parametrize(
    ("index", "start_s", "valid_s"),
    [(0, "NaN", 10), (0, 0, "NaN"), (0, "Infinity", 10), (0, 0, 1e300), (-1, -10, 10), (1, 10, 10), (2**63, 0, 10)],
)
def test_a_clip_that_can_be_none_is_not_believed(tmp_path, monkeypatch, index, start_s, valid_s):
    said = f'{{"event": "clip", "clip_index": {index}, "start_s": {start_s}, "valid_seconds": {valid_s}, "reader": ""}}'
    planned = '{"event": "planned", "clips": 9}'
    fake = child_that(tmp_path, f"printf '%s\\n' '{planned}' '{said}'; head -c 100000 /dev/zero")
    monkeypatch.setattr(sys, "executable", str(fake))

    with Decoder(4, 32) as decoder, pytest.raises(VideoRefused, match="crashed on this file"):
        list(decoder.decode(write(tmp_path / "x.mp4", frames=range(50))))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("=HYPERLINK(1)", "HYPERLINK(1)"),
        ("\\u001b[31m red\\u0000", "[31m red"),
        ("\\ud800", "the decoder gave no reason"),
        ("x" * 60_000, "x" * 500),
    ],
)
def test_a_reason_for_a_refusal_is_words_that_can_be_shown(tmp_path, monkeypatch, said, told):
    refused = f'{{"event": "refused", "reason": "{said}", "damaged": false}}'
    fake = child_that(tmp_path, f"cat <<'END'\n{refused}\nEND")
    monkeypatch.setattr(sys, "executable", str(fake))

    with Decoder(4, 32) as decoder, pytest.raises(VideoRefused) as error:
        list(decoder.decode(write(tmp_path / "x.mp4", frames=range(50))))
    assert str(error.value) == told


def test_a_child_shows_one_picture_and_that_before_any_clip(tmp_path, monkeypatch):
    """A second one could change the crop in the middle of a video."""
    picture = '{"event": "picture", "width": 1, "height": 1}'
    fake = child_that(tmp_path, f"while true; do printf '%s\\nRGB' '{picture}'; read line; done")
    path = write(tmp_path / "x.mp4", frames=range(50))
    monkeypatch.setattr(sys, "executable", str(fake))
    seen = []

    with Decoder(4, 32, DecodeLimits(stall_s=60)) as decoder, pytest.raises(VideoRefused, match="crashed on this file"):
        list(decoder.decode(path, seen.append))
    assert [picture.shape for picture in seen] == [(1, 1, 3)] * 2  # once for each attempt


def test_signs_of_life_do_not_prolong_the_time_that_a_video_may_take(tmp_path, monkeypatch):
    alive = "printf '%s\\n' '{\"event\": \"alive\"}'"
    planned = 'printf \'%s\\n\' \'{"event": "planned", "clips": 9}\''
    fake = child_that(tmp_path, f"{planned}; while true; do {alive}; sleep .2; done")
    path = write(tmp_path / "x.mp4", frames=range(50))
    monkeypatch.setattr(sys, "executable", str(fake))
    limits = DecodeLimits(stall_s=2.0, clip_s=0.1)

    with (
        Decoder(0, 0, limits) as decoder,
        pytest.raises(VideoRefused, match=r"longer than the 2\.9 s that a video may"),
    ):
        decoder.preview(path)


def test_a_long_file_is_looked_through_for_as_long_as_that_goes_on(tmp_path, monkeypatch):
    """On a slow machine it takes longer than a child may say nothing."""
    looking = "printf '%s\\n' '{\"event\": \"looking\"}'"
    refused = '{"event": "refused", "reason": "seen to its end", "damaged": false}'
    fake = child_that(tmp_path, f"for look in 1 2 3 4 5 6; do {looking}; sleep .5; done; printf '%s\\n' '{refused}'")
    path = write(tmp_path / "x.mp4", frames=range(50))
    monkeypatch.setattr(sys, "executable", str(fake))

    with Decoder(4, 32, DecodeLimits(stall_s=2.0)) as decoder, pytest.raises(VideoRefused, match="seen to its end"):
        list(decoder.decode(path))
    with (
        Decoder(4, 32, DecodeLimits(stall_s=2.0, look_s=0.05)) as decoder,
        pytest.raises(VideoRefused, match=r"longer than the 2\.\d+ s that a video may"),
    ):
        list(decoder.decode(path))


def test_a_child_dies_with_its_parent(tmp_path):
    code = f"""
from pathlib import Path
from encoder.video.decoder import Decoder
decoder = Decoder(96, 224)
clips = decoder.decode(Path({str(write(tmp_path / "x.mp4"))!r}))
next(clips)
print(decoder.child_pid, flush=True)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)

    until(lambda: not lives(pid))


def lives(pid):
    """Whether a process is there, and not just waiting for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
