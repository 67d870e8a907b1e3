"""What a search for moments answers: stretches of recordings, and how unusual each is. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from index.records import Provenance


@dataclass(frozen=True, slots=True)
class BackgroundRate:
    """How often stretches as similar as a moment turn up in recordings in which nothing happens.

    Attributes:
        per_hour: the estimate.
        low: of its 95 % interval, if they turn up independently of each other.
        high: of its 95 % interval.
        hours: of background in which one might lie.
    """

    per_hour: float
    low: float
    high: float
    hours: float


@dataclass(frozen=True, slots=True)
class MomentPair:
    """Two aligned clips.

    Attributes:
        query_clip_id: the query's.
        clip_id: the moment's.
        query_start_s: where the query's begins, in seconds of its video's file.
        start_s: where the moment's begins, in seconds of its video's file.
    """

    query_clip_id: str
    clip_id: str
    query_start_s: float
    start_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of a stored video that shows the course of signs that was asked about.

    Attributes:
        video_id: its video.
        patient_id: its patient.
        label: of its video, or empty.
        start_s: where it begins, in seconds of the video's file.
        end_s: where it ends, in seconds of the video's file.
        onset_s: onset of the video's seizure, in the same seconds; None where it is not known.
        similarity: mean of the aligned clips' cosines, of whitened vectors; in [-1, 1].
        pairs: aligned clips, in order.
        per_hour_patient: how often as similar a stretch turns up in background of the moment's patient; None where
            there is none.
        per_hour_others: the same in background of all others but the query's patient.
    """

    video_id: str
    patient_id: str
    label: str
    start_s: float
    end_s: float
    onset_s: float | None
    similarity: float
    pairs: tuple[MomentPair, ...]
    per_hour_patient: BackgroundRate | None = None
    per_hour_others: BackgroundRate | None = None

    @property
    def per_hour(self) -> float | None:
        """The rate to go by, `rate`; None where there is too little background."""
        return None if self.rate is None else self.rate.per_hour

    @property
    def rate(self) -> BackgroundRate | None:
        """That in an hour or more of background: of the moment's patient, else of others; None where neither has it."""
        known = (self.per_hour_patient, self.per_hour_others)
        return next((rate for rate in known if rate is not None and rate.hours >= 1), None)


@dataclass(frozen=True, slots=True)
class SimilarityAnswer:
    """How similar each part of a video is to a query.

    Attributes:
        provenance: what it was computed with.
        starts_s: where clips begin, in order, in seconds of the video's file.
        similarities: of the most similar stretch that each clip is a part of; nan where it is part of none.
    """

    provenance: Provenance
    starts_s: tuple[float, ...]
    similarities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MomentsAnswer:
    """Moments, most similar first, and what they were found in."""

    provenance: Provenance
    moments: tuple[Moment, ...]
