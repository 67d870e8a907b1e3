"""Vectors by what tells them apart: without what all have in common, and with each direction weighing the same.

In a trained encoder a few directions vary most, such as what a room looks like, and decide every cosine. Where moments
of long recordings are compared with each other, these say where a camera hangs rather than what a patient does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_DIRECTIONS, _VECTORS_A_DIRECTION, _LEAST_DIRECTIONS = 64, 8, 8
_SAMPLE, _BLOCK_ROWS = 20_000, 8192
_LEAST_SHARE, _LEAST_LENGTH = 1e-6, 1e-6


@dataclass(frozen=True, slots=True)
class Whitening:
    """Where vectors are looked at from.

    Attributes:
        mean_D: of all.
        basis_DK: the directions in which they vary most, each divided by how much; None where there are too few
            vectors to know these: then they are looked at less their mean alone.
    """

    mean_D: NDArray[np.float32]
    basis_DK: NDArray[np.float32] | None

    @classmethod
    def of(cls, vectors_ND: NDArray[np.float32]) -> Whitening:
        """That of some vectors, or of a sample of them that is spread evenly."""
        sample = vectors_ND[:: max(1, -(-len(vectors_ND) // _SAMPLE))]
        mean = sample.mean(axis=0)
        count, width = sample.shape
        directions = min(MOST_DIRECTIONS, width, count // _VECTORS_A_DIRECTION)
        if directions < min(_LEAST_DIRECTIONS, width):
            return cls(mean, None)
        centred = (sample - mean).astype(np.float64)
        values, vectors = np.linalg.eigh(centred.T @ centred / count)
        spread = np.sqrt(np.maximum(values[-directions:], max(_LEAST_SHARE * values[-1], np.finfo(np.float32).tiny)))
        return cls(mean, (vectors[:, -directions:] / spread).astype(np.float32))

    def __call__(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, K) of unit length, or of none where a vector is the mean."""
        parts = [self._of_some(vectors_ND[at : at + _BLOCK_ROWS]) for at in range(0, len(vectors_ND), _BLOCK_ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.mean_D)), np.float32)

    def _of_some(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        seen = vectors_ND - self.mean_D
        if self.basis_DK is not None:
            seen = seen @ self.basis_DK
        lengths = np.linalg.norm(seen, axis=1, keepdims=True)
        unit: NDArray[np.float32] = seen / np.maximum(lengths, _LEAST_LENGTH)
        return unit
