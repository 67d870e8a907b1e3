"""Clips that overlap: the same ten seconds are one clip with every stride, and what is stored stays unless asked."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from encoder.clips import LastClip
from encoder.job.dry_run import dry_run
from encoder.job.pipeline import EncodeOptions, encode
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.model.folder import load_encoder, save_encoder
from encoder.model.identity import identified
from index.errors import InvalidInput
from index.query import VideoQuery
from index.search.loader import SnapshotLoader
from index.search.search import search
from index.tables.store import Store
from index.workspace import Workspace
from tests.conftest import publish_all

ROWS = (("h264_25fps.mp4", "p1", "v1"), ("short_7s.mp4", "p2", "v2"))


@pytest.fixture
def job(tiny_encoder, workspace):
    """`job(manifest, stride)` encodes with the tiny encoder and returns the report."""
    embedder = Embedder(tiny_encoder)

    def run(manifest, stride=None):
        return encode(read_manifest(manifest).every(stride), embedder, Store(workspace), EncodeOptions())

    return run


def stored(workspace, encoder):
    """What is stored of each video: (start, valid seconds, id, vector) of each clip."""
    found = Store(workspace).clips(encoder.encoder_id)
    by_video = {}
    for clip, vector in zip(found.clips, found.vectors, strict=True):
        by_video.setdefault(clip.video_id, []).append((clip.start_s, clip.valid_seconds, clip.clip_id, vector))
    return by_video


def test_the_same_ten_seconds_are_the_same_clip_with_every_stride(hospital, job, workspace, tiny_encoder):
    manifest = hospital(*ROWS)
    job(manifest)
    plain = stored(workspace, tiny_encoder)

    report = job(manifest, 5)

    dense = stored(workspace, tiny_encoder)
    assert (report.videos_written, report.clips_written, report.refused) == (2, 5, [])
    assert [clip[:2] for clip in dense["v1"]] == [(0.0, 10.0), (5.0, 10.0), (10.0, 10.0), (14.0, 10.0)]
    known = {clip[2]: clip for clip in dense["v1"]}
    for start, valid, name, vector in plain["v1"]:
        assert known[name][:2] == (start, valid)
        np.testing.assert_array_equal(known[name][3], vector)
    assert [clip[:3] for clip in dense["v2"]] == [clip[:3] for clip in plain["v2"]]
    video = Store(workspace).videos()["v1"]
    assert (video.clip_count, video.duration_s) == (4, 24.0)


def test_a_stride_stays_until_another_is_asked_for(hospital, job, workspace, tiny_encoder):
    manifest = hospital(*ROWS)
    job(manifest, 2.5)
    dense = stored(workspace, tiny_encoder)

    again, same = job(manifest), job(manifest, 2.5)

    assert (again.clips_written, again.clips_skipped) == (same.clips_written, same.clips_skipped) == (0, 8)
    assert stored(workspace, tiny_encoder).keys() == dense.keys()
    back = job(manifest, 10)
    assert (back.videos_written, back.clips_written) == (2, 4)
    assert [clip[0] for clip in stored(workspace, tiny_encoder)["v1"]] == [0.0, 10.0, 14.0]


@pytest.mark.parametrize("stride", [0, 0.4, 10.1, -1, float("nan"), float("inf"), 1.2345])
def test_a_stride_that_is_none_is_refused(hospital, stride):
    with pytest.raises(InvalidInput, match=r"a stride of 0\.5 to 10 s"):
        read_manifest(hospital(*ROWS)).every(stride)


def test_a_dry_run_counts_the_clips_and_hours_that_there_will_be(hospital, workspace, tiny_encoder):
    rows = read_manifest(hospital(*ROWS)).every(0.5)

    forecast = dry_run(rows, Embedder(tiny_encoder), Store(workspace), EncodeOptions())

    assert (forecast.videos, forecast.clips) == (2, 30)
    assert forecast.hours == pytest.approx(31 / 3600)


def test_a_part_of_a_file_has_clips_from_its_own_beginning(hospital, job, workspace, tiny_encoder):
    columns = ("file_name", "patient_id", "video_id", "start_s", "end_s")
    manifest = hospital(("h264_25fps.mp4", "p1", "v1", "1.5", "20.75"), columns=columns)

    job(manifest, 4)

    assert [clip[:2] for clip in stored(workspace, tiny_encoder)["v1"]] == [
        (0.0, 10.0),
        (4.0, 10.0),
        (8.0, 10.0),
        (9.25, 10.0),
    ]
    assert job(manifest).clips_written == 0


def test_what_overlaps_is_found_once(hospital, job, workspace, tiny_encoder):
    manifest = hospital(*ROWS, ("h264_ntsc.mp4", "p3", "v3"))
    job(manifest, 1)
    publish_all(workspace, tiny_encoder.encoder_id)
    snapshot = SnapshotLoader(workspace).snapshot

    hits = search(snapshot, VideoQuery("v2"), 50).neighbours

    spans = {}
    for hit in hits:
        spans.setdefault(hit.clip.video_id, []).append((hit.clip.start_s, hit.clip.start_s + hit.clip.valid_seconds))
    assert spans.keys() == {"v1", "v3"}
    for of_video in spans.values():
        ordered = sorted(of_video)
        assert all(a[1] <= b[0] + 1e-3 for a, b in pairwise(ordered))


def test_an_encoder_of_before_keeps_its_id_and_its_last_clips(hospital, tmp_path, tiny_encoder):
    older = identified(tiny_encoder.model, "older", trained=False, last_clip=LastClip.STRETCHED)
    assert older.encoder_id != tiny_encoder.encoder_id
    folder = save_encoder(older, tmp_path / "encoders")
    found = load_encoder(folder)
    assert (found.encoder_id, found.last_clip) == (older.encoder_id, LastClip.STRETCHED)
    workspace = Workspace(tmp_path / "workspace")

    encode(read_manifest(hospital(*ROWS)), Embedder(found), Store(workspace), EncodeOptions())

    assert [clip[:2] for clip in stored(workspace, found)["v1"]] == [(0.0, 10.0), (10.0, 10.0), (20.0, 4.0)]


@pytest.mark.parametrize("spoil", ["[]", '{"semiome": 3}', "{}"])
def test_a_folder_that_says_nothing_of_the_last_clip_is_of_other_software(tmp_path, tiny_encoder, spoil):
    folder = save_encoder(tiny_encoder, tmp_path)
    (folder / "preprocessor_config.json").write_text(spoil)

    assert load_encoder(folder).encoder_id == tiny_encoder.encoder_id


def test_a_way_to_choose_frames_that_is_not_known_is_refused(tmp_path, tiny_encoder):
    folder = Path(save_encoder(tiny_encoder, tmp_path))
    values = json.loads((folder / "preprocessor_config.json").read_text())
    values["semiome"]["sampling"] = "at random"
    (folder / "preprocessor_config.json").write_text(json.dumps(values))

    with pytest.raises(InvalidInput, match="does not know"):
        load_encoder(folder)
