"""What a client can ask: messages, and the reading of their answers; for clients that wait and that await."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from google.protobuf.message import Message

from index.errors import ServiceError
from index.feedback.statement import Feedback, FeedbackPage
from index.moment_records import MomentsAnswer, SimilarityAnswer
from index.query import ANYTHING, PLAIN, ClipQuery, ExamplesQuery, Filter, Options, Query, VectorQuery, VideoQuery
from index.records import SearchAnswer
from protos import admin_pb2 as admin
from protos import catalog_pb2 as catalog
from protos import classification_pb2 as classification
from protos import retrieval_pb2 as retrieval
from protos import review_pb2 as review
from service.calling.connection import Rpc
from service.messages import (
    convert,
    convert_admin,
    convert_catalog,
    convert_moments,
    convert_review,
    convert_signs,
    convert_verdict,
)
from service.records import (
    BatchAnswer,
    CallerFacts,
    ClassifyAnswer,
    CountsAnswer,
    GenerationFacts,
    HeadFacts,
    MapPage,
    Operation,
    PatientsAnswer,
    RecordingAnswer,
    ReportFacts,
    SearchBatchAnswer,
    SignsAnswer,
    StatusAnswer,
    VideoAnswer,
    VideosAnswer,
)

_RETRIEVAL = "/semiome.v1.RetrievalService/"
_CLASSIFICATION = "/semiome.v1.ClassificationService/"
_CATALOG = "/semiome.v1.CatalogService/"
_ADMIN = "/semiome.v1.AdminService/"
_REVIEW = "/semiome.v1.ReviewService/"
UPLOAD = f"{_RETRIEVAL}SearchByVideo"
SEARCH_STREAM = f"{_RETRIEVAL}SearchStream"
PREVIEW = f"{_REVIEW}GetPreview"
CLASSIFY_STREAM = f"{_CLASSIFICATION}ClassifyStream"
CHUNK_BYTES = 512 * 1024
PAGE = 500
STREAMED_ITEMS = 1000
POLL_S = 0.2
Item = ClipQuery | VideoQuery


def search(query: Query, k: int, options: Options) -> Rpc[SearchAnswer]:
    """Nearest clips, videos or patients."""
    if isinstance(query, ExamplesQuery):
        return recommend(query, k, options)
    request = convert.search_request(query, k, options)
    return Rpc(f"{_RETRIEVAL}Search", request, retrieval.SearchResponse, convert.search_answer)


def recommend(query: ExamplesQuery, k: int, options: Options) -> Rpc[SearchAnswer]:
    """What resembles some examples and not others."""
    request = retrieval.RecommendRequest(
        positive=map(convert.item_to_proto, query.positive),
        negative=map(convert.item_to_proto, query.negative),
        options=convert.options_to_proto(k, options),
    )
    return Rpc(f"{_RETRIEVAL}Recommend", request, retrieval.RecommendResponse, convert.search_answer)


def moments(
    query: ClipQuery | VideoQuery, k: int, where: Filter, *, include_own_patient: bool, max_per_hour: float | None
) -> Rpc[MomentsAnswer]:
    """Stretches of stored videos that show the same course of signs."""
    request = convert_moments.moments_request(
        query, k, where, include_own_patient=include_own_patient, max_per_hour=max_per_hour
    )
    return Rpc(f"{_RETRIEVAL}FindMoments", request, retrieval.FindMomentsResponse, convert_moments.moments_answer)


def similarity(query: ClipQuery | VideoQuery, video_id: str) -> Rpc[SimilarityAnswer]:
    """How similar each part of a stored video is to a clip, or to a video's seizure."""
    request = retrieval.GetSimilarityRequest(query=convert.item_to_proto(query), video_id=video_id)
    return Rpc(
        f"{_RETRIEVAL}GetSimilarity", request, retrieval.GetSimilarityResponse, convert_moments.similarity_answer
    )


def search_batch(queries: Sequence[Query], k: int, options: Options) -> Rpc[SearchBatchAnswer]:
    """Many searches with the same options."""
    request = retrieval.SearchBatchRequest(
        queries=map(convert.query_to_proto, queries), options=convert.options_to_proto(k, options)
    )
    return Rpc(f"{_RETRIEVAL}SearchBatch", request, retrieval.SearchBatchResponse, convert.search_batch_answer)


def search_stream_request(query: Query, k: int, options: Options = PLAIN) -> retrieval.SearchStreamRequest:
    """One search of a stream."""
    return retrieval.SearchStreamRequest(
        query=convert.query_to_proto(query), options=convert.options_to_proto(k, options)
    )


class Watched(Iterator[Message]):
    """A caller's messages, which end where going through them fails: gRPC would cover up why.

    Attributes:
        error: what it failed with.
    """

    def __init__(self, messages: Iterator[Message], *, ends: bool = True) -> None:
        """Take the messages, and whether a failure looks like their end: else it is raised."""
        self.error: Exception | None = None
        self._messages = messages
        self._ends = ends

    def __next__(self) -> Message:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            if self._ends:
                raise StopIteration from None
            raise

    def check(self) -> None:
        """Raise what it failed with."""
        if self.error is not None:
            raise self.error


def upload_parts(
    path: Path,
    k: int,
    options: Options,
    patient_id: str,
    store_as: str,
    label: str,
    *,
    classify: bool,
    moments: int,
    max_per_hour: float | None,
) -> Iterator[retrieval.SearchByVideoRequest]:
    """A video as it is uploaded."""
    with path.open("rb") as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        asked = {"classify": classify, "moments": moments, "max_per_hour": max_per_hour}
        yield upload_header(size_bytes, k, options, patient_id, store_as, label, **asked)  # type: ignore[arg-type]
        while chunk := stream.read(CHUNK_BYTES):
            yield from upload_chunks(chunk)


def upload_chunks(data: bytes) -> Iterator[retrieval.SearchByVideoRequest]:
    """Bytes of an upload, in messages that are not too large."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield retrieval.SearchByVideoRequest(chunk=data[start : start + CHUNK_BYTES])


def in_parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def upload_header(
    size_bytes: int,
    k: int,
    options: Options,
    patient_id: str = "",
    store_as: str = "",
    label: str = "",
    *,
    classify: bool = False,
    moments: int = 0,
    max_per_hour: float | None = None,
) -> retrieval.SearchByVideoRequest:
    """What goes before the bytes of an upload."""
    header = retrieval.UploadHeader(
        options=convert.options_to_proto(k, options),
        patient_id=patient_id,
        store_as_video_id=store_as,
        label=label,
        size_bytes=size_bytes,
        classify=classify,
        moments=moments,
        max_per_hour=max_per_hour,
    )
    return retrieval.SearchByVideoRequest(header=header)


def classify(item: Item) -> Rpc[ClassifyAnswer]:
    """The verdict on one clip or video, with all evidence."""
    request = classification.ClassifyRequest(item=convert.item_to_proto(item))
    response = classification.ClassifyResponse
    return Rpc(f"{_CLASSIFICATION}Classify", request, response, convert_verdict.classify_answer)


def classify_batch(items: Sequence[Item]) -> Rpc[BatchAnswer]:
    """Verdicts on up to 1,000 items."""
    request = classification.ClassifyBatchRequest(items=map(convert.item_to_proto, items))
    response = classification.ClassifyBatchResponse
    return Rpc(f"{_CLASSIFICATION}ClassifyBatch", request, response, convert_verdict.batch_answer)


def classify_stream_request(items: Sequence[Item]) -> classification.ClassifyStreamRequest:
    """The next items of a stream."""
    return classification.ClassifyStreamRequest(items=map(convert.item_to_proto, items))


def signs(video_id: str) -> Rpc[SignsAnswer]:
    """How probable each sign is in every clip of a stored video."""
    request = classification.GetSignsRequest(video_id=video_id)
    return Rpc(f"{_CLASSIFICATION}GetSigns", request, classification.GetSignsResponse, convert_signs.signs_answer)


def video(video_id: str, first_clip: int = 0, page_size: int = 0) -> Rpc[VideoAnswer]:
    """A stored video with its clips, of a long one a part."""
    request = catalog.GetVideoRequest(video_id=video_id, first_clip=first_clip, page_size=page_size)
    return Rpc(f"{_CATALOG}GetVideo", request, catalog.GetVideoResponse, convert_catalog.video_answer)


def recording(video_id: str) -> Rpc[RecordingAnswer]:
    """What is stored of the recording that a video is of."""
    request = catalog.GetRecordingRequest(video_id=video_id)
    return Rpc(f"{_CATALOG}GetRecording", request, catalog.GetRecordingResponse, convert_catalog.recording_answer)


def joined(answer: VideoAnswer, more: VideoAnswer) -> VideoAnswer:
    """A long video with its next part.

    Raises:
        ServiceError: If the video was stored again between the two.
    """
    if more.video != answer.video:
        raise ServiceError("ABORTED", "that video was stored again while it was read: ask again")
    return replace(answer, clips=(*answer.clips, *more.clips))


def videos(where: Filter, page_size: int, page_token: str) -> Rpc[VideosAnswer]:
    """A page of videos."""
    wanted = None if where == ANYTHING else convert.filter_to_proto(where)
    request = catalog.ListVideosRequest(filter=wanted, page_size=page_size, page_token=page_token)
    return Rpc(f"{_CATALOG}ListVideos", request, catalog.ListVideosResponse, convert_catalog.videos_answer)


def patients(page_size: int, page_token: str) -> Rpc[PatientsAnswer]:
    """A page of patients."""
    request = catalog.ListPatientsRequest(page_size=page_size, page_token=page_token)
    return Rpc(f"{_CATALOG}ListPatients", request, catalog.ListPatientsResponse, convert_catalog.patients_answer)


def counts() -> Rpc[CountsAnswer]:
    """How much is stored."""
    request = catalog.GetCountsRequest()
    return Rpc(f"{_CATALOG}GetCounts", request, catalog.GetCountsResponse, convert_catalog.counts_answer)


def embeddings(clip_ids: Sequence[str]) -> Rpc[tuple[VectorQuery, ...]]:
    """Embeddings of stored clips, ready to be queries."""

    def read(message: catalog.GetEmbeddingsResponse) -> tuple[VectorQuery, ...]:
        return tuple(map(convert.vector_from_proto, message.vectors))

    request = catalog.GetEmbeddingsRequest(clip_ids=clip_ids)
    return Rpc(f"{_CATALOG}GetEmbeddings", request, catalog.GetEmbeddingsResponse, read)


def status() -> Rpc[StatusAnswer]:
    """What each worker serves."""
    return Rpc(f"{_ADMIN}GetStatus", admin.GetStatusRequest(), admin.GetStatusResponse, convert_admin.status_answer)


def build_generation(*, publish: bool, force: bool) -> Rpc[Operation]:
    """Start a build."""
    request = admin.BuildGenerationRequest(publish=publish, force=force)
    return Rpc(f"{_ADMIN}BuildGeneration", request, admin.BuildGenerationResponse, _operation, repeatable=False)


def list_generations() -> Rpc[tuple[GenerationFacts, ...]]:
    """Generations, oldest first."""
    return Rpc(f"{_ADMIN}ListGenerations", admin.ListGenerationsRequest(), admin.ListGenerationsResponse, _generations)


def activate_generation(generation: str, *, force: bool) -> Rpc[GenerationFacts]:
    """Let a generation serve."""
    request = admin.ActivateGenerationRequest(generation=generation, force=force)
    return Rpc(f"{_ADMIN}ActivateGeneration", request, admin.ActivateGenerationResponse, _generation)


def roll_back_generation() -> Rpc[GenerationFacts]:
    """Go back; twice undoes it, so it is not tried again."""
    request = admin.RollBackGenerationRequest()
    return Rpc(f"{_ADMIN}RollBackGeneration", request, admin.RollBackGenerationResponse, _generation, repeatable=False)


def list_heads() -> Rpc[tuple[HeadFacts, ...]]:
    """Heads, by id."""
    return Rpc(f"{_ADMIN}ListHeads", admin.ListHeadsRequest(), admin.ListHeadsResponse, _heads)


def activate_head(head_id: str) -> Rpc[HeadFacts]:
    """Let a head classify."""
    request = admin.ActivateHeadRequest(head_id=head_id)
    return Rpc(f"{_ADMIN}ActivateHead", request, admin.ActivateHeadResponse, _head)


def erase_patient(patient_id: str) -> Rpc[Operation]:
    """Start an erasure."""
    request = admin.ErasePatientRequest(patient_id=patient_id)
    return Rpc(f"{_ADMIN}ErasePatient", request, admin.ErasePatientResponse, _operation, repeatable=False)


def operation(operation_id: str) -> Rpc[Operation]:
    """How an operation stands."""
    request = admin.GetOperationRequest(operation_id=operation_id)
    return Rpc(f"{_ADMIN}GetOperation", request, admin.GetOperationResponse, _operation)


def list_operations() -> Rpc[tuple[Operation, ...]]:
    """Operations, newest first."""
    return Rpc(f"{_ADMIN}ListOperations", admin.ListOperationsRequest(), admin.ListOperationsResponse, _operations)


def cancel_operation(operation_id: str) -> Rpc[Operation]:
    """Stop a build."""
    request = admin.CancelOperationRequest(operation_id=operation_id)
    return Rpc(f"{_ADMIN}CancelOperation", request, admin.CancelOperationResponse, _operation)


def caller() -> Rpc[CallerFacts]:
    """Who the caller is."""
    return Rpc(f"{_REVIEW}GetCaller", review.GetCallerRequest(), review.GetCallerResponse, convert_review.caller_facts)


def preview_request(video_id: str, offset: int, length: int) -> review.GetPreviewRequest:
    """A part of a preview; a length of 0 is all that follows."""
    return review.GetPreviewRequest(video_id=video_id, offset_bytes=offset, length_bytes=length)


def thumbnails(video_id: str, clip_index: int) -> Rpc[bytes]:
    """Thumbnails of a clip, JPEG."""
    request = review.GetThumbnailsRequest(video_id=video_id, clip_index=clip_index)
    return Rpc(f"{_REVIEW}GetThumbnails", request, review.GetThumbnailsResponse, _jpeg)


def map_page(offset: int, page_size: int) -> Rpc[MapPage]:
    """Points of the map."""
    request = review.GetMapRequest(offset=offset, page_size=page_size)
    return Rpc(f"{_REVIEW}GetMap", request, review.GetMapResponse, convert_review.map_page)


def save_feedback(said: Feedback) -> Rpc[Feedback]:
    """Keep a statement."""
    request = review.SaveFeedbackRequest(feedback=convert_review.feedback_to_proto(said))
    response = review.SaveFeedbackResponse
    return Rpc(f"{_REVIEW}SaveFeedback", request, response, convert_review.saved_feedback, repeatable=False)


def list_feedback(video_ids: Sequence[str], page_token: str = "") -> Rpc[FeedbackPage]:
    """A page of what was said."""
    request = review.ListFeedbackRequest(video_ids=video_ids, page_token=page_token)
    return Rpc(f"{_REVIEW}ListFeedback", request, review.ListFeedbackResponse, convert_review.feedback_page)


def delete_feedback(feedback_id: str) -> Rpc[None]:
    """Take back what was said."""
    request = review.DeleteFeedbackRequest(feedback_id=feedback_id)
    return Rpc(f"{_REVIEW}DeleteFeedback", request, review.DeleteFeedbackResponse, lambda message: None)


def list_reports() -> Rpc[tuple[ReportFacts, ...]]:
    """Reports of evaluations."""
    request, response = review.ListReportsRequest(), review.ListReportsResponse
    return Rpc(f"{_REVIEW}ListReports", request, response, convert_review.listed_reports)


def report(report_id: str) -> Rpc[str]:
    """A report, HTML."""
    return Rpc(f"{_REVIEW}GetReport", review.GetReportRequest(report_id=report_id), review.GetReportResponse, _html)


def _jpeg(message: review.GetThumbnailsResponse) -> bytes:
    return message.jpeg


def _html(message: review.GetReportResponse) -> str:
    return message.html


def _generation(
    message: admin.ActivateGenerationResponse | admin.RollBackGenerationResponse,
) -> GenerationFacts:
    return convert_admin.generation_from_proto(message.generation)


def _generations(message: admin.ListGenerationsResponse) -> tuple[GenerationFacts, ...]:
    return tuple(map(convert_admin.generation_from_proto, message.generations))


def _head(message: admin.ActivateHeadResponse) -> HeadFacts:
    return convert_admin.head_from_proto(message.head)


def _heads(message: admin.ListHeadsResponse) -> tuple[HeadFacts, ...]:
    return tuple(map(convert_admin.head_from_proto, message.heads))


def _operation(
    message: admin.BuildGenerationResponse
    | admin.ErasePatientResponse
    | admin.GetOperationResponse
    | admin.CancelOperationResponse,
) -> Operation:
    return convert_admin.operation_from_proto(message.operation)


def _operations(message: admin.ListOperationsResponse) -> tuple[Operation, ...]:
    return tuple(map(convert_admin.operation_from_proto, message.operations))
