"""Where in long recordings the same course of signs turns up, and how unusual that is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidInput
from index.moment_records import Moment
from index.phases import counted_clips
from index.query import MAX_K, ClipQuery, Filter, VideoQuery
from index.search.alignment import MOST_CLIPS
from index.search.background import Background
from index.search.snapshot import Snapshot
from index.search.subsequence import Stretch, aligned_pairs, apart, endings, too_much

_ROWS_OF_A_FILE = 2
"""How often the same stretch may be stored: as part of a recording, and by itself."""
_MOST_PAIRS = 20_000
"""Most query clips times moments, whose pairs are an answer's size."""


def find_moments(
    snapshot: Snapshot,
    query: ClipQuery | VideoQuery,
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
        query: a stored clip or video; of a video with a known onset the clips of the seizure count.
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
    own, rows = _rows_of(snapshot, query)
    if k * len(rows) > _MOST_PAIRS and k > 1:
        most = max(_MOST_PAIRS // len(rows), 1)
        raise InvalidInput(f"expected k of at most {most} for a query of {len(rows)} clips, got {k}", field="k")
    patient = snapshot.patient_ids[snapshot.patient_of_row[rows[0]]]
    allowed = snapshot.row_set(where, "" if include_own_patient else patient, own)
    asked_QK = snapshot.whitened(rows)
    found: list[Stretch] = []
    for part in endings(snapshot, asked_QK, allowed, in_time):
        found += apart(part, _ROWS_OF_A_FILE * k)
    best = _apart_in_files(snapshot, sorted(found, key=lambda stretch: (-stretch.similarity, stretch.rows)), k)
    if not best:
        return ()
    background = Background(snapshot, asked_QK, own, best[-1].similarity, in_time)
    moments = []
    for stretch in best:
        in_time()
        one = _moment(snapshot, asked_QK, rows, stretch)
        one = replace(
            one,
            per_hour_patient=background.rate({one.patient_id}, one.similarity),
            # What the query's own patient's room looks like says nothing of others.
            per_hour_others=background.rate(background.patients() - {one.patient_id, patient}, one.similarity),
        )
        if max_per_hour is None or one.per_hour is None or one.per_hour <= max_per_hour:
            moments.append(one)
    return tuple(moments)


def _rows_of(snapshot: Snapshot, query: ClipQuery | VideoQuery) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the query's video, and those that are searched for."""
    rows = snapshot.rows_of(query)
    own = snapshot.rows_of_same_pictures(int(rows[0]))
    if isinstance(query, ClipQuery):
        return own, rows
    video = snapshot.videos.get(query.video_id)
    chosen = rows[counted_clips(video, snapshot.clips(rows))]
    if len(chosen) > MOST_CLIPS:
        raise InvalidInput(
            f"a video of more than {MOST_CLIPS} clips can't be searched for as a whole: give its seizure an onset and "
            "an end, or choose one of its clips"
        )
    return own, chosen


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


def _moment(
    snapshot: Snapshot, asked_QK: NDArray[np.float32], query_rows: NDArray[np.int64], stretch: Stretch
) -> Moment:
    rows = np.array(stretch.rows)
    clips, asked = snapshot.clips(rows), snapshot.clips(query_rows)
    video = snapshot.videos[clips[0].video_id]
    cosines = (asked_QK @ snapshot.whitened(rows).T).astype(np.float64)
    pairs = tuple((asked[q].clip_id, clips[c].clip_id) for q, c in aligned_pairs(cosines))
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
