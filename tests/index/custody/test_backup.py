"""A backup is whole, is checked, comes back, and brings nobody back who was erased."""

import json
import os
import shutil

import lancedb
import pytest

from index.custody.backup import back_up, restore, verify
from index.custody.erasure import erase_patient
from index.custody.receipts import check_receipt
from index.errors import DamagedData, InvalidInput, Locked, StateError
from index.search.loader import SnapshotLoader
from index.tables.store import Store
from index.traces.scan import scan
from index.vectors.generation import list_generations
from index.workspace import Workspace
from tests.conftest import commit, make_cohort, publish_all


def rows_of(workspace):
    stored = Store(workspace).clips("enc1")
    return {clip: vector.tobytes() for clip, vector in zip(stored.clips, stored.vectors, strict=True)}


def test_a_backup_comes_back_as_it_was(stored, tmp_path):
    receipt = erase_patient(stored, "p4")
    before, videos = rows_of(stored), Store(stored).videos()

    made = back_up(stored, tmp_path / "backup")
    shutil.rmtree(stored.root)
    back, again = restore(tmp_path / "backup", stored)

    assert made == back == verify(tmp_path / "backup")
    assert (made.clips, made.videos, again) == ({"enc1": 48}, 12, 0)
    assert (rows_of(stored), Store(stored).videos()) == (before, videos)
    assert check_receipt(stored, receipt)
    assert stored.key.stat().st_mode & 0o077 == 0
    assert list_generations(stored.generations) == []
    publish_all(stored)
    assert len(SnapshotLoader(stored).snapshot) == 48
    with pytest.raises(StateError, match="was erased"):
        commit(stored, make_cohort())


def test_who_was_erased_since_does_not_come_back(stored, tmp_path):
    back_up(stored, tmp_path / "backup")
    erase_patient(stored, "p2")
    kept = tmp_path / "kept"
    shutil.copy(stored.erased, kept)
    needles = [e.vector[:8].tobytes() for video, clips in make_cohort() if video.patient_id == "p2" for e in clips]
    other = Workspace(tmp_path / "other")

    _, again = restore(tmp_path / "backup", other, kept)

    assert again == 1
    assert rows_of(other) == rows_of(stored)
    assert scan([other.root], needles).files_with_finds == ()


def test_a_changed_backup_is_refused(stored, tmp_path):
    back_up(stored, tmp_path / "backup")
    for path in [p for p in (tmp_path / "backup" / "workspace").rglob("*") if p.is_file()][::5]:
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if whole else b"x")
        with pytest.raises(DamagedData, match="not what was copied"):
            verify(tmp_path / "backup")
        path.write_bytes(whole)
    verify(tmp_path / "backup")
    (tmp_path / "backup" / "workspace" / "more").write_text("x")
    with pytest.raises(DamagedData, match="new"):
        restore(tmp_path / "backup", Workspace(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    (tmp_path / "backup" / "workspace" / "more").unlink()
    manifest = tmp_path / "backup" / "backup.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "videos": 14}))
    with pytest.raises(DamagedData, match="do not hold"):
        verify(tmp_path / "backup")
    manifest.write_text("{}")
    with pytest.raises(InvalidInput, match="expected a backup"):
        verify(tmp_path / "backup")


def test_a_backup_waits_for_nobody_and_overwrites_nothing(stored, tmp_path):
    with Store(stored).writing(), pytest.raises(Locked):
        back_up(stored, tmp_path / "backup")
    back_up(stored, tmp_path / "backup")
    with pytest.raises(InvalidInput, match="there already"):
        back_up(stored, tmp_path / "backup")
    with pytest.raises(InvalidInput, match="there already"):
        restore(tmp_path / "backup", stored)
    with pytest.raises(StateError, match="nothing to back up"):
        back_up(Workspace(tmp_path / "empty"), tmp_path / "another")
    assert not (tmp_path / "another").exists()
    with pytest.raises(StateError, match="object storage"):
        back_up(Workspace(tmp_path / "x", "s3://clips/x"), tmp_path / "another")


def test_clips_without_their_video_do_not_hide_an_erased_patient(stored, tmp_path):
    lancedb.connect(str(stored.store)).open_table("videos").delete("patient_id = 'p2'")
    back_up(stored, tmp_path / "backup")
    erase_patient(stored, "p2")

    _, again = restore(tmp_path / "backup", Workspace(tmp_path / "other"), stored.erased)

    assert again == 1
    assert len(rows_of(Workspace(tmp_path / "other"))) == 48


def test_no_backup_is_made_within_an_erasure(stored, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("index.custody.erasure.compact", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erase_patient(stored, "p2")
    with pytest.raises(StateError, match="erasure was interrupted"):
        back_up(stored, tmp_path / "backup")
    erase_patient(stored, "p2")
    back_up(stored, tmp_path / "backup")


@pytest.mark.parametrize(
    ("text", "says"), [("ü", "64 hex digits"), ("abc\n", "64 hex digits"), ("f" * 64, "lacks some")]
)
def test_a_list_of_the_erased_that_is_none_is_refused(stored, tmp_path, text, says):
    erase_patient(stored, "p2")
    back_up(stored, tmp_path / "backup")
    (tmp_path / "list").write_text(text)

    with pytest.raises(InvalidInput, match=says):
        restore(tmp_path / "backup", Workspace(tmp_path / "other"), tmp_path / "list")

    assert not (tmp_path / "other").exists()


def test_a_pipe_among_the_files_is_named_and_not_waited_for(stored, tmp_path):
    os.mkfifo(stored.store / "videos.lance" / "pipe")
    with pytest.raises(DamagedData, match="pipe is no plain file"):
        back_up(stored, tmp_path / "backup")
