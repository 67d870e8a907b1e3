"""A verdict with its evidence: everything it takes to compute it again, and to doubt it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.head import POSITIVE, Head, probabilities_of, vote
from index.errors import EncoderMismatch
from index.query import ClipQuery, ExamplesQuery, GroupBy, Options, SearchFilter, VideoQuery
from index.records import LABELS, Clip, Distance, Neighbour, Verdict
from index.search.alignment import MOST_CLIPS
from index.search.search import search
from index.search.snapshot import Snapshot
from service.records import Evidence, Judged, PredictionSet

OfEachClass = tuple[tuple[str, tuple[Neighbour, ...]], ...]
"""Hits by class."""
_NEAREST = 3
_ROUNDING = 1e-9


def judge(
    head: Head,
    clips: tuple[Clip, ...],
    vectors_ND: NDArray[np.float32],
    encoder_id: str,
    *,
    learned_from: bool | None = None,
    neighbours: OfEachClass = (),
    distance: Distance | None = None,
    clips_without_picture: int = 0,
    clips_outside_seizure: int = 0,
    clips_overlapping: int = 0,
) -> Judged:
    """The verdict on clips of one video, or on one clip, with what speaks for and against it.

    Args:
        head: the head.
        clips: clips of one video.
        vectors_ND: their embeddings.
        encoder_id: which encoder made them.
        learned_from: whether the head learned from this patient; None where that is not known.
        neighbours: see `Evidence`.
        distance: see `Evidence`.
        clips_without_picture: see `Evidence`.
        clips_outside_seizure: see `Evidence`.
        clips_overlapping: see `Evidence`.

    Raises:
        EncoderMismatch: If the embeddings are of another encoder than the head.
    """
    check_fits(head, encoder_id)
    logits = head.log_odds(vectors_ND)
    # Calibration was done on patients who were left out in turn: it says nothing of those the head remembers.
    temperature = 1.0 if learned_from else head.card.temperature
    probabilities = probabilities_of(logits, temperature)
    verdict = vote(probabilities, head.card.threshold)
    evidence = Evidence(
        threshold=head.card.threshold,
        temperature=temperature,
        logits=tuple(logits.tolist()),
        prediction_set=None if learned_from else prediction_set(head, verdict.probability),
        flipping_clip_ids=tuple(
            clip.clip_id for clip, flips in zip(clips, flipping(verdict, head.card.threshold), strict=True) if flips
        ),
        fewest_flipping_clips=fewest_flipping(verdict, head.card.threshold),
        neighbours=neighbours,
        distance=distance,
        clips_without_picture=clips_without_picture,
        clips_outside_seizure=clips_outside_seizure,
        clips_overlapping=clips_overlapping,
        **standing(head, learned_from=learned_from),
    )
    return Judged(verdict, clips, evidence)


def standing(head: Head, *, learned_from: bool | None) -> dict[str, Any]:
    """What has to be said with every verdict of a head, as fields of `Evidence`."""
    return {
        "trained_on_this_patient": learned_from,
        "calibrated": not learned_from and head.card.temperature != 1.0,
        "separates_nothing": head.card.separates_nothing,
    }


def check_fits(head: Head, encoder_id: str) -> None:
    """Refuse embeddings of another encoder than the head's.

    Raises:
        EncoderMismatch: If they are of another encoder.
    """
    if encoder_id != head.card.encoder_id:
        raise EncoderMismatch(f"head {head.head_id}", head.card.encoder_id, encoder_id)


def prediction_set(head: Head, probability: float) -> PredictionSet | None:
    """What the head can't exclude at a probability of exTLE."""
    conformal = head.card.conformal
    if conformal is None:
        return None
    return PredictionSet(conformal.prediction_set(probability), conformal.alpha, conformal.limits)


def flipping(verdict: Verdict, threshold: float) -> list[bool]:
    """Whether the verdict, for each clip, would change without it; the only clip of a video can't be left out."""
    probabilities = np.array([clip.probability for clip in verdict.clips])
    left = len(probabilities) - 1
    if left < 1:
        return [False] * len(probabilities)
    votes = probabilities >= threshold
    means = (probabilities.sum() - probabilities) / left
    labels = _labels(
        *(votes.sum() - votes.astype(np.int64), left, means, threshold),
        exactly=lambda n: vote(np.delete(probabilities, n), threshold).label == LABELS[POSITIVE],
    )
    return [bool(positive) != (verdict.label == LABELS[POSITIVE]) for positive in labels]


def fewest_flipping(verdict: Verdict, threshold: float) -> int:
    """The least number of clips that turn the verdict when left out; 0 when no number short of all does.

    To leave out a clip that votes for the verdict always brings the other one nearer, most of all the surest one.
    """
    probabilities = np.array([clip.probability for clip in verdict.clips])
    positive = verdict.label == LABELS[POSITIVE]
    surest_last = np.argsort(probabilities if positive else -probabilities, kind="stable")
    kept = probabilities[surest_last][:-1]  # the first n of these are what is left without all the others
    left = np.arange(1, len(kept) + 1)
    labels = _labels(
        *(np.cumsum(kept >= threshold, dtype=np.int64), left, np.cumsum(kept) / left, threshold),
        exactly=lambda n: vote(kept[: n + 1], threshold).label == LABELS[POSITIVE],
    )
    turned = np.flatnonzero(labels != positive)
    return len(probabilities) - 1 - int(turned[-1]) if len(turned) else 0


def _labels(
    positives_N: NDArray[np.int64],
    counts_N: NDArray[np.int64] | int,
    means_N: NDArray[np.float64],
    threshold: float,
    *,
    exactly: Callable[[int], bool],
) -> NDArray[np.bool_]:
    """Whether many choices of clips are exTLE, as `vote` decides; by `exactly` where the rounding of a sum counts."""
    ties = 2 * positives_N == counts_N
    labels: NDArray[np.bool_] = np.where(ties, means_N >= threshold, 2 * positives_N > counts_N)
    for n in np.flatnonzero(ties & (np.abs(means_N - threshold) < _ROUNDING)).tolist():
        labels[n] = exactly(n)
    return labels


def nearest_of_each_class(snapshot: Snapshot, item: ClipQuery | VideoQuery) -> OfEachClass:
    """The nearest labelled videos of other patients, of each class; of a long recording those nearest to its mean."""
    query: ClipQuery | VideoQuery | ExamplesQuery = item
    if isinstance(item, VideoQuery) and len(snapshot.rows_of(item)) > MOST_CLIPS:
        query = ExamplesQuery((item,))
    found = []
    for label in LABELS:
        options = Options(SearchFilter(labels=frozenset({label})), GroupBy.VIDEO)
        found.append((label, search(snapshot, query, _NEAREST, options).neighbours))
    return tuple(found)
