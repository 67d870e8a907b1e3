"""Generations: verified by hash, published whole, never changed."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from index.errors import DamagedData, NotFound, StateError
from index.generation import (
    build_generation,
    list_generations,
    load_generation,
    publish,
    read_manifest,
    recall_without_own_patient,
)
from index.store import Store
from index.workspace import current
from tests.conftest import commit, make_cohort, publish_all


def test_a_generation_holds_what_the_store_held(stored):
    stored_clips = Store(stored).clips("enc1")
    generation = load_generation(stored.generations)

    assert generation.clips == stored_clips.clips
    np.testing.assert_array_equal(generation.index.vectors, stored_clips.vectors)


def test_its_manifest_says_where_it_comes_from(stored):
    manifest = load_generation(stored.generations).manifest

    assert (manifest.encoder_id, manifest.clips, manifest.videos, manifest.patients) == ("enc1", 60, 15, 5)
    assert manifest.table_version == Store(stored).clips("enc1").table_version
    assert (manifest.width, manifest.index, manifest.recall, manifest.recall_queries) == (8, "flat", 1.0, 60)
    assert manifest.sha256.keys() == {"vectors.faiss", "clips.arrow"}


def test_numbers_grow_and_building_publishes_nothing(stored):
    before = current(stored.generations)
    manifest = build_generation(Store(stored).clips("enc1"), stored.generations)

    assert [name.split("-")[0] for name in list_generations(stored.generations)] == ["000001", "000002"]
    assert current(stored.generations) == before
    publish(stored.generations, manifest.generation)
    assert load_generation(stored.generations).manifest == manifest


@pytest.mark.parametrize("name", ["vectors.faiss", "clips.arrow"])
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
    damage(stored.generations / current(stored.generations) / "vectors.faiss")

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

    with pytest.raises(ValueError, match="broadcast"):
        build_generation(replace(clips, clips=clips.clips[:-1], vectors=clips.vectors[:, :0]), stored.generations)
    assert sorted(os.listdir(stored.generations)) == sorted(["CURRENT", *list_generations(stored.generations)])


def test_publishing_an_unknown_generation_is_refused(stored):
    with pytest.raises(NotFound):
        publish(stored.generations, "000009-deadbeef")


def test_without_one_it_says_what_to_do(workspace):
    with pytest.raises(StateError, match="semiome index build"):
        load_generation(workspace.generations)


def test_a_store_without_clips_says_what_to_do(workspace):
    store = Store(workspace)
    with store.committing("enc1", 8):
        pass

    with pytest.raises(StateError, match="no clips of encoder enc1"):
        build_generation(store.clips("enc1"), workspace.generations)


def test_a_manifest_that_names_no_files_is_not_trusted(stored):
    path = stored.generations / current(stored.generations) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": {}}))

    with pytest.raises(DamagedData, match="does not name its files"):
        load_generation(stored.generations)


def test_recall_of_one_patient_is_asked_of_nobody(workspace):
    commit(workspace, make_cohort(patients=1))

    assert publish_all(workspace).recall_queries == 0


def test_recall_is_measured_against_numpy(workspace, cohort):
    """An index over other vectors finds other neighbours, and its recall says so."""
    stored_clips = commit(workspace, cohort).clips("enc1")
    generation = load_generation(workspace.generations, publish_all(workspace).generation)
    shuffled = np.random.default_rng(0).permutation(stored_clips.vectors)

    right, queries = recall_without_own_patient(generation.index, stored_clips.vectors, stored_clips.clips)
    wrong, _ = recall_without_own_patient(generation.index, shuffled, stored_clips.clips)
    assert (right, queries) == (1.0, 60)
    assert wrong < 0.6


def test_a_manifest_is_readable_json(stored):
    name = current(stored.generations)

    values = json.loads((stored.generations / name / "manifest.json").read_text())
    assert values["generation"] == name == read_manifest(stored.generations, name).generation
