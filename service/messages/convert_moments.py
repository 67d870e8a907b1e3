"""Moments between records and messages."""

from __future__ import annotations

from dataclasses import asdict

from index.moment_records import BackgroundRate, Moment, MomentPair, MomentsAnswer, SimilarityAnswer
from index.query import ANYTHING, ClipQuery, Filter, VideoQuery
from protos import retrieval_pb2 as retrieval
from service.messages import convert


def moments_request(
    query: ClipQuery | VideoQuery, k: int, where: Filter, *, include_own_patient: bool, max_per_hour: float | None
) -> retrieval.FindMomentsRequest:
    """The request as a message."""
    return retrieval.FindMomentsRequest(
        query=convert.item_to_proto(query),
        k=k,
        filter=None if where == ANYTHING else convert.filter_to_proto(where),
        include_own_patient=include_own_patient,
        max_per_hour=max_per_hour,
    )


def moments_wanted(request: retrieval.FindMomentsRequest) -> tuple[ClipQuery | VideoQuery, int, Filter]:
    """What is looked for, how many moments, and in which videos.

    Raises:
        InvalidInput: If nothing is named, or the filter can't be.
    """
    where = convert.filter_from_proto(request.filter) if request.HasField("filter") else ANYTHING
    k = request.k if request.HasField("k") else convert.DEFAULT_K
    return convert.item_from_proto(request.query), k, where


def moments_response(answer: MomentsAnswer) -> retrieval.FindMomentsResponse:
    """The answer as a message."""
    return retrieval.FindMomentsResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        moments=map(moment_to_proto, answer.moments),
    )


def moments_answer(message: retrieval.FindMomentsResponse) -> MomentsAnswer:
    """The message as an answer."""
    moments = tuple(map(moment_from_proto, message.moments))
    return MomentsAnswer(convert.provenance_from_proto(message.provenance), moments)


def similarity_response(answer: SimilarityAnswer) -> retrieval.GetSimilarityResponse:
    """The answer as a message."""
    return retrieval.GetSimilarityResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        start_seconds=answer.starts_s,
        similarity=answer.similarities,
    )


def similarity_answer(message: retrieval.GetSimilarityResponse) -> SimilarityAnswer:
    """The message as an answer."""
    provenance = convert.provenance_from_proto(message.provenance)
    return SimilarityAnswer(provenance, tuple(message.start_seconds), tuple(message.similarity))


def moment_to_proto(one: Moment) -> retrieval.Moment:
    """A moment as a message."""
    return retrieval.Moment(
        video_id=one.video_id,
        patient_id=one.patient_id,
        label=one.label,
        start_seconds=one.start_s,
        end_seconds=one.end_s,
        onset_seconds=one.onset_s,
        similarity=one.similarity,
        pairs=[
            retrieval.MomentPair(
                query_clip_id=pair.query_clip_id,
                clip_id=pair.clip_id,
                query_start_seconds=pair.query_start_s,
                start_seconds=pair.start_s,
            )
            for pair in one.pairs
        ],
        per_hour_patient=_rate_to_proto(one.per_hour_patient),
        per_hour_others=_rate_to_proto(one.per_hour_others),
    )


def moment_from_proto(message: retrieval.Moment) -> Moment:
    """The message as a moment."""
    pairs = (
        MomentPair(one.query_clip_id, one.clip_id, one.query_start_seconds, one.start_seconds) for one in message.pairs
    )
    return Moment(
        message.video_id,
        message.patient_id,
        message.label,
        message.start_seconds,
        message.end_seconds,
        message.onset_seconds if message.HasField("onset_seconds") else None,
        message.similarity,
        tuple(pairs),
        _rate(message, "per_hour_patient"),
        _rate(message, "per_hour_others"),
    )


def _rate_to_proto(rate: BackgroundRate | None) -> retrieval.BackgroundRate | None:
    return None if rate is None else retrieval.BackgroundRate(**asdict(rate))


def _rate(moment: retrieval.Moment, name: str) -> BackgroundRate | None:
    if not moment.HasField(name):
        return None
    rate = getattr(moment, name)
    return BackgroundRate(rate.per_hour, rate.low, rate.high, rate.hours)
