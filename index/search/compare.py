"""Do two encoders find the same neighbours? Asked of clips that both have, each without its own patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput, StateError
from index.intervals import share
from index.tables.rows import StoredClips
from index.vectors.brute_force import Allowed, Vectors, nearest

_BATCH = 64
_LEAST_PATIENTS = 5


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far two encoders agree.

    Attributes:
        first: id of one encoder.
        second: id of the other encoder.
        clips: number of clips that both have.
        only_first: clips that the second lacks.
        only_second: clips that the first lacks.
        queries: how many clips were asked about.
        patients: of how many patients.
        k: neighbours of each.
        overlap: share of a clip's k nearest that both find, mean over the queries.
        interval: of the overlap, 95 %, patients resampled; None for fewer than five, which can't tell.
        by_chance: the overlap of two encoders that know nothing of each other.
    """

    first: str
    second: str
    clips: int
    only_first: int
    only_second: int
    queries: int
    patients: int
    k: int
    overlap: float
    interval: tuple[float, float] | None
    by_chance: float


def compare(first: StoredClips, second: StoredClips, k: int = 10, queries: int = 1000, seed: int = 0) -> Overlap:
    """The overlap of two encoders' neighbours.

    Args:
        first: clips of one encoder; their ids are the same with every encoder.
        second: clips of the other.
        k: neighbours of each query.
        queries: most clips that are asked about, drawn at random.
        seed: decides the draw.

    Raises:
        InvalidInput: If k or the number of queries is below 1.
        StateError: If they share no clips, or none has k of other patients.
    """
    if k < 1 or queries < 1:
        raise InvalidInput(f"expected k and queries of at least 1, got {k} and {queries}")
    rows = second.clips.rows_of(first.clips.clip_ids.to_pylist())
    mine = np.flatnonzero(rows >= 0)
    if not len(mine):
        raise StateError("the two encoders have no clip in common: encode the same manifest with both")
    theirs = rows[mine]
    patients = first.clips.patient_of_row[mine]  # in runs, as rows are sorted by patient
    starts = np.searchsorted(patients, np.arange(patients[-1] + 2))
    others = len(mine) - np.diff(starts)[patients]
    able = np.flatnonzero(others >= k)
    if not len(able):
        raise StateError(f"no clip has {k} neighbours of other patients that both encoders know")
    asked = np.sort(np.random.default_rng(seed).permutation(able)[:queries])
    allowed = [Allowed(len(mine), without=range(int(starts[p]), int(starts[p + 1]))) for p in patients[asked]]
    found = [_neighbours(vectors, asked, allowed, k) for vectors in (first.vectors[mine], second.vectors[theirs])]
    shares = np.array([len(np.intersect1d(a, b)) / k for a, b in zip(*found, strict=True)])
    return Overlap(
        first=first.encoder_id,
        second=second.encoder_id,
        clips=len(mine),
        only_first=len(first.clips) - len(mine),
        only_second=len(second.clips) - len(mine),
        queries=len(asked),
        patients=len(np.unique(patients[asked])),
        k=k,
        overlap=float(shares.mean()),
        interval=_interval(shares, patients[asked]),
        by_chance=float(np.mean(k / others[asked])),
    )


def _neighbours(
    vectors_ND: NDArray[np.float32], asked: NDArray[np.int64], allowed: list[Allowed], k: int
) -> NDArray[np.int64]:
    """(Q, k) rows."""
    vectors = Vectors(vectors_ND)
    parts = range(0, len(asked), _BATCH)
    found = [nearest(vectors_ND[asked[p : p + _BATCH]], vectors, k, allowed[p : p + _BATCH])[1] for p in parts]
    return np.concatenate(found)


def _interval(shares: NDArray[np.float64], patients: NDArray[np.int32]) -> tuple[float, float] | None:
    """Clips of a patient are no independent witnesses of one another."""
    _, number = np.unique(patients, return_inverse=True)
    if number.max() + 1 < _LEAST_PATIENTS:
        return None
    sums, counts = np.bincount(number, shares), np.bincount(number)
    return share(sums, counts)
