"""A verdict with its evidence: everything it takes to compute it again, and to doubt it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.head import Head, elected, most_likely, probabilities_of, vote
from index.errors import EncoderMismatch, StateError
from index.query import ClipQuery, ExamplesQuery, GroupBy, Options, SearchFilter, VideoQuery
from index.records import Clip, Distance, Neighbour, Verdict
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
        learned_from: whether the head learned from this patient; None where that is not known.
        neighbours: see `Evidence`.
        distance: see `Evidence`.
        clips_without_picture: see `Evidence`.
        clips_outside_seizure: see `Evidence`.
        clips_overlapping: see `Evidence`.
    """
    logits = head.logits(vectors_ND)
    # Calibration was done on patients who were left out in turn: it says nothing of those the head remembers.
    temperature = 1.0 if learned_from else head.card.temperature
    probabilities = probabilities_of(logits, temperature)
    verdict = vote(probabilities, head.card.class_names)
    evidence = Evidence(
        temperature=temperature,
        logits=tuple(map(tuple, logits.tolist())),
        prediction_set=None if learned_from else prediction_set(head, verdict),
        flipping_clip_ids=tuple(clip.clip_id for clip, flips in zip(clips, flipping(verdict), strict=True) if flips),
        fewest_flipping_clips=fewest_flipping(verdict),
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


def check_fits(head: Head, snapshot: Snapshot) -> None:
    """Refuse a head that was not trained for what is searched.

    Raises:
        EncoderMismatch: If it reads embeddings of another encoder.
        StateError: If it tells other classes apart than the workspace.
    """
    if snapshot.encoder_id != head.card.encoder_id:
        raise EncoderMismatch(f"head {head.head_id}", head.card.encoder_id, snapshot.encoder_id)
    if set(head.card.class_names) != set(snapshot.classes.names):
        raise StateError(
            f"head {head.head_id} tells {', '.join(head.card.class_names)} apart, and this workspace has the classes "
            f"{', '.join(snapshot.classes.names)}: train one again with `semiome head train`"
        )


def prediction_set(head: Head, verdict: Verdict) -> PredictionSet | None:
    """What the head can't exclude with a verdict."""
    conformal = head.card.conformal
    if conformal is None:
        return None
    return PredictionSet(conformal.prediction_set(verdict), conformal.alpha, conformal.limits)


def flipping(verdict: Verdict) -> list[bool]:
    """Whether the verdict, for each clip, would change without it; the only clip of a video can't be left out."""
    probabilities_NC = _probabilities(verdict)
    left = len(probabilities_NC) - 1
    if left < 1:
        return [False] * len(probabilities_NC)
    own_NC = np.eye(len(verdict.classes), dtype=np.int64)[most_likely(probabilities_NC)]
    votes_NC = own_NC.sum(axis=0) - own_NC
    means_NC = (probabilities_NC.sum(axis=0) - probabilities_NC) / left
    labels = [verdict.classes[number] for number in elected(votes_NC, means_NC).tolist()]
    # Where the rounding of a sum may decide, the clips that are left are asked.
    leading_NC = np.sort(np.where(votes_NC == votes_NC.max(axis=1, keepdims=True), means_NC, -np.inf), axis=1)
    for n in np.flatnonzero(leading_NC[:, -1] - leading_NC[:, -2] < _ROUNDING).tolist():
        labels[n] = vote(np.delete(probabilities_NC, n, axis=0), verdict.classes).label
    return [label != verdict.label for label in labels]


def fewest_flipping(verdict: Verdict) -> int:
    """The least number of clips that turn the verdict when left out; 0 when no number short of all does.

    To leave out a clip that votes for the verdict always brings another class nearer. So many bring one with fewer
    votes level; then either the mean probability turns it, at most if the clips that favour the verdict most are those
    left out, or one more does.
    """
    probabilities_NC = _probabilities(verdict)
    choices = most_likely(probabilities_NC)
    winner = verdict.classes.index(verdict.label)
    for_it = np.flatnonzero(choices == winner)
    fewest = 0
    for other, votes in enumerate(verdict.votes):
        if other == winner or not votes:
            continue
        behind = len(for_it) - votes
        margins = probabilities_NC[for_it, winner] - probabilities_NC[for_it, other]
        level = np.delete(probabilities_NC, for_it[np.argsort(-margins, kind="stable")[:behind]], axis=0)
        needed = behind + (vote(level, verdict.classes).label == verdict.label)
        fewest = min(fewest or needed, needed)
    return fewest


def _probabilities(verdict: Verdict) -> NDArray[np.float64]:
    """(N, C) those of the clips."""
    return np.array([clip.probabilities for clip in verdict.clips])


def nearest_of_each_class(snapshot: Snapshot, item: ClipQuery | VideoQuery) -> OfEachClass:
    """The nearest labelled videos of other patients, of each class; of a long recording those nearest to its mean."""
    query: ClipQuery | VideoQuery | ExamplesQuery = item
    if isinstance(item, VideoQuery) and len(snapshot.rows_of(item)) > MOST_CLIPS:
        query = ExamplesQuery((item,))
    found = []
    for label in snapshot.classes.names:
        options = Options(SearchFilter(labels=frozenset({label})), GroupBy.VIDEO)
        found.append((label, search(snapshot, query, _NEAREST, options).neighbours))
    return tuple(found)
