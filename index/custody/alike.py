"""Pairs of videos of two patients that are too alike to be two recordings: cut elsewhere, or encoded again.

Files that are the same byte for byte are found by digest; these have other bytes, and embeddings that nearly agree.
How alike different patients are depends on the encoder and the rooms, so a pair is measured against what is usual for
each of its two videos: by how much nearer it is than other patients' videos are in general.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.tables.rows import StoredClips

NEARER = 0.15
"""A pair at less than this share of the usual distance is reported. docs/store.md has its measured false alarms."""
MOST_CLIPS = 20_000
_LEAST_PATIENTS = 5
_BLOCK = 2048


@dataclass(frozen=True, slots=True)
class Alike:
    """Two videos of two patients that may show one recording.

    Attributes:
        videos: their ids, sorted.
        similarity: mean cosine of the shorter one's clips to the nearest clips of the other.
        share: of the usual distance of the two to other patients' videos, [0, NEARER).
    """

    videos: tuple[str, str]
    similarity: float
    share: float


def too_alike(stored: StoredClips, nearer: float = NEARER, seed: int = 0) -> tuple[list[Alike], int]:
    """Look for them.

    Args:
        stored: clips of one encoder.
        nearer: share of the usual distance below which a pair is reported.
        seed: decides which videos are looked at where there are more than `MOST_CLIPS` clips.

    Returns:
        The pairs, most alike first, and how many videos were looked at.
    """
    video_of, patient_of = stored.clips.video_of_row, stored.clips.patient_of_row
    sizes = np.bincount(video_of, minlength=len(stored.clips.video_ids))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(sizes))
    chosen = np.sort(order[np.cumsum(sizes[order]) <= MOST_CLIPS])
    rows = np.flatnonzero(np.isin(video_of, chosen))
    if len(np.unique(patient_of[rows])) < _LEAST_PATIENTS:
        return [], len(chosen)
    nearest = nearest_of_videos(stored.vectors[rows], np.searchsorted(chosen, video_of[rows]), len(chosen))
    longer = sizes[chosen][:, None] > sizes[chosen][None, :]
    distance: NDArray[np.float32]
    distance = np.where(longer, 1 - nearest.T, 1 - nearest).astype(np.float32)  # by the clips of the shorter one
    patients = np.array([patient_of[np.searchsorted(video_of, video)] for video in chosen])
    usual = _usual(distance, patients)
    share = distance / np.minimum(usual[:, None], usual[None, :])
    pairs = []
    for one, other in zip(*np.nonzero((share < nearer) & (patients[:, None] < patients[None, :])), strict=True):
        names = sorted(stored.clips.video_ids[chosen[number]] for number in (one, other))
        pairs.append(Alike((names[0], names[1]), float(1 - distance[one, other]), float(share[one, other])))
    return sorted(pairs, key=lambda pair: pair.share), len(chosen)


def nearest_of_videos(
    vectors_ND: NDArray[np.float32], video_of_N: NDArray[np.int64], videos: int
) -> NDArray[np.float32]:
    """(V, V): mean over the clips of a video of the cosine to the nearest clip of each video.

    Args:
        vectors_ND: unit length, the clips of a video in one run.
        video_of_N: number of each clip's video, not decreasing.
        videos: V.
    """
    starts = np.searchsorted(video_of_N, np.arange(videos))
    total = np.zeros((videos, videos), np.float32)
    for begin in range(0, len(vectors_ND), _BLOCK):
        best = np.maximum.reduceat(vectors_ND[begin : begin + _BLOCK] @ vectors_ND.T, starts, axis=1)
        np.add.at(total, video_of_N[begin : begin + _BLOCK], best)
    sizes = np.bincount(video_of_N, minlength=videos).astype(np.float32)
    mean: NDArray[np.float32] = np.divide(total, sizes[:, None])
    return mean


def _usual(distance_VV: NDArray[np.float32], patients_V: NDArray[np.int32]) -> NDArray[np.float32]:
    """The median for each video, over other patients of the distance to their nearest video."""
    names = np.unique(patients_V)
    of_patient = np.stack([distance_VV[:, patients_V == name].min(axis=1) for name in names], axis=1)
    of_patient[patients_V[:, None] == names[None, :]] = np.nan
    found: NDArray[np.float32] = np.maximum(np.nanmedian(of_patient, axis=1), 1e-6).astype(np.float32)
    return found
