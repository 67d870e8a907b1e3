"""Vectors by what tells them apart: the leading directions weigh the same, and rooms no longer decide."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.vectors.whitening import Whitening


def unit(values):
    values = np.asarray(values, np.float64)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), width=st.integers(1, 90), count=st.integers(2, 900))
def test_the_leading_directions_vary_alike_and_do_not_hang_together(seed, width, count):
    random = np.random.default_rng(seed)
    vectors = unit(random.normal(size=(count, width)) * np.exp(random.normal(size=width)) + random.normal(size=width))
    whitening = Whitening.of(vectors)
    directions = min(64, width, count // 8)

    if directions < min(8, width):
        assert whitening.basis_DK is None
        seen = vectors - vectors.mean(axis=0)
    else:
        seen = (vectors - whitening.mean_D) @ whitening.basis_DK
        assert seen.shape == (count, directions)
        rank = np.linalg.matrix_rank((vectors - vectors.mean(axis=0)).astype(np.float64), tol=1e-4)
        if rank >= directions:
            np.testing.assert_allclose(
                np.cov(seen.T, bias=True).reshape(directions, directions), np.eye(directions), atol=0.05
            )
    lengths = np.linalg.norm(seen, axis=1)
    found = whitening(vectors)
    there = lengths > 1e-4
    np.testing.assert_allclose(found[there], seen[there] / lengths[there, None], atol=1e-3)


def test_vectors_that_are_all_the_same_give_nothing_and_no_error():
    same = np.repeat(unit([[1.0, 2.0, 3.0]]), 100, axis=0)

    found = Whitening.of(same)(same)

    assert np.isfinite(found).all()
    assert Whitening.of(same)(np.empty((0, 3), np.float32)).shape[0] == 0


@pytest.mark.parametrize("seed", range(3))
def test_signs_are_found_beneath_what_rooms_look_like(seed):
    """Two encodings of one sign differ in what a room looks like by far more than signs differ from each other."""
    random = np.random.default_rng(seed)
    signs = random.normal(size=(200, 24))
    room = lambda: np.concatenate([12 * random.normal(size=(200, 4)), np.zeros((200, 20))], axis=1)  # noqa: E731
    one, other = (unit(signs + room() + 0.2 * random.normal(size=signs.shape)) for _ in range(2))
    whitening = Whitening.of(np.concatenate([one, other]))
    mean = np.concatenate([one, other]).mean(axis=0)

    def right(asked, stored):
        return np.mean((asked @ stored.T).argmax(axis=1) == np.arange(200))

    assert right(unit(one - mean), unit(other - mean)) < 0.2
    assert right(whitening(one), whitening(other)) > 0.8
