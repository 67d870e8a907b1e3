"""The manifest: everything wrong with it at once, and no way out of its folder."""

import unicodedata

import pytest

from encoder.clips import Segment, Source
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


def test_rows_of_one_file_name_its_parts_and_the_seizure_in_each(tmp_path):
    path = written(
        tmp_path,
        "file_name,patient_id,video_id,start_s,end_s,onset_s,seizure_end_s\n"
        "day.mp4,p1,v1,,60,,\n"
        "day.mp4,p1,v2,3600.5,3700,3610.25,3690\n"
        "day.mp4,p1,v3,3600.5,,,\n"
        "day.mp4,p1,v4,,,,\n",
    )

    manifest = read_manifest(path)
    rows = manifest.rows

    assert [row.segment for row in rows] == [Segment(0, 60), Segment(3600.5, 3700), Segment(3600.5), Segment()]
    assert (rows[1].onset_s, rows[1].seizure_end_s) == (3610.25, 3690)
    (tmp_path / "day.mp4").write_bytes(b"")
    assert manifest.source(rows[2]) == Source(tmp_path / "day.mp4", None, Segment(3600.5))
    write_manifest(tmp_path / "again.csv", [(row, "") for row in rows])
    assert read_manifest(tmp_path / "again.csv").rows == rows


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        ("5,5.5,,", "end_s: 5.5 s is less than 1 s after the segment begins, at 5 s"),
        ("9,5,,", "end_s: 5 s is less than 1 s after the segment begins, at 9 s"),
        ("5,50,4,", "onset_s: 4 s is outside the segment, 5 s to 50 s"),
        ("5,50,10,51", "seizure_end_s: 51 s is outside the segment, 5 s to 50 s"),
        ("5,,4,", "onset_s: 4 s is outside the segment, 5 s to the end of the file"),
        ("5,50,50,", "onset_s: 50 s is outside the segment, 5 s to 50 s"),
        ("5,50,30,20", "seizure_end_s: 20 s is not after the onset, at 30 s"),
        ("-1,5,,", "start_s: '-1' is not seconds, 0 or more, with at most three decimals"),
        ("1.2345,5,,", "start_s: '1.2345' is not seconds, 0 or more, with at most three decimals"),
        ('"1,5",9,,', "start_s: '1,5' is not seconds, 0 or more, with at most three decimals: write 1.5"),
        ("01:02:03.5,,,", "start_s: '01:02:03.5' is not seconds, 0 or more, with at most three decimals: write 3723.5"),
        ("nan,,,", "start_s: 'nan' is not seconds, 0 or more, with at most three decimals"),
    ],
)
def test_a_part_that_can_not_be_is_said_with_its_row_and_values(tmp_path, times, problem):
    path = written(
        tmp_path, f"file_name,patient_id,video_id,start_s,end_s,onset_s,seizure_end_s\nday.mp4,p1,v1,{times}\n"
    )

    with pytest.raises(ManifestErrors) as caught:
        read_manifest(path)

    assert caught.value.problems == (f"row 2, column {problem}",)


@pytest.mark.parametrize("same", ["10,20", "10.0,20", "10,20.000"])
def test_one_part_in_two_rows_is_said(tmp_path, same):
    path = written(
        tmp_path, f"file_name,patient_id,video_id,start_s,end_s\nday.mp4,p1,v1,10,20\n./day.mp4,p1,v2,{same}\n"
    )

    with pytest.raises(ManifestErrors, match=r"'\./day\.mp4' stands in row 2 too|'day\.mp4' stands in row 2 too"):
        read_manifest(path)


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
        "c.mp4,p1,v2,,01/05/2023,\n",
    )

    with pytest.raises(ManifestErrors) as caught:
        read_manifest(path)

    assert caught.value.problems == (
        "row 2, column file_name: '../a.mp4' is not a relative path below the manifest's folder, without .. or a URL",
        "row 2, column patient_id: 'John Doe' is not 1 to 64 letters, digits, dots, underscores or hyphens, beginning "
        "with a letter or digit: write John-Doe",
        "row 2, column label: 'tle' is not TLE or exTLE or empty: write TLE",
        "row 2, column recorded_at: 'yesterday' is not an ISO 8601 date or time such as 2024-03-01T22:15:00",
        "row 2, column crop: '1 2 3' is not four whole numbers x y w h, in pixels, w and h at least 16",
        "row 3: 2 values, expected 6, one for each column: give an empty value for each column that has none",
        "row 5, column recorded_at: '01/05/2023' is not an ISO 8601 date or time such as 2024-03-01T22:15:00: day and "
        "month can't be told apart; write 2023-05-01 or 2023-01-05",
        "row 5, column video_id: 'v2' stands in row 4 too; each video has its own",
        "row 5, column file_name: 'c.mp4' stands in row 4 too; each video has its own file, or its own part of one by "
        "start_s and end_s",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the manifest is empty"),
        ("file_name,patient_id\n", "column video_id is missing"),
        ("file_name,patient_id,video_id,name\n", "column 'name' tells who a patient is"),
        ("file_name,patient_id,video_id,Labels\n", "column 'Labels' looks like label"),
        ("file_name,patient_id,video_id,,x\na.mp4,p,v,1,2\n", "column 4 has no name, but row 2 has a value there"),
        ("file_name,patient_id,video_id,<x>\n", "column '<x>' can't be kept as metadata"),
        ("file_name,patient_id,video_id,video_id\n", "stands there twice"),
        ("file_name,patient_id,video_id\n", "no rows below the header"),
        ('file_name,patient_id,video_id\n"a.mp4,p,v\n', "not a CSV"),
    ],
)
def test_a_manifest_that_is_none_says_so(tmp_path, text, says):
    with pytest.raises(InvalidInput, match=says):
        read_manifest(written(tmp_path, text))


def test_other_files_are_not_manifests(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xe4\xf6\x00")
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
    for row, says in ((far, "out of the manifest's folder"), (loop, "missing"), (absent, "missing")):
        with pytest.raises(VideoRefused, match=says):
            manifest.path_of(row)
    with pytest.raises(VideoRefused, match="not a plain file"):
        manifest.path_of(folder)


def test_a_large_manifest_is_read_in_reasonable_time(tmp_path):
    rows = "".join(f"{i}.mp4,p{i % 100},v{i}\n" for i in range(20_000))

    assert len(read_manifest(written(tmp_path, f"file_name,patient_id,video_id\n{rows}")).rows) == 20_000


FULL = (
    ManifestRow("x.mp4", "P1", "v1", "TLE", "2023-05-01T02:10:00", metadata=(("Ort", "Halle, 2. OG"),)),
    ManifestRow("y.mp4", "P2", "v2", "exTLE"),
)
CELLS = (
    ("file_name", "patient_id", "video_id", "label", "recorded_at", "Ort"),
    ("x.mp4", "P1", "v1", "TLE", "2023-05-01T02:10:00", "Halle, 2. OG"),
    ("y.mp4", "P2", "v2", "exTLE", "", ""),
)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["", "x", "xx"])
@pytest.mark.parametrize("announced", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_is_read_however_a_spreadsheet_saves_it(tmp_path, separator, encoding, announced, end, newline):
    """In other countries columns are separated by other marks; formatted but empty cells become columns."""
    quoted = [[f'"{cell}"' if separator in cell else cell for cell in row] for row in CELLS]
    lines = [separator.join([*row, *("" for _ in end)]) for row in quoted]
    lines = [f"sep={separator}"] * announced + lines + [separator * (5 + len(end))]
    path = tmp_path / "manifest.csv"
    path.write_bytes(newline.join(lines).encode(encoding))

    assert read_manifest(path).rows == FULL


@pytest.mark.parametrize(
    ("column", "value", "write"),
    [
        ("file_name", "sub\\x.mp4", "backslashes separate folders in Windows alone: write sub/x.mp4"),
        ("file_name", "/data/x.mp4", "it begins at the root"),
        ("camera", "room 1", "write room-1"),
        ("camera", "Zimmer 3 (links)", "write Zimmer-3-links"),
        ("label", "extle", "write exTLE"),
        ("label", "ex-TLE", "write exTLE"),
        ("recorded_at", "01/05/2023", "can't be told apart; write 2023-05-01 or 2023-01-05"),
        ("recorded_at", "25/12/2023 7:05", "write 2023-12-25T07:05:00"),
        ("recorded_at", "03.04.2023", "write 2023-04-03"),
        ("recorded_at", "2023.04.03 22:15", "write 2023-04-03T22:15:00"),
        ("recorded_at", "2023/4/3", "write 2023-04-03"),
        ("crop", "10,20,300,200", "write 10 20 300 200"),
        ("semiology", "tonic, clonic", "write tonic;clonic"),
        ("recorded_at", "2024-3-1 2:15", "write 2024-03-01T02:15:00"),
        ("patient_id", "#N/A", "an error of the spreadsheet's: correct it there"),
        ("patient_id", "1.23457E+12", "a long number that a spreadsheet shortened"),
        ("video_id", "1,23457E+12", "format that column as text there"),
        ("track", "second", "the number of a track in the file"),
    ],
)
def test_what_is_wrong_with_a_value_comes_with_how_to_mend_it(tmp_path, column, value, write):
    values = {"file_name": "x.mp4", "patient_id": "p", "video_id": "v", column: f'"{value}"'}

    with pytest.raises(ManifestErrors) as caught:
        read_manifest(written(tmp_path, f"{','.join(values)}\n{','.join(values.values())}\n"))

    (problem,) = caught.value.problems
    assert problem.startswith(f"row 2, column {column}: ")
    assert problem.endswith(write) or write in problem


def test_what_is_proposed_is_right(tmp_path):
    rows = "file_name,patient_id,video_id,camera,recorded_at\nsub/x.mp4,p,v,room-1,2023-12-25T07:05:00\n"

    assert read_manifest(written(tmp_path, rows)).rows[0].camera == "room-1"


def test_tracks_and_other_columns_are_kept_and_written_again(tmp_path):
    path = written(
        tmp_path,
        "file_name,patient_id,video_id,track,EEG montage,reason\nx.mkv,p,front,0,10-20,\nx.mkv,p,side,1,,no picture\n",
    )
    rows = read_manifest(path).rows

    assert rows == (
        ManifestRow("x.mkv", "p", "front", track=0, metadata=(("EEG montage", "10-20"),)),
        ManifestRow("x.mkv", "p", "side", track=1),
    )
    write_manifest(tmp_path / "again.csv", [(row, "why") for row in rows])
    assert read_manifest(tmp_path / "again.csv").rows == rows


def test_one_track_of_a_file_can_be_listed_once_even_where_its_row_is_faulty(tmp_path):
    path = written(tmp_path, "file_name,patient_id,video_id,track\nx.mkv,p,a,0\n./x.mkv,p p,b,0\n")

    with pytest.raises(ManifestErrors, match=r"'x\.mkv' stands in row 2 too"):
        read_manifest(path)


def test_a_name_in_another_unicode_form_is_the_file_it_can_only_be(tmp_path):
    composed, apart = "Anfälle/fälle.mp4", unicodedata.normalize("NFD", "Anfälle/fälle.mp4")
    (tmp_path / apart).parent.mkdir()
    (tmp_path / apart).write_bytes(b"x")
    manifest = read_manifest(written(tmp_path, f"file_name,patient_id,video_id\n{composed},p,v\n"))

    assert manifest.path_of(manifest.rows[0]) == (tmp_path / apart).resolve()
    (tmp_path / apart).with_name(unicodedata.normalize("NFC", "fälle.mp4")).write_bytes(b"y")
    assert manifest.path_of(manifest.rows[0]).read_bytes() == b"y"


@pytest.mark.parametrize(
    "name",
    [
        *("name", "Patient name", "prénom", "prenom", "Nachname", "Geb datum", "date of birth", "birth", "SSN2", "MRN"),
        *("given names", "Name of patient", "patient_initials", "telephone", "NHS number", "surname1", "geboortedatum"),
    ],
)
def test_a_column_that_tells_who_a_patient_is_is_refused(tmp_path, name):
    with pytest.raises(ManifestErrors, match="tells who a patient is"):
        read_manifest(written(tmp_path, f"file_name,patient_id,video_id,{name}\na.mp4,p,v,x\n"))


@pytest.mark.parametrize("name", ["Größe", "年齢", "camera name", "project name", "EEG montage", "age", "sex", "site"])
def test_other_columns_are_kept_under_any_letters(tmp_path, name):
    rows = read_manifest(written(tmp_path, f"file_name,patient_id,video_id,{name}\na.mp4,p,v,x\n")).rows

    assert rows[0].metadata == ((name, "x"),)


def test_metadata_has_bounds_and_no_errors_of_a_spreadsheet(tmp_path):
    names = ",".join(f"c{n}" for n in range(70))
    with pytest.raises(ManifestErrors, match="70 columns of metadata, expected at most 64"):
        read_manifest(written(tmp_path, f"file_name,patient_id,video_id,{names}\na.mp4,p,v{',x' * 70}\n"))
    with pytest.raises(ManifestErrors, match="'#REF!' is an error of the spreadsheet's"):
        read_manifest(written(tmp_path, "file_name,patient_id,video_id,ward\na.mp4,p,v,#REF!\n"))
