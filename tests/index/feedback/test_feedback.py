"""What people say: kept as it was said, in spite of others who speak, and gone with the patient."""

import json
import secrets
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.custody.backup import back_up, restore
from index.custody.erasure import erase_patient
from index.errors import DamagedData, InvalidInput, NotFound
from index.feedback.export import EVENTS_HEAD, event_lines, events_sidecar, label_studio_task
from index.feedback.labels import labels_of, with_labels
from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore, path_of
from index.records import Video
from index.semiology import PAPER, SIGNS
from index.tables.blocklist import block
from index.tables.store import Store
from index.traces.names import Names
from index.workspace import Workspace
from tests import forge
from tests.conftest import commit, make_cohort, publish_all
from tests.waiting import PATIENCE_S

SAID = Feedback(
    "v1-0", "p1", label="TLE", semiology=("Semiology-tonic",), start_s=3.0, end_s=8.5, note="left arm\nfirst"
)
JUDGED = Feedback("v1-0", "p1", query_video_id="v2-0", query_patient_id="p2", relevance="relevant", clip_id="0" * 32)


def test_what_is_saved_is_found_again_with_author_and_time(workspace):
    store = FeedbackStore(workspace)
    saved = store.save(SAID, "token:eve")

    assert store.all() == (saved,)
    assert replace(saved, feedback_id="", at="") == replace(SAID, author="token:eve")
    assert len(saved.feedback_id) == 16
    assert saved.at.endswith("+00:00")


def test_it_is_found_by_the_videos_on_either_side(workspace):
    store = FeedbackStore(workspace)
    first, second = store.save(SAID, "a"), store.save(JUDGED, "a")

    assert store.all(["v1-0"]) == (first, second)
    assert store.all(["v2-0"]) == (second,)
    assert store.all(["v3-0"]) == ()


def test_nothing_was_said_in_a_new_workspace(workspace):
    assert FeedbackStore(workspace).all() == ()
    assert FeedbackStore(workspace).erase("p1", [], Names({"p1"})) == (0, 0, 0)
    assert not path_of(workspace).exists()


def test_only_its_author_takes_it_back_or_whoever_may_all(workspace):
    store = FeedbackStore(workspace)
    one, two = store.save(SAID, "a"), store.save(SAID, "b")

    with pytest.raises(NotFound, match="no feedback of yours"):
        store.remove(one.feedback_id, "b")
    assert store.remove(one.feedback_id, "a") == one
    assert store.remove(two.feedback_id) == two
    assert store.all() == ()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"label": "epilepsy"}, "label"),
        ({"relevance": "maybe"}, "relevance"),
        ({"semiology": ("Semiology tonic",)}, "semiology"),
        ({"semiology": tuple(f"S-{n}" for n in range(33))}, "semiology"),
        ({"start_s": 9.0}, "start_s"),
        ({"start_s": -1.0}, "start_s"),
        ({"end_s": float("nan")}, "start_s"),
        ({"end_s": float("inf")}, "start_s"),
        ({"note": "x" * 2001}, "note"),
        ({"note": "a\0b"}, "note"),
        ({"video_id": "../secret"}, "video_id"),
        ({"query_video_id": "a b"}, "query_video_id"),
        ({"clip_id": "x"}, "clip_id"),
        ({"label": "", "semiology": (), "note": "  ", "start_s": 0.0, "end_s": 0.0}, "feedback"),
    ],
)
def test_what_cannot_be_is_refused_by_field(workspace, changed, field):
    with pytest.raises(InvalidInput) as caught:
        FeedbackStore(workspace).save(replace(SAID, **changed), "a")

    assert caught.value.field == field
    assert not path_of(workspace).exists()


def test_several_processes_lose_nothing(workspace):
    code = (
        "import sys; from pathlib import Path; from index.workspace import Workspace\n"
        "from index.feedback.store import Feedback, FeedbackStore\n"
        "store = FeedbackStore(Workspace(Path(sys.argv[1])))\n"
        "for n in range(25): store.save(Feedback('v', 'p', note=f'{sys.argv[2]} {n}'), sys.argv[2])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(workspace.root), str(n)]) for n in range(3)]
    assert [writer.wait(PATIENCE_S) for writer in writers] == [0, 0, 0]

    found = sorted(one.note for one in FeedbackStore(workspace).all())
    assert found == sorted(f"{writer} {n}" for writer in range(3) for n in range(25))


def test_a_damaged_file_is_said_to_be_one(workspace):
    FeedbackStore(workspace).save(SAID, "a")
    path_of(workspace).write_bytes(b"no database" * 100)

    with pytest.raises(DamagedData, match="what people have said"):
        FeedbackStore(workspace).all()


def test_an_erased_patient_is_in_no_byte_of_it_on_either_side_and_others_stay(workspace):
    cohort = make_cohort()
    commit(workspace, cohort)
    publish_all(workspace)
    store = FeedbackStore(workspace)
    kept = store.save(Feedback("v0-0", "p0", note="stays with the others, p11 and v1-01"), "a")
    store.save(Feedback("v0-0", "p0", note="the same as in p1, as it seems"), "a")
    store.save(Feedback("v0-0", "p0", note="compare v1-2"), "a")
    store.save(replace(SAID, note="a note about somebody erased"), "a")
    store.save(replace(JUDGED, video_id="v3-0", patient_id="p3", query_video_id="v1-2", query_patient_id="p1"), "b")
    store.save(replace(JUDGED, note="said by a moved video", patient_id="p4", query_patient_id="p4"), "b")

    judged = store.save(replace(JUDGED, video_id="v3-0", patient_id="p3", note="like v1-2."), "b")

    receipt = erase_patient(workspace, "p1", texts=True)

    assert store.all() == (kept, replace(judged, note=""))
    data = path_of(workspace).read_bytes()
    assert b"stays with the others" in data
    assert not any(word in data for word in (b"somebody erased", b"v1-2", b"a moved video"))
    assert {"place": "feedback.sqlite", "action": "5 rows removed, 1 note blanked"} in receipt["places"]


def test_nothing_is_kept_of_a_patient_who_was_erased(workspace):
    commit(workspace, make_cohort())
    publish_all(workspace)
    erase_patient(workspace, "p1")

    with pytest.raises(NotFound, match="not stored any more"):
        FeedbackStore(workspace).save(SAID, "a")


def test_what_was_said_before_there_were_events_is_read_and_more_can_be_said(workspace):
    store = FeedbackStore(workspace)
    saved = store.save(SAID, "a")
    with closing(sqlite3.connect(path_of(workspace))) as database, database:
        database.execute("alter table feedback drop column event")

    assert store.all() == (saved,)
    event = store.save(replace(SAID, event="seizure"), "a")
    assert store.all() == (saved, event)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"event": "fit"}, "event"),
        ({"event": "seizure", "start_s": 0.0, "end_s": 0.0}, "start_s"),
        ({"event": "not_a_seizure", "semiology": ()}, "event"),  # with the label TLE
        ({"event": "not_a_seizure", "label": ""}, "event"),  # with a sign, which an import takes for a seizure
        ({"event": "seizure", "query_video_id": "v2-0"}, "event"),
        ({"event": "seizure", "relevance": "relevant"}, "event"),
    ],
)
def test_an_event_that_cannot_be_is_refused(workspace, wrong, field):
    with pytest.raises(InvalidInput) as refused:
        FeedbackStore(workspace).save(replace(SAID, **wrong), "a")

    assert refused.value.field == field


def test_the_label_of_an_event_is_not_that_of_its_video():
    said = [replace(SAID, video_id="v3", event="seizure", author=author) for author in ("a", "b")]

    assert labels_of(said, STORED).labels == {}


def test_an_event_is_a_line_of_its_own_and_a_range_for_label_studio():
    one = replace(SAID, event="seizure", author="a", at="now", note="")
    none = Feedback("v1-0", "p1", start_s=3, end_s=5, event="not_a_seizure", author="a", at="now")

    assert [line.split("\t")[:6] for line in event_lines([one, none], VIDEOS)] == [
        ["3", "5.5", "seizure", "v1-0", "TLE", "sc:Epileptic-seizure"],
        ["3", "5.5", "Semiology-tonic", "v1-0", "n/a", "sc:Semiology-tonic"],
        ["3", "2", "not a seizure", "v1-0", "n/a", "n/a"],
    ]
    task = label_studio_task("v1-0", [one, none], VIDEOS)
    assert [[part["value"] for part in said["result"]] for said in task["annotations"]] == [
        [{"timelinelabels": ["seizure", "Semiology-tonic"], "ranges": [{"start": 75, "end": 212}]}],
        [{"timelinelabels": ["not a seizure"], "ranges": [{"start": 75, "end": 125}]}],
    ]


def test_a_backup_holds_it(workspace, tmp_path):
    commit(workspace, make_cohort())
    saved = FeedbackStore(workspace).save(SAID, "a")
    back_up(workspace, tmp_path / "backup")
    brought_back = type(workspace)(tmp_path / "again")
    restore(tmp_path / "backup", brought_back)

    assert FeedbackStore(brought_back).all() == (saved,)


STORED = {name: Video(name, "p", "0" * 64, label=label) for name, label in (("v1", "TLE"), ("v2", "exTLE"), ("v3", ""))}
LABELLED = st.tuples(
    st.sampled_from(["v1", "v2", "v3", "gone"]), st.sampled_from(["a", "b", "c"]), st.sampled_from(["TLE", "exTLE", ""])
)


@given(st.lists(LABELLED, max_size=16), st.booleans())
def test_it_takes_two_who_agree_to_turn_a_stored_label_and_whoever_contradicts_one_is_named(said, trust_one):
    found = labels_of(
        (Feedback(video, "p", label=label, author=author) for video, author, label in said), STORED, trust_one=trust_one
    )

    words = {}
    for video, author, label in said:
        if label and video in STORED:
            words.setdefault(video, {})[author] = label
    agreed = {video: by for video, by in words.items() if len(set(by.values())) == 1}
    turns = {video for video, by in agreed.items() if STORED[video].label not in {"", next(iter(by.values()))}}
    enough = {video for video in agreed if video not in turns or len(agreed[video]) > 1 or trust_one}
    assert found.labels == {video: next(iter(agreed[video].values())) for video in enough}
    assert set(found.alone) == agreed.keys() - enough
    assert set(found.disputed) == words.keys() - agreed.keys()
    against = [
        author for video, by in words.items() for author, label in by.items() if STORED[video].label not in {"", label}
    ]
    assert found.contradicts == {author: against.count(author) for author in set(against)}


@given(st.lists(st.tuples(st.sampled_from(["v1", "v2"]), st.integers(0, 2000)), max_size=12), st.integers(1, 5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_hold_everything_once_in_order(tmp_path, said, size):
    store = FeedbackStore(Workspace(tmp_path / secrets.token_hex(4)))
    saved = [store.save(Feedback(video, "p1", note="x" * max(length, 1)), "a") for video, length in said]
    for wanted in ([], ["v1"]):
        found, token = [], ""
        while True:
            page = store.page(wanted, size, token)
            assert len(page.feedback) <= size
            found += page.feedback
            if not (token := page.next_page_token):
                break
        assert found == [one for one in saved if not wanted or one.video_id in wanted]
    assert store.all() == tuple(saved)


@pytest.mark.slow
def test_long_notes_end_a_page_early_and_thousands_are_listed_and_exported(workspace, tmp_path):
    commit(workspace, make_cohort())
    store = FeedbackStore(workspace)
    store.save(SAID, "a")
    with closing(sqlite3.connect(path_of(workspace))) as database, database:
        row = database.execute("select * from feedback").fetchone()
        names = [name for name, *_ in database.execute("select * from feedback").description]
        many = []
        for number in range(8500):
            values = dict(zip(names, row, strict=True))
            values |= {"feedback_id": f"{number:016x}", "note": "\N{LATIN SMALL LETTER O WITH DIAERESIS}" * 2000}
            many.append(tuple(values.values()))
        database.executemany(f"insert into feedback values ({', '.join('?' * len(names))})", many)
    page = store.page()
    assert 100 < len(page.feedback) < 400
    assert sum(len(one.note.encode()) for one in page.feedback) < 2**21
    assert sum(1 for _ in store.each()) == 8501
    assert store.said_since("a", "2020") == 8501
    ran = forge.run("feedback", "export", tmp_path / "out", "-w", workspace.root, "--json")
    assert json.loads(ran.stdout) == {"feedback": 8501}
    assert len((tmp_path / "out" / "events.tsv").read_text().splitlines()) == 1 + 2 * 8501
    (task,) = json.loads((tmp_path / "out" / "label-studio.json").read_text())
    assert len(task["annotations"]) == 8501


@pytest.mark.parametrize("token", ["x", "2026-01-01T00:00:00+00:00", "/", "' or 1=1 --/0000000000000000"])
def test_a_token_of_no_page_is_refused(workspace, token):
    with pytest.raises(InvalidInput, match="token of a page before"):
        FeedbackStore(workspace).page(token=token)


@pytest.mark.parametrize("size", [0, -1, 1001])
def test_a_page_is_neither_empty_nor_endless(workspace, size):
    with pytest.raises(InvalidInput, match="1 to 1000"):
        FeedbackStore(workspace).page(size=size)


@pytest.mark.parametrize("cell", ["=1+1", "+49", "-x", "@SUM(A1)"])
def test_what_a_spreadsheet_would_compute_is_text(cell):
    one = Feedback("v1-0", "p1", label="TLE", note=cell, author=cell, at="now")
    (line,) = event_lines([one], VIDEOS)
    assert line.rstrip("\n").split("\t")[-3:] == [f"'{cell}", "now", f"'{cell}"]


def test_labels_of_people_count_instead_of_the_manifests(workspace):
    commit(workspace, make_cohort())
    videos = with_labels(Store(workspace).videos(), {"v0-0": "exTLE"})

    assert (videos["v0-0"].label, videos["v0-1"].label) == ("exTLE", "TLE")


VIDEOS = {"v1-0": Video("v1-0", "p1", "0" * 64, duration_s=24.0)}


def test_events_have_a_line_for_each_sign_and_label_with_hed_tags_where_there_are_some():
    whole = Feedback("v1-0", "p1", semiology=("Own-sign",), author="b", at="later")

    lines = event_lines([replace(SAID, author="a", at="now"), JUDGED, whole], VIDEOS)
    assert (EVENTS_HEAD + "".join(lines)).splitlines() == [
        "onset\tduration\ttrial_type\tvideo_id\tlabel\tHED\tauthor\tat\tnote",
        "0\t0\tlabel\tv1-0\tTLE\tn/a\ta\tnow\tleft arm first",
        "3\t5.5\tSemiology-tonic\tv1-0\tn/a\tsc:Semiology-tonic\ta\tnow\tleft arm first",
        "0\t24\tOwn-sign\tv1-0\tn/a\tn/a\tb\tlater\tn/a",
    ]
    levels = events_sidecar(PAPER)["trial_type"]["Levels"]
    assert levels.items() > SIGNS.items()
    assert set(levels) - set(SIGNS) == {"seizure", "not a seizure"}


def test_label_studio_gets_a_task_a_video_with_an_annotation_for_each_word():
    task = label_studio_task("v1-0", [replace(SAID, author="a", at="now"), JUDGED], VIDEOS)
    assert label_studio_task("v1-0", [JUDGED], VIDEOS) is None

    assert task["data"] == {"video": "/preview/v1-0.mp4", "video_id": "v1-0"}
    (annotation,) = task["annotations"]
    assert [(one["type"], one["value"]) for one in annotation["result"]] == [
        ("choices", {"choices": ["TLE"]}),
        ("timelinelabels", {"timelinelabels": ["Semiology-tonic"], "ranges": [{"start": 75, "end": 212}]}),
        ("textarea", {"text": ["left arm\nfirst"]}),
    ]
    json.dumps(task)


def test_what_another_host_has_erased_is_shown_no_more_and_goes(workspace):
    store = FeedbackStore(workspace)
    kept = store.save(Feedback("v0-0", "p0", note="stays"), "a")
    store.save(SAID, "a")
    store.save(JUDGED, "a")
    block(workspace, "p1")

    assert store.all() == (kept,)
    assert store.let_go_of_the_erased() == 2
    assert b"left arm" not in path_of(workspace).read_bytes()
    assert store.let_go_of_the_erased() == 0


@pytest.mark.parametrize(
    ("note", "left"),
    [
        ("as in pat-0017, but slower", "(erased)"),
        ("pat-0017, pat-00171 and pat-0018 alike", "(erased), pat-00171 and pat-0018 alike"),
        ("pat-0017-b only", "pat-0017-b only"),
        ("seen with pat-0017. Later Pat 0017 again", "(erased)"),
    ],
)
def test_a_note_on_another_patient_loses_whom_another_host_has_erased(workspace, note, left):
    store = FeedbackStore(workspace)
    store.save(Feedback("v0-0", "p0", label="TLE", note=note), "a")
    block(workspace, "pat-0017")

    assert store.let_go_of_the_erased() == (note != left)
    assert [one.note for one in store.all()] == [left.replace("(erased)", "") if left == "(erased)" else left]
    assert store.let_go_of_the_erased() == 0


def test_a_row_of_a_later_version_or_with_odd_signs_spoils_no_other(workspace):
    store = FeedbackStore(workspace)
    first = store.save(Feedback("v1", "p1", label="TLE", semiology=("Semiology-tonic",)), "anna")
    second = store.save(Feedback("v2", "p2", label="exTLE", semiology=("Semiology-tonic",)), "bert")
    with closing(sqlite3.connect(path_of(workspace))) as database, database:
        database.execute("alter table feedback add column mood text default 'fine'")
        database.execute("update feedback set semiology = 'junk' where feedback_id = ?", (first.feedback_id,))

    assert list(store.all()) == [replace(first, semiology=()), second]
    third = store.save(Feedback("v3", "p3", label="TLE"), "anna")
    assert store.remove(first.feedback_id).feedback_id == first.feedback_id
    assert list(store.all()) == [second, third]
