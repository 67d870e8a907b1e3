"""From a query to vectors and to the rows that may answer it: clips, videos, examples and vectors alike."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from index.errors import EncoderMismatch, InvalidInput, shown_id
from index.phases import apart, counted_clips
from index.query import ClipQuery, ExamplesQuery, Options, Query, VectorQuery, VideoQuery
from index.search.alignment import MOST_CLIPS
from index.search.overlap import with_overlapping
from index.search.snapshot import RowSet, Snapshot

_LESS_OF_NEGATIVE = 0.5


class ResolvedQuery(NamedTuple):
    """What a query comes to in one snapshot.

    Attributes:
        vectors_QD: vectors of unit length.
        clip_ids: of the clips that these are of; empty where they are of none.
        allowed: rows that may be found.
        whole: of a video that is aligned, numbers of the clips that show every second of it once.
        seizure: the same of its seizure, where the onset is known; else None.
    """

    vectors_QD: NDArray[np.float32]
    clip_ids: tuple[str, ...]
    allowed: RowSet
    whole: tuple[int, ...] = ()
    seizure: tuple[int, ...] | None = None


def resolved(snapshot: Snapshot, query: Query, options: Options) -> ResolvedQuery:
    """A query as vectors and rows.

    Raises:
        InvalidInput: If the vector is out of bounds or of another encoder, or the options do not suit the query.
        NotFound: If a clip or video of the query is not stored.
    """
    if options.aligned and not isinstance(query, VideoQuery):
        raise InvalidInput("an alignment needs a stored video to align with", field="aligned")
    clip_ids: tuple[str, ...] = ()
    whole: tuple[int, ...] = ()
    seizure: tuple[int, ...] | None = None
    rows: NDArray[np.int64] | None
    if isinstance(query, VectorQuery):
        vectors, rows = unit_vectors(snapshot, query), None
        clip_ids, patient = query.clip_ids, query.patient_id
    elif isinstance(query, ExamplesQuery):
        positive = [snapshot.rows_of(item) for item in query.positive]
        negative = [snapshot.rows_of(item) for item in query.negative]
        mean = snapshot.vectors(np.concatenate(positive)).mean(axis=0)
        if negative:
            mean = mean - _LESS_OF_NEGATIVE * snapshot.vectors(np.concatenate(negative)).mean(axis=0)
        vectors = _of_unit_length(mean)[None]
        rows = with_overlapping(snapshot, np.unique(np.concatenate([*positive, *negative])))
        patient = snapshot.clip(int(positive[0][0])).patient_id
    else:
        rows = snapshot.rows_of(query)
        clips = snapshot.clips(rows)
        once = used = apart(clips)
        video = snapshot.videos.get(query.video_id) if isinstance(query, VideoQuery) else None
        if options.aligned and video is not None and video.onset_s is not None:
            in_seizure = counted_clips(video, clips)  # from the onset on, so that it may be others than of the whole
            used = sorted({*once, *in_seizure})
            seizure = tuple(used.index(number) for number in in_seizure)
        if len(once) > MOST_CLIPS:  # each is compared with every row
            raise InvalidInput(
                f"a video of more than {MOST_CLIPS} clips can't be searched for as a whole: choose some of its clips"
            )
        whole = tuple(used.index(number) for number in once)
        rows, clips = rows[used], [clips[number] for number in used]
        vectors = snapshot.vectors(rows)
        clip_ids, patient = tuple(clip.clip_id for clip in clips), clips[0].patient_id
    without_patient = "" if options.include_own_patient else patient
    if without_patient and not isinstance(query, ExamplesQuery):
        rows = None  # they are among the patient's
    elif isinstance(query, VideoQuery) and rows is not None:
        rows = snapshot.rows_of_same_pictures(int(rows[0]))
    elif isinstance(query, ClipQuery) and rows is not None:
        rows = with_overlapping(snapshot, rows)
    return ResolvedQuery(vectors, clip_ids, snapshot.row_set(options.where, without_patient, rows), whole, seizure)


def unit_vectors(snapshot: Snapshot, query: VectorQuery) -> NDArray[np.float32]:
    """Vectors (Q, D) of a query, of unit length.

    Raises:
        InvalidInput: If they are of another width, not finite, or have no direction.
        EncoderMismatch: If they are of another encoder than the snapshot.
    """
    if not query.encoder_id:
        raise InvalidInput("expected the id of the encoder that made the vector, got none", field="vector.encoder_id")
    if query.encoder_id != snapshot.encoder_id:
        raise EncoderMismatch("the query vector", shown_id(query.encoder_id), snapshot.encoder_id)
    vectors = np.atleast_2d(np.asarray(query.vector, np.float32))
    if not len(vectors) or vectors.shape[1:] != (snapshot.width,):
        raise InvalidInput(
            f"expected a vector of {snapshot.width} values, got {vectors.shape[-1]}", field="vector.values"
        )
    if not np.isfinite(vectors).all():
        raise InvalidInput("expected a vector of finite values, got NaN or infinity", field="vector.values")
    return np.stack([_of_unit_length(vector) for vector in vectors])


def _of_unit_length(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not 1e-12 < length < np.inf:
        raise InvalidInput("expected a vector with a direction, got one of zero length", field="vector.values")
    return (vector.astype(np.float64) / length).astype(np.float32)
