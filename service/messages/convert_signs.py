"""Between messages and records of signs over time, both ways. Pure: no state, no decisions."""

from __future__ import annotations

from index.semiology import LearnedSign, Stretch
from protos import classification_pb2 as classification
from service.messages import convert
from service.records import SignsAnswer, SignTrack


def signs_response(answer: SignsAnswer) -> classification.GetSignsResponse:
    """The answer as a message."""
    return classification.GetSignsResponse(
        provenance=convert.provenance_to_proto(answer.provenance),
        signs_id=answer.signs_id,
        clips=map(convert.clip_to_proto, answer.clips),
        tracks=map(_track_to_proto, answer.tracks),
        not_judged=[classification.SignNotJudged(name=name, reason=reason) for name, reason in answer.not_judged],
    )


def signs_answer(message: classification.GetSignsResponse) -> SignsAnswer:
    """The message as an answer."""
    return SignsAnswer(
        convert.provenance_from_proto(message.provenance),
        message.signs_id,
        tuple(map(convert.clip_from_proto, message.clips)),
        tuple(map(_track_from_proto, message.tracks)),
        tuple((one.name, one.reason) for one in message.not_judged),
    )


def _track_to_proto(track: SignTrack) -> classification.SignTrack:
    sign = track.sign
    return classification.SignTrack(
        name=sign.name,
        patients=sign.patients,
        other_patients=sign.others,
        auroc=sign.auroc,
        auroc_low=sign.auroc_low,
        auroc_high=sign.auroc_high,
        probabilities=track.probabilities,
        stretches=[
            classification.SignStretch(start_seconds=start, end_seconds=end, probability=probability)
            for start, end, probability in track.stretches
        ],
    )


def _track_from_proto(message: classification.SignTrack) -> SignTrack:
    told = (message.auroc, message.auroc_low, message.auroc_high)
    return SignTrack(
        LearnedSign(message.name, message.patients, message.other_patients, *told),
        tuple(message.probabilities),
        tuple(Stretch(one.start_seconds, one.end_seconds, one.probability) for one in message.stretches),
    )
