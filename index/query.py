"""What may be asked: queries, filters, grouping. Light to import, for clients too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING

from index.errors import InvalidInput
from index.records import Video

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_K = 1000
MAX_EXAMPLES = 100


class GroupBy(Enum):
    """What a hit stands for: the clip itself, or the best clip of a video or of a patient."""

    CLIP = "clip"
    VIDEO = "video"
    PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class ClipQuery:
    """A stored clip."""

    clip_id: str


@dataclass(frozen=True, slots=True)
class VideoQuery:
    """All clips of a stored video: a hit is as similar as its nearest clip of these."""

    video_id: str


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """An embedding from outside, or those of all clips of a video that is not stored.

    Attributes:
        vector: (D,) or (Q, D) finite values, each vector of any length but zero.
        encoder_id: which encoder made it.
        patient_id: whose it is, so that the patient can be excluded; empty if unknown.
        clip_ids: what hits call each of the Q vectors; empty: nothing.
    """

    vector: NDArray[np.float32]
    encoder_id: str
    patient_id: str = ""
    clip_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExamplesQuery:
    """What some stored clips and videos have in common and others have not (Rocchio's feedback).

    The query is the mean of the positive examples' clips less a half of that of the negative ones'. The patient of the
    first positive example counts as the query's own; no example's own clips are found.

    Attributes:
        positive: at least one.
        negative: any number.
    """

    positive: tuple[ClipQuery | VideoQuery, ...]
    negative: tuple[ClipQuery | VideoQuery, ...] = ()

    def __post_init__(self) -> None:
        if not self.positive:
            raise InvalidInput("expected at least one positive example, got none", field="positive")
        if len(self.positive) + len(self.negative) > MAX_EXAMPLES:
            raise InvalidInput(f"expected at most {MAX_EXAMPLES} examples", field="positive")


Query = ClipQuery | VideoQuery | VectorQuery | ExamplesQuery


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """What a hit must be; an empty field asks nothing.

    Attributes:
        labels: its video's label is one of these.
        semiology: its video carries at least one of these tags.
        patient_ids: its patient is one of these.
        excluded_patient_ids: its patient is none of these.
        recorded_from: its video was recorded at this time or later (see `moment`; a video without a time never is).
        recorded_until: its video was recorded before this time.
        video_ids: its video is one of these.
        excluded_video_ids: its video is none of these.
        cameras: its video comes from one of these rooms or cameras.
        metadata: (name, value): its video's metadata has one of these values for each of the names.
    """

    labels: frozenset[str] = frozenset()
    semiology: frozenset[str] = frozenset()
    patient_ids: frozenset[str] = frozenset()
    excluded_patient_ids: frozenset[str] = frozenset()
    recorded_from: str = ""
    recorded_until: str = ""
    video_ids: frozenset[str] = frozenset()
    excluded_video_ids: frozenset[str] = frozenset()
    cameras: frozenset[str] = frozenset()
    metadata: frozenset[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        for time in filter(None, (self.recorded_from, self.recorded_until)):
            moment(time)

    def admits(self, video: Video) -> bool:
        """Whether clips of a video may be hits."""
        return (
            (not self.labels or video.label in self.labels)
            and (not self.semiology or not self.semiology.isdisjoint(video.semiology))
            and (not self.patient_ids or video.patient_id in self.patient_ids)
            and video.patient_id not in self.excluded_patient_ids
            and (not self.video_ids or video.video_id in self.video_ids)
            and video.video_id not in self.excluded_video_ids
            and (not self.cameras or video.camera in self.cameras)
            and (not self.metadata or self._has_metadata(video))
            and self._recorded_in_range(video.recorded_at)
        )

    def _has_metadata(self, video: Video) -> bool:
        found = {name for name, _ in self.metadata.intersection(video.metadata)}
        return found == {name for name, _ in self.metadata}

    def _recorded_in_range(self, recorded_at: str) -> bool:
        if not self.recorded_from and not self.recorded_until:
            return True
        if not recorded_at:
            return False
        at = moment(recorded_at)
        return (not self.recorded_from or at >= moment(self.recorded_from)) and (
            not self.recorded_until or at < moment(self.recorded_until)
        )


def moment(time: str) -> datetime:
    """An ISO 8601 date or time; one without an offset counts as UTC, so that all can be compared.

    Raises:
        InvalidInput: If it is none.
    """
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        raise InvalidInput("expected an ISO 8601 date or time such as 2024-03-01", field="recorded_at") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of these holds; true of none."""

    filters: tuple[Filter, ...]

    def admits(self, video: Video) -> bool:
        """Whether clips of a video may be hits."""
        return all(one.admits(video) for one in self.filters)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these holds; false of none."""

    filters: tuple[Filter, ...]

    def admits(self, video: Video) -> bool:
        """Whether clips of a video may be hits."""
        return any(one.admits(video) for one in self.filters)


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    filter: Filter

    def admits(self, video: Video) -> bool:
        """Whether clips of a video may be hits."""
        return not self.filter.admits(video)


Filter = SearchFilter | AllOf | AnyOf | Not
ANYTHING = SearchFilter()


def labels_asked(where: Filter) -> frozenset[str]:
    """All labels that a filter names, at any depth."""
    match where:
        case SearchFilter():
            return where.labels
        case Not():
            return labels_asked(where.filter)
        case _:
            return frozenset[str]().union(*map(labels_asked, where.filters))


@dataclass(frozen=True, slots=True)
class Options:
    """How to search.

    Attributes:
        where: what hits must be.
        group_by: what a hit stands for.
        mean_of: how many of a group's most similar clips its similarity averages; of a smaller group, all.
        include_own_patient: also find clips of the query's patient (never the query's own clips).
        exact: compare with every clip, whatever the index.
        aligned: group to videos, by the alignment of all their clips with those of the query, a stored video.
        signs: a course of signs that a hit's video must show, see `encoder.sign_grammar`; a server that has sign heads
            looks it up.
    """

    where: Filter = ANYTHING
    group_by: GroupBy = GroupBy.CLIP
    mean_of: int = 1
    include_own_patient: bool = False
    exact: bool = False
    aligned: bool = False
    signs: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.mean_of <= MAX_K:
            raise InvalidInput(f"expected the mean of 1 to {MAX_K} clips, got {self.mean_of}", field="mean_of")
        if self.mean_of > 1 and self.group_by is GroupBy.CLIP:
            raise InvalidInput("a mean of several clips needs hits grouped by video or patient", field="mean_of")
        if self.aligned and (self.group_by is not GroupBy.VIDEO or self.mean_of > 1):
            raise InvalidInput(
                "an alignment needs hits grouped by video, and no mean of several clips", field="aligned"
            )


PLAIN = Options()
