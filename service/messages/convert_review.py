"""Between messages and records of what people look at and say, both ways. Pure: no state, no decisions."""

from __future__ import annotations

from index.errors import InvalidInput
from index.feedback.statement import NOT_A_SEIZURE, SEIZURE, Feedback, FeedbackPage
from index.records import Video
from protos import review_pb2 as review
from service.messages import convert
from service.records import CallerFacts, MapPage, PointVideo, PreviewPart, ReportFacts

_RELEVANCES = {
    review.Feedback.RELEVANCE_UNSPECIFIED: "",
    review.Feedback.RELEVANCE_RELEVANT: "relevant",
    review.Feedback.RELEVANCE_NOT_RELEVANT: "not_relevant",
}
_EVENTS = {
    review.Feedback.EVENT_UNSPECIFIED: "",
    review.Feedback.EVENT_SEIZURE: SEIZURE,
    review.Feedback.EVENT_NOT_A_SEIZURE: NOT_A_SEIZURE,
}
_EVENT_NUMBERS = {name: number for number, name in _EVENTS.items()}
_RELEVANCE_NUMBERS = {name: number for number, name in _RELEVANCES.items()}


def feedback_to_proto(said: Feedback) -> review.Feedback:
    """What was said, as a message; whose the videos are is left out."""
    return review.Feedback(
        feedback_id=said.feedback_id,
        author=said.author,
        at=said.at,
        video_id=said.video_id,
        clip_id=said.clip_id,
        query_video_id=said.query_video_id,
        query_clip_id=said.query_clip_id,
        relevance=_RELEVANCE_NUMBERS[said.relevance],
        label=said.label,
        semiology=said.semiology,
        start_seconds=said.start_s,
        end_seconds=said.end_s,
        event=_EVENT_NUMBERS[said.event],
        note=said.note,
    )


def feedback_from_proto(message: review.Feedback) -> Feedback:
    """The message as what was said.

    Raises:
        InvalidInput: If this version does not know the relevance or the event.
    """
    if message.event not in _EVENTS:
        raise InvalidInput(f"expected event of 0 to {max(_EVENTS)}, got {message.event}", field="event")
    if message.relevance not in _RELEVANCES:
        raise InvalidInput(f"expected relevance of 0 to {max(_RELEVANCES)}, got {message.relevance}", field="relevance")
    return Feedback(
        video_id=message.video_id,
        patient_id="",
        query_video_id=message.query_video_id,
        clip_id=message.clip_id,
        query_clip_id=message.query_clip_id,
        relevance=_RELEVANCES[message.relevance],
        label=message.label,
        semiology=tuple(message.semiology),
        start_s=message.start_seconds,
        end_s=message.end_seconds,
        event=_EVENTS[message.event],
        note=message.note,
        feedback_id=message.feedback_id,
        author=message.author,
        at=message.at,
    )


def saved_feedback(message: review.SaveFeedbackResponse) -> Feedback:
    """What was kept."""
    return feedback_from_proto(message.feedback)


def feedback_page(message: review.ListFeedbackResponse) -> FeedbackPage:
    """A page of what was said."""
    return FeedbackPage(tuple(map(feedback_from_proto, message.feedback)), message.next_page_token)


def caller_facts(message: review.GetCallerResponse) -> CallerFacts:
    """Who the caller is."""
    return CallerFacts(message.identity, tuple(message.roles))


def preview_part(message: review.GetPreviewResponse) -> PreviewPart:
    """The next bytes of a preview."""
    return PreviewPart(message.size_bytes, message.frames_per_second, message.chunk)


def map_response(page: MapPage) -> review.GetMapResponse:
    """Points as a message."""
    return review.GetMapResponse(
        provenance=convert.provenance_to_proto(page.provenance),
        total=page.total,
        method=page.method,
        positions=page.positions,
        videos=[
            review.MapVideo(
                video_id=one.video_id,
                patient_id=one.patient_id,
                label=one.label,
                semiology=one.semiology,
                recorded_at=one.recorded_at,
            )
            for one in page.videos
        ],
        video_of_point=page.video_of_point,
        clip_index_of_point=page.clip_index_of_point,
        step=page.step,
    )


def map_page(message: review.GetMapResponse) -> MapPage:
    """The message as points."""
    videos = tuple(
        PointVideo(one.video_id, one.patient_id, one.label, tuple(one.semiology), one.recorded_at)
        for one in message.videos
    )
    return MapPage(
        convert.provenance_from_proto(message.provenance),
        message.total,
        message.method,
        message.positions,
        videos,
        message.video_of_point,
        message.clip_index_of_point,
        message.step,
    )


def point_video(video: Video) -> PointVideo:
    """What points of a video are coloured by."""
    return PointVideo(video.video_id, video.patient_id, video.label, video.semiology, video.recorded_at)


def reports_response(reports: tuple[ReportFacts, ...]) -> review.ListReportsResponse:
    """The reports as a message."""
    return review.ListReportsResponse(
        reports=[
            review.Report(report_id=one.report_id, written_at=one.written_at, size_bytes=one.size_bytes)
            for one in reports
        ]
    )


def listed_reports(message: review.ListReportsResponse) -> tuple[ReportFacts, ...]:
    """The message as reports."""
    return tuple(ReportFacts(one.report_id, one.written_at, one.size_bytes) for one in message.reports)
