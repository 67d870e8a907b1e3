"""The manifest: everything wrong with it at once, and no way out of its folder."""

import pytest

from encoder.manifest import Manifest, ManifestRow, read_manifest, write_manifest
from encoder.picture import Crop
from index.errors import InvalidInput, ManifestErrors, VideoRefused


def written(tmp_path, text):
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    return path


def test_a_full_row_is_read(tmp_path):
    path = written(
        tmp_path,
        "file_name,patient_id,video_id,label,recorded_at,crop,semiology,split,camera\n"
        "a/b.mp4,p1,v1,exTLE,2024-03-01T22:15:00,10 20 300 200,Semiology-tonic;Semiology-clonic,train,room1\n"
        "\n"
        "c.mp4 , p2, v2,,,,,,\n",
    )

    assert read_manifest(path).rows == (
        ManifestRow(
            file_name="a/b.mp4",
            patient_id="p1",
            video_id="v1",
            label="exTLE",
            recorded_at="2024-03-01T22:15:00",
            crop=Crop(10, 20, 300, 200),
            semiology=("Semiology-clonic", "Semiology-tonic"),
            split="train",
            camera="room1",
        ),
        ManifestRow("c.mp4", "p2", "v2"),
    )


def test_rows_with_reasons_are_read_again_and_their_files_from_another_folder(tmp_path):
    rows = (
        (
            ManifestRow("a/b.mp4", "p1", "v1", "TLE", "2024-03-01T22:15:00", Crop(1, 2, 30, 40), ("a", "b"), "s", "c"),
            "x, y",
        ),
        (ManifestRow("c.mp4", "p2", "v2"), 'says "no"'),
    )

    write_manifest(tmp_path / "runs" / "1" / "refused.csv", rows)

    found = read_manifest(tmp_path / "runs" / "1" / "refused.csv", tmp_path)
    assert found == Manifest(tmp_path, tuple(row for row, _ in rows))
    with pytest.raises(InvalidInput, match="the media root is not a folder"):
        read_manifest(tmp_path / "runs" / "1" / "refused.csv", tmp_path / "absent")


def test_every_problem_is_said_at_once_with_row_column_value_and_what_is_allowed(tmp_path):
    path = written(
        tmp_path,
        "file_name,patient_id,video_id,label,recorded_at,crop\n"
        "../a.mp4,John Doe,v1,tle,yesterday,1 2 3\n"
        "b.mp4,p1\n"
        "c.mp4,p1,v2,,,\n"
        "c.mp4,p1,v2,,,\n",
    )

    with pytest.raises(ManifestErrors) as caught:
        read_manifest(path)

    assert caught.value.problems == (
        "row 2, column file_name: '../a.mp4' is not a relative path below the manifest's folder, without .. or a URL",
        "row 2, column patient_id: 'John Doe' is not 1 to 64 letters, digits, dots, underscores or hyphens",
        "row 2, column label: 'tle' is not TLE or exTLE or empty",
        "row 2, column recorded_at: 'yesterday' is not an ISO 8601 date or time such as 2024-03-01T22:15:00",
        "row 2, column crop: '1 2 3' is not four whole numbers x y w h, in pixels, w and h at least 16",
        "row 3: 2 values, expected 6, one for each column",
        "row 5, column video_id: 'v2' stands in an earlier row; give one a video",
        "row 5, column file_name: 'c.mp4' stands in an earlier row; give one a video",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the manifest is empty"),
        ("file_name,patient_id\n", "column video_id is missing"),
        ("file_name,patient_id,video_id,name\n", "column 'name' is unknown"),
        ("file_name,patient_id,video_id,video_id\n", "stands there twice"),
        ("file_name,patient_id,video_id\n", "no rows below the header"),
        ('file_name,patient_id,video_id\n"a.mp4,p,v\n', "not a CSV"),
    ],
)
def test_a_manifest_that_is_none_says_so(tmp_path, text, says):
    with pytest.raises(InvalidInput, match=says):
        read_manifest(written(tmp_path, text))


def test_other_files_are_not_manifests(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_manifest(tmp_path / "binary")
    with pytest.raises(InvalidInput, match="can't be read"):
        read_manifest(tmp_path / "absent.csv")
    with pytest.raises(InvalidInput, match="can't be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/passwd", "../x.mp4", "a/../../x.mp4", "http://h/x.mp4", "file:x.mp4", "concat:a|b", "a\\b.mp4", ""),
        *("C:x.mp4", "a\x00b.mp4", "s3://b/x.mp4"),
    ],
)
def test_paths_out_of_the_folder_and_urls_are_refused(tmp_path, name):
    with pytest.raises(InvalidInput):
        read_manifest(written(tmp_path, f"file_name,patient_id,video_id\n{name},p,v\n"))


def test_a_symbolic_link_is_followed_inside_the_folder_only(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside.mp4").write_bytes(b"another patient")
    (inside / "real.mp4").write_bytes(b"x")
    (inside / "near.mp4").symlink_to(inside / "real.mp4")
    (inside / "far.mp4").symlink_to(tmp_path / "outside.mp4")
    (inside / "loop.mp4").symlink_to(inside / "loop.mp4")
    (inside / "folder").mkdir()
    names = ("near", "far", "loop", "absent", "folder")
    rows = "".join(f"{n}{'' if n == 'folder' else '.mp4'},p,{n}\n" for n in names)
    manifest = read_manifest(written(inside, f"file_name,patient_id,video_id\n{rows}"))

    near, far, loop, absent, folder = manifest.rows
    assert manifest.path_of(near) == inside / "real.mp4"
    for row, says in ((far, "out of the manifest's folder"), (loop, "not there"), (absent, "not there")):
        with pytest.raises(VideoRefused, match=says):
            manifest.path_of(row)
    with pytest.raises(VideoRefused, match="not a plain file"):
        manifest.path_of(folder)


def test_a_large_manifest_is_read_in_reasonable_time(tmp_path):
    rows = "".join(f"{i}.mp4,p{i % 100},v{i}\n" for i in range(20_000))

    assert len(read_manifest(written(tmp_path, f"file_name,patient_id,video_id\n{rows}")).rows) == 20_000
