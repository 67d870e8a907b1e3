"""What names a patient goes, wherever it stands; what names others stays, byte for byte."""

import csv
import hashlib
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

from index.custody.backup import back_up, verify
from index.custody.erasure import erase_patient, forecast
from index.custody.receipts import check_receipt
from index.errors import NotFound
from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.records import Video, clip_id
from index.tables.store import Store
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
        new = clip_id(video.source_sha256, video_id, clip.start_s)
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
"""A patient who stays."""


def files_naming(said, name):
    """Each kind of file with a text that names the patient beside one that does not, and what has to stay of it."""
    page = html.escape(said)
    rows = [["patient_id", "note"], [OTHER, "kept zeta"], [OTHER, said]]
    own = [["patient_id", "video_id"], [OTHER, "zeta-9001"], [name, "hers-n"]]
    joined = [["patients", "more"], [f"{OTHER};{name}", "zz"], [f"{OTHER};zeta-9001", "kept zeta"]]
    values = {"patients": 55, "notes": [said, "kept zeta"], "deep": {"deeper": {"deepest": said}}}
    lines = f"kept zeta\n{said}\nkept too\n"
    yield from ((f"notes.{suffix}", lines.encode(), b"kept zeta") for suffix in ("txt", "md", "log", "srt", "vtt"))
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
    names = Names({"p003"}, {"v0006"}, {"p0031", "xp003"})

    assert names.without(note, names.find(note)).strip("!") == "(erased)"


@pytest.mark.parametrize("note", ["p0031 is another", "xp003", "as p003-b", "p 003", "v0006x"])
def test_a_longer_name_of_another_is_not_taken_for_it(note):
    assert Names({"p003"}, {"v0006"}, {"p0031", "xp003", "p003-b"}).find(note) == []


@pytest.mark.parametrize(
    ("name", "distinctive"),
    [("p003", True), ("patient-0001", True), ("12345678", True), ("1", False), ("train", False), ("P10", False)],
)
def test_a_number_a_word_and_an_electrode_may_mean_something_else(name, distinctive):
    assert is_distinctive(name) is distinctive


def test_two_who_differ_by_case_alone_are_never_told_apart_in_a_text():
    assert [m.certain for m in Names({"p003"}, (), {"P003"}).find("as P003")] == [False]
    assert not Names({"p003"}, (), {"P003"}).patients.hold("P003")


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
    assert (first["complete"], first["undecided"]) == (False, ["also/(theirs).png", "also/notes.txt"])
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

    asked = erase_patient(workspace, "p003", [tmp_path / "."])
    assert asked["undecided"] == [f"{tmp_path.name}/a.mp4"]
    assert (tmp_path / "a.mp4").exists()
    (tmp_path / "m.csv").write_text(table(rows))
    erase_patient(workspace, "p003", [tmp_path / "."], texts=True)

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["b.mp4", "both.mp4", "m.csv"]
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        *("file_name,patient_id,video_id", "b.mp4,p004,zeta-1", "both.mp4,p004,zeta-2")
    ]


def test_a_projector_keeps_each_vector_with_its_clip(tmp_path):
    (tmp_path / "clips.tsv").write_text("clip_id\tpatient_id\nc1\tp003\nc2\tp004\nc3\tp003\n")
    (tmp_path / "vectors.tsv").write_text("1\t1\n2\t2\n3\t3\n")

    list(traces(tmp_path, Names({"p003"}, (), {"p004"}), Ways()))

    assert (tmp_path / "clips.tsv").read_text() == "clip_id\tpatient_id\nc2\tp004\n"
    assert (tmp_path / "vectors.tsv").read_text() == "2\t2\n"


def test_a_file_that_is_not_understood_is_told_and_stays(workspace, tmp_path):
    stored_as(workspace, ("patient-0001", "mine-77"), ("p004", "zeta-1"))
    (tmp_path / "sheet.xlsx").write_bytes(b"PK\3\4\0\0compressed\xff\xfe\0")
    (tmp_path / "dump.bin").write_bytes(b"\0\1\2 patient-0001 \0\1")

    receipt = erase_patient(workspace, "patient-0001", [tmp_path])

    assert (receipt["complete"], receipt["left"], receipt["not_looked_into"]) == (
        *(False, [f"{tmp_path.name}/dump.bin"], [f"{tmp_path.name}/sheet.xlsx"]),
    )
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

    assert {"place": f"{tmp_path.name}/late.txt", "action": "1 place blanked"} in again["places"]
    with pytest.raises(NotFound):
        erase_patient(workspace, "patient-0002")


def test_a_torn_line_of_json_is_read_as_text(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"note": "kept"}\n{"patient_id": "p003", "no\n')

    assert cleaned(path, Names({"p003"})).content == b'{"note": "kept"}\n(erased)\n'


# What a reviewer broke, each as it was found.


def left_of(folder, names, files, *, doubtful=False):
    """What is left of files after a folder was gone through, by name; None where one is gone."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = list(traces(folder, names, Ways(doubtful=doubtful)))
    return found, {name: (folder / name).read_text() if (folder / name).exists() else None for name in files}


def test_a_number_may_be_the_id_of_a_patient_and_of_anothers_video(tmp_path):
    rows = "file_name,patient_id,video_id\nf0.mp4,1,1\nf1.mp4,1,2\nf2.mp4,2,3\nf3.mp4,2,4\n"
    films = {f"f{n}.mp4": f"film {n}" for n in range(4)}
    _, left = left_of(tmp_path, Names({"1"}, {"1", "2"}, {"2"}, {"3", "4"}), {"m.csv": rows, **films}, doubtful=True)

    assert left == {
        "m.csv": "file_name,patient_id,video_id\nf2.mp4,2,3\nf3.mp4,2,4\n",
        **{"f0.mp4": None, "f1.mp4": None, "f2.mp4": "film 2", "f3.mp4": "film 3"},
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "patient_id,seizure,file_name\n2,1,p2s1.mp4\n3,1,p3s1.mp4\n"),
        ("b.csv", "patient_id,clip,score\n2,1,.5\n3,1,.7\n"),
        ("c.json", '{"streams": {"video": 1, "audio": 0}, "dataset": "x", "film": 1}'),
        ("d.json", '{"clip": 1, "of": 3, "patient": "2"}'),
        (
            "e.json",
            '{"patients": 1, "videos": 1, "x": 0.1000000000000000055, "y": 12345678901234567890.123, "z": 1e999}',
        ),
    ],
)
def test_a_count_or_an_ordinal_is_no_patient(tmp_path, name, text):
    found, left = left_of(tmp_path, Names({"1"}, {"1"}, {"2", "3"}, {"4"}), {name: text})

    assert ([trace for trace in found if trace.kind == "goes"], left) == ([], {name: text})


def test_of_anothers_row_or_report_the_mention_goes_alone(tmp_path):
    names = Names({"PAT-017"}, {"sz-alpha-1"}, {"PAT-018", "PAT-0170"}, {"sz-beta-1"})
    files = {
        "m.csv": "file_name,patient_id,age,matched_control\nb.mp4,PAT-018,30,PAT-017\n",
        "b.mp4": "film",
        "r.json": '{"worst_patient": "PAT-017", "accuracy": 0.80, "per_patient": {"PAT-018": 1.10, "PAT-017": 2}}',
        "t.txt": "PAT-017 and PAT-900: tonic. PAT-900 is allergic to valproate\n",
        "w.csv": "time,PAT-017,PAT-018\n0.1,5,7\n0.2,6,8\n",
        "s.html": "<script>var all={'PAT-017':1,'PAT-018':2}</script>",
    }

    _, left = left_of(tmp_path, names, files)

    assert left == {
        "m.csv": "file_name,patient_id,age,matched_control\nb.mp4,PAT-018,30,(erased)\n",
        "b.mp4": "film",
        "r.json": '{"worst_patient": "(erased)", "accuracy": 0.80, "per_patient": {"PAT-018": 1.10}}',
        "t.txt": "(erased) and PAT-900: tonic. PAT-900 is allergic to valproate\n",
        "w.csv": "time,(erased),PAT-018\n0.1,,7\n0.2,,8\n",
        "s.html": "<script>var all={'(erased)':1,'PAT-018':2}</script>",
    }


@pytest.mark.parametrize(
    "files",
    [
        {"x.json": '[{"patient": "PAT-017", "file": "x.mp4"}, {"patient": "PAT-018", "file": "x.mp4"}]'},
        {"x.csv": "file_name,patient_id\nx.mp4,PAT-017\n./x.mp4,PAT-018\n"},
        {"one.csv": "file_name,patient_id\nx.mp4,PAT-017\n", "two.csv": "file_name,patient_id\nx.mp4,PAT-018\n"},
        {"sub/one.csv": "file_name,patient_id\n../x.mp4,PAT-017\n", "two.csv": "file_name,patient_id\nx.mp4,AB\n"},
    ],
)
def test_a_film_that_others_rows_name_stays(tmp_path, files):
    names = Names({"PAT-017"}, (), {"PAT-018"})

    _, left = left_of(tmp_path, names, {**files, "x.mp4": "film"})

    assert left["x.mp4"] == "film"


def test_a_table_that_a_row_names_is_no_film(tmp_path):
    files = {"a.json": '[{"patient": "PAT-017", "file": "cohort.csv"}]', "cohort.csv": "patient\nPAT-018\n"}

    assert left_of(tmp_path, Names({"PAT-017"}, (), {"PAT-018"}), files)[1]["cohort.csv"] == "patient\nPAT-018\n"


def test_a_film_goes_with_its_row_though_its_folder_gets_another_name(tmp_path):
    files = {"of PAT-017 x/m.csv": "file_name,patient_id\nx.mp4,PAT-017\n", "of PAT-017 x/x.mp4": "film"}

    left_of(tmp_path, Names({"PAT-017"}), files, doubtful=True)

    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        *("of erased x", "of erased x/m.csv")
    ]


def test_rows_are_those_that_csv_reads(tmp_path):
    odd = 'patient_id,note\nPAT-017,5" monitor\nPAT-018,fine\nPAT-0170,fine too\n'
    long = f"patient_id,note\nPAT-018,{'z' * 200_000}\nPAT-017,1\n"

    _, left = left_of(tmp_path, Names({"PAT-017"}, (), {"PAT-018", "PAT-0170"}), {"a.csv": odd, "b.csv": long})

    assert left["a.csv"] == "patient_id,note\nPAT-018,fine\nPAT-0170,fine too\n"
    assert left["b.csv"] == f"patient_id,note\nPAT-018,{'z' * 200_000}\n"


def test_an_id_that_differs_in_its_separator_is_another(tmp_path):
    names = Names({"P-01"}, (), {"P_01"})
    files = {"P_01.mp4": "film", "P_01/k.json": '{"P_01": 1}', "t.txt": "P_01 was tonic, 3 mg\n", "u.txt": "P-01 too\n"}

    _, left = left_of(tmp_path, names, files)

    assert left == {**files, "u.txt": "(erased)\n"}


def test_a_folder_named_after_them_may_hold_others(tmp_path):
    names = Names({"PAT-017"}, (), {"PAT-018"})
    files = {"PAT-017/night.mp4": "film", "PAT-017/PAT-018.mp4": "another", "PAT-017/PAT-018.txt": "about PAT-018\n"}

    found, _ = left_of(tmp_path, names, files)
    assert [trace.path.name for trace in found if trace.kind == "doubtful"] == ["night.mp4", "PAT-017"]
    left_of(tmp_path, names, files, doubtful=True)

    assert not list(tmp_path.rglob("night.mp4")) or [p.parent.name for p in tmp_path.rglob("night.mp4")] == ["erased"]
    assert {path.name for path in tmp_path.rglob("PAT-018*")} == {"PAT-018.mp4", "PAT-018.txt"}


def test_folders_and_films_of_a_common_word_are_renamed_not_removed(tmp_path):
    left_of(tmp_path, Names({"train"}, (), {"AB"}), {"train/a.mp4": "film of AB"}, doubtful=True)

    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.mp4")] == ["erased/a.mp4"]


@pytest.mark.parametrize("name", ["sz-alpha-1.mp4", "sz-alpha-1_thumb.jpg", "20240101-PAT-017-1.mp4", "SZ ALPHA 1.mp4"])
def test_a_film_named_after_them_goes_though_another_is_called_1(tmp_path, name):
    names = Names({"PAT-017"}, {"sz-alpha-1"}, {"1", "2"}, {"v-one"})

    assert left_of(tmp_path, names, {name: "film"}, doubtful=name.startswith("2024"))[1] == {name: None}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<p><![CDATA[PAT-017]]></p>"),
        ("b.html", "<p data-p=PAT-017>x</p>"),
        ("c.xml", "<?note PAT-017?><a/>"),
        ("d.txt", "as PAT 017 had\n"),
        ("e.txt", "as PAT017 had\n"),
        ("f.md", "as **PAT**-017 had\n"),
        ("g.txt", b"\xff\xfe\0\0" + "as PAT-017 had".encode("utf-32-le")),
        ("h.html", "1 < 2, says PAT-017"),
    ],
)
def test_it_is_found_however_it_is_put(tmp_path, name, content):
    found, _ = left_of(tmp_path, Names({"PAT-017"}), {name: content}) if isinstance(content, str) else (None, None)
    if found is None:
        (tmp_path / name).write_bytes(content)
        found = list(traces(tmp_path, Names({"PAT-017"}), Ways()))

    assert [trace.kind for trace in found] == ["goes"]
    assert b"017" not in (tmp_path / name).read_bytes().replace(b"\0", b"")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", b"PAT-<b>017</b>"),
        ("b.html", b"PAT<wbr>-017 x"),
        ("c.txt", b"PAT%2D017"),
        ("d.js", b"'PAT\\x2d017'"),
        ("e.txt", b"as PAT-\n017 had"),
        ("f.pdf", b"%PDF-1.4 PAT-017 %%EOF"),
        ("g.parquet", parquet([{"who": ["PAT-017"], "n": 1}])),
        ("h.parquet", parquet([{"PAT-017": 1}])),
    ],
)
def test_what_can_not_be_changed_is_told(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    assert [trace.kind for trace in traces(tmp_path, Names({"PAT-017"}), Ways())] == ["left"]
    assert (tmp_path / name).read_bytes() == content


def test_arrays_and_columns_of_other_kinds_are_read(tmp_path):
    for name in ("arrays", "tables"):
        (tmp_path / name).mkdir()
    np.save(tmp_path / "arrays" / "a.npy", np.array(["PAT-017", "PAT-018"]))
    np.save(tmp_path / "arrays" / "e.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "arrays" / "f.npy").write_bytes(b"")
    np.savez_compressed(tmp_path / "arrays" / "b.npz", who=np.array([b"PAT-017"]))
    np.save(tmp_path / "arrays" / "c.npy", np.zeros(4))
    table_of = pa.table({"who": pa.array(["PAT-017", "PAT-018"]).dictionary_encode(), "n": [1, 2]})
    pq.write_table(table_of, tmp_path / "tables" / "d.parquet")

    found = {trace.path.name: trace.kind for trace in traces(tmp_path, Names({"PAT-017"}, (), {"PAT-018"}), Ways())}

    assert found == {
        **{"a.npy": "left", "b.npz": "left", "d.parquet": "goes"},
        **{"e.npy": "not looked into", "f.npy": "not looked into"},
    }
    assert pq.read_table(tmp_path / "tables" / "d.parquet").to_pylist() == [{"who": "PAT-018", "n": 2}]


def test_long_pages_without_end_tags_take_no_time(tmp_path):
    rows = "".join(f"<tr><td>PAT-{n:05d}<td>{n}" for n in range(8000))
    (tmp_path / "a.html").write_text(f"<table>{rows}</table><!-- <!-- <!--")

    assert cleaned(tmp_path / "a.html", Names({"PAT-00017"})).certain == 1


def test_files_beside_the_stores_own_are_looked_into(workspace):
    stored_as(workspace, ("PAT-017", "sz-1"), ("PAT-018", "sz-2"))
    for name in ("manifest.csv", "root.txt", "PAT-017.txt", "audit/n.txt", "store/n.txt", "generations/n.txt"):
        (workspace.root / name).parent.mkdir(exist_ok=True)
        (workspace.root / name).write_text("patient_id\nPAT-017\nPAT-018\n" if "csv" in name else "PAT-017 here\n")

    receipt = erase_patient(workspace, "PAT-017")

    assert (workspace.root / "manifest.csv").read_text() == "patient_id\nPAT-018\n"
    assert (workspace.root / "root.txt").read_text() == "(erased)\n"
    assert not (workspace.root / "PAT-017.txt").exists()
    assert receipt["left"] == ["audit/n.txt", "generations/n.txt", "store/n.txt"]


def test_a_copy_of_their_film_goes_whatever_it_is_called(workspace, tmp_path):
    film = b"a film that two call their own" * 9
    digest = hashlib.sha256(film).hexdigest()
    random = np.random.default_rng(0)
    for who, video, number, source in (("PAT-017", "sz-1", 0, digest), ("PAT-018", "sz-2", 1, "1" * 64)):
        commit(workspace, [renamed(make_video(number, 0, 1, random, source_sha256=source), who, video)])
    publish_all(workspace)
    (tmp_path / "also").mkdir()
    (tmp_path / "also" / "untitled.mp4").write_bytes(film)
    (tmp_path / "also" / "other.mp4").write_bytes(b"another")

    erase_patient(workspace, "PAT-017", [tmp_path / "also"])

    assert [path.name for path in (tmp_path / "also").iterdir()] == ["other.mp4"]


def test_an_open_question_stays_open_where_its_folder_is_not_named_again(workspace, tmp_path):
    stored_as(workspace, ("1", "film-77"), ("2", "film-78"))
    (tmp_path / "also").mkdir()
    (tmp_path / "also" / "a.txt").write_text("a 1 stands here\n")

    first = erase_patient(workspace, "1", [tmp_path / "also"])
    second = erase_patient(workspace, "1")
    third = erase_patient(workspace, "1", texts=True)

    assert [one["complete"] for one in (first, second, third)] == [False, False, True]
    assert (tmp_path / "also" / "a.txt").read_text() == "(erased)\n"


def test_a_backup_is_one_piece_and_its_folder_given_itself_is_nothing(workspace, tmp_path):
    stored_as(workspace, ("PAT-017", "sz-1"), ("PAT-018", "sz-2"))
    back_up(workspace, tmp_path / "also" / "saved")

    receipt = erase_patient(workspace, "PAT-017", [tmp_path / "also", workspace.root])

    assert (receipt["complete"], receipt["left"]) == (False, ["also/saved"])
    assert verify(tmp_path / "also" / "saved").videos == 2


def test_the_folder_given_may_be_named_after_them(workspace, tmp_path):
    stored_as(workspace, ("PAT-017", "sz-1"), ("PAT-018", "sz-2"))
    (tmp_path / "PAT-017").mkdir()

    assert erase_patient(workspace, "PAT-017", [tmp_path / "PAT-017"])["left"] == ["(theirs)/."]


def test_one_who_comes_back_misspelled_is_asked_about(workspace):
    stored_as(workspace, ("P-200", "sz-1"), ("PAT-018", "sz-2"))
    erase_patient(workspace, "P-200")

    assert Store(workspace).alike_to_erased({"p-200", "P200", "P-201", "PAT-018"}) == {"p-200", "P200"}


def test_nothing_comes_to_be_in_a_mistyped_workspace(workspace):
    for call in (lambda: erase_patient(workspace, "p1"), lambda: forecast(workspace, "p1")):
        with pytest.raises(NotFound, match="check its path"):
            call()
    assert not workspace.root.exists()


# What a second reviewer broke.


@pytest.mark.parametrize(
    "claim",
    [
        {"b.csv": "patient_id,video\nPAT-018,films/room.mp4\n"},
        {"b.csv": "patient_id,film\nPAT-018,films/room.mp4\n"},
        {"b.json": '{"patient": "PAT-018", "files": ["films/room.mp4"]}'},
    ],
)
def test_a_film_that_another_claims_in_any_column_stays_for_ever(tmp_path, claim):
    files = {"a.csv": "patient_id,file_name\nPAT-017,films/room.mp4\n", "films/room.mp4": "film", **claim}

    assert left_of(tmp_path, Names({"PAT-017"}, (), {"PAT-018"}), files, doubtful=True)[1]["films/room.mp4"] == "film"


def test_what_lies_in_anothers_folder_within_theirs_stays(tmp_path):
    files = {"PAT-017/PAT-018/f.mp4": "a", "PAT-017/PAT-021.mp4": "b", "PAT-017/controls/PAT-018/f.mp4": "c"}

    left_of(tmp_path, Names({"PAT-017"}, (), {"PAT-018"}), files, doubtful=True)

    assert sorted(path.read_text() for path in tmp_path.rglob("*.mp4")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '{"patient_id": 12, "age": 3, "controls": [{"patient_id": 5, "age": 30}]}',
            '{"patient_id": "(erased)", "age": 3, "controls": [{"patient_id": 5, "age": 30}]}',
        ),
        (
            '{"patient_id": "12", "age": 3, "controls": [{"patient_id": "21", "age": 30}]}',
            '{"patient_id": "(erased)", "age": 3, "controls": [{"patient_id": "21", "age": 30}]}',
        ),
        (
            '{"patient_id": "5", "note": "long note. as PAT-017"}',
            '{"patient_id": "5", "note": "long note. as (erased)"}',
        ),
        (
            '{"PAT-017": {"matched": {"patient_id": "5", "age": 41}}, "n": 1}',
            '{"(erased)": {"matched": {"patient_id": "5", "age": 41}}, "n": 1}',
        ),
        ('{"PAT-017 vs 5x": 1, "PAT-017_sz1 vs 5x": 2}', '{"(erased)": 1, "(erased) 2": 2}'),
        ('{"patient_ids": [12, 5], "patients": 12}', '{"patient_ids": ["(erased)", 5], "patients": 12}'),
        (
            '{"clips": [{"patient_id": "12"}, {"patient_id": "5"}], "vectors": [[1], [2]]}',
            '{"clips": [null, {"patient_id": "5"}], "vectors": [[1], [2]]}',
        ),
    ],
)
def test_an_object_loses_what_is_theirs_and_no_more(tmp_path, before, after):
    names = Names({"12", "PAT-017"}, (), {"5"})

    _, left = left_of(tmp_path, names, {"a.json": before})

    assert json.loads(left["a.json"]) == json.loads(after)


def test_of_anothers_row_only_the_id_goes(tmp_path):
    names = Names({"PAT-017"}, (), {"PAT-018"})
    text = "patient_id,note,age\nPAT-018,as PAT-017 had,5\nsub-PAT-017,x,6\n"
    pair = "case,control,age\nPAT-017,PAT-018,41\n"

    _, left = left_of(tmp_path, names, {"a.csv": text, "b.csv": pair})

    assert left["a.csv"] == "patient_id,note,age\nPAT-018,as (erased) had,5\n"
    assert left["b.csv"] == "case,control,age\n(erased),PAT-018,41\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", b"- patient: PAT-017\n  age: 34\n"),
        ("b.ini", b"[PAT-018]\nthr=0.6\n[PAT-017]\nthr=0.5\n"),
        ("c.js", b"window.DATA={'PAT-017':1,'PAT-018':2}"),
    ],
)
def test_files_whose_lines_belong_together_are_left_to_people(tmp_path, name, content):
    found, _ = left_of(tmp_path, Names({"PAT-017"}, (), {"PAT-018"}), {name: content})

    assert ([trace.kind for trace in found], (tmp_path / name).read_bytes()) == (["left"], content)


def test_a_table_beside_an_array_is_left_as_it_is(tmp_path):
    np.save(tmp_path / "vectors.npy", np.zeros((2, 3)))
    rows = "patient_id,clip\nPAT-017,0\nPAT-018,0\n"

    found, left = left_of(tmp_path, Names({"PAT-017"}, (), {"PAT-018"}), {"clips.csv": rows})

    assert ([trace.kind for trace in found], left["clips.csv"]) == (["left"], rows)


def test_what_breaks_its_reader_is_told(tmp_path):
    files = {"a.json": '{"patients": ["PAT-017", "é"], "x": "\\ud83d"}', "b.csv": 'a,b\n1,"falls\n2,PAT-017\n3,c\n'}

    found, left = left_of(tmp_path, Names({"PAT-017"}), files)

    assert {trace.path.name: trace.kind for trace in found} == {"a.json": "not looked into", "b.csv": "goes"}
    assert left["b.csv"] == 'a,b\n1,"falls\n2,(erased)\n3,c\n'


def test_a_measured_number_is_no_patient(tmp_path):
    files = {"a.csv": "patient_id,age\n5,12\n", "b.csv": "patient_id;age\n12.0;34\n5;3\n"}

    _, left = left_of(tmp_path, Names({"12"}, (), {"5"}), files, doubtful=True)

    assert left == {"a.csv": "patient_id,age\n5,12\n", "b.csv": "patient_id;age\n5;3\n"}


@pytest.mark.parametrize(("patient", "film"), [("S017", "S017_S1.mp4"), ("1234567", "1234567_01.mp4")])
def test_a_film_named_after_them_goes_whatever_number_follows(tmp_path, patient, film):
    assert left_of(tmp_path, Names({patient}, (), {"S018"}), {film: "film"})[1] == {film: None}


def test_a_question_about_a_film_waits_for_its_answer(workspace, tmp_path):
    stored_as(workspace, ("PAT-017", "sz-1"), ("PAT-018", "sz-2"))
    also = tmp_path / "also"
    for name in ("PAT-017/night.mp4", "of PAT-017 x/x.mp4"):
        (also / name).parent.mkdir(parents=True, exist_ok=True)
        (also / name).write_bytes(b"film")
    (also / "of PAT-017 x" / "m.csv").write_text("file_name,patient_id\nx.mp4,PAT-017\n")

    first = erase_patient(workspace, "PAT-017", [also])
    waiting = sorted(path.name for path in also.rglob("*.mp4"))
    second = erase_patient(workspace, "PAT-017")
    third = erase_patient(workspace, "PAT-017", texts=True)

    assert [one["complete"] for one in (first, second, third)] == [False, False, True]
    assert waiting == ["night.mp4", "x.mp4"]
    assert sorted(str(path.relative_to(also)) for path in also.rglob("*")) == [
        *("erased", "of erased x", "of erased x/m.csv")
    ]


def test_what_a_link_named_after_them_led_to_is_told(workspace, tmp_path):
    stored_as(workspace, ("PAT-017", "sz-1"), ("PAT-018", "sz-2"))
    also = tmp_path / "also"
    (also / "objects").mkdir(parents=True)
    (also / "objects" / "MD5E-s4.mp4").write_bytes(b"film")
    (also / "PAT-017.mp4").symlink_to("objects/MD5E-s4.mp4")

    receipt = erase_patient(workspace, "PAT-017", [also])

    assert (receipt["complete"], receipt["left"]) == (False, ["also/objects/MD5E-s4.mp4"])
    assert not (also / "PAT-017.mp4").is_symlink()


def test_a_question_outlives_a_kill_between_the_row_and_the_film(workspace, tmp_path, monkeypatch):
    stored_as(workspace, ("PAT-017", "sz-1"), ("PAT-018", "sz-2"))
    also = tmp_path / "also"
    also.mkdir()
    (also / "m.csv").write_text("file_name,patient_id\nx.mp4,PAT-017\n")
    (also / "x.mp4").write_bytes(b"film")
    with monkeypatch.context() as patched:  # killed once the row has gone
        patched.setattr("index.traces.folders.sync_folder", lambda folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erase_patient(workspace, "PAT-017", [also])
    assert (also / "m.csv").read_text() == "file_name,patient_id\n"

    resumed = erase_patient(workspace, "PAT-017")
    answered = erase_patient(workspace, "PAT-017", texts=True)

    assert (resumed["complete"], resumed["undecided"]) == (False, ["also/x.mp4"])
    assert (answered["complete"], (also / "x.mp4").exists()) == (True, False)
