"""Events that people saved, and the rows of a manifest that become of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from encoder.events.cuts import Choices
from encoder.events.saved import rows_of_events
from encoder.manifest import Manifest, ManifestRow, read_manifest
from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.records import BACKGROUND, Video
from index.workspace import Workspace
from semiome.app import app
from tests.conftest import commit, make_cohort

NIGHT = ManifestRow("night.mp4", "p1", "night", recorded_at="2024-03-01T23:00:00", camera="door")
PART = ManifestRow(
    "day.mp4",
    "p2",
    "part",
    "TLE",
    "2024-03-02T10:01:40",
    start_s=100.0,
    end_s=160.0,
    onset_s=110.0,
    seizure_end_s=150.0,
)
VIDEOS = {
    "night": Video("night", "p1", "", duration_s=7200.0),
    "part": Video("part", "p2", "", duration_s=60.0, start_s=100.0, end_s=160.0),
}


def saved(video_id, start_s, end_s, event="seizure", author="anna", at="1", **more):
    return Feedback(video_id, "", start_s=start_s, end_s=end_s, event=event, author=author, at=at, **more)


def made_of(*said, tmp_path):
    return rows_of_events(said, Manifest(tmp_path, (NIGHT, PART)), VIDEOS, Choices(lead_s=10, tail_s=20))


def times(made):
    return [(row.file_name, row.start_s, row.onset_s, row.seizure_end_s, row.end_s) for row in made.rows]


def test_a_saved_seizure_is_a_row_with_its_lead_tail_label_and_signs(tmp_path):
    made = made_of(saved("night", 3600.125, 3650, label="exTLE", semiology=("Semiology-tonic",)), tmp_path=tmp_path)

    (row,) = made.rows
    assert times(made) == [("night.mp4", 3590.125, 3600.125, 3650.0, 3670.0)]
    assert (row.patient_id, row.label, row.semiology, row.camera) == ("p1", "exTLE", ("Semiology-tonic",), "door")
    assert row.recorded_at == "2024-03-01T23:59:50"
    assert made.left_out == []


def test_times_of_a_part_are_of_its_file_and_end_where_it_does(tmp_path):
    made = made_of(saved("part", 5, 55), saved("part", 0, 3, "not_a_seizure"), tmp_path=tmp_path)

    assert times(made) == [
        ("day.mp4", 95.0, 105.0, 155.0, 160.0),
        ("day.mp4", 100.0, None, None, 103.0),
    ]
    assert [(row.label, BACKGROUND in row.metadata) for row in made.rows] == [("", False), ("", True)]
    assert made.background == 1
    assert made.rows[0].recorded_at == "2024-03-02T10:01:35"


def test_what_two_people_say_of_one_stretch_is_one_event(tmp_path):
    made = made_of(
        saved("night", 100, 140, label="TLE", semiology=("Semiology-tonic",)),
        saved("night", 104, 141, author="bert", at="2", semiology=("Semiology-clonic",)),
        tmp_path=tmp_path,
    )

    (row,) = made.rows
    assert times(made) == [("night.mp4", 94.0, 104.0, 141.0, 161.0)]
    assert (row.label, row.semiology) == ("TLE", ("Semiology-clonic", "Semiology-tonic"))


def test_each_authors_newest_word_counts(tmp_path):
    first, second = saved("night", 100, 140), saved("night", 101, 139, "not_a_seizure", at="2")

    assert times(made_of(first, second, tmp_path=tmp_path)) == [("night.mp4", 101.0, None, None, 139.0)]


def test_what_people_do_not_agree_on_gives_no_row_or_no_label(tmp_path):
    made = made_of(
        saved("night", 100, 140),
        saved("night", 101, 139, "not_a_seizure", "bert", "2"),
        saved("night", 500, 540, label="TLE"),
        saved("night", 500, 540, author="bert", at="2", label="exTLE"),
        tmp_path=tmp_path,
    )

    assert [(one.place, one.reason) for one in made.left_out] == [
        ("night, 100 to 140 s, by anna", "some call it a seizure and some say that it is none"),
        ("night, 101 to 139 s, by bert", "some call it a seizure and some say that it is none"),
    ]
    assert [(row.onset_s, row.label) for row in made.rows] == [(500.0, "")]
    assert made.notes == ["night, 500 to 540 s, by bert was called TLE and exTLE: it gets neither label"]


WHOLE = Video("whole", "p2", "d" * 64, duration_s=1000.0)
IN_WHOLE = replace(WHOLE, video_id="part", duration_s=60.0, start_s=100.0, end_s=160.0)
ROWS = (
    ManifestRow("day.mp4", "p2", "whole"),
    replace(PART, label="", metadata=(("eeg_onset_s", "108"), ("ward", "3"))),
)


def of_both(*said, rows=ROWS):
    """Rows of statements about a recording that is stored as a whole and in part."""
    videos = {"whole": WHOLE, "part": IN_WHOLE}
    return rows_of_events(said, Manifest(Path(), rows), videos, Choices(lead_s=10, tail_s=20))


def test_the_same_seconds_of_a_file_are_one_event_whichever_video_shows_them():
    agreed = of_both(saved("whole", 110, 150), saved("part", 11, 46, author="bert", at="2"))
    disputed = of_both(saved("whole", 110, 150), saved("part", 10, 50, "not_a_seizure", "bert", "2"))

    assert times(agreed) == [("day.mp4", 101.0, 111.0, 146.0, 160.0)]
    assert (disputed.rows, len(disputed.left_out)) == ([], 2)


def test_a_statement_takes_the_place_of_all_that_its_author_said_of_its_stretch():
    first = (saved("whole", 500, 510), saved("whole", 515, 525, at="2"))

    assert times(of_both(*first, saved("whole", 499, 526, "not_a_seizure", at="3"))) == [
        ("day.mp4", 499.0, None, None, 526.0)
    ]
    assert times(of_both(*first, saved("whole", 499, 526, author="bert", at="3"))) == [
        ("day.mp4", 489.0, 499.0, 526.0, 546.0)
    ]
    others = of_both(*first, saved("whole", 499, 526, "not_a_seizure", "bert", "3"))
    assert (others.rows, len(others.left_out)) == ([], 3)


def test_what_is_no_seizure_is_no_background_where_there_is_one():
    known, new = (
        of_both(saved("whole", 1, 999, "not_a_seizure")),
        of_both(saved("whole", 500, 600), saved("whole", 560, 900, "not_a_seizure", "bert", "2"), rows=ROWS[:1]),
    )

    reason = "it is said to be no seizure, and there is one at that time: decide which is right"
    assert (times(known), [one.reason for one in known.left_out]) == ([], [reason])
    assert (times(new), [one.reason for one in new.left_out]) == ([("day.mp4", 490.0, 500.0, 600.0, 620.0)], [reason])


def test_a_new_row_does_not_have_the_onset_of_another_seizure_in_its_metadata():
    made = of_both(saved("part", 52, 58))

    assert made.rows[0].metadata == (("ward", "3"),)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["whole", "part"]),
            st.integers(0, 40),
            st.integers(1, 20),
            st.sampled_from(["seizure", "not_a_seizure"]),
            st.sampled_from(["anna", "bert"]),
        ),
        max_size=6,
    )
)
def test_no_two_rows_say_different_things_of_the_same_seconds_and_a_manifest_can_be_read(said):
    events = [
        saved(name, begin + 100 * (name == "whole"), begin + length + 100 * (name == "whole"), event, author, str(at))
        for at, (name, begin, length, event, author) in enumerate(said)
    ]

    made = of_both(*events, rows=(ROWS[0], replace(ROWS[1], onset_s=None, seizure_end_s=None)))

    seizures = [(row.onset_s, row.seizure_end_s) for row in made.rows if row.onset_s is not None]
    quiet = [(row.start_s, row.end_s) for row in made.rows if row.onset_s is None]
    assert not any(begin < end and other < stop for begin, stop in quiet for other, end in seizures if begin < end)
    assert len({row.video_id for row in made.rows}) == len(made.rows)
    newest = max(events, key=lambda one: int(one.at), default=None)
    if newest is not None and len({one.author for one in events}) == 1 and newest.event == "seizure":
        begins = newest.start_s + 100 * (newest.video_id == "part")
        assert begins in {begin for begin, _ in seizures}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (saved("elsewhere", 1, 5), "no row of the manifest is this video"),
        (saved("night", 7199.5, 7300), "less than a second of it is in the video"),
        (saved("night", 8000, 8100), "less than a second of it is in the video"),
    ],
)
def test_what_gives_no_row_is_listed_with_the_reason(said, reason, tmp_path):
    made = made_of(said, tmp_path=tmp_path)

    assert ([row.video_id for row in made.rows], [one.reason for one in made.left_out]) == ([], [reason])


def test_a_row_of_another_part_of_the_file_than_is_stored_is_not_taken_for_it(tmp_path):
    manifest = Manifest(tmp_path, (replace(PART, start_s=90.0),))

    made = rows_of_events([saved("part", 5, 55)], manifest, VIDEOS, Choices())

    assert [one.reason for one in made.left_out] == ["the manifest's row is another part of the file than is stored"]


def test_the_command_writes_a_manifest_that_can_be_read_and_says_what_it_left_out(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    commit(workspace, make_cohort(patients=2, videos=1))
    store = FeedbackStore(workspace)
    store.save(replace(saved("v0-0", 3, 12, label="TLE"), patient_id="p0", author=""), "anna")
    store.save(replace(saved("v1-0", 3, 12), patient_id="p1"), "anna")
    store.save(Feedback("v0-0", "p0", label="exTLE"), "anna")  # of the video, which is no event
    (tmp_path / "m.csv").write_text("file_name,patient_id,video_id\na.mp4,p0,v0-0\n")
    (tmp_path / "a.mp4").write_bytes(b"")
    to = tmp_path / "events.csv"
    asked = ["feedback", "rows", str(tmp_path / "m.csv"), "--to", str(to), "--workspace", str(workspace.root)]

    done = CliRunner().invoke(app, [*asked, "--lead", "1", "--tail", "2", "--json"])

    assert done.exit_code == 3, done.output
    said = json.loads(done.stdout)
    assert [one["reason"] for one in said["left_out"]] == ["no row of the manifest is this video"]
    (row,) = read_manifest(to).rows
    assert (row.file_name, row.label, row.start_s, row.onset_s, row.seizure_end_s, row.end_s) == (
        *("a.mp4", "TLE", 2.0, 3.0, 12.0, 14.0),
    )
    assert CliRunner().invoke(app, asked).exit_code != 0  # nothing is written over


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (1, 9, ("day.mp4", 96.0, 101.0, 109.0, 119.0, "", None)),
        (15, 25, ("day.mp4", 110.0, 115.0, 125.0, 135.0, "next.mp4", 120.0)),
        (40, 50, ("next.mp4", 15.0, 20.0, 30.0, 40.0, "", None)),
    ],
)
def test_an_event_of_a_video_in_two_files_is_cut_from_the_one_it_is_in(start_s, end_s, expected, tmp_path):
    row = replace(PART, onset_s=None, seizure_end_s=None, continues_in="next.mp4", continues_at_s=120.0)
    row = replace(row, recorded_at="")

    made = rows_of_events(
        [saved("part", start_s, end_s)], Manifest(tmp_path, (row,)), VIDEOS, Choices(lead_s=5, tail_s=10)
    )

    (row,) = made.rows
    assert (row.file_name, row.start_s, row.onset_s, row.seizure_end_s, row.end_s) == expected[:5]
    assert (row.continues_in, row.continues_at_s) == expected[5:]
