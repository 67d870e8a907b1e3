"""Where in long recordings the same course of signs turns up, and how unusual that is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput
from index.moment_records import Moment, MomentPair
from index.phases import counted_clips
from index.query import MAX_K, ClipQuery, Filter, SearchFilter, VideoQuery
from index.records import Clip
from index.search.alignment import MOST_CLIPS
from index.search.background import Background
from index.search.snapshot import Snapshot
from index.search.subsequence import Stretch, aligned_pairs, apart, endings, too_much

_ROWS_OF_A_FILE = 2
"""How often the same stretch may be stored: as part of a recording, and by itself."""
_MOST_PAIRS = 20_000
"""Most query clips times moments, whose pairs are an answer's size."""


@dataclass(frozen=True, slots=True)
class Course:
    """A course of signs to look for.

    Attributes:
        clips: in order.
        start_s: where in its file the video begins that they are of.
        asked_QK: (Q, K) their embeddings, whitened as the snapshot's rows are.
        patient: whose they are; empty where that is not known.
        own: rows of the snapshot that show the same.
    """

    clips: Sequence[Clip]
    start_s: float
    asked_QK: NDArray[np.float32]
    patient: str
    own: NDArray[np.int64]


def course_of(snapshot: Snapshot, query: ClipQuery | VideoQuery) -> Course:
    """That of a stored clip, or of a video; of one with a known onset the clips of the seizure count.

    Raises:
        InvalidInput: If it is a video of more than an hour.
        NotFound: If it is not stored.
    """
    rows = snapshot.rows_of(query)
    own = snapshot.rows_of_same_pictures(int(rows[0]))
    patient = snapshot.patient_ids[snapshot.patient_of_row[rows[0]]]
    video = snapshot.videos.get(snapshot.clip(int(rows[0])).video_id)
    if isinstance(query, VideoQuery):
        rows = rows[counted_clips(video, snapshot.clips(rows))]
        _check_length(len(rows))
    start_s = video.start_s if video else 0.0
    return Course(snapshot.clips(rows), start_s, snapshot.whitened(rows), patient, own)


def course_of_upload(
    snapshot: Snapshot, clips: Sequence[Clip], vectors_CD: NDArray[np.float32], patient: str, known_as: str
) -> Course:
    """That of a video which is not stored.

    Args:
        snapshot: what is searched.
        clips: of the video.
        vectors_CD: (C, D) their embeddings.
        patient: whose it is; empty where that is not known.
        known_as: the stored video of the same file; empty where there is none.

    Raises:
        InvalidInput: If it is longer than an hour.
    """
    counted = counted_clips(None, clips)
    _check_length(len(counted))
    own = np.empty(0, np.int64)
    if known_as:
        own = snapshot.rows_of_same_pictures(int(snapshot.rows_of(VideoQuery(known_as))[0]))
    asked_QK = snapshot.whiten(vectors_CD[counted])
    return Course([clips[number] for number in counted], 0.0, asked_QK, patient, own)


def similarity_along(
    snapshot: Snapshot, course: Course, video_id: str, in_time: Callable[[], None] = lambda: None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How similar each part of a stored video is to a course of signs.

    Args:
        snapshot: what is searched.
        course: what is looked for.
        video_id: the video's.
        in_time: called from time to time, to raise what ends the work.

    Returns:
        (C,) when each clip begins, in seconds of the video's file, and (C,) the similarity of the most similar stretch
        that it is a part of; nan where it is part of none.

    Raises:
        NotFound: If the video is not stored.
    """
    rows = snapshot.rows_of(VideoQuery(video_id))
    where = snapshot.row_set(SearchFilter(video_ids=frozenset({video_id})), "", np.empty(0, np.int64))
    best = np.full(len(snapshot), -np.inf) if len(rows) else np.empty(0)
    for part in endings(snapshot, course.asked_QK, where, in_time):
        covered = np.full(len(part.rows), -np.inf)
        for last in np.argsort(part.similarity, kind="stable").tolist():  # the best is written last
            if part.similarity[last] > -np.inf:
                covered[part.first[last] : last + 1] = part.similarity[last]
        best[part.rows] = covered
    starts = snapshot.videos[video_id].start_s + np.array([clip.start_s for clip in snapshot.clips(rows)])
    found = best[rows]
    return starts, np.where(found > -np.inf, found, np.nan)


def find_moments(
    snapshot: Snapshot,
    query: ClipQuery | VideoQuery | Course,
    k: int,
    where: Filter,
    *,
    include_own_patient: bool = False,
    max_per_hour: float | None = None,
    in_time: Callable[[], None] = lambda: None,
) -> tuple[Moment, ...]:
    """The stretches of stored videos that are most similar to a clip, or to a video's seizure, most similar first.

    Two of one file overlap by no more than half of the shorter one.

    Args:
        snapshot: what is searched.
        query: a stored clip or video, see `course_of`, or another course of signs.
        k: number of moments.
        where: what their videos must be.
        include_own_patient: also find moments of the query's patient, never of what its own video shows.
        max_per_hour: leave out moments as similar as which more turn up in an hour of background, see
            `Moment.per_hour`; those of which that is not known are kept.
        in_time: called from time to time, to raise what ends the work.

    Raises:
        InvalidInput: If k is out of bounds, or too many for so long a query, `max_per_hour` is no rate, or the query is
            longer than an hour.
        NotFound: If the query is not stored.
    """
    if not 1 <= k <= MAX_K:
        raise InvalidInput(f"expected k of 1 to {MAX_K}, got {k}", field="k")
    if max_per_hour is not None and not 0 <= max_per_hour < np.inf:
        raise InvalidInput("expected a rate per hour of 0 or more", field="max_per_hour")
    course = query if isinstance(query, Course) else course_of(snapshot, query)
    clips = len(course.clips)
    if k * clips > _MOST_PAIRS and k > 1:
        most = max(_MOST_PAIRS // clips, 1)
        raise InvalidInput(f"expected k of at most {most} for a query of {clips} clips, got {k}", field="k")
    allowed = snapshot.row_set(where, "" if include_own_patient else course.patient, course.own)
    found: list[Stretch] = []
    for part in endings(snapshot, course.asked_QK, allowed, in_time):
        found += apart(part, _ROWS_OF_A_FILE * k)
    best = _apart_in_files(snapshot, sorted(found, key=lambda stretch: (-stretch.similarity, stretch.rows)), k)
    if not best:
        return ()
    background = Background(snapshot, course.asked_QK, course.own, best[-1].similarity, in_time)
    moments = []
    for stretch in best:
        in_time()
        one = _moment(snapshot, course, stretch)
        one = replace(
            one,
            per_hour_patient=background.rate({one.patient_id}, one.similarity),
            # What the query's own patient's room looks like says nothing of others.
            per_hour_others=background.rate(background.patients() - {one.patient_id, course.patient}, one.similarity),
        )
        if max_per_hour is None or one.per_hour is None or one.per_hour <= max_per_hour:
            moments.append(one)
    return tuple(moments)


def _check_length(clips: int) -> None:
    if clips > MOST_CLIPS:
        raise InvalidInput(
            f"a video of more than {MOST_CLIPS} clips can't be searched for as a whole: give its seizure an onset and "
            "an end, or choose one of its clips"
        )


def _apart_in_files(snapshot: Snapshot, stretches: Sequence[Stretch], k: int) -> list[Stretch]:
    """The first k of which no two show the same: a recording may be stored as a whole, and parts of it too."""
    kept: list[Stretch] = []
    in_file: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for stretch in stretches:
        if len(kept) == k:
            break
        first, last = snapshot.clips(np.array([stretch.rows[0], stretch.rows[-1]]))
        video = snapshot.videos[first.video_id]
        begins, ends = video.start_s + first.start_s, video.start_s + last.start_s + last.valid_seconds
        others = in_file[video.source_sha256]
        if not any(too_much(begins, ends, *other) for other in others):
            others.append((begins, ends))
            kept.append(stretch)
    return kept


def _moment(snapshot: Snapshot, course: Course, stretch: Stretch) -> Moment:
    rows = np.array(stretch.rows)
    clips, asked = snapshot.clips(rows), course.clips
    video = snapshot.videos[clips[0].video_id]
    cosines = (course.asked_QK @ snapshot.whitened(rows).T).astype(np.float64)
    pairs = tuple(
        MomentPair(
            asked[q].clip_id,
            clips[c].clip_id,
            round(course.start_s + asked[q].start_s, 3),
            round(video.start_s + clips[c].start_s, 3),
        )
        for q, c in aligned_pairs(cosines)
    )
    return Moment(
        video_id=video.video_id,
        patient_id=video.patient_id,
        label=video.label,
        start_s=round(video.start_s + clips[0].start_s, 3),
        end_s=round(video.start_s + clips[-1].start_s + clips[-1].valid_seconds, 3),
        onset_s=video.onset_s,
        similarity=stretch.similarity,
        pairs=pairs,
    )
