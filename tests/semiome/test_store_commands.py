"""`semiome store` and `semiome index compare`, as their user meets them."""

import json

import pytest
from typer.testing import CliRunner

from index.workspace import Workspace
from semiome.app import app
from tests import forge
from tests.conftest import commit, make_cohort


def ask(*arguments, code=0):
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == code, (done.output, done.exception)
    return json.loads(done.stdout)


def build(*arguments):
    """In a process of its own: it gives way to all others."""
    done = forge.run("index", "build", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def place(stored):
    """The stored cohort, with its encoder in use as far as its name goes."""
    (stored.encoders / "enc1").mkdir(parents=True)
    (stored.encoders / "CURRENT").write_text("enc1\n")
    return stored


def test_compacting_says_what_it_merged(place):
    for patient in range(5, 9):
        commit(place, make_cohort(patients=patient + 1, videos=1)[-1:])

    found = ask("store", "compact", "--keep-hours", 0, "-w", place.root)

    before, after = ({t["name"]: t for t in found[when]} for when in ("before", "after"))
    assert (before["clips_enc1"]["fragments"], after["clips_enc1"]["fragments"]) == (5, 1)
    assert after["clips_enc1"]["versions"] < before["clips_enc1"]["versions"]
    assert before["clips_enc1"]["rows"] == after["clips_enc1"]["rows"] == 76


def test_out_and_in_again(place, tmp_path):
    assert ask("store", "export", tmp_path / "out", "-w", place.root)["clips"] == 60
    assert ask("store", "import", tmp_path / "out", "-w", tmp_path / "other")["clips"] == 60
    assert ask("store", "import", tmp_path / "out", "-w", tmp_path / "other")["clips"] == 0
    assert (
        ask("store", "export", tmp_path / "look", "--as", "projector", "--clips", 20, "-w", place.root)["clips"] == 20
    )
    assert sorted(path.name for path in (tmp_path / "look").iterdir()) == [
        "clips.tsv",
        "projector_config.pbtxt",
        "vectors.tsv",
    ]


def test_back_up_verify_restore_build(place, tmp_path):
    made = ask("store", "backup", tmp_path / "backup", "-w", place.root)
    assert ask("store", "verify", tmp_path / "backup") == made
    back = ask("store", "restore", tmp_path / "backup", "-w", tmp_path / "other")
    assert back == {**made, "erased_again": 0}
    assert build("-w", tmp_path / "other")["clips"] == 60
    assert ask("index", "list", "-w", tmp_path / "other")["serving"].startswith("000001-")
    assert not Workspace(tmp_path / "other").erased.exists()


def test_two_encoders_are_compared(place):
    commit(place, make_cohort(seed=1), "enc2")

    found = ask("index", "compare", "enc1", "enc2", "-k", 5, "-w", place.root)

    assert (found["first"], found["second"], found["clips"], found["queries"]) == ("enc1", "enc2", 60, 60)
    assert 0 < found["overlap"] < 0.3
    assert build("--encoder", "enc2", "--no-publish", "-w", place.root)["encoder_id"] == "enc2"
