"""How unlike everything stored some clips are: their distance to the k-th nearest clip of other patients.

Sun et al. (2022), "Out-of-distribution detection with deep nearest neighbors": the distance to a near neighbour tells
what an encoder has not seen, without any assumption on how embeddings lie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.records import Distance
from index.search.overlap import first_apart
from index.search.snapshot import Snapshot

NEIGHBOUR = 5
"""k: which neighbour's distance counts. One alone may be a freak."""
_SAMPLE = 256
_LEAST_SAMPLE = 20


def usual_distances(snapshot: Snapshot, seed: int = 0) -> NDArray[np.float64]:
    """Sorted distances of a sample of stored clips, each without its own patient; empty where too few can be asked."""
    everything = np.arange(len(snapshot))
    stored = everything[snapshot.row_set().admits(everything)]
    rows = np.random.default_rng(seed).permutation(stored)[:_SAMPLE]
    distances = [
        _distances(snapshot, snapshot.vectors(np.array([row])), snapshot.patient_ids[snapshot.patient_of_row[row]])
        for row in rows
    ]
    known = np.sort(np.concatenate([one for one in distances if one is not None] or [np.empty(0)]))
    return known if len(known) >= _LEAST_SAMPLE else np.empty(0)


def novelty(
    snapshot: Snapshot, vectors_ND: NDArray[np.float32], patient_id: str, usual: NDArray[np.float64]
) -> Distance | None:
    """How unlike everything stored these clips are.

    Args:
        snapshot: what is stored.
        vectors_ND: the clips' embeddings; of a long recording some, spread evenly, stand for all.
        patient_id: whose they are; that patient's clips do not count.
        usual: of `usual_distances`.

    Returns:
        None where too little is stored to say.
    """
    if len(vectors_ND) > _SAMPLE:  # each is compared with everything stored
        vectors_ND = vectors_ND[np.linspace(0, len(vectors_ND) - 1, _SAMPLE).round().astype(np.int64)]
    distances = _distances(snapshot, vectors_ND, patient_id)
    if distances is None or not len(usual):
        return None
    distance = float(distances.mean())
    return Distance(distance, float(np.searchsorted(usual, distance) / len(usual)), len(usual))


def _distances(snapshot: Snapshot, vectors_ND: NDArray[np.float32], patient_id: str) -> NDArray[np.float64] | None:
    allowed = snapshot.row_set(without_patient=patient_id)
    if allowed.total < NEIGHBOUR:
        return None
    depth = min(NEIGHBOUR * (1 + 2 * snapshot.overlap), allowed.total)  # overlapping clips are one neighbour
    found = snapshot.nearest(vectors_ND, depth, allowed)
    nearest = np.empty(len(vectors_ND))
    for number, vector_D in enumerate(vectors_ND):
        if found is None:
            scores, _ = snapshot.scores(vector_D[None], allowed)
            rows = np.argpartition(-scores, depth - 1)[:depth]
            rows = rows[np.argsort(-scores[rows], kind="stable")]
            similarities = scores[rows]
        else:
            similarities, rows = found[0][number], found[1][number]
        nearest[number] = similarities[first_apart(snapshot, rows, NEIGHBOUR)[-1]]
    distances: NDArray[np.float64] = 1.0 - np.clip(nearest, -1.0, 1.0)
    return distances
