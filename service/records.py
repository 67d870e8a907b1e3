"""What the service answers, as plain records; the same on both ends of the wire."""

from __future__ import annotations

from dataclasses import dataclass

from index.moment_records import Moment
from index.records import Clip, Distance, Neighbour, Provenance, Verdict, Video
from index.semiology import LearnedSign, Stretch
from index.tables.recording import RecordedVideo


@dataclass(frozen=True, slots=True)
class SearchResultItem:
    """One search of many: hits, or a status.

    Attributes:
        code: gRPC status name, `OK` when it was searched.
        message: what was wrong, empty when it was searched.
        neighbours: best first; empty when it failed.
    """

    code: str
    message: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True)
class SearchBatchAnswer:
    """The results of many searches, in the order of their queries."""

    provenance: Provenance
    results: tuple[SearchResultItem, ...]


@dataclass(frozen=True, slots=True)
class UploadAnswer:
    """What resembles an uploaded video: its own clips, the hits, whether its embeddings were kept, and its verdict.

    `judged` is there where it was asked for, and a head of the encoder that serves is loaded. `patient_known` says
    whether it is known whose video it is, and so whether that patient is left out; `known_as` is the stored video that
    is just this file, or empty. `moments` are as many as were asked for.
    """

    provenance: Provenance
    clips: tuple[Clip, ...]
    neighbours: tuple[Neighbour, ...]
    stored: bool
    judged: Judged | None = None
    patient_known: bool = False
    known_as: str = ""
    clips_without_picture: int = 0
    moments: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class SignTrack:
    """One sign over the clips of a video.

    Attributes:
        sign: which, and how well it is told.
        probabilities: that each clip shows it.
        stretches: where it is probable, in seconds of the video.
    """

    sign: LearnedSign
    probabilities: tuple[float, ...]
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True)
class SignsAnswer:
    """The signs of a video over time.

    Attributes:
        provenance: what the answer was made with.
        signs_id: of the sign heads.
        clips: the video's, in time.
        tracks: of each sign that is judged.
        not_judged: other signs that are tagged, each with the reason.
    """

    provenance: Provenance
    signs_id: str
    clips: tuple[Clip, ...]
    tracks: tuple[SignTrack, ...]
    not_judged: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PredictionSet:
    """Classes that can't be excluded; see `encoder.head.Conformal`.

    Attributes:
        labels: labels in the set.
        alpha: how often a set may miss.
        limits: for each class, the largest 1 - P(class) at which it is in the set.
    """

    labels: tuple[str, ...]
    alpha: float
    limits: tuple[float, ...]

    @property
    def abstains(self) -> bool:
        """Whether the set is not one class."""
        return len(self.labels) != 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """All it takes to compute a verdict again, and what speaks for it.

    Attributes:
        temperature: the logits are divided by it.
        logits: of each clip, those of the classes, before calibration; empty in summaries.
        prediction_set: None where the head was trained on too few patients to say.
        flipping_clip_ids: clips of which each alone, left out, would turn the verdict.
        fewest_flipping_clips: least number of clips that turn it when left out; 0 when no number does.
        neighbours: nearest labelled videos of other patients, of each class.
        distance: None where it was not asked for, or the store is too small to say.
        trained_on_this_patient: whether the head learned from this patient; None where that is not known.
        calibrated: whether the probabilities are calibrated; never for a patient the head learned from.
        separates_nothing: the head's own patients, left out in turn, were judged no better than by chance.
        clips_without_picture: clips of the video that have no vote.
        clips_outside_seizure: clips of the video before the onset, or after the end, that have no vote.
        clips_overlapping: other clips that have no vote, since they overlap with one that has.
    """

    temperature: float
    logits: tuple[tuple[float, ...], ...] = ()
    prediction_set: PredictionSet | None = None
    flipping_clip_ids: tuple[str, ...] = ()
    fewest_flipping_clips: int = 0
    neighbours: tuple[tuple[str, tuple[Neighbour, ...]], ...] = ()
    distance: Distance | None = None
    trained_on_this_patient: bool | None = None
    calibrated: bool = False
    separates_nothing: bool = False
    clips_without_picture: int = 0
    clips_outside_seizure: int = 0
    clips_overlapping: int = 0


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, the clips it was given on, one for each of the verdict's own, and its evidence.

    In a summary the verdict has no clips, and neither has this.
    """

    verdict: Verdict
    clips: tuple[Clip, ...]
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class ClassifyAnswer:
    """The verdict on one item."""

    provenance: Provenance
    judged: Judged


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One item of a batch: judged, or failed with a status.

    Attributes:
        code: gRPC status name, `OK` when judged.
        message: what was wrong, empty when judged.
        judged: None when it failed.
    """

    code: str
    message: str
    judged: Judged | None


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The results of a batch, in the order of its items."""

    provenance: Provenance
    results: tuple[BatchItem, ...]


MAX_CLIPS = 10_000
"""Most clips of a video in one answer."""


@dataclass(frozen=True, slots=True)
class VideoAnswer:
    """A stored video with its clips, of a long one a part."""

    provenance: Provenance
    video: Video
    clips: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class RecordingAnswer:
    """The videos of a recording, in time."""

    provenance: Provenance
    videos: tuple[RecordedVideo, ...]


@dataclass(frozen=True, slots=True)
class VideosAnswer:
    """A page of videos, by id."""

    provenance: Provenance
    videos: tuple[Video, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient, and how much there is of them: clips, videos, and videos of each class."""

    patient_id: str
    videos: int
    clips: int
    labelled: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PatientsAnswer:
    """A page of patients, by pseudonym."""

    provenance: Provenance
    patients: tuple[Patient, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of something named."""

    name: str
    clips: int
    videos: int
    patients: int


@dataclass(frozen=True, slots=True)
class CountsAnswer:
    """All counts: of everything, of each label, of each semiology tag; and which signs are judged."""

    provenance: Provenance
    total: Count
    labels: tuple[Count, ...]
    semiology: tuple[Count, ...]
    judged_signs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationFacts:
    """An index generation; see `index.vectors.generation.GenerationManifest`.

    Attributes:
        serving: whether it serves.
        served_before: it served before the one that serves.
    """

    generation: str
    encoder_id: str
    table_version: int
    clips: int
    index: str
    recall: float
    built_at: str
    serving: bool
    served_before: bool


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """A head: whose embeddings it reads, how many patients it was trained on, and whether it classifies."""

    head_id: str
    encoder_id: str
    patients: int
    serving: bool


@dataclass(frozen=True, slots=True)
class Operation:
    """How something that takes longer than a call stands.

    Attributes:
        operation_id: 16 hex digits.
        kind: `build` or `erase`.
        state: `running`, `done`, `failed` or `cancelled`.
        stage: what it is doing, in words.
        started_at: UTC, ISO 8601.
        progress: share of the stage, 0 to 1.
        ended_at: empty while it runs.
        code: gRPC status name of why it failed.
        message: why it failed.
        generation: of a build that is done.
        receipt: of an erasure that is done, JSON.
        pid: of its process; 0 for callers who may not see it.
    """

    operation_id: str
    kind: str
    state: str
    stage: str
    started_at: str
    progress: float = 0.0
    ended_at: str = ""
    code: str = ""
    message: str = ""
    generation: str = ""
    receipt: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process.

    Attributes:
        pid: process id.
        provenance: what it serves.
        tail_clips: clips stored since the index was built.
        calls: number of calls answered.
    """

    pid: int
    provenance: Provenance
    tail_clips: int
    calls: int


@dataclass(frozen=True, slots=True)
class StatusAnswer:
    """What a server serves, and how.

    Attributes:
        provenance: of the worker that answered.
        workers: all of them.
        version: Semiome's.
        sandbox: how far decoders of uploads are sandboxed, see `encoder.video.sandbox`; empty from servers before 0.2.
    """

    provenance: Provenance
    workers: tuple[Worker, ...]
    version: str
    sandbox: str = ""


@dataclass(frozen=True, slots=True)
class CallerFacts:
    """Who the caller is to a server: identity, as the audit log has it, and roles."""

    identity: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PointVideo:
    """What points of the map are coloured by; see `index.records.Video`."""

    video_id: str
    patient_id: str
    label: str
    semiology: tuple[str, ...]
    recorded_at: str


@dataclass(frozen=True, slots=True)
class MapPage:
    """Points of the map.

    Attributes:
        total: points there are in all.
        method: how they were placed.
        positions: two float32, little-endian, a point.
        videos: that these points are of.
        video_of_point: one uint32, little-endian, a point: among `videos`.
        clip_index_of_point: one uint32, little-endian, a point.
        step: of which positions are multiples; 0 where they are exact.
    """

    provenance: Provenance
    total: int
    method: str
    positions: bytes
    videos: tuple[PointVideo, ...]
    video_of_point: bytes
    clip_index_of_point: bytes
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """A report of an evaluation: its name, when it was written (ISO 8601, UTC), and its size."""

    report_id: str
    written_at: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PreviewPart:
    """The next bytes of a preview; in the first part the size of all of it and its frames a second."""

    size_bytes: int
    fps: int
    chunk: bytes
