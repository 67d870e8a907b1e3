"""Two numbers a clip, so that what is alike lies together: a map to look at. Nothing is searched or judged by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput, StateError
from index.vectors.brute_force import Vectors

PCA, UMAP = "pca", "umap"
_SAMPLE = 20_000
"""Rows that decide where the axes lie, or are placed by each other."""
_ROWS_AT_ONCE = 1 << 16
_SEED = 1234
_INSIDE = 0.995
"""This share of the points lies within the map, the others on its edge."""


def clip_map(vectors: Vectors, method: str = PCA) -> NDArray[np.float32]:
    """Where each row lies, (N, 2) float32 in [-1, 1].

    Args:
        vectors: what is placed.
        method: `pca`: the two directions in which the rows differ most; the same for the same rows. `umap`: neighbours
            stay neighbours (McInnes et al., 2018); far apart means nothing there.

    Raises:
        InvalidInput: If there is no such method.
        StateError: If UMAP is not installed.
    """
    if method not in {PCA, UMAP}:
        raise InvalidInput(f"expected a map by {PCA} or {UMAP}, got {method[:32]!r}")
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(vectors))[:_SAMPLE])
    sample = vectors.rows(chosen)
    placed = _umap(vectors, sample) if method == UMAP and len(sample) > 3 else _pca(vectors, sample)
    placed -= np.median(placed, axis=0)
    reach = np.quantile(np.abs(placed), _INSIDE, axis=0).max() if len(placed) else 1.0
    return np.ascontiguousarray(np.clip(placed / max(float(reach), 1e-12), -1.0, 1.0), np.float32)


def _pca(vectors: Vectors, sample: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = sample.mean(axis=0)
    centred = (sample - mean).astype(np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    two = axes[:, : -3 if axes.shape[1] > 2 else None : -1]
    two = two * np.sign(two[np.abs(two).argmax(axis=0), np.arange(two.shape[1])])  # of two signs always the same
    placed = np.zeros((len(vectors), 2), np.float32)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = vectors.all[start : start + _ROWS_AT_ONCE]
        placed[start : start + len(part), : two.shape[1]] = (part - mean) @ two.astype(np.float32)
    return placed


def _umap(vectors: Vectors, sample: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        import umap
    except ImportError:
        raise StateError("a map by UMAP needs umap-learn: pip install 'semiome[map]'") from None
    fitted = umap.UMAP(n_neighbors=min(15, len(sample) - 1), metric="cosine", random_state=_SEED, n_jobs=1).fit(sample)
    if len(sample) == len(vectors):
        return np.asarray(fitted.embedding_, np.float32)
    parts = range(0, len(vectors), _ROWS_AT_ONCE)
    return np.concatenate([np.asarray(fitted.transform(vectors.all[n : n + _ROWS_AT_ONCE]), np.float32) for n in parts])
