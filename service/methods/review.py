"""`semiome.v1.ReviewService`: what people look at, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.previews.library import stored_preview, stored_strip
from index.errors import DamagedData, InvalidInput, NotFound, StateError
from index.feedback.statement import Feedback
from index.feedback.store import MAX_PAGE, FeedbackStore
from index.files.durable import is_plain, small_file
from index.query import ClipQuery
from index.records import ID, Video
from index.search.snapshot import Snapshot
from index.workspace import Workspace
from protos import review_pb2 as review
from service.errors import TooMuch
from service.gate.call import Call, Method
from service.gate.disclosure import STEP, shown_positions
from service.messages import convert_review
from service.records import MapPage, ReportFacts
from service.roles import Caller, Role
from service.serving.state import ServingState
from service.serving.watcher import StateWatcher

MAX_POINTS = 10_000
_CHUNK_BYTES = 256 * 1024
_MAX_REPORT_BYTES = 3 * 2**20
_SERVICE = "/semiome.v1.ReviewService/"
_A_DAY, _DAY_S = 1000, 3600.0
"""More than a person says, and too little to fill a disk with."""


class Review:
    """Answers the review page."""

    def __init__(self, workspace: Workspace, watcher: StateWatcher) -> None:
        self._workspace = workspace
        self._watcher = watcher
        self._feedback = FeedbackStore(workspace)
        self._threads = ThreadPoolExecutor(2, "feedback")
        self._points = lru_cache(2)(_points)

    def methods(self) -> tuple[Method, ...]:
        """Everything this service answers."""
        return (
            Method(f"{_SERVICE}GetCaller", review.GetCallerRequest, self.get_caller),
            Method(f"{_SERVICE}GetPreview", review.GetPreviewRequest, self.get_preview, streams_out=True),
            Method(f"{_SERVICE}GetThumbnails", review.GetThumbnailsRequest, self.get_thumbnails),
            Method(f"{_SERVICE}GetMap", review.GetMapRequest, self.get_map),
            Method(f"{_SERVICE}SaveFeedback", review.SaveFeedbackRequest, self.save_feedback),
            Method(f"{_SERVICE}ListFeedback", review.ListFeedbackRequest, self.list_feedback),
            Method(f"{_SERVICE}DeleteFeedback", review.DeleteFeedbackRequest, self.delete_feedback),
            Method(f"{_SERVICE}ListReports", review.ListReportsRequest, self.list_reports),
            Method(f"{_SERVICE}GetReport", review.GetReportRequest, self.get_report),
        )

    async def _apart(self, work: Callable[..., Any], *given: object) -> Any:  # noqa: ANN401  what the work gives
        """In threads of its own: where what people say is locked, only those wait who say or read it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    async def get_caller(self, request: review.GetCallerRequest, call: Call) -> review.GetCallerResponse:  # noqa: ARG002
        """Who the caller is."""
        return review.GetCallerResponse(identity=call.caller.identity, roles=sorted(call.caller.roles))

    async def get_preview(
        self, request: review.GetPreviewRequest, call: Call
    ) -> AsyncIterator[review.GetPreviewResponse]:
        """A part of a video's preview."""
        state = self._watcher.state
        video = _stored(state, request.video_id)
        preview = await call.work(stored_preview, self._workspace, video)
        call.reads(state.provenance, [video.patient_id])
        with await asyncio.to_thread(preview.film.open, "rb") as film:
            size = film.seek(0, 2)
            if request.offset_bytes >= size:
                raise InvalidInput(f"expected an offset below {size} bytes", field="offset_bytes")
            film.seek(request.offset_bytes)
            left = min(request.length_bytes or size, size - request.offset_bytes)
            first = review.GetPreviewResponse(size_bytes=size, frames_per_second=preview.fps)
            while left:
                call.check_deadline()
                first.chunk = await asyncio.to_thread(film.read, min(left, _CHUNK_BYTES))
                left -= len(first.chunk)
                yield first
                first = review.GetPreviewResponse()

    async def get_thumbnails(self, request: review.GetThumbnailsRequest, call: Call) -> review.GetThumbnailsResponse:
        """Thumbnails of a clip."""
        state = self._watcher.state
        video = _stored(state, request.video_id)
        jpeg = await call.work(stored_strip, self._workspace, video, request.clip_index)
        call.reads(state.provenance, [video.patient_id])
        return review.GetThumbnailsResponse(jpeg=jpeg)

    async def get_map(self, request: review.GetMapRequest, call: Call) -> review.GetMapResponse:
        """A page of the map."""
        if request.page_size > MAX_POINTS:
            raise InvalidInput(f"expected pages of 1 to {MAX_POINTS}, got {request.page_size}", field="page_size")
        state = self._watcher.state
        size = request.page_size or MAX_POINTS
        page = await call.work(self._page, state, request.offset, size, call.caller)
        call.reads(page.provenance, {video.patient_id for video in page.videos})
        return convert_review.map_response(page)

    async def save_feedback(self, request: review.SaveFeedbackRequest, call: Call) -> review.SaveFeedbackResponse:
        """Keep what is said."""
        state = self._watcher.state
        said = _checked(state, convert_review.feedback_from_proto(request.feedback))
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        if await self._apart(self._feedback.said_since, call.caller.identity, today) >= _A_DAY:
            raise TooMuch(f"expected at most {_A_DAY} pieces of feedback a day of one person", _DAY_S, "feedback a day")
        saved = await self._apart(self._feedback.save, said, call.caller.identity)
        call.reads(state.provenance, {saved.patient_id, saved.query_patient_id} - {""})
        return review.SaveFeedbackResponse(feedback=convert_review.feedback_to_proto(saved))

    async def list_feedback(self, request: review.ListFeedbackRequest, call: Call) -> review.ListFeedbackResponse:
        """What was said."""
        if len(request.video_ids) > MAX_PAGE:
            raise InvalidInput(f"expected at most {MAX_PAGE} videos, got {len(request.video_ids)}", field="video_ids")
        size = request.page_size or MAX_PAGE
        page = await self._apart(self._feedback.page, request.video_ids, size, request.page_token)
        shown = [
            one
            for one in page.feedback
            if not any(map(self._watcher.is_erased, (one.patient_id, one.query_patient_id)))
        ]
        patients = {patient for one in shown for patient in (one.patient_id, one.query_patient_id)}
        call.reads(self._watcher.state.provenance, patients - {""})
        listed = map(convert_review.feedback_to_proto, shown)
        return review.ListFeedbackResponse(feedback=listed, next_page_token=page.next_page_token)

    async def delete_feedback(self, request: review.DeleteFeedbackRequest, call: Call) -> review.DeleteFeedbackResponse:
        """Take back what was said."""
        author = "" if Role.ADMIN in call.caller.roles else call.caller.identity
        gone = await self._apart(self._feedback.remove, request.feedback_id, author)
        call.reads(self._watcher.state.provenance, {gone.patient_id, gone.query_patient_id} - {""})
        return review.DeleteFeedbackResponse()

    async def list_reports(self, request: review.ListReportsRequest, call: Call) -> review.ListReportsResponse:  # noqa: ARG002
        """Reports, newest first."""
        return convert_review.reports_response(await call.work(_reports, self._workspace))

    async def get_report(self, request: review.GetReportRequest, call: Call) -> review.GetReportResponse:
        """One report."""
        known = await call.work(_reports, self._workspace)
        if request.report_id not in {one.report_id for one in known}:
            raise NotFound("there is no such report: list them again")
        path = self._workspace.runs / request.report_id / "report.html"
        try:
            html = (await call.work(small_file, path, _MAX_REPORT_BYTES)).decode("utf-8")
        except (OSError, ValueError) as error:
            raise DamagedData(f"that report can't be read ({type(error).__name__}): evaluate again") from None
        return review.GetReportResponse(html=html)

    def _page(self, state: ServingState, offset: int, size: int, caller: Caller) -> MapPage:
        snapshot = state.snapshot
        positions = snapshot.generation.positions
        if positions is None:
            raise StateError("the index that serves has no map: build it again with `semiome index build --force`")
        order = self._points(snapshot)
        if offset and offset >= len(order):
            raise InvalidInput(f"expected an offset below {len(order)} points", field="offset")
        rows = order[offset : offset + size]
        numbers, video_of_point = np.unique(snapshot.video_of_row[rows], return_inverse=True)
        names = [snapshot.video_ids[number] for number in numbers.tolist()]
        return MapPage(
            state.provenance,
            len(order),
            snapshot.generation.manifest.map,
            shown_positions(caller, positions[rows]).astype("<f4").tobytes(),
            tuple(convert_review.point_video(snapshot.videos[name]) for name in names),
            video_of_point.astype("<u4").tobytes(),
            snapshot.generation.clips.clip_indexes(rows).astype("<u4").tobytes(),
            0.0 if caller.sees_exactly else STEP,
        )


def _points(snapshot: Snapshot) -> NDArray[np.int64]:
    """Rows of the generation that are still stored, in an order of which any beginning is a sample."""
    return np.random.default_rng(0).permutation(snapshot.rows_in_generation)


def _stored(state: ServingState, video_id: str) -> Video:
    if not state.snapshot.holds_video(video_id):
        raise NotFound("that video is not stored: check the id")
    return state.snapshot.videos[video_id]


def _checked(state: ServingState, said: Feedback) -> Feedback:
    """With whose the videos are; nothing is kept of what is not stored."""
    if not said.video_id:
        raise InvalidInput("expected the video that it is about, got none", field="video_id")
    for field in ("clip_id", "query_clip_id"):
        clip_id, video_id = getattr(said, field), getattr(said, field.replace("clip", "video"))
        if clip_id and state.snapshot.clips_of(ClipQuery(clip_id))[0][0].video_id != video_id:
            raise InvalidInput("expected a clip of the video that is named with it", field=field)
    asked = _stored(state, said.query_video_id).patient_id if said.query_video_id else ""
    video = _stored(state, said.video_id)
    if said.end_s > video.duration_s + 1:
        raise InvalidInput(
            f"expected times within the video, which lasts {video.duration_s:.12g} s", field="end_seconds"
        )
    return replace(said, patient_id=video.patient_id, query_patient_id=asked)


def _reports(workspace: Workspace) -> tuple[ReportFacts, ...]:
    reports = []
    for path in workspace.runs.glob("*/report.html"):
        if ID.fullmatch(path.parent.name) and not path.is_symlink() and is_plain(path, _MAX_REPORT_BYTES):
            about = path.stat()
            at = datetime.fromtimestamp(about.st_mtime, UTC).isoformat(timespec="seconds")
            reports.append(ReportFacts(path.parent.name, at, about.st_size))
    return tuple(sorted(reports, key=lambda one: one.written_at, reverse=True))
