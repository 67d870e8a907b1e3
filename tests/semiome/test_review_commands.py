"""`semiome previews`, `feedback`, `web` and `serve --web`, as their user meets them."""

import json
import signal
import subprocess
import urllib.request

import pytest
from typer.testing import CliRunner

from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.tables.store import Store
from index.workspace import Workspace
from semiome.app import app
from semiome.commands.models.head import labelled_clips
from tests import forge
from tests.conftest import commit, make_cohort, publish_all
from tests.forge import Forged
from tests.service.servers import running
from tests.waiting import PATIENCE_S


def ask(*arguments, code=0):
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout)


def get(address, path):
    with urllib.request.urlopen(f"{address}{path}", timeout=PATIENCE_S) as answer:
        return answer.read().decode()


@pytest.fixture
def judged(stored):
    """The stored cohort, on which two people have said something."""
    store = FeedbackStore(stored)
    store.save(Feedback("v2-0", "p2", label="TLE", semiology=("Semiology-tonic",)), "token:eve")
    store.save(Feedback("v0-0", "p0", label="exTLE"), "token:eve")
    store.save(Feedback("v0-0", "p0", label="TLE"), "token:bob")
    return stored


def test_feedback_is_listed_with_the_labels_that_follow_and_those_that_are_disputed(judged):
    told = ask("feedback", "list", "-w", judged.root)

    assert [one["video_id"] for one in told["feedback"]] == ["v2-0", "v0-0", "v0-0"]
    assert (told["labels"], told["disputed"]) == ({"v2-0": "TLE"}, ["v0-0"])
    shown = CliRunner().invoke(app, ["feedback", "list", "-w", str(judged.root)]).stdout
    assert "1 video labelled by people, 1 on which they do not agree" in shown


def test_feedback_is_exported_in_three_files(judged, tmp_path):
    assert ask("feedback", "export", tmp_path / "out", "-w", judged.root) == {"feedback": 3}

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "events.json",
        "events.tsv",
        "label-studio.json",
    ]
    events = (tmp_path / "out" / "events.tsv").read_text()
    assert "0\t40\tSemiology-tonic\tv2-0\tn/a\tsc:Semiology-tonic\ttoken:eve" in events
    assert len(json.loads((tmp_path / "out" / "label-studio.json").read_text())) == 2


def test_a_head_learns_the_labels_that_people_agree_on(judged):
    plain, _ = labelled_clips(Store(judged), "enc1", "test")
    taught, _ = labelled_clips(Store(judged), "enc1", "test", {"v2-0": "TLE"})

    labels = {clip.video_id: label for clip, label in zip(taught.clips, taught.labels, strict=True)}
    assert "v2-0" not in {clip.video_id for clip in plain.clips}  # patient 2 has no labels
    assert labels["v2-0"] == "TLE"
    assert len(taught.clips) == len(plain.clips) + 4


def test_a_video_without_its_file_gets_no_preview_and_the_rest_goes_on(stored, tmp_path):
    (tmp_path / "manifest.csv").write_text("file_name,patient_id,video_id\nnone.mp4,p0,v0-0\nnew.mp4,p9,v9\n")
    told = ask("previews", tmp_path / "manifest.csv", "-w", stored.root, code=3)

    assert (told["made"], told["there"]) == ([], [])
    assert told["refused"] == {
        "v0-0": "the file is missing, or may not be read",
        "v9": "it is not stored: encode it first",
    }


def test_a_server_with_its_page_says_where_it_is_and_ends_with_it(stored):
    with running(stored, "--web-port", "0") as said:
        assert "Semiome review" in get(said["page"], "/")
        assert said["page"].startswith("http://127.0.0.1:")
    with pytest.raises(OSError, match="refused"):
        get(said["page"], "/")


def test_a_page_waits_with_a_server_for_the_first_index(tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    command = ("serve", "-w", workspace.root, "--port", "0", "--web-port", "0", "--json")
    with Forged(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            line = ""
            while "nothing is published yet" not in line:
                line = process.stderr.readline()
                assert line
            assert "Semiome review" in get(line.split()[-1], "/")
            commit(workspace, make_cohort())
            publish_all(workspace)
            said = json.loads(process.stdout.readline())
            assert said["clips"] == 60
            assert "Semiome review" in get(said["page"], "/")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0
        finally:
            process.kill()


def test_a_port_that_is_taken_is_said(stored):
    with running(stored, "--web-port", "0") as said:
        port = said["page"].rpartition(":")[2]
        done = forge.run("web", "--port", port)
    assert done.returncode == 4
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr


def test_a_page_for_others_needs_a_certificate():
    done = CliRunner().invoke(app, ["web", "--host", "0.0.0.0"])

    assert done.exit_code != 0
    assert "without a certificate" in str(done.exception)
