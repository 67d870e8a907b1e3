"""One recording has one patient, ids that look alike are asked about, and what shows nothing has no say."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from encoder.job.identity import doubtful_ids
from encoder.job.pipeline import encode, encode_with, local_engine
from encoder.manifest import read_manifest
from encoder.model.embed import Embedder
from encoder.picture import shows_nothing
from encoder.video.writer import write_h264
from index.custody.doctor import WARNING, examine
from index.near_misses import like, near_misses
from index.records import Video
from index.tables.store import Store
from tests.conftest import DATA


@pytest.fixture
def job(tiny_encoder, workspace):
    """`job(manifest, same_recording=False)` encodes with the tiny encoder and returns the report."""
    embedder = Embedder(tiny_encoder)

    def run(manifest, *, same_recording=False):
        from encoder.job.pipeline import EncodeOptions

        engine = local_engine(embedder, EncodeOptions())
        rows = read_manifest(manifest)
        return encode_with(engine, rows, tiny_encoder, Store(workspace), same_recording=same_recording)

    return run


def copy_of(hospital, name, under):
    """A manifest row's file under another name, beside it."""
    folder = hospital().parent
    shutil.copy(DATA / "videos" / name, folder / under)
    return under


def test_the_same_file_for_another_patient_is_refused_by_name(hospital, job, workspace):
    job(hospital(("short_7s.mp4", "p1", "v1")))
    copy = copy_of(hospital, "short_7s.mp4", "monday.mp4")

    report = job(hospital((copy, "p2", "v2"), ("h264_25fps.mp4", "p2", "v3")))

    assert [(one.video_id, "stored already as v1 of another patient" in one.reason) for one in report.refused] == [
        ("v2", True)
    ]
    assert set(Store(workspace).videos()) == {"v1", "v3"}


def test_of_two_rows_with_one_file_neither_is_believed(hospital, job, workspace):
    copy = copy_of(hospital, "short_7s.mp4", "again.mp4")

    report = job(hospital(("short_7s.mp4", "p1", "v1"), (copy, "p2", "v2"), ("h264_25fps.mp4", "p3", "v3")))

    assert sorted(one.video_id for one in report.refused) == ["v1", "v2"]
    assert set(Store(workspace).videos()) == {"v3"}


def test_a_reason_lets_it_be_stored_and_the_doctor_still_tells(hospital, job, workspace):
    copy = copy_of(hospital, "short_7s.mp4", "again.mp4")

    report = job(hospital(("short_7s.mp4", "p1", "v1"), (copy, "p2", "v2")), same_recording=True)
    again = job(hospital(("short_7s.mp4", "p1", "v1"), (copy, "p2", "v2")))

    assert (report.refused, report.same_content) == ([], [("v1", "v2")])
    assert (again.refused, again.clips_skipped) == ([], 2)
    told = [one for one in examine(workspace) if one.what == "same recording"]
    assert [(one.state, "v1, v2 are the same file of several patients" in one.says) for one in told] == [
        (WARNING, True)
    ]


def test_a_correction_of_whose_it_is_meets_the_other_copy(hospital, job, workspace):
    copy = copy_of(hospital, "short_7s.mp4", "again.mp4")
    job(hospital(("short_7s.mp4", "p1", "v1"), (copy, "p1", "v2")))

    report = job(hospital(("short_7s.mp4", "p1", "v1"), (copy, "p2", "v2")))

    assert [one.video_id for one in report.refused] == ["v2"]
    assert {video.patient_id for video in Store(workspace).videos().values()} == {"p1"}


def test_a_patient_may_be_corrected(hospital, job, workspace):
    job(hospital(("short_7s.mp4", "p1", "v1")))

    report = job(hospital(("short_7s.mp4", "p2", "v1")))

    assert (report.refused, report.videos_updated) == ([], 1)
    assert Store(workspace).videos()["v1"].patient_id == "p2"


def test_a_misspelled_id_of_the_same_patient_is_told(hospital, job):
    job(hospital(("short_7s.mp4", "p1", "siezure-1")))

    report = job(hospital(("short_7s.mp4", "p1", "seizure-1")))

    assert (report.refused, report.same_content) == ([], [("seizure-1", "siezure-1")])


def test_a_file_has_one_name(hospital):
    folder = hospital().parent
    (folder / "m.csv").write_text("file_name,patient_id,video_id\n./x.mp4,p1,v1\nx.mp4,p2,v2\n")

    with pytest.raises(Exception, match="stands in row 2 too"):
        read_manifest(folder / "m.csv")


@pytest.mark.parametrize("other", ["p1", "P-01", "p_001", "P.1", "\uff301", "P 01"])
def test_ids_that_differ_as_typing_errors_do_are_alike(other):
    assert like("P01", {other, "P02", "P011", "PA01"}) == {other}


@pytest.mark.parametrize(("one", "other"), [("s1-1", "s11"), ("p1", "p10"), ("p1", "q1"), ("v1a", "v1b"), ("10", "1")])
def test_ids_that_differ_otherwise_are_not(one, other):
    assert near_misses({one, other}) == []


def test_near_misses_are_looked_for_in_the_manifest_and_the_store():
    rows = (
        SimpleNamespace(patient_id="P01", video_id="a-1", split="Train"),
        SimpleNamespace(patient_id="p1", video_id="a-2", split="train"),
        SimpleNamespace(patient_id="p3", video_id="b-1", split=""),
    )
    stored = {"A1": Video("A1", "p03", "0" * 64, split="train")}

    found = doubtful_ids(SimpleNamespace(rows=rows), stored)

    assert found == ["patient_id: P01, p1", "patient_id: p03, p3", "video_id: A1, a-1", "split: Train, train"]


def pictures(kind, count=45):
    random = np.random.default_rng(0)
    still = random.integers(0, 255, (64, 64, 3), np.uint8)
    for number in range(count):
        if kind == "black":
            yield np.zeros((64, 64, 3), np.uint8)
        elif kind == "blue":
            yield np.full((64, 64, 3), (0, 0, 200), np.uint8)
        elif kind == "still":
            yield still
        else:
            moving = np.full((64, 64, 3), 16, np.uint8)
            moving[20 : 36 + number % 8, 20:40] = 40
            yield moving


@pytest.mark.parametrize(("kind", "nothing"), [("black", True), ("blue", True), ("still", True), ("dark room", False)])
def test_what_shows_nothing_is_told_from_a_dark_room(kind, nothing):
    assert shows_nothing(np.stack(list(pictures(kind)))) is nothing


def test_a_black_clip_is_stored_and_neither_found_nor_judged(hospital, job, workspace, tiny_encoder):
    folder = hospital().parent
    write_h264(folder / "half.mp4", [*pictures("black", 150), *pictures("dark room", 150)], 15, 64, 64)
    write_h264(folder / "black.mp4", pictures("black", 150), 15, 64, 64)

    report = job(hospital(("half.mp4", "p1", "v1"), ("black.mp4", "p2", "v2"), ("short_7s.mp4", "p3", "v3")))
    again = job(hospital(("half.mp4", "p1", "v1"), ("black.mp4", "p2", "v2"), ("short_7s.mp4", "p3", "v3")))

    store = Store(workspace)
    assert (report.clips_written, report.clips_blank, again.clips_skipped) == (4, 2, 4)
    assert {name: video.clip_count for name, video in store.videos().items()} == {"v1": 2, "v2": 1, "v3": 1}
    assert [(c.video_id, c.clip_index) for c in store.clips(tiny_encoder.encoder_id).clips] == [("v1", 1), ("v3", 0)]
    assert {one.state for one in examine(workspace)} == {"ok"}


def test_encode_takes_the_library_way_too(hospital, tiny_encoder, workspace):
    encode(read_manifest(hospital(("short_7s.mp4", "p1", "v1"))), Embedder(tiny_encoder), Store(workspace))

    assert set(Store(workspace).videos()) == {"v1"}
