"""Parts of a file as videos of their own: the frames of the whole file at the same moments, and no others decoded."""

import re

import av
import numpy as np
import pytest

from encoder.clips import Segment, Source
from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.video import frames as reading_frames
from encoder.video.decoder import Decoder
from encoder.video.frames import frames_of
from encoder.video.probe import look_through, probe
from index.errors import VideoRefused
from index.tables.store import Store
from tests.conftest import DATA, EXPECTED
from tests.encoder.video.awkward import write
from tests.encoder.video.barcode import HALVES, SIZE, TURNED_HALVES, expected_clips, read_numbers

VIDEOS = DATA / "videos"
OK = sorted(name for name, facts in EXPECTED.items() if facts["verdict"] == "ok")
SEGMENTS = (Segment(0, 5.5), Segment(3.21), Segment(2.04, 6.3), Segment(4.999, 23.5))


@pytest.fixture(scope="module")
def decoder():
    with Decoder(16, SIZE) as one:
        yield one


def numbers_in(decoder, source, turned=False):
    """(start, valid seconds, frame numbers) of each clip, read from the pictures."""
    left, right = (list(decoder.decode(source, crop)) for crop in (TURNED_HALVES if turned else HALVES))
    shown = [read_numbers(a.frames, b.frames, turned) for a, b in zip(left, right, strict=True)]
    return [(clip.start_s, clip.valid_seconds, numbers) for clip, numbers in zip(left, shown, strict=True)]


@pytest.mark.parametrize("name", OK)
def test_a_segment_gives_exactly_its_clips_and_frames(decoder, name):
    facts = EXPECTED[name]
    length = float(look_through(VIDEOS / name).timeline.duration)
    for segment in SEGMENTS:
        if segment.start_s >= length - 1 or (segment.end_s or 0) > length:
            continue
        expected = expected_clips(facts, 16, segment.start_s, segment.end_s)
        assert expected
        assert numbers_in(decoder, Source(VIDEOS / name, segment=segment), "rotate90" in name) == expected


KINDS = {
    "closed.mp4": {"options": {"g": "50", "x264-params": "scenecut=0"}},
    "open.mkv": {"options": {"g": "25", "x264-params": "open-gop=1:bframes=3:b-pyramid=normal:scenecut=0"}},
    "open.mp4": {"options": {"g": "40", "x264-params": "open-gop=1:bframes=3:scenecut=0"}},
    "refresh.mp4": {"options": {"g": "50", "x264-params": "intra-refresh=1:scenecut=0"}},
    "hevc_open.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=30:open-gop=1:bframes=3:log-level=none"}},
    "one_key_frame.mp4": {"options": {"g": "9999", "x264-params": "scenecut=0"}},
    "stream.ts": {"options": {"g": "25"}},
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_of_a_segment_are_those_of_the_whole_file_to_the_pixel(tmp_path, name):
    path = write(tmp_path / name, **KINDS[name])
    whole = look_through(path).part(Segment())
    everything = [frame.to_ndarray() for _, frame in frames_of(path, whole)]

    for segment in (Segment(0.02, 3), Segment(4.04, 6.2), Segment(7.99), Segment(1.96, 2.04), Segment(11.5, 12)):
        part = look_through(path).part(segment)
        stop = part.first_frame + len(part.timeline.ticks)
        for needed in (None, {1, 2, len(part.timeline.ticks) - 1} & set(range(len(part.timeline.ticks)))):
            shown = dict(frames_of(path, part, needed))
            assert set(shown) >= (set(range(stop - part.first_frame)) if needed is None else needed)
            for number, frame in shown.items():
                assert np.array_equal(frame.to_ndarray(), everything[part.first_frame + number]), (segment, number)


def test_no_more_is_decoded_than_from_the_key_frame_before_a_segment_to_its_end(tmp_path, monkeypatch):
    path = write(tmp_path / "long.mp4", frames=range(3000), options={"g": "50", "x264-params": "scenecut=0"})
    decoded = []
    real = reading_frames.shown_frames

    def counted(*arguments):
        for frame in real(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(reading_frames, "shown_frames", counted)
    part = look_through(path).part(Segment(100.8, 103))

    assert [number for number, _ in frames_of(path, part)] == list(range(55))
    assert 55 <= len(decoded) <= 55 + 50 + 1  # the frame behind the segment tells that it has ended


def test_one_child_looks_through_a_file_for_all_of_its_segments_and_a_new_one_when_the_file_changes(tmp_path):
    path = write(tmp_path / "a.mp4", frames=range(500))
    pids = []
    with Decoder(4, 32) as decoder:
        for start in (0, 4.2, 11, 2.5):
            assert len(list(decoder.decode(Source(path, segment=Segment(start, start + 6))))) == 1
            pids.append(decoder.child_pid)
        assert decoder.open_path == path
        write(path, frames=range(250))
        with pytest.raises(VideoRefused, match=r"from 11 to 17 s is not within the file, which holds 10\.000 s"):
            list(decoder.decode(Source(path, segment=Segment(11, 17))))

    assert len(set(pids)) == 1


def test_a_pause_outside_a_segment_does_not_count_and_one_within_ends_it(tmp_path):
    path = tmp_path / "paused.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "25"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in (*range(250), *range(1000, 1300)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number % 200, np.uint8), format="rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    facts = look_through(path)

    assert facts.part(Segment(41, 51)).damage == ""
    assert facts.part(Segment(2, 9)).damage == ""
    across = facts.part(Segment(2, 45))
    assert "no picture for 30.0 s, 8.0 s in" in across.damage
    assert float(across.timeline.duration) == pytest.approx(8, abs=0.05)
    with pytest.raises(VideoRefused, match="no picture for"):
        facts.part(Segment(15, 45))
    assert "no picture for 30.0 s, 10.0 s in" in probe(path).damage


def test_damage_outside_a_segment_does_not_count(decoder):
    """The file's packets about its 7th second are garbled."""
    path = VIDEOS / "corrupt_middle.mp4"
    with pytest.raises(VideoRefused, match="damaged"):
        list(decoder.decode(path))

    assert [clip.valid_seconds for clip in decoder.decode(Source(path, segment=Segment(0, 5)))] == [5.0]
    with pytest.raises(VideoRefused, match="damaged"):
        list(decoder.decode(Source(path, segment=Segment(5, 12))))


LOSSY = {
    "closed.mkv": {"options": {"g": "50", "x264-params": "scenecut=0"}},
    "open.mkv": {"options": {"g": "25", "x264-params": "open-gop=1:bframes=3:b-pyramid=normal:scenecut=0"}},
    "refresh.mkv": {"options": {"g": "50", "x264-params": "intra-refresh=1:scenecut=0"}},
    "one_key_frame.mkv": {"options": {"g": "9999", "x264-params": "scenecut=0"}},
    "stream.ts": {"options": {"g": "25"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "25", "bf": "2"}},
}


@pytest.mark.parametrize("name", LOSSY)
def test_what_is_shown_of_a_part_behind_lost_pictures_is_right_to_the_pixel(tmp_path, name):
    path = write(tmp_path / name, frames=range(500), **LOSSY[name])
    whole = look_through(path).part(Segment())
    right = dict(zip(whole.timeline.ticks, (f.to_ndarray() for _, f in frames_of(path, whole)), strict=True))
    torn = without_packets(path, tmp_path / f"torn_{name}", set(range(60, 63)) | {201})
    facts = look_through(torn)
    assert facts.misplaced

    shown = 0
    for start in range(0, 16, 2):
        try:
            part = facts.part(Segment(start, start + 3.5))
            pictures = {part.timeline.ticks[number]: frame.to_ndarray() for number, frame in frames_of(torn, part)}
        except VideoRefused as refused:
            assert refused.damaged  # noqa: PT017  of a part that holds what is torn
            continue
        assert all(np.array_equal(picture, right[tick]) for tick, picture in pictures.items()), start
        shown += len(pictures)

    assert shown >= (50 if name in {"one_key_frame.mkv", "refresh.mkv"} else 250)  # all up to the next key frames
    assert re.search(r"about [2-3]\.\d s in", facts.part(Segment()).damage)


def without_packets(source, target, lost):
    """Copy a file but for some of its packets, by their number in decoding order."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for number, packet in enumerate(given.demux(stream)):
            if packet.pts is not None and number not in lost:
                packet.stream = copy
                out.mux(packet)
    return target


def cut_without_decoding(source, target, start, stop):
    """Copy the packets from one key frame to another, as a hospital's cutting tool does."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        first = round(start / stream.time_base)
        last = round(stop / stream.time_base)
        for packet in given.demux(stream):
            if packet.pts is None or not first <= packet.pts < last:
                continue
            packet.stream = copy
            packet.pts -= first
            packet.dts -= first
            out.mux(packet)
    return target


def test_segments_of_one_file_are_embedded_to_the_bit_as_files_cut_from_it(tmp_path, workspace, tiny_encoder):
    options = {"g": "25", "bf": "0", "x264-params": "scenecut=0"}
    recording = write(tmp_path / "recording.mp4", frames=range(1500), options=options)
    parts = {"a": (0, 12), "b": (7, 30), "c": (31, 34), "d": (40, 60)}
    lines = ["file_name,patient_id,video_id,start_s,end_s"]
    for name, (start, stop) in parts.items():
        cut_without_decoding(recording, tmp_path / f"{name}.mp4", start, stop)
        lines += [f"recording.mp4,p1,segment-{name},{start},{stop}", f"{name}.mp4,p1,file-{name},,"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))

    report = encode(read_manifest(tmp_path / "manifest.csv"), Embedder(tiny_encoder), Store(workspace), EncodeOptions())
    stored = Store(workspace).clips(tiny_encoder.encoder_id)

    assert (report.videos_written, report.refused) == (8, [])
    vectors = {name: [] for name in Store(workspace).videos()}
    for clip, vector in zip(stored.clips, stored.vectors, strict=True):
        vectors[clip.video_id].append(vector)
    for name, (start, stop) in parts.items():
        ours, cut = vectors[f"segment-{name}"], vectors[f"file-{name}"]
        assert len(ours) == len(cut) == -(-(stop - start) // 10)
        assert all(np.array_equal(a, b) for a, b in zip(ours, cut, strict=True)), name
