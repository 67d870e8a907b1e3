"""The store: idempotent, whole videos, one writer, one truth for labels."""

import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from index.custody.doctor import examine
from index.custody.erasure import erase_patient
from index.errors import DamagedData, InvalidInput, Locked, NotFound, OutOfMemory, StateError
from index.records import EmbeddedClip, clip_id
from index.tables import store as store_module
from index.tables.committer import committing
from index.tables.schema import id_predicate
from index.tables.store import EncodedVideo, Store
from index.workspace import Workspace
from tests.conftest import WIDTH, commit, make_cohort, make_video


def as_dict(stored):
    return {clip.clip_id: (clip, vector.tolist()) for clip, vector in zip(stored.clips, stored.vectors, strict=True)}


def expected(cohort):
    return {e.clip.clip_id: (e.clip, e.vector.tolist()) for _, clips in cohort for e in clips}


def test_what_is_committed_is_read_back(workspace, cohort):
    store = commit(workspace, cohort)

    assert as_dict(store.clips("enc1")) == expected(cohort)
    assert store.videos() == {video.video_id: video for video, _ in cohort}
    assert store.encoder_ids() == ("enc1",)
    assert store.encoded("enc1") == {v.video_id: EncodedVideo(v.source_sha256, "", v.patient_id) for v, _ in cohort}


def test_clips_come_sorted_by_patient_video_and_number(workspace, cohort):
    store = commit(workspace, cohort[::-1])

    clips = store.clips("enc1").clips
    assert list(clips) == sorted(clips, key=lambda clip: (clip.patient_id, clip.video_id, clip.clip_index))


def test_a_second_commit_of_the_same_writes_nothing(workspace, cohort):
    store = commit(workspace, cohort)
    version = store.clips("enc1").table_version

    with committing(store, "enc1", WIDTH) as committer:
        assert committer.commit(cohort) == 0

    assert store.clips("enc1").table_version == version


def test_a_changed_file_replaces_the_clips_of_its_video(workspace, cohort):
    store = commit(workspace, cohort)
    video, clips = make_video(0, 0, 2, np.random.default_rng(9))
    changed = replace(video, source_sha256="f" * 64)
    clips = [
        EmbeddedClip(replace(e.clip, clip_id=clip_id("f" * 64, video.video_id, e.clip.start_s)), e.vector)
        for i, e in enumerate(clips)
    ]

    with committing(store, "enc1", WIDTH) as committer:
        assert committer.commit([(changed, clips)]) == 2

    assert as_dict(store.clips("enc1")) == expected([(changed, clips), *cohort[1:]])


def test_a_new_label_touches_no_vector(workspace, cohort):
    store = commit(workspace, cohort)
    version = store.clips("enc1").table_version
    video = replace(cohort[0][0], label="exTLE", semiology=("Semiology-tonic",))

    with committing(store, "enc1", WIDTH) as committer:
        assert committer.update_videos([video]) == 1
        assert committer.update_videos([video]) == 0

    assert store.videos()[video.video_id] == video
    assert store.clips("enc1").table_version == version


def test_a_corrected_patient_keeps_the_vectors(workspace, cohort):
    store = commit(workspace, cohort)
    video = replace(cohort[0][0], patient_id="p4")

    with committing(store, "enc1", WIDTH) as committer:
        assert committer.reassign(video) == 4

    moved = [EmbeddedClip(replace(e.clip, patient_id="p4"), e.vector) for e in cohort[0][1]]
    assert as_dict(store.clips("enc1")) == expected([(video, moved), *cohort[1:]])
    assert store.videos()[video.video_id].patient_id == "p4"


@pytest.mark.parametrize("through", ["reassign", "commit", "update"])
def test_a_corrected_patient_moves_with_the_clips_of_every_encoder(workspace, cohort, through):
    store = commit(workspace, cohort)
    commit(workspace, cohort, "enc2")
    video = replace(cohort[0][0], patient_id="newone")
    moved = [EmbeddedClip(replace(e.clip, patient_id="newone"), e.vector) for e in cohort[0][1]]

    with committing(store, "enc2", WIDTH) as committer:
        if through == "reassign":
            assert committer.reassign(video) == 8
        elif through == "commit":
            assert committer.commit([(video, moved)]) == 4
        else:
            assert committer.update_videos([video]) == 1
        assert committer.commit([(video, moved)]) == 0

    for encoder_id in ("enc1", "enc2"):
        assert as_dict(store.clips(encoder_id)) == expected([(video, moved), *cohort[1:]])
    assert {f.state for f in examine(workspace)} == {"ok"}
    erase_patient(workspace, "newone")
    assert len(store.clips("enc1").clips) == len(store.clips("enc2").clips) == 56


def test_each_patient_has_one_random_key(workspace, cohort):
    commit(workspace, cohort[:6])
    commit(workspace, cohort)

    database = lancedb.connect(str(workspace.store))
    keys = {row["patient_id"]: row["patient_key"] for row in database.open_table("patients").to_arrow().to_pylist()}
    rows = database.open_table("clips_enc1").to_arrow().to_pylist()
    assert keys.keys() == {"p0", "p1", "p2", "p3", "p4"}
    assert len(set(keys.values())) == 5
    assert {(row["patient_id"], row["patient_key"]) for row in rows} == set(keys.items())


def test_the_key_column_can_be_merged_on_by_several_writers(workspace, cohort):
    commit(workspace, cohort)

    field = lancedb.connect(str(workspace.store)).open_table("clips_enc1").schema.field("clip_id")
    assert not field.nullable
    assert field.metadata[b"lance-schema:unenforced-primary-key"] == b"true"


def test_no_patient_id_is_ever_in_a_predicate(workspace):
    cohort = make_cohort(patients=2)
    store = commit(workspace, cohort)
    changed = replace(cohort[0][0], source_sha256="e" * 64)
    clips = [
        EmbeddedClip(replace(cohort[0][1][0].clip, clip_id=clip_id("e" * 64, "v0-0", 0.0)), cohort[0][1][0].vector)
    ]
    with committing(store, "enc1", WIDTH) as committer:
        committer.commit([(changed, clips)])

    transactions = list(workspace.store.glob("clips_enc1.lance/_transactions/*"))
    assert transactions
    assert all(b"patient_id" not in path.read_bytes().split(b"schema")[0][:200] for path in transactions)
    assert not any(b"'p0'" in path.read_bytes() or b"v0-0'" in path.read_bytes() for path in transactions)


def test_two_encoders_have_two_tables(workspace, cohort):
    store = commit(workspace, cohort)
    commit(workspace, cohort[:2], encoder_id="enc2")

    assert len(store.clips("enc1").clips) == 60
    assert len(store.clips("enc2").clips) == 8


def test_only_one_may_commit(workspace, cohort):
    store = Store(workspace)
    with (
        committing(store, "enc1", WIDTH),
        pytest.raises(Locked, match="wait until it has finished"),
        committing(store, "enc1", WIDTH),
    ):
        pass


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (np.ones(3, np.float32), r"expected a vector \(8,\), got \(3,\)"),
        (np.full(WIDTH, np.nan, np.float32), "finite"),
        (np.full(WIDTH, np.inf, np.float32), "finite"),
        (np.zeros(WIDTH, np.float32), "unit length"),
        (np.ones(WIDTH, np.float32), "unit length"),
    ],
)
def test_a_bad_vector_is_refused_and_nothing_of_its_video_is_stored(workspace, cohort, vector, says):
    store = commit(workspace, cohort[:1])
    video, clips = cohort[1]

    with committing(store, "enc1", WIDTH) as committer:
        with pytest.raises(InvalidInput, match=says):
            committer.commit([(video, [*clips[:3], EmbeddedClip(clips[3].clip, vector)])])
        assert as_dict(store.clips("enc1")) == expected(cohort[:1])
        assert committer.commit([(video, clips)]) == 4  # the failed try left no trace in the writer either


def test_another_width_is_refused(workspace, cohort):
    store = commit(workspace, cohort)

    with pytest.raises(StateError, match="holds vectors of 8, got 9"), committing(store, "enc1", 9):
        pass


def test_a_flipped_bit_is_noticed(workspace, cohort):
    store = commit(workspace, cohort)
    table = lancedb.connect(str(workspace.store)).open_table("clips_enc1")
    rows = table.to_arrow().to_pylist()
    rows[7]["vector"][3] = -rows[7]["vector"][3]
    table.merge_insert("clip_id").when_matched_update_all().execute(pa.Table.from_pylist(rows[7:8], table.schema))

    with pytest.raises(DamagedData, match=f"1 stored clips are not what was written .*{rows[7]['clip_id']}"):
        store.clips("enc1")


def test_an_empty_workspace_says_what_to_do(workspace):
    with pytest.raises(StateError, match="semiome encode"):
        Store(workspace).clips("enc1")


def test_an_unknown_encoder_says_what_to_do(workspace, cohort):
    with pytest.raises(NotFound, match="no clips of encoder enc9"):
        commit(workspace, cohort).clips("enc9")


@pytest.mark.parametrize("value", ["x' OR '1'='1", "", "a b", "a;b", 'a"b'])
def test_no_text_from_outside_becomes_sql(value):
    with pytest.raises(InvalidInput):
        id_predicate("clip_id", [value])


def test_a_predicate_quotes_its_values():
    assert id_predicate("clip_id", ["a1", "b-2"]) == "clip_id IN ('a1', 'b-2')"
    assert id_predicate("clip_id", []) == "false"


@pytest.mark.parametrize("name", ["x:y", "~", "~root", "memory:", "file:x", "s3:", "a b#c?d%20e"])
def test_a_folder_of_any_name_holds_its_own_tables(tmp_path, monkeypatch, cohort, name):
    """LanceDB and Lance each make something else of a relative path that looks like an address, or like a home."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(Path(name) / "ws")
    commit(workspace, cohort)

    assert len(Store(workspace).clips("enc1").clips) == 60
    assert (tmp_path / name / "ws" / "store" / "clips_enc1.lance").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize("table", ["videos", "patients"])
@pytest.mark.parametrize("harm", ["gone", "empty", "garbage"])
def test_a_table_that_is_gone_is_damage_and_not_a_store_without_it(workspace, table, harm):
    store = commit(workspace, make_cohort())
    folder = workspace.store / f"{table}.lance"
    shutil.rmtree(folder)
    if harm != "gone":
        folder.mkdir()
    if harm == "garbage":
        (folder / "x").write_text("garbage")

    for read in (store.videos, store.patients, lambda: erase_patient(workspace, "p0")):
        with pytest.raises(DamagedData, match=f"table {table} of the store is gone"):
            read()
    assert [one.state for one in examine(workspace) if one.state == "damaged"]


def test_a_library_that_never_connects_is_named_in_time(workspace, monkeypatch):
    """As with too little memory, where its threads end without a word."""
    monkeypatch.setattr(lancedb, "connect", lambda address: Event().wait(30))
    monkeypatch.setattr(store_module, "_CONNECTS_WITHIN_S", 0.2)

    with pytest.raises(OutOfMemory, match="no memory or no thread is left"):
        Store(workspace).database()
