"""How much of an embedding can be put together from what a reader is shown: the attack on rounded similarities.

    .venv/bin/python benchmarks/multilateration.py [--quick]

The attacker knows the embedding of every clip but the target's, asks as a reader may for a day, and estimates the
target's embedding from what is seen and from what is not: by the sum of the clips it is near to, by ridge regression,
and by maximum likelihood with censored observations. What counts is the best of them, as the cosine to the truth.
`theirs` is the same attack with exact similarities to 1,000 clips, which must succeed. One JSON object a figure.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from index.errors import SemiomeError
from index.query import MAX_K, PLAIN, ClipQuery, GroupBy, Options, Query, SearchFilter, VideoQuery
from index.records import Clip, EmbeddedClip, Neighbour, Video, clip_id
from index.search.loader import SnapshotLoader
from index.search.search import search_each
from index.search.snapshot import Snapshot
from index.tables.committer import committing
from index.tables.store import Store
from index.vectors.generation import build_generation
from index.vectors.publication import publish
from index.workspace import Workspace
from service.config import DEFAULT_LIMITS
from service.gate import disclosure
from service.roles import Caller, Role

WIDTH, CLIPS_OF_A_VIDEO, VIDEOS_OF_A_PATIENT = 768, 5, 4
LISTS, GROUPS, FILTERS = "lists", "groups", "filters"
WAYS = (LISTS, GROUPS, FILTERS)
GOAL = 0.5
_RIDGES = (1e-3, 0.03, 0.1, 0.3, 1.0, 3.0)
_SPREADS = (0.01, 0.02, 0.035)
_ROUNDS = 25

Values = NDArray[np.float64]
Ask = Callable[[Sequence[Query], int, Options], "list[Sequence[Neighbour]]"]
"""Hits of each query, as the attacker is shown them; none where it is refused."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """What is stored: videos with their clips, and all embeddings (N, D)."""

    videos: tuple[tuple[Video, list[EmbeddedClip]], ...]
    vectors_ND: Values

    @property
    def clips(self) -> list[Clip]:
        """In the order of the embeddings."""
        return [one.clip for _, embedded in self.videos for one in embedded]


@dataclass(slots=True)
class Seen:
    """What is known of the similarity of a target to each of N other clips.

    Attributes:
        low: it is at least this.
        high: it is at most this.
        told: whether it was shown.
    """

    low: Values
    high: Values
    told: NDArray[np.bool_]

    def show(self, number: int, similarity: float, half: float) -> None:
        """It was shown, rounded by at most a half step."""
        self.low[number] = max(self.low[number], similarity - half)
        self.high[number] = min(self.high[number], similarity + half)
        self.told[number] = True

    def hide(self, numbers: NDArray[np.int64], last: float) -> None:
        """These were not in a list whose last similarity was shown."""
        self.high[numbers] = np.minimum(self.high[numbers], last)


def made_cohort(clips: int, seed: int = 0, of_a_patient: float = 0.0) -> Cohort:
    """Unit vectors in random directions; a patient's share a direction, to this cosine."""
    random = np.random.default_rng(seed)
    videos, vectors = [], []
    for patient in range(clips // (CLIPS_OF_A_VIDEO * VIDEOS_OF_A_PATIENT)):
        shared = _unit(random.normal(size=WIDTH))
        for number in range(VIDEOS_OF_A_PATIENT):
            source, name = f"{patient:04d}{number:02d}".ljust(64, "0"), f"v{patient}-{number}"
            embedded = []
            for index in range(CLIPS_OF_A_VIDEO):
                own = _unit(random.normal(size=WIDTH))
                vector = _unit(np.sqrt(of_a_patient) * shared + np.sqrt(1 - of_a_patient) * own)
                clip = Clip(clip_id(source, name, 10.0 * index), name, f"p{patient}", index, 10.0 * index, 10.0)
                embedded.append(EmbeddedClip(clip, vector.astype(np.float32)))
                vectors.append(vector)
            length = 10.0 * CLIPS_OF_A_VIDEO
            video = Video(name, f"p{patient}", source, duration_s=length, clip_count=CLIPS_OF_A_VIDEO)
            videos.append((video, embedded))
    return Cohort(tuple(videos), np.array(vectors))


def store(workspace: Workspace, cohort: Cohort) -> None:
    """Store a cohort and publish its index."""
    with committing(Store(workspace), "enc1", WIDTH) as committer:
        committer.commit(cohort.videos)
    manifest = build_generation(Store(workspace).clips("enc1"), workspace.generations, kind="flat")
    publish(workspace, manifest.generation)


def attack(
    ask: Ask, cohort: Cohort, targets: Sequence[int], way: str, *, hits: int, step: float, queries: int
) -> list[float]:
    """The cosine between truth and best estimate, for each target.

    Args:
        ask: the service.
        cohort: all of it; of a target's patient the attacker does not look at anything.
        targets: numbers of clips.
        way: `LISTS`: the nearest of the target, of its video and of other clips; `GROUPS`: also of patients and videos,
            with all the clips that make their similarity; `FILTERS`: also of a few videos at a time, which shows every
            clip's.
        hits: of each query.
        step: that similarities are rounded to; 0 where they are exact.
        queries: the attacker's for each target.
    """
    clips = cohort.clips
    number_of = {clip.clip_id: number for number, clip in enumerate(clips)}
    patients = np.array([clip.patient_id for clip in clips])
    random = np.random.default_rng(0)
    found = []
    for target in targets:
        seen = Seen(np.full(len(clips), -1.0), np.full(len(clips), 1.0), np.zeros(len(clips), bool))
        others = np.flatnonzero(patients != patients[target])
        query, half = ClipQuery(clips[target].clip_id), step / 2 + 1e-6
        left = queries - _by_own_list(ask, query, seen, others, number_of, hits, half)
        left -= _by_own_video(ask, clips[target], seen, number_of, hits, half)
        if way == FILTERS:
            left -= _by_filters(ask, query, seen, clips, number_of, hits, half)
        if way == GROUPS:
            left -= _by_groups(ask, query, seen, number_of, hits, half)
        if seen.told[others].all():
            left = 0  # nothing more to learn
        anchors = random.permutation(others)[: max(left, 0)]
        for anchor, answer in zip(anchors, _asked(ask, clips, anchors, hits), strict=True):
            similarities = {number_of[hit.clip.clip_id]: hit.similarity for hit in answer}
            if target in similarities:
                seen.show(anchor, similarities[target], half)
            elif len(answer) == hits:
                seen.hide(np.array([anchor]), answer[-1].similarity + half)
        told = Seen(seen.low[others], seen.high[others], seen.told[others])
        found.append(best_cosine(cohort.vectors_ND[others], told, cohort.vectors_ND[target]))
    return found


def best_cosine(anchors_ND: Values, seen: Seen, truth_D: Values) -> float:
    """The estimate nearest to the truth, which is more than an attacker could choose."""
    cosines = [float(x @ truth_D / np.linalg.norm(x)) for x in estimates(anchors_ND, seen) if np.linalg.norm(x) > 0]
    return max(cosines, default=0.0)


def estimates(anchors_ND: Values, seen: Seen) -> list[Values]:
    """A target's direction in several ways, from what is known of its similarities."""
    near, shown = anchors_ND[seen.told], (seen.low + seen.high)[seen.told] / 2
    found = []
    if len(near):
        found = [near.sum(axis=0), near.T @ shown]
        gram = near @ near.T if len(near) <= WIDTH else near.T @ near
        for ridge in _RIDGES:
            system = gram + ridge * np.eye(len(gram))
            if len(near) <= WIDTH:
                found.append(near.T @ np.linalg.solve(system, shown))
            else:
                found.append(np.linalg.solve(system, near.T @ shown))
    return found + [_censored(anchors_ND, seen, spread) for spread in _SPREADS]


def _censored(anchors_ND: Values, seen: Seen, spread: float) -> Values:
    """Maximum likelihood by expectation maximisation: a similarity is in its interval, whatever it is there."""
    gram = anchors_ND.T @ anchors_ND + spread**2 * WIDTH * np.eye(WIDTH)
    gain = np.linalg.solve(gram, anchors_ND.T)
    estimate = np.zeros(WIDTH)
    for _ in range(_ROUNDS):
        mean = anchors_ND @ estimate
        low, high = (seen.low - mean) / spread, (seen.high - mean) / spread
        share = ndtr(high) - ndtr(low)
        density = np.exp(-(low**2) / 2) - np.exp(-(high**2) / 2)
        inside = mean + spread * density / np.sqrt(2 * np.pi) / np.maximum(share, 1e-9)
        estimate = gain @ np.where(share > 1e-9, inside, np.clip(mean, seen.low, seen.high))
    return estimate


def _by_own_list(
    ask: Ask, query: ClipQuery, seen: Seen, others: NDArray[np.int64], number_of: dict[str, int], hits: int, half: float
) -> int:
    (answer,) = ask([query], hits, PLAIN)
    for hit in answer:
        seen.show(number_of[hit.clip.clip_id], hit.similarity, half)
    if len(answer) >= hits:
        seen.hide(others[~seen.told[others]], answer[-1].similarity + half)
    return 1


def _by_own_video(ask: Ask, target: Clip, seen: Seen, number_of: dict[str, int], hits: int, half: float) -> int:
    (answer,) = ask([VideoQuery(target.video_id)], hits, PLAIN)
    for hit in answer:
        if hit.query_clip_id == target.clip_id:
            seen.show(number_of[hit.clip.clip_id], hit.similarity, half)
    return 1


def _by_filters(
    ask: Ask, query: ClipQuery, seen: Seen, clips: list[Clip], number_of: dict[str, int], hits: int, half: float
) -> int:
    """Ask for the target's nearest among so few videos that all their clips are shown."""
    videos = list(dict.fromkeys(clip.video_id for clip in clips))
    at_once = max(hits // CLIPS_OF_A_VIDEO, 1)
    for start in range(0, len(videos), at_once):
        where = SearchFilter(video_ids=frozenset(videos[start : start + at_once]))
        (answer,) = ask([query], hits, Options(where))
        for hit in answer:
            seen.show(number_of[hit.clip.clip_id], hit.similarity, half)
    return -(-len(videos) // at_once)


def _by_groups(ask: Ask, query: ClipQuery, seen: Seen, number_of: dict[str, int], hits: int, half: float) -> int:
    for group in (GroupBy.PATIENT, GroupBy.VIDEO):
        for mean_of in (1, MAX_K):
            (answer,) = ask([query], hits, Options(group_by=group, mean_of=mean_of))
            for match in (match for hit in answer for match in hit.matches):
                seen.show(number_of[match.clip.clip_id], match.similarity, half)
    return 4


def _asked(ask: Ask, clips: list[Clip], numbers: NDArray[np.int64], hits: int) -> list[Sequence[Neighbour]]:
    return ask([ClipQuery(clips[number].clip_id) for number in numbers.tolist()], hits, PLAIN)


def _unit(vector: Values) -> Values:
    return vector / np.linalg.norm(vector)


def main() -> None:
    """Run it."""
    from figures import say

    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="1,000 clips and one target: proves that the script runs")
    quick = parser.parse_args().quick
    sizes, count = ((1_000,), 1) if quick else ((1_000, 2_000, 5_000), 7)
    for shared, kind in ((0.0, "random"), (0.6, "clustered")):
        for clips in sizes:
            say(f"{clips} {kind} clips, {count} targets")
            cohort = made_cohort(clips, of_a_patient=shared)
            with tempfile.TemporaryDirectory() as folder:
                store(Workspace(Path(folder)), cohort)
                measure(f"{kind}, {clips} clips", SnapshotLoader(Workspace(Path(folder))).snapshot, cohort, count)


def measure(what: str, snapshot: Snapshot, cohort: Cohort, count: int) -> None:
    """Print a figure for each way and each length of a list."""
    from figures import figure, say

    targets = np.random.default_rng(1).choice(len(cohort.clips), count, replace=False).tolist()
    queries = DEFAULT_LIMITS[Role.READER].searches_a_day
    exactly = Caller("eve", frozenset({Role.TRAINER}), "token")
    exact = attack(asker(snapshot, exactly), cohort, targets, LISTS, hits=MAX_K, step=0.0, queries=queries)
    for role, lengths in ((Role.READER, (5, disclosure.NARROW_HITS, 20)), (Role.CLINICIAN, (disclosure.WIDE_HITS,))):
        caller = Caller("eve", frozenset({role}), "token")
        for hits, way in product(lengths, WAYS):
            ask = asker(snapshot, caller, hits)
            found = attack(ask, cohort, targets, way, hits=hits, step=disclosure.STEP, queries=queries)
            say(f"{role}, {way}, {hits} hits: median {np.median(found):.3f}, most {max(found):.3f}")
            name = f"cosine of an estimate, {what}, {role}, {way}, {hits} hits"
            goal = GOAL if role is Role.READER else None
            figure(name, max(found), "cosine", "exact similarities", max(exact), max(found), goal, at_most=True)


def asker(snapshot: Snapshot, caller: Caller, length: int = MAX_K) -> Ask:
    """The service without its network, its narrow list of any length."""

    def ask(queries: Sequence[Query], k: int, options: Options) -> list[Sequence[Neighbour]]:
        if caller.sees_widely:
            found = search_each(snapshot, queries, k, options)
            return [() if isinstance(one, SemiomeError) else disclosure.shown(caller, one.neighbours) for one in found]
        try:
            for query in queries:
                disclosure.check(caller, query, 1, options)
        except SemiomeError:
            return [()] * len(queries)
        found = search_each(snapshot, queries, length, PLAIN)
        lists = ([] if isinstance(one, SemiomeError) else one.neighbours for one in found)
        return [disclosure.chosen(one, k, options, snapshot.videos) for one in lists]

    return ask


if __name__ == "__main__":
    main()
