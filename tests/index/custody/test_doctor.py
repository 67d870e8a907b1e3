"""Whatever is damaged is named, and put right where it can be."""

import multiprocessing
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from encoder.model.folder import install_encoder
from index.custody.doctor import examine
from index.custody.erasure import erase_patient
from index.errors import Locked
from index.tables.committer import committing
from index.tables.compaction import table_facts
from index.tables.store import Store
from index.workspace import Workspace, current
from semiome.commands.data.doctor import in_use
from tests.conftest import commit, install_head, make_cohort, make_video

pytestmark = pytest.mark.needs("torch")

WRITERS = int(os.environ.get("SEMIOME_WRITERS", "3"))
"""At once; `make faults` has more of them."""


def states(workspace, **options):
    return {(f.what, f.state): f for f in examine(workspace, **options)}


def test_a_whole_workspace_is_healthy(stored):
    findings = examine(stored)

    assert {finding.state for finding in findings} == {"ok"}
    assert any("60 clips, every row as it was written, no clip twice" in finding.says for finding in findings)
    assert any("(serves)" in finding.what for finding in findings)


def test_room_is_measured_by_what_the_workspace_holds(stored):
    """Not as a share of the disk: a twentieth of a large one is room enough."""
    with (stored.generations / "large").open("wb") as sparse:
        sparse.truncate(shutil.disk_usage(stored.root).total)

    assert "a rebuild or a compaction may need" in states(stored)["disk space", "warning"].says


def test_an_empty_workspace_says_what_to_do(workspace):
    assert [f.state for f in examine(workspace)] == ["ok", "warning"]


def test_a_zero_byte_newest_version_is_named_and_moved_aside(stored, cohort):
    """As a power cut leaves it: LanceDB can't open the table any more."""
    versions = stored.store / "clips_enc1.lance" / "_versions"
    before = sorted(versions.glob("*.manifest"))
    commit(stored, [make_video(8, 0, 2, np.random.default_rng(1))])
    (newest,) = set(versions.glob("*.manifest")) - set(before)
    newest.write_bytes(b"")

    assert any("never acknowledged" in f.says and f.state == "damaged" for f in examine(stored))
    assert newest.exists()
    assert [f.what for f in examine(stored, repair=True) if f.repaired] == ["table clips_enc1"]
    assert [path.name for path in (stored.root / "quarantine").rglob("*.manifest")] == [
        f"clips_enc1.lance-{newest.name}"
    ]
    assert {clip.clip_id for clip in Store(stored).clips("enc1").clips} == {
        e.clip.clip_id for _, clips in cohort for e in clips
    }
    assert not any(state == "damaged" for _, state in states(stored))


def test_changed_rows_are_counted_and_named(stored):
    table = Store(stored).writable("clips_enc1")
    rows = table.to_arrow().to_pylist()
    for row in rows[:2]:
        row["vector"] = [-value for value in row["vector"]]
    table.merge_insert("clip_id").when_matched_update_all().execute(pa.Table.from_pylist(rows[:2], table.schema))

    finding = states(stored)["clips of encoder enc1", "damaged"]
    assert finding.says.startswith(f"2 rows are not what was written ({rows[0]['clip_id']}")


def test_a_flipped_bit_in_a_data_file_is_found(stored):
    """LanceDB reads it back without a word."""
    vector = Store(stored).clips("enc1").vectors[7]
    for path in (stored.store / "clips_enc1.lance" / "data").iterdir():
        data = bytearray(path.read_bytes())
        at = data.find(vector.tobytes())
        if at >= 0:
            data[at + 2] ^= 1
            path.write_bytes(bytes(data))

    assert states(stored)["clips of encoder enc1", "damaged"].says.startswith("1 rows are not what was written")


def test_a_damaged_generation_is_named_and_the_way_back(stored):
    name = current(stored.generations)
    os.truncate(stored.generations / name / "vectors.npy", 100)

    finding = states(stored)[f"generation {name} (serves)", "damaged"]
    assert "semiome index rollback" in finding.says


def test_videos_without_clips_and_clips_without_videos_are_told(stored):
    store = Store(stored)
    store.writable("videos").delete("video_id = 'v0-0'")
    store.writable("clips_enc1").delete("video_id = 'v1-0'")

    found = states(stored)
    assert "1 videos have clips and no row" in found["clips of encoder enc1", "warning"].says
    assert "1 videos have no clip" in found["videos", "warning"].says


def test_a_repair_waits_for_nobody(stored):
    with Store(stored).writing(), pytest.raises(Locked):
        examine(stored, repair=True)


def test_many_small_files_are_merged(workspace):
    store = Store(workspace)
    with committing(store, "enc1", 8) as committer:
        for number in range(70):
            committer.commit([make_video(number, 0, 1, np.random.default_rng(number))])
    assert states(workspace)["table clips_enc1", "warning"].says.startswith("70 rows in 70 files")

    examine(workspace, repair=True)

    facts = table_facts(store, "clips_enc1")
    assert (facts.rows, facts.fragments) == (70, 1)


def write_all(root, cohort, number):
    """One of eight writers of the same keys: tries until it may."""
    for video, clips in np.random.default_rng(number).permutation(np.array(cohort, object)):
        while True:
            try:
                with committing(Store(Workspace(root)), "enc1", 8) as committer:
                    committer.commit([(replace(video, camera=f"room-{number}"), clips)])
                break
            except Locked:
                time.sleep(0.02)


@pytest.mark.slow
def test_writers_of_the_same_keys_leave_one_row_a_clip(workspace):
    cohort = make_cohort(patients=2, videos=2)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_all, args=(workspace.root, cohort, n)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    stored = Store(workspace).clips("enc1")
    assert sorted(clip.clip_id for clip in stored.clips) == sorted(e.clip.clip_id for _, c in cohort for e in c)
    assert {f.state for f in examine(workspace)} == {"ok"}


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["emptied", "garbage", "removed"])
@pytest.mark.parametrize("name", ["key", "erased"])
def test_what_tells_who_was_erased_is_looked_at(stored, name, damage):
    erase_patient(stored, "p1")
    assert states(stored)[("the erased", "ok")].says == "1 patient on the list, which can be read"
    path = getattr(stored, name)
    if damage is None:
        path.unlink()
    else:
        path.chmod(0o600)
        path.write_bytes(damage)
    assert "from a backup" in states(stored)[("the erased", "damaged")].says


def test_an_erasure_whose_note_can_not_be_read_is_told(stored):
    (stored.erasures).mkdir()
    (stored.erasures / ".pending-0123456789abcdef.json").write_text("{")
    assert "can't be read" in states(stored)[("the erased", "damaged")].says


@pytest.mark.parametrize("what", ["encoder", "head"])
@pytest.mark.parametrize("damage", ["CURRENT", "files"])
def test_what_is_in_use_is_looked_at(workspace, tiny_encoder, what, damage):
    install_encoder(tiny_encoder, workspace.encoders)
    install_head(workspace)
    found = {finding.what: finding.state for finding in in_use(workspace)}
    assert found == {"encoder": "ok", "head": "ok"}
    folder = workspace.encoders if what == "encoder" else workspace.heads
    if damage == "CURRENT":
        (folder / "CURRENT").write_text("../../etc")
    else:
        for path in (folder / current(folder)).glob("*.safetensors"):
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-1])
    assert {finding.what: finding.state for finding in in_use(workspace)} == {**found, what: "damaged"}


def test_a_store_that_is_gone_is_damage(stored):
    shutil.rmtree(stored.store)
    assert "there are generations of it" in states(stored)[("store", "damaged")].says


def test_a_generation_that_is_to_serve_and_is_gone_is_damage(stored):
    (stored.generations / current(stored.generations) / "manifest.json").unlink()
    assert "missing, or not whole" in states(stored)[("index", "damaged")].says


def test_a_table_of_patients_that_can_not_be_read_is_damage(stored):
    for path in (stored.store / "patients.lance" / "data").glob("*"):
        path.write_bytes(b"garbage" * 10)
    assert ("patients", "damaged") in states(stored)


def test_parts_of_one_file_are_copies_only_where_they_are_the_same_part(workspace):
    random = np.random.default_rng(0)
    parts = ((0.0, None), (0.0, 20.0), (0.0, 20.0), (5.0, 20.0))
    commit(
        workspace,
        [
            make_video(0, number, 2, random, source_sha256="a" * 64, start_s=start, end_s=end)
            for number, (start, end) in enumerate(parts)
        ],
    )

    told = [one.says for one in examine(workspace) if one.what == "same recording"]

    assert told == [
        "v0-1, v0-2 are the same part of a file: each has a vote, and is a hit of its own; `semiome remove --video ID` "
        "takes one out"
    ]
