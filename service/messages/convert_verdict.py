"""Between messages and records of verdicts, both ways. Pure: no state, no decisions."""

from __future__ import annotations

from collections.abc import Sequence

from index.errors import InvalidInput
from index.query import ClipQuery, VideoQuery
from index.records import ClipVerdict, Distance, Verdict
from index.semiology import PAPER
from protos import classification_pb2 as classification
from protos import common_pb2 as common
from protos import retrieval_pb2 as retrieval
from service.messages import convert, convert_moments
from service.records import BatchAnswer, BatchItem, ClassifyAnswer, Evidence, Judged, PredictionSet, UploadAnswer


def items_from_proto(messages: Sequence[common.Item]) -> list[ClipQuery | VideoQuery | InvalidInput]:
    """Many items; one that can't be understood stands there as its error."""
    items: list[ClipQuery | VideoQuery | InvalidInput] = []
    for message in messages:
        try:
            items.append(convert.item_from_proto(message))
        except InvalidInput as error:
            items.append(error)
    return items


def classify_response(answer: ClassifyAnswer) -> classification.ClassifyResponse:
    """The answer as a message."""
    return classification.ClassifyResponse(
        provenance=convert.provenance_to_proto(answer.provenance), verdict=judged_to_proto(answer.judged)
    )


def classify_answer(message: classification.ClassifyResponse) -> ClassifyAnswer:
    """The message as an answer."""
    return ClassifyAnswer(convert.provenance_from_proto(message.provenance), judged_from_proto(message.verdict))


def batch_response(answer: BatchAnswer) -> classification.ClassifyBatchResponse:
    """The answer as a message."""
    results = [
        classification.ClassifyBatchResult(
            status=convert.status(result.code, result.message),
            verdict=None if result.judged is None else judged_to_proto(result.judged),
        )
        for result in answer.results
    ]
    return classification.ClassifyBatchResponse(
        provenance=convert.provenance_to_proto(answer.provenance), results=results
    )


def stream_response(answer: BatchAnswer) -> classification.ClassifyStreamResponse:
    """The answer to one request of a stream, as a message."""
    results = [
        classification.ClassifyStreamResult(verdict=judged_to_proto(result.judged))
        if result.judged is not None
        else classification.ClassifyStreamResult(status=convert.status(result.code, result.message))
        for result in answer.results
    ]
    return classification.ClassifyStreamResponse(
        provenance=convert.provenance_to_proto(answer.provenance), results=results
    )


def batch_answer(
    message: classification.ClassifyBatchResponse | classification.ClassifyStreamResponse,
) -> BatchAnswer:
    """The message as an answer."""
    results = (
        BatchItem(
            convert.code_name(result.status),
            result.status.message,
            judged_from_proto(result.verdict) if result.HasField("verdict") else None,
        )
        for result in message.results
    )
    return BatchAnswer(convert.provenance_from_proto(message.provenance), tuple(results))


def upload_response(answer: UploadAnswer) -> retrieval.SearchByVideoResponse:
    """What resembles an upload, and the verdict on it, as a message."""
    return retrieval.SearchByVideoResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        clips=map(convert.clip_to_proto, answer.clips),
        hits=convert.hits_to_proto(answer.neighbours),
        stored=answer.stored,
        patient_known=answer.patient_known,
        known_as_video_id=answer.known_as,
        clips_without_picture=answer.clips_without_picture,
        verdict=None if answer.judged is None else judged_to_proto(answer.judged),
        moments=map(convert_moments.moment_to_proto, answer.moments),
    )


def upload_answer(message: retrieval.SearchByVideoResponse) -> UploadAnswer:
    """The message as an answer."""
    return UploadAnswer(
        convert.provenance_from_proto(message.provenance),
        tuple(map(convert.clip_from_proto, message.clips)),
        convert.hits_from_proto(message.hits),
        message.stored,
        judged_from_proto(message.verdict) if message.HasField("verdict") else None,
        message.patient_known,
        message.known_as_video_id,
        message.clips_without_picture,
        tuple(map(convert_moments.moment_from_proto, message.moments)),
    )


def judged_to_proto(judged: Judged) -> classification.Verdict:
    """A verdict with its clips and evidence, as a message."""
    verdict, evidence = judged.verdict, judged.evidence
    of_each = zip(verdict.classes, verdict.probabilities, verdict.votes, strict=True)
    message = classification.Verdict(
        label=verdict.label,
        classes=[classification.ClassVerdict(label=name, probability=p, votes=votes) for name, p, votes in of_each],
        tie=verdict.tie,
        margin=verdict.margin,
        temperature=evidence.temperature,
        conformal=_set_to_proto(evidence.prediction_set),
        trained_on_this_patient=evidence.trained_on_this_patient,
        calibrated=evidence.calibrated,
        separates_nothing=evidence.separates_nothing,
        clips_without_picture=evidence.clips_without_picture,
        clips_outside_seizure=evidence.clips_outside_seizure,
        clips_overlapping=evidence.clips_overlapping,
    )
    if judged.clips:
        message.clips.extend(
            classification.ClipVerdict(
                clip=convert.clip_to_proto(clip), label=one.label, probabilities=one.probabilities, logits=logits
            )
            for clip, one, logits in zip(judged.clips, verdict.clips, evidence.logits, strict=True)
        )
        message.flipping_clip_ids.extend(evidence.flipping_clip_ids)
        message.fewest_flipping_clips = evidence.fewest_flipping_clips
    if verdict.classes == PAPER.names:
        _for_older_clients(message, verdict)
    for label, neighbours in evidence.neighbours:
        message.neighbours.add(label=label, hits=convert.hits_to_proto(neighbours))
    if evidence.distance is not None:
        message.distance.value = evidence.distance.value
        message.distance.percentile = evidence.distance.percentile
        message.distance.sample = evidence.distance.sample
    return message


def _for_older_clients(message: classification.Verdict, verdict: Verdict) -> None:
    """Say once more what clients of before classes could be set read."""
    message.threshold, message.extle_probability = 0.5, verdict.probabilities[1]
    message.tle_votes, message.extle_votes = verdict.votes
    for clip in message.clips:
        clip.extle_probability, clip.logit = clip.probabilities[1], clip.logits[1] - clip.logits[0]
    if message.HasField("conformal"):
        message.conformal.tle_limit, message.conformal.extle_limit = message.conformal.limits


def judged_from_proto(message: classification.Verdict) -> Judged:
    """The message as a verdict with its clips and evidence."""
    clips = tuple(ClipVerdict(tuple(clip.probabilities), clip.label) for clip in message.clips)
    told = [(one.label, one.probability, one.votes) for one in message.classes]
    classes, probabilities, votes = map(tuple, zip(*told, strict=True)) if told else ((), (), ())
    verdict = Verdict(message.label, classes, probabilities, votes, message.tie, clips)
    distance, learned = message.distance, message.HasField("trained_on_this_patient")
    evidence = Evidence(
        temperature=message.temperature,
        logits=tuple(tuple(clip.logits) for clip in message.clips),
        prediction_set=_set_from_proto(message.conformal) if message.HasField("conformal") else None,
        flipping_clip_ids=tuple(message.flipping_clip_ids),
        fewest_flipping_clips=message.fewest_flipping_clips,
        neighbours=tuple((one.label, convert.hits_from_proto(one.hits)) for one in message.neighbours),
        distance=Distance(distance.value, distance.percentile, distance.sample)
        if message.HasField("distance")
        else None,
        trained_on_this_patient=message.trained_on_this_patient if learned else None,
        calibrated=message.calibrated,
        separates_nothing=message.separates_nothing,
        clips_without_picture=message.clips_without_picture,
        clips_outside_seizure=message.clips_outside_seizure,
        clips_overlapping=message.clips_overlapping,
    )
    return Judged(verdict, tuple(convert.clip_from_proto(clip.clip) for clip in message.clips), evidence)


def _set_to_proto(prediction_set: PredictionSet | None) -> classification.ConformalSet | None:
    if prediction_set is None:
        return None
    return classification.ConformalSet(
        labels=prediction_set.labels,
        alpha=prediction_set.alpha,
        limits=prediction_set.limits,
        abstains=prediction_set.abstains,
    )


def _set_from_proto(message: classification.ConformalSet) -> PredictionSet:
    return PredictionSet(tuple(message.labels), message.alpha, tuple(message.limits))
