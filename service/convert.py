"""Between messages and records, both ways. Pure: no state, no decisions."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np
from google.rpc import status_pb2

from index.errors import InvalidInput
from index.query import ClipQuery, GroupBy, Query, SearchFilter, VectorQuery, VideoQuery
from index.records import Clip, ClipVerdict, Neighbour, Verdict
from protos import classification_pb2 as classification
from protos import common_pb2 as common
from protos import retrieval_pb2 as retrieval
from service.answers import BatchAnswer, BatchItem, ClassifyAnswer, Judged, Provenance, SearchAnswer

_GROUPS = {
    retrieval.GROUP_BY_UNSPECIFIED: GroupBy.CLIP,
    retrieval.GROUP_BY_CLIP: GroupBy.CLIP,
    retrieval.GROUP_BY_VIDEO: GroupBy.VIDEO,
    retrieval.GROUP_BY_PATIENT: GroupBy.PATIENT,
}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_NUMBERS = {name: number for number, name in _CODES.items()}
DEFAULT_K = 10


def query_from_proto(request: retrieval.SearchRequest) -> Query:
    """What is searched for.

    Raises:
        InvalidInput: nothing is.
    """
    match request.WhichOneof("query"):
        case "clip_id":
            return ClipQuery(request.clip_id)
        case "video_id":
            return VideoQuery(request.video_id)
        case "vector":
            values = np.array(request.vector.values, np.float32)
            return VectorQuery(values, request.vector.encoder_id, request.vector.patient_id)
        case _:
            raise InvalidInput("expected one of clip_id, video_id or vector, got none")


def filter_from_proto(message: retrieval.SearchFilter) -> SearchFilter:
    """What a hit must be."""
    return SearchFilter(
        labels=frozenset(message.labels),
        semiology=frozenset(message.semiology),
        patient_ids=frozenset(message.patient_ids),
        excluded_patient_ids=frozenset(message.excluded_patient_ids),
        recorded_from=message.recorded_from,
        recorded_until=message.recorded_until,
        video_ids=frozenset(message.video_ids),
        excluded_video_ids=frozenset(message.excluded_video_ids),
        cameras=frozenset(message.cameras),
    )


def k_from_proto(request: retrieval.SearchRequest) -> int:
    """How many hits; an absent k is the default, a k of 0 stays 0 and is refused by the search."""
    return request.k if request.HasField("k") else DEFAULT_K


def group_from_proto(request: retrieval.SearchRequest) -> GroupBy:
    """What a hit stands for.

    Raises:
        InvalidInput: a number this version does not know.
    """
    if request.group_by not in _GROUPS:
        raise InvalidInput(f"expected group_by of 0 to {max(_GROUPS)}, got {request.group_by}")
    return _GROUPS[request.group_by]


def search_request(
    query: Query, k: int, where: SearchFilter, group_by: GroupBy, *, include_own_patient: bool
) -> retrieval.SearchRequest:
    """The message that asks for this search."""
    request = retrieval.SearchRequest(
        k=k,
        group_by=f"GROUP_BY_{group_by.name}",
        filter=retrieval.SearchFilter(
            labels=sorted(where.labels),
            semiology=sorted(where.semiology),
            patient_ids=sorted(where.patient_ids),
            excluded_patient_ids=sorted(where.excluded_patient_ids),
            recorded_from=where.recorded_from,
            recorded_until=where.recorded_until,
            video_ids=sorted(where.video_ids),
            excluded_video_ids=sorted(where.excluded_video_ids),
            cameras=sorted(where.cameras),
        ),
        include_own_patient=include_own_patient,
    )
    match query:
        case ClipQuery():
            request.clip_id = query.clip_id
        case VideoQuery():
            request.video_id = query.video_id
        case VectorQuery():
            request.vector.values.extend(np.asarray(query.vector, np.float32))
            request.vector.encoder_id = query.encoder_id
            request.vector.patient_id = query.patient_id
        case _:
            raise InvalidInput("this version asks a server for a clip, a video or a vector, not for examples")
    return request


def search_response(answer: SearchAnswer) -> retrieval.SearchResponse:
    """The answer as a message."""
    hits = [
        retrieval.Hit(clip=clip_to_proto(n.clip), label=n.label, similarity=n.similarity, query_clip_id=n.query_clip_id)
        for n in answer.neighbours
    ]
    return retrieval.SearchResponse(provenance=provenance_to_proto(answer.provenance), hits=hits)


def search_answer(message: retrieval.SearchResponse) -> SearchAnswer:
    """The message as an answer."""
    hits = (Neighbour(clip_from_proto(hit.clip), hit.label, hit.similarity, hit.query_clip_id) for hit in message.hits)
    return SearchAnswer(provenance_from_proto(message.provenance), tuple(hits))


def item_from_proto(message: classification.Item) -> ClipQuery | VideoQuery:
    """What is classified.

    Raises:
        InvalidInput: nothing is.
    """
    match message.WhichOneof("item"):
        case "clip_id":
            return ClipQuery(message.clip_id)
        case "video_id":
            return VideoQuery(message.video_id)
        case _:
            raise InvalidInput("expected a clip_id or a video_id, got none")


def item_to_proto(item: ClipQuery | VideoQuery) -> classification.Item:
    """The item as a message."""
    if isinstance(item, ClipQuery):
        return classification.Item(clip_id=item.clip_id)
    return classification.Item(video_id=item.video_id)


def classify_response(answer: ClassifyAnswer) -> classification.ClassifyResponse:
    """The answer as a message."""
    return classification.ClassifyResponse(
        provenance=provenance_to_proto(answer.provenance), verdict=judged_to_proto(answer.judged)
    )


def classify_answer(message: classification.ClassifyResponse) -> ClassifyAnswer:
    """The message as an answer."""
    return ClassifyAnswer(provenance_from_proto(message.provenance), judged_from_proto(message.verdict))


def batch_response(answer: BatchAnswer) -> classification.ClassifyBatchResponse:
    """The answer as a message."""
    results = [
        classification.ClassifyBatchResult(
            status=status_pb2.Status(code=_NUMBERS[result.code], message=result.message),
            verdict=None if result.judged is None else judged_to_proto(result.judged),
        )
        for result in answer.results
    ]
    return classification.ClassifyBatchResponse(provenance=provenance_to_proto(answer.provenance), results=results)


def batch_answer(message: classification.ClassifyBatchResponse) -> BatchAnswer:
    """The message as an answer."""
    results = (
        BatchItem(
            _CODES.get(result.status.code, "UNKNOWN"),
            result.status.message,
            judged_from_proto(result.verdict) if result.HasField("verdict") else None,
        )
        for result in message.results
    )
    return BatchAnswer(provenance_from_proto(message.provenance), tuple(results))


def judged_to_proto(judged: Judged) -> classification.Verdict:
    """A verdict with its clips, as a message."""
    verdict = judged.verdict
    tle_votes, extle_votes = verdict.votes
    return classification.Verdict(
        label=verdict.label,
        extle_probability=verdict.probability,
        tle_votes=tle_votes,
        extle_votes=extle_votes,
        tie=verdict.tie,
        clips=_clip_verdicts(judged.clips, verdict.clips),
    )


def judged_from_proto(message: classification.Verdict) -> Judged:
    """The message as a verdict with its clips."""
    votes = tuple(ClipVerdict(clip.extle_probability, clip.label) for clip in message.clips)
    verdict = Verdict(
        message.label, message.extle_probability, (message.tle_votes, message.extle_votes), message.tie, votes
    )
    return Judged(verdict, tuple(clip_from_proto(clip.clip) for clip in message.clips))


def clip_to_proto(clip: Clip) -> common.Clip:
    """A clip as a message."""
    return common.Clip(
        clip_id=clip.clip_id,
        video_id=clip.video_id,
        patient_id=clip.patient_id,
        clip_index=clip.clip_index,
        start_seconds=clip.start_s,
        valid_seconds=clip.valid_seconds,
    )


def clip_from_proto(message: common.Clip) -> Clip:
    """The message as a clip."""
    return Clip(
        clip_id=message.clip_id,
        video_id=message.video_id,
        patient_id=message.patient_id,
        clip_index=message.clip_index,
        start_s=message.start_seconds,
        valid_seconds=message.valid_seconds,
    )


def provenance_to_proto(provenance: Provenance) -> common.Provenance:
    """Provenance as a message."""
    return common.Provenance(
        encoder_id=provenance.encoder_id, generation=provenance.generation, head_id=provenance.head_id
    )


def provenance_from_proto(message: common.Provenance) -> Provenance:
    """The message as provenance."""
    return Provenance(message.encoder_id, message.generation, message.head_id)


def _clip_verdicts(clips: Sequence[Clip], verdicts: Sequence[ClipVerdict]) -> list[classification.ClipVerdict]:
    return [
        classification.ClipVerdict(clip=clip_to_proto(clip), extle_probability=verdict.probability, label=verdict.label)
        for clip, verdict in zip(clips, verdicts, strict=True)
    ]
