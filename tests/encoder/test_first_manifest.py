"""A first manifest from file names, as units name their videos."""

import os

import pytest

from encoder.job.preflight import look_into
from encoder.manifest import ManifestRow, read_manifest, write_manifest
from encoder.manifest_draft import first_manifest
from index.errors import InvalidInput
from tests.conftest import DATA

FILM = (DATA / "videos" / "short_7s.mp4").read_bytes()


def folder_of(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(FILM)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "patient_id", "video_id", "recorded_at"),
    [
        ("PAT017_20240301_221500.mp4", "PAT017", "PAT017_20240301_221500", "2024-03-01T22:15:00"),
        ("EA0012-2024-03-01T22-15.avi", "EA0012", "EA0012-2024-03-01T22-15", "2024-03-01T22:15:00"),
        ("sub-017_ses-01_task-seizure_run-02_video.mkv", "017", "sub-017_ses-01_task-seizure_run-02_video", ""),
        ("sub-017/ses-01/beh/sub-017_run-1.mp4", "017", "sub-017_run-1", ""),
        ("Bett 3/FA0013WM.MTS", "Bett-3", "FA0013WM", ""),
        ("P9/20240230.mp4", "P9", "20240230", ""),
        ("P9 seizure 2.mp4", "P9", "P9-seizure-2", ""),
    ],
)
def test_a_name_gives_patient_video_and_time(tmp_path, name, patient_id, video_id, recorded_at):
    found = first_manifest(folder_of(tmp_path, name))

    assert found.rows == (ManifestRow(name, patient_id, video_id, recorded_at=recorded_at),)


def test_a_pattern_says_where_the_patient_stands(tmp_path):
    folder = folder_of(tmp_path, "room1/x-P07-1.mp4", "room1/x-P08-1.mp4")

    rows = first_manifest(folder, r"-(P\d+)-").rows

    assert [row.patient_id for row in rows] == ["P07", "P08"]
    with pytest.raises(InvalidInput, match=r"no patient can be told from 2 of the names, such as 'room1/x-P07-1.mp4'"):
        first_manifest(folder, r"sub-(\d+)")
    with pytest.raises(InvalidInput, match="no regular expression"):
        first_manifest(folder, "(")


@pytest.mark.parametrize(
    "names", [("P 1/a.mp4", "P-1/b.mp4"), ("Ärzte/a.mp4", "Ürzte/b.mp4"), ("Mü_1.mp4", "Mö_2.mp4")]
)
def test_two_patients_never_get_one_id(tmp_path, names):
    with pytest.raises(InvalidInput, match=r"different patients would get one id: '.*' and '.*'; give --pat"):
        first_manifest(folder_of(tmp_path, *names))


def test_what_no_manifest_can_name_is_left_out_with_its_reason(tmp_path):
    folder = folder_of(tmp_path, "P1/a.mp4", "P1/b:c.mp4", "P1/d\\e.mp4", "P1/ f.mp4", "P1/tab\t.mp4")
    (folder / "P1" / os.fsdecode(b"x\xff.mp4")).write_bytes(FILM)

    found = first_manifest(folder, r"(P\d)?|x")

    assert [row.file_name for row in found.rows] == ["P1/ f.mp4", "P1/a.mp4", "P1/b:c.mp4"]
    assert [name for name, _ in found.left_out] == ["P1/d\\e.mp4", "P1/tab\t.mp4", "P1/x\\udcff.mp4"]


def test_every_video_gets_an_id_of_its_own_and_what_is_no_video_is_told(tmp_path):
    folder = folder_of(tmp_path, "P1/a.mp4", "P2/a.mp4", "P2/a.avi", ".trash/b.mp4", "P1/notes.txt")
    (folder / "P1" / "cut.mp4").write_bytes(b"not a video")

    found = first_manifest(folder)

    assert [row.file_name for row in found.rows] == ["P1/a.mp4", "P2/a.avi", "P2/a.mp4"]
    assert [row.video_id for row in found.rows] == ["a", "P2-a", "a-2"]
    assert [name for name, _ in found.left_out] == ["P1/cut.mp4"]


def test_what_is_written_is_a_manifest_that_can_be_looked_into(tmp_path):
    folder = folder_of(tmp_path, "P1/a.mp4", "P2/b.mp4")
    rows = first_manifest(folder).rows
    write_manifest(folder / "manifest.csv", [(row, "") for row in rows])
    (folder / "P2" / "b.mp4").write_bytes(FILM[:20_000])

    looked = look_into(read_manifest(folder / "manifest.csv"), 2)

    assert [(one.row, one.clips, one.seconds) for one in looked] == [(rows[0], 1, 7.0), (rows[1], 0, 0.0)]
    assert "cut or damaged file" in looked[1].reason


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no video in this folder"):
        first_manifest(tmp_path)
    with pytest.raises(InvalidInput, match="expected a folder"):
        first_manifest(tmp_path / "absent")
