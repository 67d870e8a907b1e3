"""`semiome.v1.CatalogService`: what is stored, as of the snapshot that serves."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from index.errors import InvalidInput, NotFound
from index.query import ClipQuery, Filter, VectorQuery, VideoQuery, labels_asked
from index.records import Video
from index.semiology import Classes
from index.tables.recording import recording_of
from protos import catalog_pb2 as catalog
from service.gate.call import Call, Method
from service.messages import convert, convert_catalog
from service.records import (
    MAX_CLIPS,
    Count,
    CountsAnswer,
    Patient,
    PatientsAnswer,
    RecordingAnswer,
    VideoAnswer,
    VideosAnswer,
)
from service.serving.state import MAX_BATCH, ServingState
from service.serving.watcher import StateWatcher

MAX_PAGE = 1000
_DEFAULT_PAGE = 100
_MOST_RECORDED = 10_000
_SERVICE = "/semiome.v1.CatalogService/"


class Catalog:
    """Answers what is stored."""

    def __init__(self, watcher: StateWatcher) -> None:
        self._watcher = watcher

    def methods(self) -> tuple[Method, ...]:
        """Everything this service answers."""
        return (
            Method(f"{_SERVICE}GetVideo", catalog.GetVideoRequest, self.get_video),
            Method(f"{_SERVICE}GetRecording", catalog.GetRecordingRequest, self.get_recording),
            Method(f"{_SERVICE}ListVideos", catalog.ListVideosRequest, self.list_videos),
            Method(f"{_SERVICE}GetPatient", catalog.GetPatientRequest, self.get_patient),
            Method(f"{_SERVICE}ListPatients", catalog.ListPatientsRequest, self.list_patients),
            Method(f"{_SERVICE}GetCounts", catalog.GetCountsRequest, self.get_counts),
            Method(f"{_SERVICE}GetEmbeddings", catalog.GetEmbeddingsRequest, self.get_embeddings),
        )

    async def get_video(self, request: catalog.GetVideoRequest, call: Call) -> catalog.GetVideoResponse:
        """One video with its clips, of a long one a part."""
        state = self._watcher.state
        answer = await call.work(video_of, state, request.video_id, request.first_clip, request.page_size)
        call.reads(answer.provenance, [answer.video.patient_id])
        return convert_catalog.video_response(answer)

    async def get_recording(self, request: catalog.GetRecordingRequest, call: Call) -> catalog.GetRecordingResponse:
        """The videos of a recording."""
        answer = await call.work(recording_with, self._watcher.state, request.video_id)
        call.reads(answer.provenance, {one.video.patient_id for one in answer.videos})
        return convert_catalog.recording_response(answer)

    async def list_videos(self, request: catalog.ListVideosRequest, call: Call) -> catalog.ListVideosResponse:
        """Videos by id, in pages."""
        where = convert.filter_from_proto(request.filter)
        state = self._watcher.state
        answer = await call.work(videos_of, state, where, request.page_size, request.page_token)
        call.reads(answer.provenance, {video.patient_id for video in answer.videos})
        return convert_catalog.videos_response(answer)

    async def get_patient(self, request: catalog.GetPatientRequest, call: Call) -> catalog.GetPatientResponse:
        """One patient."""
        state = self._watcher.state
        patient = await call.work(patient_of, state, request.patient_id)
        call.reads(state.provenance, [patient.patient_id])
        return convert_catalog.patient_response(state.provenance, patient)

    async def list_patients(self, request: catalog.ListPatientsRequest, call: Call) -> catalog.ListPatientsResponse:
        """Patients by pseudonym, in pages."""
        state = self._watcher.state
        answer = await call.work(patients_of, state, request.page_size, request.page_token)
        call.reads(answer.provenance, {patient.patient_id for patient in answer.patients})
        return convert_catalog.patients_response(answer)

    async def get_counts(self, _request: catalog.GetCountsRequest, call: Call) -> catalog.GetCountsResponse:
        """All counts."""
        answer = await call.work(counts_of, self._watcher.state)
        call.reads(answer.provenance, ())
        return convert_catalog.counts_response(answer)

    async def get_embeddings(self, request: catalog.GetEmbeddingsRequest, call: Call) -> catalog.GetEmbeddingsResponse:
        """Embeddings of stored clips."""
        state = self._watcher.state
        vectors = await call.work(embeddings_of, state, request.clip_ids)
        call.reads(state.provenance, {vector.patient_id for vector in vectors})
        return catalog.GetEmbeddingsResponse(
            provenance=convert.provenance_to_proto(state.provenance),
            vectors=map(convert.vector_to_proto, vectors),
        )


def video_of(state: ServingState, video_id: str, first: int = 0, size: int = 0) -> VideoAnswer:
    """One video with its clips, or with `size` of them from the one at place `first`.

    Raises:
        InvalidInput: If the size is out of bounds.
        NotFound: If it is not stored.
    """
    if size > MAX_CLIPS:
        raise InvalidInput(f"expected parts of 1 to {MAX_CLIPS} clips, got {size}", field="page_size")
    video = _stored(state).get(video_id)
    if video is None:
        raise NotFound("that video is not stored: check the id")
    clips = state.snapshot.clips_of(VideoQuery(video_id))[0]
    return VideoAnswer(state.provenance, video, clips[first : first + (size or MAX_CLIPS)])


def recording_with(state: ServingState, video_id: str) -> RecordingAnswer:
    """What is stored of the recording of a video.

    Raises:
        NotFound: If the video is not stored.
    """
    videos = _stored(state)
    if video_id not in videos:
        raise NotFound("that video is not stored: check the id")
    found = recording_of(videos[video_id], videos.values())
    at = next(number for number, one in enumerate(found) if one.video.video_id == video_id)
    first = max(min(at - _MOST_RECORDED // 2, len(found) - _MOST_RECORDED), 0)
    return RecordingAnswer(state.provenance, found[first : first + _MOST_RECORDED])


def videos_of(state: ServingState, where: Filter, page_size: int, page_token: str) -> VideosAnswer:
    """A page of videos, by id.

    Raises:
        InvalidInput: If the page size or token is out of bounds, or the filter names a label that is no class.
    """
    state.snapshot.classes.check(labels_asked(where), "filter.labels")
    videos = _stored(state)
    ids = sorted(name for name, video in videos.items() if where.admits(video))
    page, token = _page(ids, page_size, page_token)
    return VideosAnswer(state.provenance, tuple(videos[name] for name in page), token)


def patient_of(state: ServingState, patient_id: str) -> Patient:
    """One patient.

    Raises:
        NotFound: If nothing of them is stored.
    """
    videos = [video for video in _stored(state).values() if video.patient_id == patient_id]
    if not videos:
        raise NotFound("nothing of that patient is stored: check the pseudonym")
    return _patient(patient_id, videos, state.snapshot.classes)


def patients_of(state: ServingState, page_size: int, page_token: str) -> PatientsAnswer:
    """A page of patients, by pseudonym.

    Raises:
        InvalidInput: If the page size or token is out of bounds.
    """
    videos: dict[str, list[Video]] = {}
    for video in _stored(state).values():
        videos.setdefault(video.patient_id, []).append(video)
    page, token = _page(sorted(videos), page_size, page_token)
    classes = state.snapshot.classes
    return PatientsAnswer(state.provenance, tuple(_patient(name, videos[name], classes) for name in page), token)


def counts_of(state: ServingState) -> CountsAnswer:
    """How many clips, videos and patients there are: in all, of each label, of each tag."""
    videos = list(_stored(state).values())
    labels = tuple(
        _count(label, [v for v in videos if v.label == label]) for label in (*state.snapshot.classes.names, "")
    )
    number = Counter(tag for video in videos for tag in set(video.semiology))
    tags = sorted(number, key=lambda tag: (-number[tag], tag))
    semiology = tuple(_count(tag, [video for video in videos if tag in video.semiology]) for tag in tags)
    return CountsAnswer(state.provenance, _count("", videos), labels, semiology, state.judged_signs)


def embeddings_of(state: ServingState, clip_ids: Sequence[str]) -> list[VectorQuery]:
    """Embeddings of stored clips, in order.

    Raises:
        InvalidInput: If none or too many are named.
        NotFound: If one is not stored.
    """
    if not 1 <= len(clip_ids) <= MAX_BATCH:
        raise InvalidInput(f"expected 1 to {MAX_BATCH} clips, got {len(clip_ids)}", field="clip_ids")
    snapshot = state.snapshot
    found = (snapshot.clips_of(ClipQuery(clip_id)) for clip_id in clip_ids)
    return [VectorQuery(vectors[0], snapshot.encoder_id, clips[0].patient_id) for clips, vectors in found]


def _stored(state: ServingState) -> dict[str, Video]:
    """Videos with clips in the snapshot: one that another encoder alone has embedded can't be searched."""
    snapshot = state.snapshot
    return {name: snapshot.videos[name] for name in snapshot.video_ids if name in snapshot.videos}


def _patient(patient_id: str, videos: Sequence[Video], classes: Classes) -> Patient:
    labels = Counter(video.label for video in videos)
    return Patient(patient_id, len(videos), _clips(videos), tuple((name, labels[name]) for name in classes.names))


def _count(name: str, videos: Sequence[Video]) -> Count:
    return Count(name, _clips(videos), len(videos), len({video.patient_id for video in videos}))


def _clips(videos: Iterable[Video]) -> int:
    return sum(video.clip_count for video in videos)


def _page(names: Sequence[str], size: int, token: str) -> tuple[Sequence[str], str]:
    """The names after the token's, and the next page's token. What is stored or erased meanwhile shifts no page."""
    if size > MAX_PAGE:
        raise InvalidInput(f"expected pages of 1 to {MAX_PAGE}, got {size}", field="page_size")
    size = size or _DEFAULT_PAGE
    try:
        after = base64.urlsafe_b64decode(token.encode("ascii")).decode() if token else ""
    except (ValueError, binascii.Error):
        raise InvalidInput("expected the token of a page before, got something else", field="page_token") from None
    start = bisect_right(names, after)
    page = names[start : start + size]
    more = start + size < len(names)
    return page, base64.urlsafe_b64encode(page[-1].encode()).decode() if more else ""
