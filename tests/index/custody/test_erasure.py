"""An erased patient is in no answer and in no file."""

import json

import numpy as np
import pytest

from index.custody.doctor import examine
from index.custody.erasure import erase_patient
from index.custody.erasure_note import unfinished
from index.custody.receipts import check_receipt
from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.query import VectorQuery
from index.records import Clip, EmbeddedClip, clip_id
from index.search.loader import SnapshotLoader
from index.search.search import search
from index.tables.blocklist import patient_hash, workspace_key
from index.tables.committer import committing
from index.tables.store import Store
from index.traces.scan import scan
from index.vectors.generation import build_generation, list_generations, load_generation
from index.vectors.publication import publish
from index.workspace import current
from tests.conftest import WIDTH, commit, make_cohort, make_video, publish_all, unit

PATIENT = "patient-7f3a9c"


def with_patient(workspace, others=100, kind=None):
    """A workspace where the patient has 1 % of the rows, after many commits, and two generations."""
    random = np.random.default_rng(0)
    video, clips = make_video(others, 0, 4, random, width=64)
    video = video.__class__(**{**fields(video), "video_id": f"{PATIENT}-v1", "patient_id": PATIENT})
    clips = [
        EmbeddedClip(
            Clip(
                clip_id(video.source_sha256, video.video_id, e.clip.start_s),
                *(video.video_id, PATIENT, n, e.clip.start_s, e.clip.valid_seconds),
            ),
            e.vector,
        )
        for n, e in enumerate(clips)
    ]
    cohort = [make_video(p, 0, 4, random, width=64) for p in range(others)]
    store = Store(workspace)
    with committing(store, "enc1", 64) as committer:
        for start in range(0, others, 20):
            committer.commit(cohort[start : start + 20])
        committer.commit([(video, clips)])
        committer.compact()
    for _ in range(2):
        manifest = build_generation(store.clips("enc1"), workspace.generations, kind=kind)
    publish(workspace, manifest.generation, force=True)
    return cohort, (video, clips)


def fields(record):
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def traces(workspace, clips):
    """Bytes of the patient: id, clip ids, the beginning of every vector, and the random key."""
    rows = Store(workspace).open_table("patients").to_table().to_pylist()
    key = next(row["patient_key"] for row in rows if row["patient_id"] == PATIENT)
    return [
        PATIENT.encode(),
        key.encode(),
        *(e.clip.clip_id.encode() for e in clips),
        *(e.vector[:16].tobytes() for e in clips),
    ]


@pytest.mark.parametrize("kind", ["flat", "ivf-rabitq"])
def test_a_byte_scan_finds_nothing_of_an_erased_patient(workspace, kind):
    cohort, (video, clips) = with_patient(workspace, kind=kind)
    run = workspace.runs / "encode-1"
    run.mkdir(parents=True)
    (run / "refused.csv").write_text(f"file_name,patient_id,video_id\na.mp4,{PATIENT},x\nb.mp4,p1,y\n")
    (run / "page-1.png").write_bytes(b"picture of the patient")
    (run / "report.json").write_text(json.dumps({"patients": ["p1"]}))
    preview = workspace.previews / video.video_id
    preview.mkdir(parents=True)
    (preview / "0.mp4").write_bytes(b"film of the patient")
    needles = traces(workspace, clips)
    before = scan([workspace.root], needles)
    assert all(len(scan([workspace.root], [needle]).files_with_finds) for needle in needles), "the scan can see"

    receipt = erase_patient(workspace, PATIENT)

    after = scan([workspace.root], needles)
    assert after.files_with_finds == ()
    assert len(before.files_with_finds) > 5
    assert (run / "refused.csv").read_text().splitlines() == ["file_name,patient_id,video_id", "b.mp4,p1,y"]
    assert not (run / "page-1.png").exists()
    assert (run / "report.json").exists()
    assert not preview.exists()
    assert receipt["scan"]["files_with_finds"] == ()
    assert PATIENT not in json.dumps(receipt)
    assert check_receipt(workspace, json.loads(json.dumps(receipt)))
    assert not check_receipt(workspace, {**receipt, "finished_at": "2020-01-01T00:00:00+00:00"})
    places = {place["place"]: place["action"] for place in receipt["places"]}
    assert places["runs/encode-1/refused.csv"] == "1 row removed"
    assert [path.name for path in workspace.erasures.iterdir()] == [
        next(path.name for path in workspace.erasures.glob("*.json"))
    ]
    # All the others are there, in the store and in the generation that serves.
    wanted = {e.clip.clip_id for _, embedded in cohort for e in embedded}
    assert {clip.clip_id for clip in Store(workspace).clips("enc1").clips} == wanted
    generation = load_generation(workspace.generations)
    assert {clip.clip_id for clip in generation.clips} == wanted
    assert generation.manifest.index == kind
    assert list_generations(workspace.generations) == [generation.manifest.generation]
    assert {finding.state for finding in examine(workspace)} == {"ok"}


def test_the_patient_is_not_taken_in_again(workspace):
    _, video = with_patient(workspace, others=3)
    erase_patient(workspace, PATIENT)

    with pytest.raises(StateError, match="was erased from this workspace"):
        commit(workspace, [video])
    assert Store(workspace).erased({PATIENT, "p1"}) == {PATIENT}
    assert PATIENT not in workspace.erased.read_text()


def test_a_serving_snapshot_lets_go_of_the_patient(workspace):
    _, (_, clips) = with_patient(workspace, others=10)
    serving = SnapshotLoader(workspace)
    query = VectorQuery(clips[0].vector, "enc1")
    assert search(serving.snapshot, query, 1).neighbours[0].clip == clips[0].clip
    store, predicate_rows = Store(workspace), Store(workspace).open_table("patients").to_table().to_pylist()
    key = next(row["patient_key"] for row in predicate_rows if row["patient_id"] == PATIENT)
    store.writable("clips_enc1").delete(f"patient_key = '{key}'")  # as an erasure begins

    assert serving.refresh() is True

    found = search(serving.snapshot, query, 100).neighbours
    assert len(found) == 40
    assert PATIENT not in {n.clip.patient_id for n in found}
    erase_patient(workspace, PATIENT)
    assert serving.refresh() is True
    assert search(serving.snapshot, query, 100).neighbours == found


def test_the_last_patient_leaves_an_empty_store_and_no_index(workspace):
    with_patient(workspace, others=0)

    erase_patient(workspace, PATIENT)

    assert list_generations(workspace.generations) == []
    assert current(workspace.generations) is None
    assert len(Store(workspace).clips("enc1").clips) == 0


def test_a_short_id_is_told_from_longer_ones(workspace):
    """`p1` stands in `p10` too, and two letters stand in any large file."""
    commit(workspace, make_cohort(patients=12))
    publish_all(workspace)
    (workspace.runs / "r").mkdir(parents=True)
    (workspace.runs / "r" / "a.json").write_text('{"patients": ["p10"]}')
    (workspace.runs / "r" / "b.json").write_text('{"patients": ["p1"]}')

    receipt = erase_patient(workspace, "p1")

    assert receipt["complete"] is True
    texts = {path.name: json.loads(path.read_text()) for path in (workspace.runs / "r").iterdir()}
    assert texts == {"a.json": {"patients": ["p10"]}, "b.json": {"patients": ["(erased)"]}}
    assert "p1" not in {clip.patient_id for clip in Store(workspace).clips("enc1").clips}
    assert len(Store(workspace).clips("enc1").clips) == 11 * 12


@pytest.mark.parametrize(("patient", "error"), [("nobody", NotFound), ("", InvalidInput)])
def test_an_unknown_patient_is_not_erased(stored, patient, error):
    with pytest.raises(error):
        erase_patient(stored, patient)
    assert unfinished(stored) == []


def test_a_frame_cache_elsewhere_is_emptied_when_it_is_named(workspace, tmp_path):
    with_patient(workspace, others=3)
    cache = tmp_path / "frames"
    cache.mkdir()
    (cache / "clips.json").write_text(json.dumps({"clips": [{"patient_id": PATIENT}]}))
    (cache / "frames.u8").write_bytes(b"frames")

    receipt = erase_patient(workspace, PATIENT, also=[cache])

    assert list(cache.iterdir()) == []
    assert {place["place"] for place in receipt["places"]} >= {"frames/clips.json", "frames/frames.u8"}


def test_the_key_is_for_its_owner_and_is_made_once(workspace):
    key = workspace_key(workspace)

    assert workspace_key(workspace) == key
    assert workspace.key.stat().st_mode & 0o077 == 0
    assert patient_hash(key, "p1") != patient_hash(b"other", "p1")


def test_what_the_first_run_knew_the_second_still_looks_for(workspace, monkeypatch):
    """Once the rows are gone nothing but the note tells which videos and vectors were theirs."""
    _, (video, clips) = with_patient(workspace)
    run = workspace.new_run("encode")
    run.mkdir(parents=True)
    (run / "refused.csv").write_text(f"video_id,reason\n{video.video_id},dark\nother,dark\n")
    with monkeypatch.context() as patched:
        patched.setattr("index.custody.erasure.rebuild_without", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erase_patient(workspace, PATIENT)
    (workspace.root / "left").write_bytes(clips[0].vector.tobytes())
    with pytest.raises(DamagedData, match="left"):
        erase_patient(workspace, PATIENT)
    with pytest.raises(DamagedData, match="left"):
        erase_patient(workspace, PATIENT)
    (workspace.root / "left").unlink()

    receipt = erase_patient(workspace, PATIENT)

    assert receipt["scan"]["needles"] > 2
    assert (run / "refused.csv").read_text().splitlines() == ["video_id,reason", "other,dark"]
    assert unfinished(workspace) == []


def test_a_server_lets_go_of_the_last_patient_though_no_index_is_left(workspace):
    with_patient(workspace, others=0)
    serving = SnapshotLoader(workspace)
    erase_patient(workspace, PATIENT)

    with pytest.raises(StateError, match="no index is published"):
        serving.refresh()

    found = serving.snapshot.row_set()
    assert found.total == 0


def test_unit_vectors_of_the_tests_are_long_enough_to_be_found():
    assert len(unit(np.random.default_rng(0), WIDTH).tobytes()) >= 32
