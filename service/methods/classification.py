"""`semiome.v1.ClassificationService`: message in, one call to what is known, message out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from index.errors import InvalidInput
from index.query import ClipQuery, VideoQuery
from protos import classification_pb2 as classification
from service.gate import disclosure
from service.gate.call import Call, Method
from service.messages import convert, convert_signs, convert_verdict
from service.records import BatchAnswer, Judged
from service.serving.state import check_size
from service.serving.watcher import StateWatcher

_SERVICE = "/semiome.v1.ClassificationService/"


class Classification:
    """Answers with verdicts.

    Args:
        watcher: gives the state that serves.
        on_verdict: called with each verdict.
    """

    def __init__(self, watcher: StateWatcher, on_verdict: Callable[[Judged], None]) -> None:
        self._watcher = watcher
        self._on_verdict = on_verdict

    def methods(self) -> tuple[Method, ...]:
        """Everything this service answers."""
        return (
            Method(f"{_SERVICE}Classify", classification.ClassifyRequest, self.classify),
            Method(f"{_SERVICE}ClassifyBatch", classification.ClassifyBatchRequest, self.classify_batch),
            Method(
                f"{_SERVICE}ClassifyStream",
                classification.ClassifyStreamRequest,
                self.classify_stream,
                streams_in=True,
                streams_out=True,
            ),
            Method(f"{_SERVICE}GetSigns", classification.GetSignsRequest, self.signs),
        )

    async def classify(self, request: classification.ClassifyRequest, call: Call) -> classification.ClassifyResponse:
        """The verdict on one clip or video, with all evidence."""
        item = convert.item_from_proto(request.item)
        call.queries(1)
        call.check_deadline()
        answer = await call.work(self._watcher.state.classify, item)
        call.check_deadline()
        judged = disclosure.shown_judged(call.caller, answer.judged)
        self._on_verdict(judged)
        call.reads(answer.provenance, {clip.patient_id for clip in judged.clips})
        near = judged.evidence.neighbours
        call.reads(answer.provenance, {one for _, hits in near for one in convert.patients_of(hits)})
        return convert_verdict.classify_response(replace(answer, judged=judged))

    async def classify_batch(
        self, request: classification.ClassifyBatchRequest, call: Call
    ) -> classification.ClassifyBatchResponse:
        """Verdicts on many, each with its status."""
        check_size(len(request.items), "items")
        items = convert_verdict.items_from_proto(request.items)
        return convert_verdict.batch_response(await self._batch(items, call, summaries=False))

    async def classify_stream(
        self, requests: AsyncIterator[classification.ClassifyStreamRequest], call: Call
    ) -> AsyncIterator[classification.ClassifyStreamResponse]:
        """Summaries of any number."""
        async for request in requests:
            check_size(len(request.items), "items")
            items = convert_verdict.items_from_proto(request.items)
            yield convert_verdict.stream_response(await self._batch(items, call, summaries=True))

    async def signs(self, request: classification.GetSignsRequest, call: Call) -> classification.GetSignsResponse:
        """The signs of a stored video over time."""
        if not request.video_id:
            raise InvalidInput("expected the id of a stored video", field="video_id")
        call.queries(1)
        call.check_deadline()
        answer = await call.work(self._watcher.state.signs_of, request.video_id)
        call.check_deadline()
        call.reads(answer.provenance, {clip.patient_id for clip in answer.clips})
        return convert_signs.signs_response(answer)

    async def _batch(
        self, items: Sequence[ClipQuery | VideoQuery | InvalidInput], call: Call, *, summaries: bool
    ) -> BatchAnswer:
        call.queries(len(items))
        call.check_deadline()
        state = self._watcher.state
        answer = await call.work(state.classify_batch, items, summaries=summaries)
        patients = await call.work(state.patients_of, items)
        call.check_deadline()
        for result in answer.results:
            if result.judged is not None:
                self._on_verdict(result.judged)
        call.reads(answer.provenance, patients)
        return answer
