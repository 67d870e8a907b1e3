"""What names a patient goes, wherever it stands; what names others stays, byte for byte."""

import csv
import html
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index.erasure import check_receipt, erase_patient, forecast
from index.errors import NotFound
from index.feedback import Feedback, FeedbackStore
from index.records import Video, clip_id
from index.store import Store
from index.traces.documents import cleaned
from index.traces.folders import Ways, traces
from index.traces.names import Names, is_distinctive
from tests.conftest import commit, make_video, publish_all

WITNESS = Path(__file__).with_name("witness.py")
IDS = (
    *("1", "7", "42", "007", "123", "0", "20240301", "12345678", "p1", "p10", "P03", "p003", "P-003", "pat_0017"),
    *("patient-0001", "patient.12", "a", "x", "train", "test", "anna", "none", "CASE", "s01-b", "Z9", "abc-def", "e-4"),
)
MARKS = (*".,;:!?'\"`()[]{}<>/\\|_-#@&*+=~^$§…«»„“’¿–—、 \t\u00a0", " \u200b")


def renamed(made, patient_id, video_id):
    """A video of the tests under other names."""
    video, clips = made
    described = {name: getattr(video, name) for name in Video.__dataclass_fields__}
    video = Video(**{**described, "video_id": video_id, "patient_id": patient_id})
    moved = []
    for one in clips:
        clip = one.clip
        new = clip_id(video.source_sha256, video_id, clip.clip_index)
        fields = (new, video_id, patient_id, clip.clip_index, clip.start_s, clip.valid_seconds)
        moved.append(type(one)(type(clip)(*fields), one.vector))
    return video, moved


def stored_as(workspace, *pairs):
    """A workspace with a video for each pair of a patient and a video id."""
    random = np.random.default_rng(0)
    made = [renamed(make_video(n, 0, 2, random), patient, video) for n, (patient, video) in enumerate(pairs)]
    commit(workspace, made)
    publish_all(workspace)


def table(rows, delimiter=",", ending="\r\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ending).writerows(rows)
    return text.getvalue()


def parquet(rows):
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    return data.getvalue()


OTHER = "zeta-9000"
"""Somebody who stays."""


def files_naming(said, name):
    """Each kind of file with a text that names the patient beside one that does not, and what has to stay of it."""
    page = html.escape(said)
    rows = [["patient_id", "note"], [OTHER, "kept zeta"], [OTHER, said]]
    own = [["patient_id", "video_id"], [OTHER, "zeta-9001"], [name, "hers-n"]]
    joined = [["patients", "more"], [f"{OTHER};{name}", "zz"], [f"{OTHER};zeta-9001", "kept zeta"]]
    values = {"patients": 55, "notes": [said, "kept zeta"], "deep": {"deeper": {"deepest": said}}}
    lines = f"kept zeta\n{said}\nkept too\n"
    yield from ((f"notes.{suffix}", lines.encode(), b"kept zeta") for suffix in ("txt", "md", "log", "yaml", "toml"))
    yield "notes", lines.encode(), b"kept too"
    yield "crlf.txt", lines.replace("\n", "\r\n").encode(), b"kept zeta\r\n"
    yield "wide.txt", b"\xff\xfe" + lines.encode("utf-16-le"), "kept zeta".encode("utf-16-le")
    yield "old.txt", lines.encode("latin-1", "replace"), b"kept zeta"
    yield "note.csv", table(rows).encode(), b"zeta-9000,kept zeta\r\n"
    yield "note.tsv", table(rows, "\t", "\n").encode(), b"zeta-9000\tkept zeta\n"
    yield "semicolons.csv", table(rows, ";").encode(), b"zeta-9000;kept zeta"
    yield "own.csv", table(own).encode(), b"zeta-9000,zeta-9001\r\n"
    yield "joined.csv", table(joined).encode(), b"zeta-9000;zeta-9001,kept zeta"
    yield "quoted.csv", table([*rows[:2], [OTHER, f"two\nlines {said}"]]).encode(), b"zeta-9000,kept zeta"
    yield "values.json", json.dumps(values).encode(), b"kept zeta"
    yield "escaped.json", json.dumps(values, ensure_ascii=True).encode(), b"kept zeta"
    yield "keyed.json", json.dumps({"patients": {name: {"is": "zz"}, OTHER: {"is": "zz"}}}).encode(), b"zeta-9000"
    yield "objects.json", json.dumps([{"patient_id": name, "is": "zz"}, {"patient_id": OTHER}]).encode(), b"zeta-9000"
    yield "lines.jsonl", f"{json.dumps(values)}\n{json.dumps({'note': 'kept too'})}\n".encode(), b"kept too"
    yield "page.html", f"<h1>kept zeta</h1><p>{page}</p><p>kept too</p>".encode(), b"<p>kept too</p>"
    yield "title.html", f'<p title="{page}">kept zeta</p>'.encode(), b"kept zeta"
    yield "script.html", f"<script>var it='{said}'</script><p>kept zeta</p>".encode(), b"<p>kept zeta</p>"
    yield "chart.svg", f"<svg><text>{page}</text><text>kept zeta</text></svg>".encode(), b"kept zeta"
    yield "data.xml", f"<all><!-- {page} --><one>kept zeta</one></all>".encode(), b"<one>kept zeta</one>"
    yield "rows.parquet", parquet([{"who": OTHER, "note": "kept zeta"}, {"who": OTHER, "note": said}]), b"zeta"


def named_for(folder, left, name, right):
    """A picture and a folder that are named for the patient, where a name may be so."""
    called = f"seen{left}{name}{right}zz"
    if not {"/", "\\", "\t"} & {left.strip(" "), right.strip(" ")} and called.isprintable():
        (folder / f"{called}.png").write_bytes(b"picture")
        (folder / called).mkdir()
        (folder / called / "kept.txt").write_text("kept zeta\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", IDS)
def test_after_an_erasure_an_independent_search_finds_nothing_and_others_have_all_that_is_theirs(
    workspace, tmp_path, name
):
    """27 ids x 40 marks x 28 kinds of places: 30,240 combinations."""
    others = (f"{name}0", f"x{name}", f"{name}-other", f"{name}.b", f"p0{name}q", OTHER)
    stored_as(workspace, (name, "mine-77"), *((other, f"zeta-{n}") for n, other in enumerate(others)))
    FeedbackStore(workspace).save(Feedback("zeta-0", others[0], note="kept zeta"), "a")
    also, kept = tmp_path / "also", {}
    for number, mark in enumerate(MARKS):
        folder = also / f"k{number:02d}z"
        folder.mkdir(parents=True)
        left, right = (mark, MARKS[-number - 1])
        said = f"seen{left}{name}{right}zz"
        for file, content, stays in files_naming(said, name):
            (folder / file).write_bytes(content)
            kept[folder / file] = stays
        named_for(folder, left, name, right)
        note = said if said.isprintable() else f"seen {name} zz"
        FeedbackStore(workspace).save(Feedback("zeta-0", others[0], label="TLE", note=note), "a")
    mine = also / "others"
    mine.mkdir()
    for other in others:
        for file, content, _ in files_naming(f"seen {other}, zz", other):
            (mine / f"k{others.index(other)}z-{file}").write_bytes(content)
    before = {path: path.read_bytes() for path in mine.iterdir()}
    assert len(witness(also, name, others)) > len(kept)

    receipt = erase_patient(workspace, name, [also], texts=True)

    assert witness(also, name, others) == []
    if len(name) > 2:  # shorter ones are words of formats and names of files too
        assert witness(workspace.root, name, others) == []
    assert {path: path.read_bytes() for path in mine.iterdir()} == before
    lost = [path for path, stays in kept.items() if not path.exists() or not holds(path, stays)]
    assert lost == []
    assert receipt["complete"]
    assert check_receipt(workspace, json.loads(json.dumps(receipt)))
    said = FeedbackStore(workspace).all()
    assert len([one for one in said if one.label == "TLE"]) == len(MARKS)
    assert {one.note for one in said} <= {"", "kept zeta"}
    assert Store(workspace).patients() == set(others)


def holds(path, stays):
    if path.suffix == ".parquet":
        return stays.decode() in repr(pq.read_table(path).to_pylist())
    return stays in path.read_bytes()


def witness(folder, name, others):
    command = [sys.executable, str(WITNESS), str(folder), name, *others]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return found.splitlines()


@pytest.mark.parametrize(
    "note",
    [
        "seen as in p003.",
        "like p003-night",
        "P003 again",
        "p003_a",
        "the film v0006.mp4",
        "(p003)",
        "\uff30\uff10\uff10\uff13!",
    ],
)
def test_a_name_is_found_with_any_mark_around_it(note):
    names = Names({"p003", "v0006"}, {"p0031", "xp003"})

    assert names.without(note, names.find(note)).strip("!") == "(erased)"


@pytest.mark.parametrize("note", ["p0031 is another", "xp003", "as p003-b", "p 003", "v0006x"])
def test_a_longer_name_of_another_is_not_taken_for_it(note):
    assert Names({"p003", "v0006"}, {"p0031", "xp003", "p003-b"}).find(note) == []


@pytest.mark.parametrize(
    ("name", "distinctive"),
    [("p003", True), ("patient-0001", True), ("12345678", True), ("1", False), ("train", False), ("P10", False)],
)
def test_a_number_a_word_and_an_electrode_may_mean_something_else(name, distinctive):
    assert is_distinctive(name) is distinctive


def test_two_who_differ_by_case_alone_are_never_told_apart_in_a_text():
    assert [m.certain for m in Names({"p003"}, {"P003"}).find("as P003")] == [False]
    assert not Names({"p003"}, {"P003"}).is_theirs("P003")


def test_what_may_mean_something_else_is_listed_and_stays_until_it_is_decided(workspace, tmp_path):
    stored_as(workspace, ("1", "mine-77"), ("2", "zeta-1"))
    also = tmp_path / "also"
    also.mkdir()
    room, notes = also / "room.json", also / "notes.txt"
    room.write_text('{"camera": 1, "room": "north"}')
    notes.write_text("patient 1 again\nkept\n")
    (also / "1.png").write_bytes(b"picture")

    expected = forecast(workspace, "1", [also])
    first = erase_patient(workspace, "1", [also])
    stays = notes.read_text()
    second = erase_patient(workspace, "1", [also], texts=True)

    assert {(trace.path.name, trace.kind) for trace in expected.traces} == {
        ("notes.txt", "doubtful"),
        ("1.png", "doubtful"),
    }
    assert (first["complete"], first["undecided"]) == (False, ["(theirs).png", "notes.txt"])
    assert stays == "patient 1 again\nkept\n"
    assert (second["complete"], second["undecided"]) == (True, [])
    assert notes.read_text() == "(erased)\nkept\n"
    assert room.read_text() == '{"camera": 1, "room": "north"}'
    assert [path.name for path in sorted(also.iterdir())] == ["notes.txt", "room.json"]


def test_what_is_said_to_mean_something_else_is_kept(workspace, tmp_path):
    stored_as(workspace, ("train", "mine-77"), ("2", "zeta-1"))
    (tmp_path / "notes.txt").write_text("train it again\n")

    receipt = erase_patient(workspace, "train", [tmp_path], texts=False)

    assert receipt["complete"]
    assert receipt["doubtful_texts"] == "said to be about something else"
    assert (tmp_path / "notes.txt").read_text() == "train it again\n"


def test_of_a_folder_of_films_only_the_patients_go(workspace, tmp_path):
    stored_as(workspace, ("p003", "mine-77"), ("p004", "zeta-1"))
    for name in ("a.mp4", "b.mp4", "both.mp4", "p003-night.mp4"):
        (tmp_path / name).write_bytes(b"film")
    rows = [
        *(["file_name", "patient_id", "video_id"], ["a.mp4", "p003", "mine-77"], ["b.mp4", "p004", "zeta-1"]),
        *(["both.mp4", "p003", "mine-78"], ["both.mp4", "p004", "zeta-2"]),
    ]
    (tmp_path / "m.csv").write_text(table(rows))

    erase_patient(workspace, "p003", [tmp_path / "."])

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["b.mp4", "both.mp4", "m.csv"]
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        *("file_name,patient_id,video_id", "b.mp4,p004,zeta-1", "both.mp4,p004,zeta-2")
    ]


def test_a_projector_keeps_each_vector_with_its_clip(tmp_path):
    (tmp_path / "clips.tsv").write_text("clip_id\tpatient_id\nc1\tp003\nc2\tp004\nc3\tp003\n")
    (tmp_path / "vectors.tsv").write_text("1\t1\n2\t2\n3\t3\n")

    list(traces(tmp_path, Names({"p003"}, {"p004"}), Ways()))

    assert (tmp_path / "clips.tsv").read_text() == "clip_id\tpatient_id\nc2\tp004\n"
    assert (tmp_path / "vectors.tsv").read_text() == "2\t2\n"


def test_a_file_that_is_not_understood_is_told_and_stays(workspace, tmp_path):
    stored_as(workspace, ("patient-0001", "mine-77"), ("p004", "zeta-1"))
    (tmp_path / "sheet.xlsx").write_bytes(b"PK\3\4\0\0compressed\xff\xfe\0")
    (tmp_path / "dump.bin").write_bytes(b"\0\1\2 patient-0001 \0\1")

    receipt = erase_patient(workspace, "patient-0001", [tmp_path])

    assert (receipt["complete"], receipt["left"], receipt["not_looked_into"]) == (False, ["dump.bin"], ["sheet.xlsx"])
    assert (tmp_path / "dump.bin").exists()


def test_two_before_a_black_picture_are_told_apart(workspace):
    random = np.random.default_rng(0)
    black = make_video(0, 0, 1, random)
    same = [renamed((black[0], black[1]), who, f"{who}-film") for who in ("patient-0001", "patient-0002")]
    commit(workspace, [*same, make_video(3, 0, 2, random)])
    publish_all(workspace)

    receipt = erase_patient(workspace, "patient-0001")

    assert receipt["complete"]
    assert receipt["scan"]["shared_with_others"] == 1
    assert "patient-0002" in Store(workspace).patients()


def test_a_name_that_begins_another_is_erased_without_it(workspace):
    stored_as(workspace, ("patient-1", "mine-77"), ("patient-10", "zeta-1"), ("patient-1-b", "zeta-2"))

    assert erase_patient(workspace, "patient-1")["complete"]
    assert Store(workspace).patients() == {"patient-10", "patient-1-b"}


def test_who_was_erased_is_looked_for_again(workspace, tmp_path):
    stored_as(workspace, ("patient-0001", "mine-77"), ("p004", "zeta-1"))
    erase_patient(workspace, "patient-0001")
    (tmp_path / "late.txt").write_text("patient-0001 came back\n")

    again = erase_patient(workspace, "patient-0001", [tmp_path])

    assert {"place": "late.txt", "action": "1 places blanked"} in again["places"]
    with pytest.raises(NotFound):
        erase_patient(workspace, "patient-0002")


def test_a_torn_line_of_json_is_read_as_text(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"note": "kept"}\n{"patient_id": "p003", "no\n')

    assert cleaned(path, Names({"p003"})).content == b'{"note": "kept"}\n(erased)\n'
