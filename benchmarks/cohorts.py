"""Embeddings of a large made-up cohort, for benchmarks of searching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDTH, CLIPS_OF_A_VIDEO, VIDEOS_OF_A_PATIENT = 768, 10, 20
CLIPS_OF_A_PATIENT = CLIPS_OF_A_VIDEO * VIDEOS_OF_A_PATIENT
_LATENT, _SIGNS = 48, 400


def embeddings(clips: int, seed: int = 0) -> NDArray[np.float32]:
    """(N, D) unit vectors, patient after patient, video after video.

    A clip is what its patient looks like (.8), what its video does (.4), a mixture of three of 400 signs that all
    patients share (1.4), and noise; all in 48 dimensions, since embeddings use few of theirs, with a little of every
    other one. So the nearest clips of other patients share signs, and lie among many that nearly do.
    """
    random = np.random.default_rng(seed)
    basis = random.normal(size=(_LATENT, WIDTH)).astype(np.float32) / np.sqrt(WIDTH)
    signs = random.normal(size=(_SIGNS, _LATENT))
    vectors = np.empty((clips, WIDTH), np.float32)
    for start in range(0, clips, CLIPS_OF_A_PATIENT):
        count = min(CLIPS_OF_A_PATIENT, clips - start)
        videos = np.repeat(0.4 * random.normal(size=(VIDEOS_OF_A_PATIENT, _LATENT)), CLIPS_OF_A_VIDEO, axis=0)
        weights = random.dirichlet((0.7, 0.7, 0.7), count)
        chosen = signs[random.integers(0, _SIGNS, (count, 3))]
        latent = 0.8 * random.normal(size=_LATENT) + videos[:count]
        latent = latent + 1.4 * np.einsum("bk,bkd->bd", weights, chosen) + 0.3 * random.normal(size=(count, _LATENT))
        noise = 0.15 * np.sqrt(_LATENT / WIDTH) * random.normal(size=(count, WIDTH))
        made = (latent @ basis + noise).astype(np.float32)
        vectors[start : start + count] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return vectors


def far_apart(clips: int, seed: int = 0) -> NDArray[np.float32]:
    """(N, D) unit vectors, patient after patient, as patient-level pretraining aims at.

    A clip is its patient (.6, in all dimensions) and noise (1): near the other clips of its patient, and as far from
    all others as chance has it.
    """
    random = np.random.default_rng(seed)
    vectors = np.empty((clips, WIDTH), np.float32)
    for start in range(0, clips, CLIPS_OF_A_PATIENT):
        count = min(CLIPS_OF_A_PATIENT, clips - start)
        made = 0.6 * random.normal(size=WIDTH) + random.normal(size=(count, WIDTH))
        vectors[start : start + count] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return vectors


def patients(clips: int) -> NDArray[np.int64]:
    """(N,) number of each clip's patient."""
    return np.arange(clips) // CLIPS_OF_A_PATIENT
