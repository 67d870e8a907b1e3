"""The map: where plain linear algebra puts the clips, the same each time, and nothing outside."""

import numpy as np
import pytest

from index.errors import InvalidInput
from index.tables.store import Store
from index.vectors.brute_force import Vectors
from index.vectors.clip_map import clip_map
from index.vectors.generation import build_generation, load_generation
from tests.conftest import unit


def vectors(count, width=8, seed=0):
    random = np.random.default_rng(seed)
    return Vectors(np.stack([unit(random, width) for _ in range(count)]))


def test_pca_is_what_a_singular_value_decomposition_gives_but_for_signs_and_scale():
    table = vectors(200)
    found = clip_map(table)

    centred = table.all - table.all.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    for column in range(2):
        assert abs(np.corrcoef(found[:, column], centred @ axes[column])[0, 1]) > 0.999
    assert found.std(axis=0)[0] > found.std(axis=0)[1]


def test_the_same_clips_lie_in_the_same_places():
    np.testing.assert_array_equal(clip_map(vectors(50)), clip_map(vectors(50)))


def test_two_groups_lie_apart():
    random = np.random.default_rng(1)
    near = np.eye(8, dtype=np.float32)[[0] * 30 + [1] * 30] + 0.02 * random.normal(size=(60, 8)).astype(np.float32)
    found = clip_map(Vectors(near))

    assert abs(found[:30, 0].mean() - found[30:, 0].mean()) > 1.0


@pytest.mark.parametrize(("count", "width"), [(1, 8), (2, 8), (3, 1), (5, 2), (40, 3)])
def test_any_store_has_a_map_within_its_borders(count, width):
    found = clip_map(vectors(count, width))

    assert found.shape == (count, 2)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_umap_keeps_neighbours_together():
    random = np.random.default_rng(2)
    centres = np.eye(8, dtype=np.float32)[np.repeat(range(4), 20)]
    found = clip_map(Vectors(centres + 0.05 * random.normal(size=(80, 8)).astype(np.float32)), "umap")

    for group in range(4):
        own = found[20 * group : 20 * group + 20]
        others = np.delete(found, np.s_[20 * group : 20 * group + 20], axis=0)
        middle = own.mean(axis=0)
        assert np.linalg.norm(own - middle, axis=1).max() < np.linalg.norm(others - middle, axis=1).min()


def test_another_kind_of_map_is_refused():
    with pytest.raises(InvalidInput, match="pca or umap"):
        clip_map(vectors(3), "tsne")


def test_a_generation_is_built_and_loaded_with_its_map(stored):
    clips = Store(stored).clips("enc1")
    manifest = build_generation(clips, stored.generations)
    loaded = load_generation(stored.generations, manifest.generation)

    assert manifest.map == "pca"
    np.testing.assert_array_equal(loaded.positions, clip_map(Vectors(clips.vectors)))
