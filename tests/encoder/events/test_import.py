"""Annotation lists of every kind to the rows of a manifest, from files that edfio and hands have written."""

import csv
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import edfio
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoder.clips import Segment
from encoder.events.annotations import Annotation, Kind, read_mapping
from encoder.events.clock import read_moment, zone
from encoder.events.cuts import Choices
from encoder.events.readers import read_annotations
from encoder.events.recordings import read_recordings
from encoder.events.rows import make_rows
from encoder.events.seizures import seizures
from encoder.manifest import read_manifest, write_manifest
from index.errors import InvalidInput, ManifestErrors
from index.feedback.export import EVENTS_HEAD, event_lines
from index.feedback.statement import Feedback
from index.records import BACKGROUND, Video
from tests.encoder.video.awkward import write

MINUTE = range(25 * 60)
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "events.toml"


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Two minutes of p1 in two files that begin before midnight and at it, a minute of p2, filmed by two cameras."""
    folder = tmp_path_factory.mktemp("ward")
    first = write(folder / "a.mp4", frames=MINUTE, options={"preset": "ultrafast"})
    for name in ("b.mp4", "c.mp4", "d.mp4"):
        (folder / name).write_bytes(first.read_bytes())
    listed(
        folder / "recordings.csv",
        ("file_name", "patient_id", "recorded_at", "camera", "recording_id", "ward"),
        ("a.mp4", "p1", "2024-03-01T23:59:20", "door", "r1", "3"),
        ("b.mp4", "p1", "2024-03-02T00:00:20", "door", "r1", "3"),
        ("c.mp4", "p2", "2024-03-02T10:00:00", "door", "", ""),
        ("d.mp4", "p2", "2024-03-02T10:00:00", "bed", "", ""),
    )
    return folder


def listed(path, *rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter=";" if path.suffix == ".csv" else "\t").writerows(rows)
    return path


def edf(path, *annotations, begins=time(23, 59, 0), day=date(2024, 3, 1), code="p1"):
    signal = edfio.EdfSignal(np.zeros(256 * 120), 256, label="Fp1")
    said = edfio.Edf(
        [signal],
        patient=edfio.Patient(code=code),
        recording=edfio.Recording(startdate=day) if day else None,
        starttime=begins,
        annotations=[edfio.EdfAnnotation(*one) for one in annotations],
    )
    said.write(path)
    return path


def imported(ward, *lists, mapping=None, patient="", begins=None, local="", **choices):
    annotations = read_annotations(lists, read_mapping(mapping), patient, begins)
    recordings = read_recordings(ward / "recordings.csv", None, zone(local))
    made = make_rows(annotations, recordings.files, Choices(zone(local), **choices))
    return made, recordings


def times(made):
    return [(row.file_name, row.start_s, row.onset_s, row.seizure_end_s, row.end_s) for row in made.rows]


def reasons(made):
    return [(one.place, one.reason) for one in made.left_out]


def test_marks_of_an_edf_become_one_seizure_over_midnight(ward, tmp_path):
    path = edf(
        tmp_path / "night.edf",
        (70, None, "EEG onset"),
        (73.5, None, "clinical onset"),
        (74, None, "Sz 3 focal"),
        (79, None, "End of seizure"),
        (2, None, "Eyes open"),
    )

    made, recordings = imported(ward, path, lead_s=5, tail_s=2)

    assert recordings.notes == ()
    assert times(made) == [("a.mp4", 45.0, 53.5, 59.0, 60.0)]
    (row,) = made.rows
    assert (row.patient_id, row.recorded_at, row.camera) == ("p1", "2024-03-02T00:00:05", "door")
    assert row.metadata == (("eeg_onset_s", "50.000"), ("recording_id", "r1"), ("seizure_s", "54.000"), ("ward", "3"))
    unknown = "the meaning of 'Eyes open' is not known: name it under [words] of the mapping"
    assert reasons(made) == [("night.edf, annotation 1", unknown)]
    assert made.notes == []


def test_a_bdf_is_read_the_same_way(ward, tmp_path):
    signal = edfio.BdfSignal(np.zeros(256 * 120), 256, label="Fp1")
    path = tmp_path / "x.bdf"
    edfio.Bdf(
        [signal],
        patient=edfio.Patient(code="p1"),
        recording=edfio.Recording(startdate=date(2024, 3, 2)),
        starttime=time(0, 0, 30),
        annotations=[edfio.EdfAnnotation(5, 10, "Seizure")],
    ).write(path)

    made, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(made) == [("b.mp4", 15.0, 15.0, 25.0, 25.0)]


def test_a_seizure_over_the_end_of_a_file_goes_on_in_the_next(ward, tmp_path):
    path = edf(tmp_path / "x.edf", (75, 20, "seizure"))

    made, _ = imported(ward, path, lead_s=1, tail_s=1)

    assert times(made) == [("a.mp4", 54.0, 55.0, 75.0, 76.0)]
    (row,) = made.rows
    assert (row.continues_in, row.continues_at_s, row.recorded_at) == ("b.mp4", 60.0, "2024-03-02T00:00:14")
    assert made.notes == []
    write_manifest(tmp_path / "m.csv", [(row, "")])
    assert read_manifest(tmp_path / "m.csv", ward).rows == (row,)


def test_a_seizure_longer_than_the_next_file_too_gives_the_part_in_both_and_says_so(ward, tmp_path):
    path = edf(tmp_path / "x.edf", (75, 150, "seizure"))

    made, _ = imported(ward, path, lead_s=1, tail_s=1)

    assert times(made) == [("a.mp4", 54.0, 55.0, None, 120.0)]
    assert made.notes == ["x.edf, annotation 1: b.mp4 ends before the seizure does: the row has its part of it"]


@pytest.mark.parametrize(
    ("recording_id", "begins", "end", "note"),
    [
        (
            "",
            "2024-03-02T00:00:20",
            60.0,
            "x.edf, annotation 1: a.mp4 ends before the seizure does: the row has its part",
        ),
        ("r1", "2024-03-02T00:00:25", 76.0, "x.edf, annotation 1: nothing is recorded for 5 s of the seizure"),
        (
            "r1",
            "2024-03-02T00:00:45",
            60.0,
            "x.edf, annotation 1: a.mp4 ends before the seizure does: the row has its part",
        ),
        ("r1", "2024-03-02T00:00:17", 76.0, ""),
    ],
)
def test_only_files_of_a_recording_are_joined_with_what_is_between_them_said(
    ward, tmp_path, recording_id, begins, end, note
):
    path = edf(tmp_path / "x.edf", (75, 20, "seizure"))
    listed(
        tmp_path / "recordings.csv",
        ("file_name", "patient_id", "recorded_at", "recording_id"),
        ("a.mp4", "p1", "2024-03-01T23:59:20", recording_id),
        ("b.mp4", "p1", begins, recording_id),
    )
    annotations = read_annotations([path], read_mapping(None))
    files = read_recordings(tmp_path / "recordings.csv", ward, None).files

    made = make_rows(annotations, files, Choices(lead_s=1, tail_s=1))

    assert made.rows[0].end_s == end
    assert bool(made.rows[0].continues_in) == (end > 60)
    assert [one.startswith(note) for one in made.notes] == ([True] if note else [])


def test_two_cameras_at_once_give_a_row_each_and_that_is_said(ward, tmp_path):
    path = edf(tmp_path / "x.edf", (20, 10, "seizure"), begins=time(10), day=date(2024, 3, 2), code="p2")

    made, _ = imported(ward, path)

    assert times(made) == [("c.mp4", 10.0, 20.0, 30.0, 50.0), ("d.mp4", 10.0, 20.0, 30.0, 50.0)]
    assert len({row.video_id for row in made.rows}) == 2
    assert made.notes == ["x.edf, annotation 1: c.mp4, d.mp4 show it at the same time: each gives a row"]


def test_an_offset_of_the_clocks_moves_every_event(ward, tmp_path):
    path = edf(tmp_path / "x.edf", (42.25, 5, "seizure"))

    made, _ = imported(ward, path, lead_s=0, tail_s=0, clock_ahead_s=12.5)

    assert times(made) == [("a.mp4", 9.75, 9.75, 14.75, 14.75)]


def test_a_file_without_annotations_or_with_a_wrong_date_is_told_apart_from_one_without_seizures(ward, tmp_path):
    empty = edf(tmp_path / "empty.edf")
    old = edf(tmp_path / "old.edf", (50, 5, "seizure"), day=date(1985, 1, 1))
    undated = edf(tmp_path / "undated.edf", (50, 5, "seizure"), day=None)

    made, _ = imported(ward, empty, old, undated)

    assert made.rows == []
    assert made.notes == [
        "empty.edf holds no annotations: export it as EDF+ with events, or give their list",
        "old.edf begins on 1985-01-01, which de-identification writes: give the true date with --begins",
    ]
    outside = (
        "no recording of the patient shows 1985-01-01 23:59:50; the nearest, a.mp4, is from 2024-03-01 23:59:20 to "
        "2024-03-02 00:00:20: check the date, the time zone and the clock's offset"
    )
    assert reasons(made) == [
        ("undated.edf, annotation 1", "the file has no start date: give it with --begins"),
        ("old.edf, annotation 1", outside),
    ]
    mended, _ = imported(ward, undated, begins=read_moment("2024-03-01T23:59:00"), lead_s=0, tail_s=0)
    assert times(mended) == [("a.mp4", 30.0, 30.0, 35.0, 35.0)]


def test_szcore_counts_from_the_time_that_it_says(ward, tmp_path):
    path = listed(
        tmp_path / "sub-p1_ses-01_task-szMonitoring_run-00_events.tsv",
        ("onset", "duration", "eventType", "confidence", "channels", "dateTime", "recordingDuration"),
        ("40.0", "12.0", "sz_foc_ia_m", "n/a", "n/a", "2024-03-01 23:59:00", "3600"),
        ("n/a", "3.0", "sz", "n/a", "n/a", "2024-03-01 23:59:00", "3600"),
        ("0.0", "3600", "bckg", "n/a", "n/a", "2024-03-01 23:59:00", "3600"),
    )

    made, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(made) == [("a.mp4", 20.0, 20.0, 32.0, 32.0)]
    assert reasons(made) == [(f"{path.name}, line 3", "it has no onset")]


def test_bids_counts_from_the_edf_beside_it_and_knows_a_seizure_by_its_hed_tag(ward, tmp_path):
    folder = tmp_path / "sub-p1" / "eeg"
    folder.mkdir(parents=True)
    edf(folder / "sub-p1_task-rest_eeg.edf", (1, None, "Sz"), code="X")
    path = listed(
        folder / "sub-p1_task-rest_events.tsv",
        ("onset", "duration", "trial_type"),
        ("25", "4", "ictal"),
        ("60", "4", "blink"),
    )
    path.with_suffix(".json").write_text('{"trial_type": {"HED": {"ictal": "sc:Seizure, (Item)", "blink": "Blink"}}}')

    made, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(made) == [("a.mp4", 5.0, 5.0, 9.0, 9.0)]
    assert [place for place, _ in reasons(made)] == [f"{path.name}, line 3"]


def test_what_feedback_export_writes_is_read_back_to_the_same_events(tmp_path):
    said = [
        Feedback("v1", "p1", label="TLE", semiology=("Semiology-versive", "Semiology-tonic"), start_s=2.5, end_s=10),
        Feedback("v2", "p2", semiology=("Semiology-tonic",), note="=1+1"),
    ]
    path = tmp_path / "events.tsv"
    videos = {"v2": Video("v2", "p2", "", duration_s=33.5)}
    path.write_text(EVENTS_HEAD + "".join(event_lines(said, videos)))

    found = read_annotations([path], read_mapping(None))

    assert found.left_out == []
    read = [(one.recording, one.offset_s, one.duration_s, one.label, one.semiology) for one in found.understood]
    assert read == [
        ("v1", 0.0, None, "TLE", ()),
        ("v1", 2.5, 7.5, "", ("Semiology-versive",)),
        ("v1", 2.5, 7.5, "", ("Semiology-tonic",)),
        ("v2", 0.0, 33.5, "", ("Semiology-tonic",)),
    ]


def test_signs_that_people_saw_become_a_row_with_their_tags_and_label(ward, tmp_path):
    head = ("onset", "duration", "trial_type", "video_id", "label", "HED", "author", "at", "note")
    path = listed(
        tmp_path / "events.tsv",
        head,
        ("0", "0", "label", "c", "exTLE", "n/a", "anna", "2024-05-01T00:00:00", "n/a"),
        ("12", "8", "Semiology-versive", "c", "n/a", "sc:Semiology-versive", "anna", "2024-05-01T00:00:00", "n/a"),
        ("15", "10", "Semiology-tonic", "c", "n/a", "sc:Semiology-tonic", "bert", "2024-05-01T00:00:00", "n/a"),
        ("1", "2", "Semiology-tonic", "elsewhere", "n/a", "n/a", "bert", "2024-05-01T00:00:00", "n/a"),
    )

    made, _ = imported(ward, path, lead_s=2, tail_s=0)

    assert [row for row in times(made) if row[0] == "c.mp4"] == [("c.mp4", 10.0, 12.0, 25.0, 25.0)]
    row = next(row for row in made.rows if row.file_name == "c.mp4")
    assert (row.label, row.semiology) == ("exTLE", ("Semiology-tonic", "Semiology-versive"))
    assert [place for place, _ in reasons(made)] == ["events.tsv, line 5"]


GERMAN = (
    ("Patientennummer", "Datum", "Uhrzeit", "Ende", "Ereignis", "Einordnung", "Zeichen"),
    ("p1", "01.03.2024", "23:59:40,5", "00:00:05", "Anfall", "temporal", "Semiology-versive;Semiology-tonic"),
    ("p2", "", "10:00:10", "", "klinischer Beginn", "", ""),
    ("p2", "", "10:00:31,250", "", "Ende Anfall", "", ""),
    ("p1", "", "00:00:40", "00:00:50", "Anfall 2", "generalisiert", ""),
    ("p1", "", "00:00:40", "00:00:50", "Anfall??? fraglich", "", ""),
    ("p3", "", "00:00:40", "00:00:50", "Anfall", "", ""),
    ("p1", "03/04/2024", "00:00:40", "", "Anfall", "", ""),
    ("p1", "", "25:00:40", "", "Anfall", "", ""),
    ("p1", "", "12:00:40", "12:01:00", "Anfall", "", ""),
)


def test_a_centres_own_table_is_read_by_its_mapping_times_of_day_over_midnight_and_commas(ward, tmp_path):
    path = listed(tmp_path / "liste.csv", *GERMAN)

    made, _ = imported(ward, path, mapping=EXAMPLE, lead_s=0, tail_s=0)

    assert times(made) == [
        ("a.mp4", 20.5, 20.5, 45.0, 45.0),
        ("c.mp4", 10.0, 10.0, 31.25, 31.25),
        ("d.mp4", 10.0, 10.0, 31.25, 31.25),
    ]
    assert (made.rows[0].label, made.rows[0].semiology) == ("TLE", ("Semiology-tonic", "Semiology-versive"))
    assert dict(reasons(made)) == {
        "liste.csv, line 5": "'generalisiert' is no label: write TLE or exTLE, or name the word under [labels]",
        "liste.csv, line 6": "the meaning of 'Anfall??? fraglich' is not known: name it under [words] of the mapping",
        "liste.csv, line 7": "the list of recordings has no patient 'p3'",
        "liste.csv, line 8": "'03/04/2024 00:00:40' is not an ISO 8601 date or time such as 2024-03-01T22:15:00: day "
        "and month can't be told apart; write 2024-04-03T00:00:40 or 2024-03-04T00:00:40",
        "liste.csv, line 9": "'25:00:40': hour must be in 0..23",
        "liste.csv, line 10": "no recording of the patient shows that time of day",
    }


def test_seconds_count_from_the_recording_that_a_column_names(ward, tmp_path):
    path = listed(
        tmp_path / "list.tsv",
        ("patient", "file", "time", "duration", "event"),
        ("p1", "b.mp4", "10,5", "5", "Sz"),
        ("", "c", "20", "3.5", "seizure (focal, impaired awareness)"),
        ("p1", "", "10", "5", "Sz"),
        ("p1", "c", "10", "5", "Sz"),
        ("p1", "b.mp4", "ten", "5", "Sz"),
        ("p1", "b.mp4", "10", "", "Sz"),
        ("p1", "b.mp4", "", "5", "Sz"),
    )

    made, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(made) == [("b.mp4", 10.5, 10.5, 15.5, 15.5), *((f"{n}.mp4", 20.0, 20.0, 23.5, 23.5) for n in "cd")]
    assert [place for place, _ in reasons(made)] == [f"list.tsv, line {n}" for n in (6, 8, 4, 5, 7)]


def test_an_end_that_is_not_known_is_not_guessed(ward, tmp_path):
    path = edf(tmp_path / "x.edf", (30, None, "seizure"), (100, None, "seizure end"), (110, None, "seizure end"))
    without, _ = imported(ward, edf(tmp_path / "y.edf", (30, None, "seizure")))
    with_length, _ = imported(ward, tmp_path / "y.edf", length_s=7, lead_s=0, tail_s=0)
    ended, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(without) == []
    assert "nothing says when this seizure ends" in reasons(without)[0][1]
    assert times(with_length) == [("a.mp4", 10.0, 10.0, 17.0, 17.0)]
    assert times(ended) == [("a.mp4", 10.0, 10.0, 80.0, 80.0)]
    assert reasons(ended) == [
        ("x.edf, annotation 3", "a second end of the seizure before it"),
    ]


def test_the_next_seizure_is_another_one_however_soon_it_comes(ward, tmp_path):
    path = edf(
        tmp_path / "x.edf",
        *((25, None, "EEG onset"), (28, None, "clinical onset"), (40, None, "seizure end")),
        *((41, None, "Sz 2"), (45, None, "seizure end"), (46, 3, "Sz 3"), (50, None, "Sz 4")),
    )

    made, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(made) == [
        ("a.mp4", 5.0, 8.0, 20.0, 20.0),
        ("a.mp4", 21.0, 21.0, 25.0, 25.0),
        ("a.mp4", 26.0, 26.0, 29.0, 29.0),
    ]
    assert [place for place, _ in reasons(made)] == ["x.edf, annotation 7"]


lengths = st.lists(
    st.tuples(st.just(0) | st.floats(0.5, 300), st.floats(1.5, 300), st.booleans(), st.booleans()), max_size=8
)


@settings(max_examples=400)
@given(spans=lengths, order=st.randoms())
@example(spans=[(1.190968811750949, 2.497530571576135, False, False), (0, 2.0, True, True)], order=Random(0))
@example(spans=[(1.190968811750949, 2.497530571576135, False, False), (0, 2.0, False, False)], order=Random(0))
@example(spans=[(1.190968811750949, 2.497530571576135, True, True), (0, 2.0, False, False)], order=Random(0))
def test_seizures_that_are_marked_whole_are_found_as_they_are_in_whatever_order(spans, order):
    begins, at = datetime(2024, 3, 1, 22), 0.0
    marks, expected = [], []
    for gap, seconds, by_end, as_described in spans:
        start = begins + timedelta(seconds=at + gap)
        end = start + timedelta(seconds=seconds)
        at += gap + seconds
        kind = Kind.EEG_ONSET if as_described else Kind.SEIZURE
        marks.append((Annotation("", kind, duration_s=None if by_end else seconds), start))
        if as_described:
            marks.append((Annotation("", Kind.CLINICAL_ONSET), start + timedelta(seconds=seconds / 100)))
        if by_end:
            marks.append((Annotation("", Kind.END), end))
        expected.append((start, end))
    order.shuffle(marks)

    found, left_out, notes = seizures(marks, None)

    to_ms = timedelta(microseconds=1000)
    assert len(found) == len(expected)
    for one, (start, end) in zip(found, expected, strict=True):
        assert abs(one.begins - start) <= to_ms
        assert abs(one.end - end) <= to_ms
    assert (left_out, notes) == ([], [])


def test_time_zones_and_the_hour_that_comes_twice(tmp_path):
    write(tmp_path / "a.mp4", frames=MINUTE, options={"preset": "ultrafast"})
    rows = ("file_name", "patient_id", "recorded_at"), ("a.mp4", "p1", "2024-10-27T00:29:30+00:00")
    listed(tmp_path / "recordings.csv", *rows)
    path = edf(tmp_path / "x.edf", (10, 5, "seizure"), begins=time(2, 29, 40), day=date(2024, 10, 27))

    twice, _ = imported(tmp_path, path, local="Europe/Berlin")
    never = edf(tmp_path / "z.edf", (10, 5, "seizure"), begins=time(2, 30), day=date(2024, 3, 31))
    naive, _ = imported(tmp_path, path)

    assert reasons(twice) == [
        (
            "x.edf, annotation 1",
            "2024-10-27 02:29:50 comes twice that day, by the clock: write it with its offset from UTC",
        )
    ]
    assert (
        "2024-03-31 02:30:10 does not exist that day"
        in reasons(imported(tmp_path, never, local="Europe/Berlin")[0])[0][1]
    )
    assert "names a time zone" in reasons(naive)[0][1]
    listed(tmp_path / "list.tsv", ("time", "duration", "event"), ("2024-10-27T02:29:50+02:00", "5", "Sz"))
    exact, _ = imported(tmp_path, tmp_path / "list.tsv", lead_s=0, tail_s=0)
    assert times(exact) == [("a.mp4", 20.0, 20.0, 25.0, 25.0)]


def test_background_is_far_from_everything_that_is_mentioned_and_the_same_each_time(tmp_path):
    path = write(tmp_path / "a.mp4", frames=range(0, 1500), options={"preset": "ultrafast"})
    listed(
        tmp_path / "recordings.csv",
        ("file_name", "patient_id", "recorded_at", "label"),
        ("a.mp4", "p1", "2024-03-01T10:00:00", "TLE"),
    )
    quiet = edf(tmp_path / "quiet.edf", begins=time(10), day=date(2024, 3, 1))
    unclear = edf(tmp_path / "unclear.edf", (30, None, "?Sz"), begins=time(10), day=date(2024, 3, 1))

    made, _ = imported(tmp_path, quiet, background=180, background_s=10)
    again, _ = imported(tmp_path, quiet, background=180, background_s=10)
    near, _ = imported(tmp_path, unclear, background=180, background_s=10)

    assert path.is_file()
    assert made.background == len(made.rows) == 3
    assert made.rows == again.rows
    assert all(row.label == "" and ("background", "yes") in row.metadata for row in made.rows)
    parts = sorted((row.start_s, row.end_s) for row in made.rows)
    assert all(end - start == pytest.approx(10) for start, end in parts)
    assert all(end <= later for (_, end), (later, _) in pairwise(parts))
    assert near.rows == []  # the file is a minute long, all of it within five minutes of something


def test_rows_are_a_manifest_and_have_the_same_ids_whenever_they_are_made(ward, tmp_path):
    one = edf(tmp_path / "x.edf", (30, 5, "seizure"))
    two = edf(tmp_path / "y.edf", (30, 6, "seizure"), (100, 5, "sz"))
    first, _ = imported(ward, one)
    second, _ = imported(ward, two)

    write_manifest(tmp_path / "manifest.csv", [(row, "") for row in second.rows])

    assert read_manifest(tmp_path / "manifest.csv", ward).rows == tuple(second.rows)
    assert first.rows[0].video_id == second.rows[0].video_id
    assert second.rows[0].segment == Segment(0.0, 36.0)


def test_what_is_odd_about_recordings_is_said(tmp_path):
    data = write(tmp_path / "x.mp4", frames=MINUTE, options={"preset": "ultrafast"}).read_bytes()
    for name in ("1.mp4", "2.mp4", "3.mp4", "4.mp4"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "torn.mp4").write_bytes(data[:2000])
    listed(
        tmp_path / "recordings.csv",
        ("file_name", "patient_id", "recorded_at", "recording_id"),
        ("1.mp4", "p1", "2024-03-01T10:00:00", "r"),
        ("3.mp4", "p1", "2024-03-01T10:01:00", "r"),
        ("2.mp4", "p1", "2024-03-01T10:01:50", "r"),
        ("4.mp4", "p1", "2024-03-01T10:20:00", "r"),
        ("torn.mp4", "p1", "2024-03-01T10:30:00", "r"),
    )

    notes = read_recordings(tmp_path / "recordings.csv", None, None).notes

    assert notes[0].startswith("torn.mp4 can't be used: ")
    assert notes[1:] == (
        "3.mp4 is before 2.mp4 by time and after it by name: the times count",
        "3.mp4 and 2.mp4 overlap by 10 s: an event in both is taken from both",
        f"nothing is recorded between 2.mp4 and 4.mp4, for {timedelta(minutes=17, seconds=10).total_seconds():.0f} s",
    )


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (("a.mp4", "p1", "2024-03-01"), "row 2, column recorded_at: '2024-03-01' has no time of day"),
        (("a.mp4", "Anna B", "2024-03-01T10:00:00"), "row 2, column patient_id: 'Anna B' is not"),
        (("../a.mp4", "p1", "2024-03-01T10:00:00"), "row 2, column file_name: '../a.mp4' is not"),
        (("a.mp4", "p1", "yesterday"), "row 2, column recorded_at: 'yesterday' is not"),
    ],
)
def test_a_list_of_recordings_that_is_wrong_is_refused_with_its_row(tmp_path, cells, problem):
    listed(tmp_path / "recordings.csv", ("file_name", "patient_id", "recorded_at"), cells)

    with pytest.raises(ManifestErrors) as caught:
        read_recordings(tmp_path / "recordings.csv", None, None)
    assert caught.value.problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("x.edf", b"", "x.edf is no EDF\\+ or BDF\\+ that can be read"),
        ("x.edf", b"0       " + b"\xff" * 500, "x.edf is no EDF"),
        ("x.csv", b"PK\x03\x04rest", "x.csv is an Excel workbook: save its sheet as `CSV UTF-8`"),
        ("x.csv", "Uhrzeit;Ereignis\n1;Anf\xe4lle".encode("latin-1"), "x.csv is not UTF-8"),
        ("x.csv", b"Time;Who\n1;2\n", "x.csv has no column that holds the event"),
        ("x.csv", b"Event;Who\n1;2\n", "x.csv has no column that holds the time"),
        ("x.csv", b"", "x.csv is empty"),
    ],
)
def test_a_list_that_can_not_be_read_is_refused_by_name(tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)

    with pytest.raises(InvalidInput, match=says):
        read_annotations([tmp_path / name], read_mapping(None))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[words", "can't be read"),
        ("[names]\n", "unknown section \\[names\\]"),
        ("[words]\nfit = 'x'\n", "unknown name 'fit' under \\[words\\] of the mapping: expected seizure"),
        ("words = 3\n", "expected \\[words\\] to be a section"),
        ("x = " + "[" * 5000, "can't be read"),
        ("[words]\nseizure = 5\n", "expected a text or a list of texts for seizure"),
        ("[labels]\n'two words' = 'x'\n", "'two words' under \\[labels\\] of the mapping is no name of a class"),
        ("[columns]\nwhen = 'x'\n", "unknown name 'when' under \\[columns\\] of the mapping: expected patient_id"),
    ],
)
def test_a_mapping_that_is_wrong_is_refused(tmp_path, text, says):
    (tmp_path / "map.toml").write_text(text)

    with pytest.raises(InvalidInput, match=says):
        read_mapping(tmp_path / "map.toml")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Sz 3 focal", "seizure"),
        ("SEIZURE #12", "seizure"),
        ("focal to bilateral tonic-clonic seizure", "seizure"),
        ("EEG-Onset", "eeg_onset"),
        ("EEG onset 2", "eeg_onset"),
        ("clinical onset (left)", "clinical_onset"),
        ("End of seizure.", "end"),
        ("no seizure", "unknown"),
        ("possible seizure", "unknown"),
        ("seizure button pressed", "unknown"),
        ("onset", "unknown"),
        ("", "unknown"),
        ("3", "unknown"),
        ("Sz3", "seizure"),
        ("Sz_3", "seizure"),
        ("non-motor seizure", "seizure"),
        ("0 Sz", "unknown"),
        ("2 Sz", "unknown"),
        ("Seizure?", "unknown"),
        ("Sz ??", "unknown"),
        ("Sz (?)", "unknown"),
        ("Sz +/-", "unknown"),
        ("non epileptic sz", "unknown"),
        ("non-epileptic seizure", "unknown"),
        ("seizure unknown", "unknown"),
        ("EEG start", "unknown"),
        ("EEG end", "unknown"),
    ],
)
def test_nothing_is_guessed_from_a_word(text, kind):
    assert read_mapping(None).kind_of(text) == kind


def test_a_mapping_may_name_numbers_and_doubts(tmp_path):
    (tmp_path / "map.toml").write_text('[words]\nseizure = ["P 4", "1"]\npassed_over = ["Sz?", "Sz 99"]\n')
    words = read_mapping(tmp_path / "map.toml")

    assert [words.kind_of(text) for text in ("p4", "1", "Sz ?", "sz 99", "Sz 98", "2")] == [
        *("seizure", "seizure", "passed_over", "passed_over", "seizure", "unknown")
    ]


def test_labels_are_the_classes_that_a_mapping_names(tmp_path):
    (tmp_path / "map.toml").write_text('[labels]\nfrontal = ["FLE"]\ntemporal = ["TLE"]\nother = []\n')
    words = read_mapping(tmp_path / "map.toml")

    told = [words.label_of(text) for text in ("fle", "TLE", "other", "frontal", "")]
    assert told == ["frontal", "temporal", "other", "frontal", ""]
    with pytest.raises(ValueError, match="write frontal or temporal or other"):
        words.label_of("exTLE")
    (tmp_path / "map.toml").write_text('[labels]\nTLE = ["temporal"]\n')
    assert read_mapping(tmp_path / "map.toml").label_of("exTLE") == "exTLE"


@pytest.mark.parametrize(
    ("tags", "number"),
    [
        ("Seizure-PNES", 0),
        ("sc:Episode/Seizure-PNES, (Seizure)", 0),
        ("No-seizure", 0),
        ("Postictal-seizure-free", 0),
        ("sc:Episodes/Epileptic-seizure, Onset", 1),
        ("sc:Aware-focal-onset-epileptic-seizure", 1),
    ],
)
def test_a_hed_tag_counts_as_a_whole(ward, tmp_path, tags, number):
    folder = tmp_path / "sub-p1"
    folder.mkdir()
    path = listed(folder / "sub-p1_events.tsv", ("onset", "duration", "trial_type"), ("25", "4", "event"))
    path.with_suffix(".json").write_text(f'{{"trial_type": {{"HED": {{"event": "{tags}"}}}}}}')

    made, _ = imported(ward, path, begins=read_moment("2024-03-01T23:59:00"))

    assert (len(made.rows), len(made.left_out)) == (number, 1 - number)


@pytest.mark.parametrize("sidecar", ['{"trial_type": "x"}', '{"trial_type": []}', "[1]", "[" * 9000, "{", '{"a": 1}'])
def test_a_sidecar_that_says_nothing_changes_nothing(ward, tmp_path, sidecar):
    path = listed(tmp_path / "sub-p1_events.tsv", ("onset", "duration", "trial_type"), ("25", "4", "Sz"))
    path.with_suffix(".json").write_text(sidecar)

    assert len(imported(ward, path, begins=read_moment("2024-03-01T23:59:00"))[0].rows) == 1


@pytest.mark.parametrize("beside", ["nothing", "undated", "damaged"])
def test_bids_times_are_not_taken_for_the_videos_where_nothing_dates_the_eeg(ward, tmp_path, beside):
    if beside == "undated":
        edf(tmp_path / "sub-p1_eeg.edf", (1, None, "Sz"), day=None)
    elif beside == "damaged":
        (tmp_path / "sub-p1_eeg.edf").write_bytes(b"0       " * 40)
    path = listed(tmp_path / "sub-p1_events.tsv", ("onset", "duration", "trial_type"), ("25", "4", "Sz"))

    made, _ = imported(ward, path)

    assert made.rows == []
    assert reasons(made) == [
        (f"{path.name}, line 2", "nothing dates the EEG that its time counts from: give its start with --begins")
    ]


def test_background_keeps_away_from_a_patient_with_a_line_that_may_lie_anywhere(ward, tmp_path):
    head = ("patient", "time", "duration", "event")
    for name, row, whose in [
        ("unread", ("p1", "24.5.2", "5", "Sz"), ["p2"]),
        ("undated", ("p1", "", "5", "Sz"), ["p2"]),
        ("nobody", ("", "2024-03-01T23:59:40", "5", "Sz"), []),
        ("elsewhere", ("p1", "2023-03-01T23:59:40", "5", "Sz"), ["p1", "p2"]),
        ("other day", ("p1", "12:00:00", "5", "Sz"), ["p1", "p2"]),
    ]:
        path = listed(tmp_path / f"{name}.tsv", head, row)
        made, _ = imported(ward, path, background=120, background_s=5)

        assert sorted({row.patient_id for row in made.rows}) == whose, name
        assert len(made.left_out) == 1, name
        assert any("no background of p1" in note for note in made.notes) == ("p1" not in whose), name


def test_half_hours_get_their_share_of_background(tmp_path):
    data = write(tmp_path / "x.mp4", frames=MINUTE, options={"preset": "ultrafast"}).read_bytes()
    rows = []
    for number in range(6):
        (tmp_path / f"{number}.mp4").write_bytes(data)
        rows.append((f"{number}.mp4", "p1", f"2024-03-01T1{number}:00:00"))
    listed(tmp_path / "recordings.csv", ("file_name", "patient_id", "recorded_at"), *rows)

    made, _ = imported(tmp_path, edf(tmp_path / "x.edf", day=date(2024, 1, 1)), background=20, background_s=5)

    assert made.background == 2  # 20 an hour in six minutes, .33 a file


def test_overlapping_marks_and_long_seizures_and_two_labels_are_told_to_a_person(ward, tmp_path):
    path = listed(
        tmp_path / "list.tsv",
        ("patient", "time", "duration", "event", "label"),
        ("p1", "2024-03-01T23:59:25", "10", "Sz", "TLE"),
        ("p1", "2024-03-01T23:59:30", "10", "Sz", "exTLE"),
        ("p1", "2024-03-02T00:00:30", "1200", "Sz", ""),
    )

    made, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(made) == [("a.mp4", 5.0, 5.0, 20.0, 20.0), ("b.mp4", 10.0, 10.0, None, 60.0)]
    assert made.rows[0].label == ""
    assert made.notes == [
        "list.tsv, line 2 and list.tsv, line 3 overlap: they are taken for one seizure",
        "list.tsv, line 2: lines of this seizure name different labels: it gets neither",
        "list.tsv, line 4: the seizure lasts 20 minutes: look whether an end or an onset is missing",
        "list.tsv, line 4: b.mp4 ends before the seizure does: the row has its part of it",
    ]


def test_lengths_count_the_hour_that_summer_time_adds_or_takes(tmp_path):
    data = write(tmp_path / "a.mp4", frames=MINUTE, options={"preset": "ultrafast"}).read_bytes()
    (tmp_path / "b.mp4").write_bytes(data)
    listed(
        tmp_path / "recordings.csv",
        ("file_name", "patient_id", "recorded_at"),
        ("a.mp4", "p1", "2024-03-31T01:59:30"),  # half a minute before a clock in Berlin jumps to three
        ("b.mp4", "p1", "2024-10-27T01:59:30"),  # and before the hour that it shows twice
    )
    path = listed(
        tmp_path / "list.tsv",
        ("time", "end", "event"),
        ("2024-03-31T01:59:50", "2024-03-31T03:00:10", "Sz"),
        ("2024-10-27T01:59:50", "2024-10-27T02:00:10+02:00", "Sz"),
        ("2024-03-31T01:59:45", "03:00:20", "Sz"),
    )

    made, _ = imported(tmp_path, path, local="Europe/Berlin", lead_s=0, tail_s=0)
    later, _ = imported(
        tmp_path,
        listed(
            tmp_path / "later.tsv",
            ("file", "time", "duration", "event"),
            ("a.mp4", "40", "5", "Sz"),
            ("b.mp4", "40", "5", "Sz"),
        ),
        local="Europe/Berlin",
        lead_s=0,
        tail_s=0,
    )

    assert times(made) == [("a.mp4", 15.0, 15.0, 50.0, 50.0), ("b.mp4", 20.0, 20.0, 40.0, 40.0)]
    assert [row.recorded_at for row in later.rows] == ["2024-03-31T03:00:10", "2024-10-27T02:00:10+02:00"]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"date": "2024-03-01", "time": "23.0030"}, "'2024-03-01 23.0030' has no time of day"),
        ({"date": "2024-03-01", "time": "0.9590"}, "is not an ISO 8601 date"),
        ({"recording": "a.mp4", "time": "1,234"}, "'1,234' may be 1.234 or 1234 seconds: write it with a point"),
        ({"recording": "a.mp4", "time": "1e12"}, "'1e12' is not an ISO 8601 date"),
        ({"recording": "a.mp4", "time": "999999999"}, "999999999 seconds are longer than any recording"),
        ({"time": "9999-12-31T23:59:59"}, "nothing was recorded in the year 9999"),
        ({"time": "0001-01-01T00:00:00"}, "nothing was recorded in the year 1"),
        ({"recording": "a.mp4", "time": "10", "duration": "-5"}, "its duration is below 0 seconds"),
        ({"recording": "a.mp4", "time": "10", "duration": "9999999999"}, "'9999999999' is not a number of seconds"),
        ({"recording": "c.mp4", "time": "2024-03-01T23:59:40"}, "the recording that it names is of another patient"),
        ({"recording": "b.mp4", "time": "2024-03-01T23:59:40"}, "its time is not within the recording that it names"),
        ({"time": "2024-03-01T23:59:40+01:00"}, "one of its time and the recording's names a time zone"),
        ({"time": "2024-03-01T23:59:40", "end": "2024-03-01T23:59:50+01:00"}, "names a time zone"),
        ({"time": "2024-03-01T23:59:40", "end": "2024-03-01T23:59:30"}, "it ends before it begins"),
        ({"time": "23:59:40", "end": "23:59:30"}, "it ends before it begins, or lasts for more than half a day"),
        ({"time": "2024-03-01T23:59:40", "end": "50"}, "its begin and end are not written in the same way"),
    ],
)
def test_what_contradicts_itself_or_the_calendar_is_left_out_with_the_reason(ward, tmp_path, cells, reason):
    cells = {"patient": "p1", "date": "", "duration": "" if "end" in cells else "5", "end": "", "event": "Sz"} | cells
    path = listed(tmp_path / "list.tsv", tuple(cells), tuple(cells.values()))

    made, _ = imported(ward, path)

    assert made.rows == []
    assert [place for place, _ in reasons(made)] == ["list.tsv, line 2"]
    assert reason in reasons(made)[0][1]


def test_an_onset_beyond_any_recording_is_left_out(ward, tmp_path):
    path = edf(tmp_path / "x.edf", (1e13, 5, "Sz"), (30, 1e13, "Sz"), (30, 5, "Sz"))

    made, _ = imported(ward, path)

    assert len(made.rows) == 1
    assert [reason for _, reason in reasons(made)] == ["1e+13 seconds are longer than any recording"] * 2


def test_a_row_keeps_its_id_when_the_zone_is_named_or_an_eeg_onset_is_added(ward, tmp_path):
    head = ("patient", "time", "duration", "event")
    line = ("p1", "2024-03-01T23:59:40", "5", "Sz")
    one, _ = imported(ward, listed(tmp_path / "one.tsv", head, line))
    more = listed(tmp_path / "more.tsv", head, line, ("p1", "2024-03-01T23:59:37", "", "EEG onset"))
    two, _ = imported(ward, more, local="Europe/Berlin")

    assert one.rows[0].video_id == two.rows[0].video_id
    assert (one.rows[0].start_s, two.rows[0].start_s) == (10.0, 7.0)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("patient_name", "row 1: column 'patient_name' tells who a patient is"),
        ("date of birth", "row 1: column 'date of birth' tells who a patient is"),
        ("start_s", "row 1: column start_s belongs to a manifest"),
        ("onset_s", "row 1: column onset_s belongs to a manifest"),
        ("Camera ", "row 1: column 'Camera' looks like camera"),
    ],
)
def test_columns_of_recordings_are_held_to_a_manifests_rules(tmp_path, column, says):
    listed(
        tmp_path / "recordings.csv",
        ("file_name", "patient_id", "recorded_at", column),
        ("a.mp4", "p1", "2024-03-01T10:00:00", "1"),
    )

    with pytest.raises(ManifestErrors) as caught:
        read_recordings(tmp_path / "recordings.csv", None, None)
    assert any(problem.startswith(says) for problem in caught.value.problems), caught.value.problems


def test_a_file_is_listed_once_and_all_times_name_a_zone_or_none(tmp_path):
    listed(
        tmp_path / "recordings.csv",
        ("file_name", "patient_id", "recorded_at"),
        ("a.mp4", "p1", "2024-03-01T10:00:00"),
        ("./a.mp4", "p1", "2024-03-01T10:00:00"),
        ("b.mp4", "p1", "2024-03-01T10:00:00+01:00"),
        ("c.mp4", "p1", "9999-03-01T10:00:00"),
    )

    with pytest.raises(ManifestErrors) as caught:
        read_recordings(tmp_path / "recordings.csv", None, None)

    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        *("row 3, column file_name", "row 4, column recorded_at", "row 5, column recorded_at")
    ]


def test_a_date_in_a_list_of_another_systems_files_says_where_it_is(ward, tmp_path):
    path = listed(
        tmp_path / "list.tsv",
        ("patient", "file", "time", "duration", "event"),
        ("p1", "EEG0001.eeg", "2024-03-01T23:59:40", "5", "Sz"),
        ("p1", "EEG0001.eeg", "2024-03-01T23:59:50", "5", "Sz"),
    )

    made, _ = imported(ward, path)

    assert [row.onset_s for row in made.rows] == [20.0, 30.0]
    assert made.notes == [
        "list.tsv names recordings that the list of recordings does not have: where a line has a time, that alone says "
        "which file shows it"
    ]


def test_a_mark_of_an_onset_that_lasts_a_second_ends_no_seizure(ward, tmp_path):
    path = edf(tmp_path / "x.edf", (30, 1, "EEG onset"), (34, 1, "clinical onset"), (60, 1, "seizure end"))

    made, _ = imported(ward, path, lead_s=0, tail_s=0)

    assert times(made) == [("a.mp4", 10.0, 14.0, 40.0, 40.0)]
    assert made.left_out == []


def test_a_patient_who_is_said_against_the_header_is_told(ward, tmp_path):
    made, _ = imported(ward, edf(tmp_path / "x.edf", (30, 5, "Sz"), code="p2"), patient="p1")

    assert [row.patient_id for row in made.rows] == ["p1"]
    assert made.notes == ["the header of x.edf names another patient than --patient, which counts"]


def test_saved_events_are_read_back_to_a_seizure_with_its_signs_and_to_background(ward, tmp_path):
    said = [
        Feedback("a", "p1", label="TLE", semiology=("Semiology-tonic",), start_s=12.125, end_s=30, event="seizure"),
        Feedback("b", "p1", start_s=4, end_s=9.5, event="not_a_seizure"),
        Feedback("a", "p1", start_s=25, end_s=40, event="not_a_seizure"),
    ]
    path = tmp_path / "events.tsv"
    path.write_text(EVENTS_HEAD + "".join(event_lines(said, {})))

    made, _ = imported(ward, path, lead_s=2, tail_s=1)

    assert times(made) == [("a.mp4", 10.125, 12.125, 30.0, 31.0), ("b.mp4", 4.0, None, None, 9.5)]
    assert [(row.label, row.semiology, BACKGROUND in row.metadata) for row in made.rows] == [
        ("TLE", ("Semiology-tonic",), False),
        ("", (), True),
    ]
    assert made.background == 1
    assert reasons(made) == [
        (
            "events.tsv, line 5",
            "it is said to be no seizure, and another line has one at that time: decide which is right",
        )
    ]


def test_of_saved_events_each_authors_newest_counts_and_a_sign_of_hours_is_no_seizure(ward, tmp_path):
    """What `feedback export` writes is all that was said."""
    said = [
        Feedback("a", "p1", start_s=10, end_s=20, event="seizure", author="anna", at="2024-05-01T00:00:00"),
        Feedback("a", "p1", start_s=24, end_s=34, event="seizure", author="anna", at="2024-05-01T00:01:00"),
        Feedback("a", "p1", start_s=9, end_s=35, event="not_a_seizure", author="anna", at="2024-05-01T00:02:00"),
        Feedback("b", "p1", semiology=("Semiology-tonic",), author="anna", at="2024-05-01T00:03:00"),
    ]
    path = tmp_path / "events.tsv"
    videos = {"b": Video("b", "p1", "", duration_s=1390.0)}
    path.write_text(EVENTS_HEAD + "".join(event_lines(said, videos)))

    made, _ = imported(ward, path, lead_s=2, tail_s=1)

    assert times(made) == [("a.mp4", 9.0, None, None, 35.0)]
    assert made.notes == ["events.tsv: 2 events of which the same author said more later"]
    assert [("ten minutes" in reason) for _, reason in reasons(made)] == [True]


def test_an_event_on_a_video_that_is_not_listed_is_left_out_with_what_to_do(ward, tmp_path):
    path = tmp_path / "events.tsv"
    said = [Feedback("a-part", "p1", start_s=3, end_s=20, event="seizure", author="anna", at="2024-05-01T00:00:00")]
    path.write_text(EVENTS_HEAD + "".join(event_lines(said, {})))

    made, _ = imported(ward, path)

    ((_, reason),) = reasons(made)
    assert "has no 'a-part'" in reason
    assert "semiome feedback rows" in reason


def test_times_of_a_day_keep_their_milliseconds():
    said = Feedback("v", "p", semiology=("Semiology-tonic",), start_s=86_399.125, end_s=86_410.5)

    (line,) = event_lines([said], {})

    assert line.split("\t")[:2] == ["86399.125", "11.375"]
