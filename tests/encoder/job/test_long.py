"""A recording of 26 hours: killed twice it ends with the table of an undisturbed job, in bounded memory."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from index.custody.erasure import erase_patient
from index.custody.removal import remove_videos
from index.errors import Locked, NotFound
from index.files import side_file
from index.tables.store import Store
from index.tables.unfinished import Unfinished
from index.workspace import Workspace
from tests.conftest import commit, make_video

FPS, MINUTE = 25, 60
ROOT = Path(__file__).parents[3]
JOB = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.encoder.job.encode_worker import job
class Ready:
    def send_bytes(self, data): pass
job(*sys.argv[1:], Ready())
"""


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """A minute of a small picture that changes, in pieces of two seconds that need nothing of each other."""
    path = tmp_path_factory.mktemp("minute") / "minute.mp4"
    random = np.random.default_rng(0)
    scenes = random.integers(0, 255, (MINUTE, 6, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    with av.open(str(path), "w") as out:
        options = {"g": str(2 * FPS), "x264-params": "scenecut=0:open-gop=0:bframes=0"}
        stream = out.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(MINUTE * FPS):
            picture = np.roll(scenes[number // FPS], number, axis=1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def repeated(minute, path, times):
    """The same minute again and again, its packets copied."""
    with av.open(str(minute)) as source:
        kept = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(video=0) if p.size]
        length = round(MINUTE / source.streams.video[0].time_base)
        with av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for turn in range(times):
                for data, pts, dts, key in kept:
                    packet = av.Packet(data)
                    packet.pts, packet.dts = pts + turn * length, dts + turn * length
                    packet.time_base, packet.stream, packet.is_keyframe = source.streams.video[0].time_base, stream, key
                    out.mux(packet)
    return path


def encode_once(minute, tmp_path, encoder):
    """Vectors of the six clips of the minute."""
    folder = tmp_path / "once"
    folder.mkdir()
    (folder / "minute.mp4").write_bytes(minute.read_bytes())
    (folder / "manifest.csv").write_text("file_name,patient_id,video_id\nminute.mp4,p1,v1\n")
    workspace = Workspace(tmp_path / "once-workspace")
    encode(read_manifest(folder / "manifest.csv"), Embedder(encoder), Store(workspace), EncodeOptions())
    return Store(workspace).clips(encoder.encoder_id).vectors


def memory_of(pid):
    """Bytes that a process and its children hold."""
    found = 0
    for one in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        try:
            found += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.slow
def test_a_recording_of_26_hours_killed_twice_ends_with_the_same_table(minute, tmp_path, tiny_encoder):
    hours, workspace = 26, tmp_path / "workspace"
    folder = tmp_path / "hospital"
    folder.mkdir()
    repeated(minute, folder / "day.mp4", hours * 60)
    (folder / "manifest.csv").write_text("file_name,patient_id,video_id\nday.mp4,p1,v1\n")
    clips, record, most = hours * 360, tmp_path / "record.log", 0
    command = [
        sys.executable,
        "-c",
        JOB.format(root=str(ROOT)),
        str(folder / "manifest.csv"),
        str(workspace),
        str(record),
    ]

    def embedded():
        return record.stat().st_size // 65 if record.exists() else 0

    for kill_at in (clips // 3, 2 * clips // 3, None):
        with subprocess.Popen(command, cwd=tmp_path) as process:
            while process.poll() is None and (kill_at is None or embedded() < kill_at):
                most = max(most, memory_of(process.pid))
                time.sleep(0.05)
            if kill_at is not None:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == (0 if kill_at is None else -signal.SIGKILL)

    stored = Store(Workspace(workspace)).clips(tiny_encoder.encoder_id)
    assert [clip.start_s for clip in stored.clips] == [10.0 * number for number in range(clips)]
    wanted = encode_once(minute, tmp_path, tiny_encoder)
    np.testing.assert_array_equal(stored.vectors, np.tile(wanted, (hours * 60, 1)))
    assert clips <= embedded() <= clips + 2 * 8  # what was in flight is embedded again, and nothing else
    assert most < 1.5e9, f"{most / 1e9:.2f} GB"
    assert not Workspace(workspace).unfinished.exists()


# What is kept until a video is stored


def kept_video(workspace, count=5, patient=1):
    """A video whose clips are kept, and these."""
    workspace.root.mkdir(parents=True, exist_ok=True)
    video, clips = make_video(patient, 0, count, np.random.default_rng(patient), width=8)
    for one in clips:
        Unfinished(workspace).keep("enc1", video.source_sha256, one)
    return video, clips


def kept_of(workspace, video):
    """(clip, crop, vector) of each clip that is kept."""
    found = Unfinished(workspace).clips("enc1", video.video_id, video.source_sha256)
    return [(one.clip, one.crop, one.vector.tobytes()) for one in found]


def test_kept_clips_come_back_as_far_as_there_is_no_gap(workspace):
    video, clips = kept_video(workspace)
    Unfinished(workspace).keep("enc2", video.source_sha256, clips[0])

    assert kept_of(workspace, video) == [(one.clip, one.crop, one.vector.tobytes()) for one in clips]
    with sqlite3.connect(workspace.unfinished) as database:
        database.execute("delete from clips where clip_index = 3")
    assert [one[0].clip_index for one in kept_of(workspace, video)] == [0, 1, 2]
    assert Unfinished(workspace).clips("enc1", video.video_id, "f" * 64) == []
    assert workspace.unfinished.stat().st_mode & 0o777 == 0o600


def test_what_is_forgotten_leaves_no_file(workspace):
    one, _ = kept_video(workspace)
    other, clips = kept_video(workspace, patient=2)

    Unfinished(workspace).drop([one.video_id])
    assert (kept_of(workspace, one), len(kept_of(workspace, other))) == ([], len(clips))
    assert Unfinished(workspace).patients() == {other.patient_id}
    Unfinished(workspace).drop_patients({other.patient_id})

    assert not list(workspace.root.glob("unfinished*"))


@pytest.mark.parametrize("content", [b"", b"garbage" * 999, b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_as_good_as_none(workspace, content):
    workspace.root.mkdir(parents=True, exist_ok=True)
    workspace.unfinished.write_bytes(content)

    video, clips = kept_video(workspace)
    video, clips = kept_video(workspace)  # the first may have found the damage

    assert len(kept_of(workspace, video)) == len(clips)


def test_a_folder_in_its_place_costs_no_more_than_what_is_not_kept(workspace):
    workspace.unfinished.mkdir(parents=True)

    video, _ = kept_video(workspace)

    assert kept_of(workspace, video) == []


def test_an_erasure_takes_all_that_is_unfinished_with_it_and_a_removal_its_video(workspace, cohort):
    commit(workspace, cohort)
    video, _ = cohort[0]
    kept_video(workspace, patient=int(video.patient_id[1:]))
    stranger, _ = kept_video(workspace, patient=9)

    remove_videos(workspace, [video.video_id])
    assert Unfinished(workspace).patients() == {stranger.patient_id}
    with pytest.raises(NotFound):
        erase_patient(workspace, stranger.patient_id)  # of whom nothing else is stored
    assert Unfinished(workspace).patients() == set()
    kept_video(workspace, patient=9)
    receipt = erase_patient(workspace, cohort[-1][0].patient_id)

    assert not list(workspace.root.glob("unfinished*"))
    assert {"place": "unfinished.sqlite", "action": "removed"} in receipt["places"]


def test_an_erasure_that_cannot_reach_unfinished_clips_says_so(workspace, cohort, monkeypatch):
    commit(workspace, cohort)
    stranger, _ = kept_video(workspace, patient=9)
    monkeypatch.setattr(side_file, "_WAIT_S", 0.1)
    with closing(sqlite3.connect(workspace.unfinished)) as other:
        other.execute("begin immediate")
        with pytest.raises(Locked, match="unfinished videos"):
            erase_patient(workspace, stranger.patient_id)
    assert Unfinished(workspace).patients() == {stranger.patient_id}


@pytest.fixture
def long_manifest(minute, hospital):
    """Eleven minutes: long enough to be kept."""
    path = hospital(("short_7s.mp4", "p2", "v2"))
    repeated(minute, path.parent / "long.mp4", 11)
    path.write_text(path.read_text() + "\nlong.mp4,p1,v1")
    return path


def stopped_after(encoder, manifest, workspace, clips, stride=None):
    """A job that ends with an error after so many clips of the long video."""

    class Stops(Embedder):
        left = clips

        def embed(self, frames):
            raise AssertionError

        def begin(self, frames):
            if self.left <= 0:
                raise ZeroDivisionError
            self.left -= len(frames)
            return super().begin(frames)

    with pytest.raises(ZeroDivisionError):
        encode(read_manifest(manifest).every(stride), Stops(encoder), Store(workspace), EncodeOptions(batch=1))


def run_on(encoder, manifest, workspace, stride=None, **options):
    return encode(read_manifest(manifest).every(stride), Embedder(encoder), Store(workspace), EncodeOptions(**options))


def test_only_what_is_missing_is_embedded_and_all_of_it_is_stored(long_manifest, workspace, tiny_encoder):
    stopped_after(tiny_encoder, long_manifest, workspace, 40)
    assert 30 < len(Unfinished(workspace).clips(tiny_encoder.encoder_id, "v1", source_of(long_manifest))) <= 40

    report = run_on(tiny_encoder, long_manifest, workspace)

    assert report.clips_embedded <= 66 - 30
    assert {name: video.clip_count for name, video in Store(workspace).videos().items()} == {"v1": 66, "v2": 1}
    whole = Workspace(workspace.root.parent / "whole")
    run_on(tiny_encoder, long_manifest, whole)
    one, other = (Store(place).clips(tiny_encoder.encoder_id) for place in (workspace, whole))
    assert list(one.clips) == list(other.clips)
    np.testing.assert_array_equal(one.vectors, other.vectors)
    assert not workspace.unfinished.exists()


def source_of(manifest):
    return hashlib.sha256((manifest.parent / "long.mp4").read_bytes()).hexdigest()


@pytest.mark.parametrize("change", ["file", "stride", "crop", "patient"])
def test_nothing_is_used_that_was_made_otherwise(long_manifest, workspace, tiny_encoder, change):
    stopped_after(tiny_encoder, long_manifest, workspace, 40)
    stride = None
    if change == "file":
        with (long_manifest.parent / "long.mp4").open("ab") as film:
            film.write(b"\0\0\0\x08free")
    elif change == "stride":
        stride = 5
    else:
        text = long_manifest.read_text()
        header, rest = text.split("\n", 1)
        rows = (
            rest.replace("long.mp4,p1", "long.mp4,p7")
            if change == "patient"
            else rest.replace("\n", ",\n") + ",0 0 32 32"
        )
        long_manifest.write_text(f"{header}{',crop' if change == 'crop' else ''}\n{rows}")

    report = run_on(tiny_encoder, long_manifest, workspace, stride)

    assert report.refused == []
    assert report.clips_embedded == report.clips_written
    assert report.clips_written + report.clips_skipped >= 67


def test_a_day_that_is_found_damaged_late_is_salvaged_without_being_embedded_again(
    minute, long_manifest, workspace, tiny_encoder
):
    film = repeated(minute, long_manifest.parent / "long.mp4", 25)
    data = bytearray(film.read_bytes())
    media = data.index(b"mdat")
    at = media + int(0.6 * (len(data) - media))
    data[at : at + 3000] = bytes(3000)
    film.write_bytes(data)
    first = run_on(tiny_encoder, long_manifest, workspace)
    assert [refusal.video_id for refusal in first.refused] == ["v1"]
    assert first.clips_embedded > 60

    report = run_on(tiny_encoder, long_manifest, workspace, salvage=True)

    assert [refusal.video_id for refusal in report.salvaged] == ["v1"]
    assert report.clips_embedded == 0
    assert Store(workspace).videos()["v1"].clip_count == report.clips_written > 60
