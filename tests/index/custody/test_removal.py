"""Mistakes can be taken back: a video out again without its patient, an erasure lifted, a backup that was exchanged."""

import json
import os
import re

import numpy as np
import pytest

from index.custody.alike import too_alike
from index.custody.backup import back_up, restore, verify
from index.custody.doctor import examine
from index.custody.erasure import erase_patient, lift_erasure
from index.custody.receipts import check_receipt
from index.custody.removal import remove_videos
from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.feedback.statement import Feedback
from index.feedback.store import FeedbackStore
from index.tables.clip_table import ClipTable
from index.tables.exchange import export_parquet, import_parquet
from index.tables.rows import StoredClips
from index.tables.store import Store
from index.traces.scan import scan
from index.vectors.generation import load_generation
from index.workspace import Workspace
from tests.conftest import commit, make_cohort, make_video, unit


def test_a_video_goes_with_all_that_is_its_own_and_its_patient_stays(stored, cohort):
    (stored.previews / "v1-0").mkdir(parents=True)
    (stored.previews / "v1-0" / "0.mp4").write_bytes(b"film")
    (stored.previews / "v1-1").mkdir()
    said = FeedbackStore(stored)
    said.save(Feedback("v1-0", "p1", label="TLE"), "a")
    kept = said.save(Feedback("v1-1", "p1", label="TLE"), "a")
    gone = next(clips for video, clips in cohort if video.video_id == "v1-0")
    needles = [clip.clip.clip_id.encode() for clip in gone] + [clip.vector.tobytes() for clip in gone]
    assert scan([stored.root], needles).files_with_finds

    removed = remove_videos(stored, ["v1-0"])

    assert (removed.videos, removed.clips, removed.patients, removed.feedback) == (1, 4, 0, 1)
    assert scan([stored.root], needles).files_with_finds == ()
    assert set(Store(stored).videos()) == {video.video_id for video, _ in cohort} - {"v1-0"}
    assert "v1-0" not in load_generation(stored.generations).clips.video_ids
    assert [path.name for path in stored.previews.iterdir()] == ["v1-1"]
    assert said.all() == (kept,)
    assert {finding.state for finding in examine(stored)} == {"ok"}
    commit(stored, [pair for pair in cohort if pair[0].video_id == "v1-0"])
    assert set(Store(stored).videos()) == {video.video_id for video, _ in cohort}


def test_a_patient_of_whom_nothing_is_left_may_come_back(stored, cohort):
    removed = remove_videos(stored, ["v1-0", "v1-1", "v1-2"])

    assert removed.patients == 1
    assert "p1" not in Store(stored).patients()
    assert Store(stored).erased({"p1"}) == set()


def test_nothing_is_removed_where_one_is_not_stored(stored, cohort):
    with pytest.raises(NotFound, match="nobody"):
        remove_videos(stored, ["v1-0", "nobody"])

    assert len(Store(stored).videos()) == len(cohort)


def test_an_erasure_is_lifted_with_a_reason_and_the_list_remembers_it(stored, cohort, tmp_path):
    erase_patient(stored, "p1")
    older = tmp_path / "erased"
    older.write_text(stored.erased.read_text())
    with pytest.raises(InvalidInput, match="reason"):
        lift_erasure(stored, "p1", " ")
    with pytest.raises(NotFound):
        lift_erasure(stored, "p2", "never erased")

    record = lift_erasure(stored, "p1", "consent of p1 was given again")

    assert check_receipt(stored, json.loads(json.dumps(record)))
    commit(stored, [pair for pair in cohort if pair[0].patient_id == "p1"])
    assert "p1" in Store(stored).patients()
    back_up(stored, tmp_path / "backup")
    brought_back = Workspace(tmp_path / "again")
    _, again = restore(tmp_path / "backup", brought_back, stored.erased)
    assert (again, "p1" in Store(brought_back).patients()) == (0, True)
    erase_patient(stored, "p1")
    with pytest.raises(StateError, match="was erased"):
        commit(stored, [pair for pair in cohort if pair[0].patient_id == "p1"])


def test_a_backup_that_was_exchanged_is_not_the_one_noted(stored, tmp_path):
    noted = back_up(stored, tmp_path / "backup").digest
    assert verify(tmp_path / "backup", noted.upper()).digest == noted
    key = tmp_path / "backup" / "workspace" / "key"
    key.write_text("00" * 32)
    manifest = json.loads((tmp_path / "backup" / "backup.json").read_text())
    from index.files.durable import digest_of_file

    manifest["digests"]["workspace/key"] = digest_of_file(key)
    (tmp_path / "backup" / "backup.json").write_text(json.dumps(manifest))

    verify(tmp_path / "backup")  # whole in itself
    with pytest.raises(DamagedData, match="another digest"):
        verify(tmp_path / "backup", noted)


@pytest.mark.parametrize("hard", [False, True])
def test_a_link_in_a_backup_is_refused(stored, tmp_path, hard):
    back_up(stored, tmp_path / "backup")
    key = tmp_path / "backup" / "workspace" / "key"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(key.read_bytes())
    key.unlink()
    os.link(elsewhere, key) if hard else key.symlink_to(elsewhere)

    with pytest.raises(DamagedData, match="key of the backup is a link"):
        verify(tmp_path / "backup")


def test_one_recording_of_two_patients_is_noticed_though_its_file_is_another():
    random = np.random.default_rng(0)
    cohort = [make_video(p, v, 4, random, width=64) for p in range(8) for v in range(2)]
    copied = make_video(9, 0, 4, random, width=64)
    for embedded, source in zip(copied[1], cohort[0][1], strict=True):
        embedded.vector[:] = source.vector + 0.01 * unit(random, 64)
        embedded.vector[:] /= np.linalg.norm(embedded.vector)
    clips = sorted(
        (one for _, embedded in [*cohort, copied] for one in embedded),
        key=lambda one: (one.clip.patient_id, one.clip.video_id, one.clip.clip_index),
    )
    stored = StoredClips("enc1", 1, ClipTable.of([one.clip for one in clips]), np.stack([one.vector for one in clips]))

    pairs, looked = too_alike(stored)

    assert [(pair.videos, round(pair.similarity, 3)) for pair in pairs] == [(("v0-0", "v9-0"), 1.0)]
    assert looked == 17


def test_what_is_written_is_for_its_owner_alone(stored, tmp_path):
    back_up(stored, tmp_path / "backup")

    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


def exported(tmp_path, *cohort):
    other = Workspace(tmp_path / "other")
    commit(other, list(cohort))
    export_parquet(Store(other), "enc1", tmp_path / "out")
    return tmp_path / "out"


def test_an_import_meets_the_patients_that_are_here(workspace, tmp_path):
    commit(workspace, make_cohort(patients=2))
    random = np.random.default_rng(0)
    of_v0_0 = make_video(7, 0, 2, random, source_sha256="0000".ljust(64, "0"))

    with pytest.raises(InvalidInput, match="same file as 'v0-0' of another patient"):
        import_parquet(Store(workspace), exported(tmp_path, of_v0_0))


def test_an_import_meets_itself(workspace, tmp_path):
    random = np.random.default_rng(0)
    twice = [make_video(patient, 0, 2, random, source_sha256="7" * 64) for patient in (7, 8)]

    with pytest.raises(InvalidInput, match="of another patient"):
        import_parquet(Store(workspace), exported(tmp_path, *twice))


def test_what_was_let_in_with_a_reason_goes_out_and_comes_back(workspace, tmp_path):
    random = np.random.default_rng(0)
    twice = [make_video(patient, 0, 2, random, source_sha256="7" * 64) for patient in (7, 8)]
    commit(workspace, twice)
    export_parquet(Store(workspace), "enc1", tmp_path / "out")

    assert import_parquet(Store(workspace), tmp_path / "out").clips == 0


def test_ids_of_an_import_that_look_misspelled_are_asked_about(workspace, tmp_path):
    random = np.random.default_rng(0)
    commit(workspace, [make_video(1, 0, 2, random)])
    folder = exported(tmp_path, make_video(2, 0, 2, random, video_id="V1.0"))

    with pytest.raises(InvalidInput, match=re.escape("V1.0, v1-0")):
        import_parquet(Store(workspace), folder)
    assert import_parquet(Store(workspace), folder, distinct_ids=True).videos == 1


def test_a_clip_without_its_number_is_not_taken_in(workspace, tmp_path):
    video, clips = make_video(2, 0, 3, np.random.default_rng(0))

    with pytest.raises(InvalidInput, match="is to have 3 clips"):
        import_parquet(Store(workspace), exported(tmp_path, (video, [clips[0], clips[2]])))
