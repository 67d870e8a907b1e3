"""Generations: verified by hash, published whole, never changed."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.errors import DamagedData, InvalidInput, Locked, NotFound, StateError
from index.records import Clip
from index.tables.clip_table import ClipTable
from index.tables.committer import committing
from index.tables.rows import StoredClips
from index.tables.store import Store
from index.vectors.brute_force import Allowed, Vectors, nearest
from index.vectors.faiss_index import KINDS, ONE_BIT, ONE_BYTE, FlatIndex, IvfIndex
from index.vectors.generation import build_generation, building_lock, list_generations, load_generation
from index.vectors.publication import collect, publish, roll_back
from index.vectors.recall import Recall, tuned_recall
from index.workspace import current
from tests.conftest import DATA, commit, make_cohort, publish_all


def test_a_generation_holds_what_the_store_held(stored):
    stored_clips = Store(stored).clips("enc1")
    generation = load_generation(stored.generations)

    assert list(generation.clips) == list(stored_clips.clips)
    np.testing.assert_array_equal(generation.vectors.all, stored_clips.vectors)


def test_its_manifest_says_where_it_comes_from(stored):
    manifest = load_generation(stored.generations).manifest

    assert (manifest.encoder_id, manifest.clips, manifest.videos, manifest.patients) == ("enc1", 60, 15, 5)
    assert manifest.table_version == Store(stored).clips("enc1").table_version
    assert (manifest.width, manifest.index, manifest.recall, manifest.recall_queries) == (8, "flat", 1.0, 60)
    interval = (pytest.approx(0.937, abs=0.001), 1.0)  # 60 queries found all, which is not to find all of any 60
    assert (manifest.recall_interval, manifest.recall_target, manifest.effort) == (interval, 0.95, None)
    assert manifest.digests.keys() == {"vectors.npy", "clips.arrow", "map.npy"}


def test_numbers_grow_and_building_publishes_nothing(stored):
    before = current(stored.generations)
    manifest = build_generation(Store(stored).clips("enc1"), stored.generations)

    assert [name.split("-")[0] for name in list_generations(stored.generations)] == ["000001", "000002"]
    assert current(stored.generations) == before
    publish(stored, manifest.generation)
    assert load_generation(stored.generations).manifest == manifest


@pytest.mark.parametrize("name", ["vectors.npy", "clips.arrow", "map.npy"])
def test_every_flipped_byte_is_refused(stored, name):
    path = stored.generations / current(stored.generations) / name
    whole = path.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 40):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        with pytest.raises(DamagedData, match=name):
            load_generation(stored.generations)
    path.write_bytes(whole)

    assert len(load_generation(stored.generations).clips) == 60


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"")])
def test_a_missing_or_empty_file_is_refused(stored, damage):
    damage(stored.generations / current(stored.generations) / "vectors.npy")

    with pytest.raises(DamagedData, match="build the index again"):
        load_generation(stored.generations)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"generation": "x"}'])
def test_a_torn_manifest_is_refused(stored, text):
    (stored.generations / current(stored.generations) / "manifest.json").write_text(text)

    with pytest.raises(DamagedData, match="manifest"):
        load_generation(stored.generations)


def test_a_build_that_died_is_not_listed(stored):
    half = stored.generations / f".building-{os.getpid() + 1}"
    half.mkdir()
    (half / "manifest.json").write_text("{}")

    assert len(list_generations(stored.generations)) == 1


def test_a_failed_build_leaves_nothing(stored):
    clips = Store(stored).clips("enc1")
    before = sorted(os.listdir(stored.generations))

    with pytest.raises(IndexError):
        build_generation(replace(clips, vectors=clips.vectors[:-1]), stored.generations)
    assert sorted(os.listdir(stored.generations)) == before


def test_publishing_an_unknown_generation_is_refused(stored):
    with pytest.raises(NotFound):
        publish(stored, "000009-deadbeef")


def test_without_one_it_says_what_to_do(workspace):
    with pytest.raises(StateError, match="semiome index build"):
        load_generation(workspace.generations)


def test_a_store_without_clips_says_what_to_do(workspace):
    store = Store(workspace)
    with committing(store, "enc1", 8):
        pass

    with pytest.raises(StateError, match="no clips of encoder enc1"):
        build_generation(store.clips("enc1"), workspace.generations)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_byte_of_a_manifest_is_refused(stored, kind):
    name = build_generation(Store(stored).clips("enc1"), stored.generations, kind=kind).generation
    path = stored.generations / name / "manifest.json"
    whole = path.read_bytes()
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x01]) + whole[position + 1 :])
        with pytest.raises(DamagedData, match="manifest"):
            load_generation(stored.generations, name)


def test_recall_of_one_patient_is_asked_of_nobody(workspace):
    commit(workspace, make_cohort(patients=1))

    assert publish_all(workspace).recall_queries == 0


def test_recall_is_measured_against_everything(workspace, cohort):
    """An index over other vectors finds other neighbours, and its recall says so."""
    stored_clips = commit(workspace, cohort).clips("enc1")
    vectors = Vectors(stored_clips.vectors)
    other = FlatIndex(Vectors(np.random.default_rng(0).permutation(stored_clips.vectors)))

    right = tuned_recall(FlatIndex(vectors), vectors, stored_clips.clips, 0.95)
    wrong = tuned_recall(other, vectors, stored_clips.clips, 0.95)
    assert right == Recall(1.0, pytest.approx(0.937, abs=0.001), 1.0, 60)
    assert wrong.low <= wrong.value <= wrong.high < 0.6


def test_an_approximate_index_is_tuned_to_its_target_and_loads_as_it_was(workspace):
    stored_clips = commit(workspace, make_cohort(patients=20, videos=5, clips=10)).clips("enc1")

    low = build_generation(stored_clips, workspace.generations, kind=ONE_BIT, recall_target=0.5)
    high = build_generation(stored_clips, workspace.generations, kind=ONE_BIT, recall_target=0.9)

    assert low.effort.cells < high.effort.cells
    assert low.recall >= 0.5
    assert high.recall >= 0.9
    loaded = load_generation(workspace.generations, high.generation)
    assert loaded.index.effort == high.effort
    query = stored_clips.vectors[5:6]
    similarities, rows = loaded.index.search(query, 10, Allowed(1000))
    np.testing.assert_allclose(similarities[0], (stored_clips.vectors[rows[0]] @ query[0]), atol=1e-6)
    assert high.digests.keys() == {"vectors.npy", "clips.arrow", "map.npy", "index.faiss"}


def test_a_generation_below_its_target_is_published_only_when_forced(stored):
    manifest = build_generation(Store(stored).clips("enc1"), stored.generations, kind=ONE_BIT, recall_target=1.0)
    folder = stored.generations
    text = (folder / manifest.generation / "manifest.json").read_text()
    worse = json.dumps({**json.loads(text), "recall": 0.5}).encode()
    name = f"000009-{hashlib.sha256(worse).hexdigest()[:16]}"
    (folder / manifest.generation).rename(folder / name)
    (folder / name / "manifest.json").write_bytes(worse)

    with pytest.raises(StateError, match=r"finds 0.500 of the true neighbours, below its target of 1.0"):
        publish(stored, name)
    publish(stored, name, force=True)
    assert current(folder) == name


@pytest.mark.parametrize(("fields", "says"), [({"kind": "hnsw"}, "of kind flat"), ({"recall_target": 0}, "above 0")])
def test_wrong_wishes_are_refused(stored, fields, says):
    with pytest.raises(InvalidInput, match=says):
        build_generation(Store(stored).clips("enc1"), stored.generations, **fields)


def test_rolling_back_twice_is_where_one_was(stored):
    folder = stored.generations
    first = current(folder)
    with pytest.raises(StateError, match="no generation before"):
        roll_back(stored)
    second = publish_all(stored).generation

    assert roll_back(stored) == current(folder) == first
    assert roll_back(stored) == current(folder) == second


def test_collecting_keeps_what_serves_and_what_did_and_the_newest(stored):
    folder = stored.generations
    second = publish_all(stored).generation
    built = [build_generation(Store(stored).clips("enc1"), folder).generation for _ in range(3)]
    first = list_generations(folder)[0]
    (folder / ".building-1").mkdir()

    assert collect(stored, keep=1) == built[:2]
    assert list_generations(folder) == [first, second, built[2]]
    assert collect(stored, keep=0) == built[2:]
    assert not (folder / ".building-1").exists()


def test_a_generation_that_was_moved_behind_a_link_is_one_like_the_others(stored, tmp_path):
    folder = stored.generations
    first = current(folder)
    (folder / first).rename(tmp_path / first)
    (folder / first).symlink_to(tmp_path / first)

    second = publish_all(stored).generation
    assert roll_back(stored) == first
    assert roll_back(stored) == second
    third = publish_all(stored).generation
    assert collect(stored, keep=0) == [first]
    assert list_generations(folder) == [second, third]
    assert not (tmp_path / first).exists()
    assert not (folder / first).is_symlink()


def test_collecting_keeps_all_where_there_are_fewer_than_are_kept(stored):
    for _ in range(3):
        publish_all(stored)
    names = list_generations(stored.generations)

    assert collect(stored, keep=5) == []
    assert list_generations(stored.generations) == names


def test_a_loaded_generation_outlives_its_files(stored):
    old = load_generation(stored.generations)
    publish_all(stored)
    publish_all(stored)
    collect(stored, keep=0)

    assert not (stored.generations / old.manifest.generation).exists()
    assert old.clips[59].patient_id == "p4"
    assert old.vectors.rows([59]).shape == (1, 8)


def test_two_builds_at_once_are_refused(stored):
    with building_lock(stored.generations), pytest.raises(Locked, match="build this workspace's index"):
        build_generation(Store(stored).clips("enc1"), stored.generations)


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_generation_still_loads_and_answers(kind):
    """Written once by `python -m tests.index.vectors.golden`; files in this format must be read for ever."""
    folder = DATA / "generations" / kind
    generation = load_generation(folder)

    stored_answer = json.loads((folder / "answer.json").read_text())
    similarities, rows = generation.index.search(generation.vectors.rows([3]), 10, Allowed(60, without=range(0, 12)))
    assert rows[0].tolist() == stored_answer["rows"]
    np.testing.assert_allclose(similarities[0], stored_answer["similarities"], atol=1e-6)
    assert generation.clips[59].clip_id == stored_answer["last_clip"]


def test_an_index_finds_enough_for_every_k():
    """Effort is tuned for ten hits; for one it must not look at fewer candidates, and for fifty at more."""
    random = np.random.default_rng(0)
    latent = np.repeat(random.normal(size=(300, 16)), 20, axis=0) + 0.6 * random.normal(size=(6000, 16))
    made = (latent @ random.normal(size=(16, 128))).astype(np.float32)
    vectors = Vectors(made / np.linalg.norm(made, axis=1, keepdims=True))
    clips = ClipTable.of([Clip(f"{n:032x}", f"v{n // 5:05}", f"p{n // 20:05}", n % 5, 0.0, 10.0) for n in range(6000)])
    index = IvfIndex.build(ONE_BIT, vectors)
    assert tuned_recall(index, vectors, clips, 0.95).value > 0.93
    allowed = Allowed(6000)
    queries = vectors.all[::37]
    for k in (1, 3, 10, 50, 200):
        truth = nearest(queries, vectors, k, [allowed])[0]
        found = index.search(queries, k, allowed)[0]
        recall = float((found >= truth[:, -1:] - 1e-5).mean())
        assert recall > 0.9, (k, recall, index.effort)


def far_apart(patients=40, clips=20, width=96):
    """Patients whose clips are near each other and as far from all others as chance has it."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(patients, width))
    made = np.repeat(centres, clips, axis=0) * 0.6 + random.normal(size=(patients * clips, width))
    made = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    rows = [Clip(f"{n:032x}", f"v{n // 5:05}", f"p{n // clips:05}", n % 5, 0.0, 10.0) for n in range(len(made))]
    return StoredClips("enc1", 3, ClipTable.of(rows), made)


def test_an_index_that_misses_its_target_gives_way_to_one_that_reaches_it(workspace, monkeypatch):
    monkeypatch.setattr("index.vectors.generation.FLAT_CLIPS", 100)

    chosen = build_generation(far_apart(), workspace.generations)

    assert chosen.index == ONE_BYTE
    assert chosen.recall >= chosen.recall_target == 0.95
    assert chosen.tried.keys() == {ONE_BIT}
    assert chosen.tried[ONE_BIT] < 0.95
    publish(workspace, chosen.generation)
    assert load_generation(workspace.generations).manifest == chosen
    only = build_generation(far_apart(), workspace.generations, kind=ONE_BIT)
    with pytest.raises(StateError, match=r"without --kind chooses one that reaches it; --kind flat finds all"):
        publish(workspace, only.generation)


def test_an_index_of_one_patient_looks_everywhere():
    random = np.random.default_rng(0)
    made = random.normal(size=(500, 16)).astype(np.float32)
    vectors = Vectors(made / np.linalg.norm(made, axis=1, keepdims=True))
    clips = ClipTable.of([Clip(f"{n:032x}", "v", "p", n, 0.0, 10.0) for n in range(500)])
    index = IvfIndex.build(ONE_BIT, vectors)

    assert tuned_recall(index, vectors, clips, 0.95) == Recall(1.0, 1.0, 1.0, 0)
    assert index.effort.cells == index.cells


def test_a_large_file_of_vectors_does_not_fill_the_memory(tmp_path, monkeypatch):
    """Its rows are read, not mapped."""
    monkeypatch.setattr("index.vectors.brute_force._SMALL_BYTES", 1 << 20)
    whole = np.random.default_rng(0).normal(size=(20_000, 768)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", whole)
    vectors = Vectors.map(tmp_path / "vectors.npy")
    random = np.random.default_rng(1)
    for _ in range(500):
        rows = random.integers(0, len(whole), 40)
        np.testing.assert_array_equal(vectors.rows(rows), whole[rows])

    resident = sum(
        int(line.split()[1])
        for part in Path("/proc/self/smaps").read_text().split("VmFlags")
        if "vectors.npy" in part
        for line in part.splitlines()
        if line.startswith("Rss:")
    )
    assert resident < 8 * 1024  # kB, of 60 MB that were read
    for outside in ([-1], [len(whole)]):
        with pytest.raises(IndexError):
            vectors.rows(outside)
    os.truncate(tmp_path / "vectors.npy", 10_000)
    with pytest.raises(DamagedData, match="cut short"):
        vectors.rows([19_999])
