"""What a caller who may not read embeddings is shown of them.

Similarities to enough known clips give an embedding away by solving linear equations; rounding them does not help
much, since which clips are among the nearest says nearly as much (benchmarks/multilateration.py does the attack, and
docs/service.md gives the figures). So there are three ways of seeing:

- exactly: who may read the embeddings anyway learns nothing more from similarities (trainer, admin);
- widely: up to 50 hits, every filter and grouping, similarities rounded: for people who treat the patients and may see
  all their videos (clinician). A day's quota and the audit log are what holds an attack up;
- narrowly: for all other roles. A clip or video has one list of the 10 nearest clips of other patients; filters, groups
  and k choose from that list and never reach beyond it, so that no number of questions about a clip shows more of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput
from index.moment_records import Moment
from index.query import MAX_K, GroupBy, Options, Query, VectorQuery
from index.records import Distance, Neighbour, Video
from service.records import Judged
from service.roles import EXACT, WIDE, Caller, require

STEP = 0.05
WIDE_HITS = 50
NARROW_HITS = 10


def most_hits(caller: Caller) -> int | None:
    """How many hits a caller may see; None for as many as anybody."""
    if caller.sees_exactly:
        return None
    return WIDE_HITS if caller.sees_widely else NARROW_HITS


def check(caller: Caller, query: Query, k: int, options: Options) -> None:
    """Refuse what shows a caller more than they may see.

    Raises:
        PermissionRefused: If it is a query by vector, or for those who see narrowly the own patient, a mean, an
            alignment or examples.
        InvalidInput: If too many hits are asked for.
    """
    if isinstance(query, VectorQuery):
        require(caller, EXACT, "a query by vector")
    if options.include_own_patient or options.mean_of > 1 or options.aligned:
        require(caller, WIDE, "a search with the own patient, by a mean or by alignment")
    check_hits(caller, k)


def check_hits(caller: Caller, hits: int) -> None:
    """Refuse more hits than a caller may see, and none.

    Raises:
        InvalidInput: If more, or none, were asked for.
    """
    most = most_hits(caller)
    if hits < 1:
        raise InvalidInput(f"expected k of 1 to {most or MAX_K}, got {hits}", field="k")
    if most is not None and hits > most:
        raise InvalidInput(f"expected at most {most} hits for your role, got {hits}", field="k")


def shown(caller: Caller, neighbours: Iterable[Neighbour]) -> tuple[Neighbour, ...]:
    """Hits as a caller may see them."""
    return tuple(neighbours) if caller.sees_exactly else tuple(map(_rounded, neighbours))


def shown_moments(caller: Caller, moments: Iterable[Moment]) -> tuple[Moment, ...]:
    """Moments with their similarities as `shown` rounds them."""
    if caller.sees_exactly:
        return tuple(moments)
    return tuple(replace(one, similarity=rounded(one.similarity)) for one in moments)


def shown_along(caller: Caller, similarities: NDArray[np.float64]) -> tuple[float, ...]:
    """Similarities along a video as `shown` rounds them; nan stays."""
    values = similarities if caller.sees_exactly else (similarities / STEP).round() * STEP
    return tuple(values.tolist())


def shown_values(caller: Caller, similarities: NDArray[np.float32]) -> list[float]:
    """Similarities as `shown` rounds them."""
    values: list[float] = similarities.tolist()
    return values if caller.sees_exactly else list(map(rounded, values))


def shown_distance(caller: Caller, distance: Distance | None) -> Distance | None:
    """Distance rounded as `shown` does: of one clip it is one less a similarity."""
    if distance is None or caller.sees_exactly:
        return distance
    return replace(distance, value=rounded(distance.value), percentile=rounded(distance.percentile))


def shown_positions(caller: Caller, positions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points of the map (N, 2), rounded: each is two linear functions of an embedding."""
    return positions if caller.sees_exactly else (positions / STEP).round().astype(np.float32) * np.float32(STEP)


def shown_judged(caller: Caller, judged: Judged) -> Judged:
    """A verdict with its evidence rounded."""
    evidence = judged.evidence
    neighbours = tuple((label, shown(caller, hits)) for label, hits in evidence.neighbours)
    distance = shown_distance(caller, evidence.distance)
    return replace(judged, evidence=replace(evidence, neighbours=neighbours, distance=distance))


def chosen(
    nearest: Iterable[Neighbour], k: int, options: Options, videos: Mapping[str, Video]
) -> tuple[Neighbour, ...]:
    """Choose what was asked for from the list that those who see narrowly may see: filtered, grouped, the first k.

    Of equally similar ones after rounding the order says nothing of what was rounded away.
    """
    best: dict[str, Neighbour] = {}
    for hit in nearest:
        video = videos.get(hit.clip.video_id)
        if video is not None and options.where.admits(video):
            best.setdefault(_group(hit, options.group_by), hit)
    listed = sorted(map(_rounded, best.values()), key=lambda hit: (-hit.similarity, hit.clip.clip_id))
    return tuple(listed[:k])


def rounded(similarity: float) -> float:
    """To the nearest step."""
    return round(round(similarity / STEP) * STEP, 2)


def _group(hit: Neighbour, group_by: GroupBy) -> str:
    return {
        GroupBy.CLIP: hit.clip.clip_id,
        GroupBy.VIDEO: hit.clip.video_id,
        GroupBy.PATIENT: hit.clip.patient_id,
    }[group_by]


def _rounded(neighbour: Neighbour) -> Neighbour:
    matches = tuple(replace(match, similarity=rounded(match.similarity)) for match in neighbour.matches)
    return replace(neighbour, similarity=rounded(neighbour.similarity), matches=matches)
