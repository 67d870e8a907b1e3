"""`semiome events import`, as its user meets it."""

import json
from datetime import date, time

import edfio
import numpy as np
import pytest

from encoder.manifest import read_manifest
from tests import forge
from tests.encoder.video.awkward import write


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    folder = tmp_path_factory.mktemp("night")
    write(folder / "a.mp4", frames=range(1500), options={"preset": "ultrafast"})
    (folder / "recordings.csv").write_text("file_name,patient_id,recorded_at\na.mp4,p1,2024-03-01T22:00:00\n")
    edfio.Edf(
        [edfio.EdfSignal(np.zeros(256 * 120), 256, label="Fp1")],
        patient=edfio.Patient(code="p1"),
        recording=edfio.Recording(startdate=date(2024, 3, 1)),
        starttime=time(22),
        annotations=[edfio.EdfAnnotation(20, 15, "Sz 1"), edfio.EdfAnnotation(2, None, "Augen auf")],
    ).write(folder / "night.edf")
    return folder


def events(night, *arguments, code=0):
    done = forge.run("events", "import", "night.edf", "--recordings", "recordings.csv", *arguments, cwd=night)
    assert done.returncode == code, done.stderr
    return done


def test_rows_are_shown_and_written_only_when_that_is_said(night):
    shown = events(night, "--to", "new.csv", "--dry-run", code=3).stdout
    assert "0:00:10" in shown
    assert "0:00:35" in shown
    assert "Augen auf" in shown
    assert "nothing was written" in shown
    refused = events(night, "--to", "new.csv", code=2)
    assert "give --yes, or --dry-run" in refused.stderr
    assert not (night / "new.csv").exists()

    said = json.loads(events(night, "--to", "new.csv", "--yes", "--json", "--lead", "5", code=3).stdout)

    (row,) = read_manifest(night / "new.csv").rows
    assert said["manifest"] == "new.csv"
    assert said["rows"] == [
        {
            "video_id": row.video_id,
            "file_name": "a.mp4",
            "patient_id": "p1",
            "start_s": 15.0,
            "end_s": 55.0,
            "onset_s": 20.0,
            "seizure_end_s": 35.0,
            "label": "",
            "semiology": [],
            "background": False,
        }
    ]
    assert [one["place"] for one in said["left_out"]] == ["night.edf, annotation 1"]
    assert "new.csv is there already" in events(night, "--to", "new.csv", "--yes", code=2).stderr


def test_known_words_leave_nothing_out_and_the_rows_can_be_encoded(night):
    (night / "map.toml").write_text('[words]\npassed_over = "Augen auf"\n')
    events(night, "--to", "rows.csv", "--yes", "--mapping", "map.toml")

    encoded = forge.run("encode", "rows.csv", "-w", "ws", "--json", cwd=night)

    assert encoded.returncode == 0, encoded.stderr
    assert json.loads(encoded.stdout)["clips_written"] == 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--timezone", "Mars/Crater"), "no time zone 'Mars/Crater'"),
        (("--begins", "22:00:00"), "--begins needs a date too"),
        (("--begins", "soon"), "--begins: 'soon' is not an ISO 8601 date"),
        (("--lead", "-1"), "a lead and a tail of 0 to 3600 seconds"),
        (("--tail", "nan"), "a lead and a tail of 0 to 3600 seconds"),
        (("--background", "1e9"), "0 to 360 rows of background an hour"),
        (("--background", "nan"), "0 to 360 rows of background an hour"),
        (("--clock-ahead", "inf"), "clocks that differ by at most a hundred years"),
        (("--clock-ahead", "nan"), "clocks that differ by at most a hundred years"),
        (("--begins", "9999-12-31T23:59:59"), "nothing was recorded in the year 9999"),
        (("--begins", "0001-01-01T00:00:00"), "nothing was recorded in the year 1"),
        (("--length", "0"), "a length above 0 and up to 3600 seconds"),
        (("--mapping", "absent.toml"), "the mapping can't be read"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(night, arguments, says):
    done = events(night, "--to", "other.csv", "--yes", *arguments, code=2)

    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
