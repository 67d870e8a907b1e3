"""A small typed asynchronous client. Records in, records out; a status becomes a `ServiceError`.

`service.client` is written from this file by `python -m service.calling.generate_sync_client`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import grpc

from index.feedback.statement import Feedback
from index.moment_records import MomentsAnswer, SimilarityAnswer
from index.query import ANYTHING, PLAIN, Filter, Options, Query, VectorQuery
from index.records import SearchAnswer, Video
from protos import classification_pb2 as classification
from protos import retrieval_pb2 as retrieval
from protos import review_pb2 as review
from service.calling import requests
from service.calling.async_transport import Transport
from service.calling.connection import Connection, Rpc
from service.calling.requests import PAGE, POLL_S, STREAMED_ITEMS, Item, in_parts
from service.messages import convert, convert_review, convert_verdict
from service.records import (
    MAX_CLIPS,
    BatchAnswer,
    BatchItem,
    ClassifyAnswer,
    CountsAnswer,
    GenerationFacts,
    HeadFacts,
    Operation,
    Patient,
    PreviewPart,
    RecordingAnswer,
    SearchBatchAnswer,
    SearchResultItem,
    SignsAnswer,
    StatusAnswer,
    UploadAnswer,
    VideoAnswer,
)

Answer = TypeVar("Answer")


class AioClient:
    """Talks to one server, or to several behind one address; may be shared.

    Calls that may be repeated are tried again where the server is away or asks to wait. Every method raises
    `ServiceError` with the status of the answer.

    Args:
        server: `host:port`, or a `Connection` with certificates and a token.
        timeout_s: longest wait for one answer, where `server` is an address.
        channel: an open one to the same server, which stays open when this client is closed.
    """

    def __init__(
        self, server: str | Connection, timeout_s: float = 30.0, *, channel: grpc.aio.Channel | None = None
    ) -> None:
        self.connection = server if isinstance(server, Connection) else Connection(server, timeout_s)
        self._transport = Transport(self.connection, channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, where it is this client's own."""
        await self._transport.close()

    async def ask(self, rpc: Rpc[Answer]) -> Answer:
        """Make any call of `service.calling.requests`."""
        return await self._transport.ask(rpc)

    async def search(self, query: Query, k: int = convert.DEFAULT_K, options: Options = PLAIN) -> SearchAnswer:
        """Nearest clips, videos or patients; of examples what resembles them."""
        return await self.ask(requests.search(query, k, options))

    async def search_batch(
        self, queries: Sequence[Query], k: int = convert.DEFAULT_K, options: Options = PLAIN
    ) -> SearchBatchAnswer:
        """Up to 1,000 searches; each result carries its own status."""
        return await self.ask(requests.search_batch(queries, k, options))

    async def search_stream(
        self, queries: Iterable[Query], k: int = convert.DEFAULT_K, options: Options = PLAIN
    ) -> AsyncIterator[SearchResultItem]:
        """A search for each query, as they come; each result carries its own status."""
        messages = (requests.search_stream_request(query, k, options) for query in queries)
        answers = self._transport.stream(requests.SEARCH_STREAM, messages, retrieval.SearchStreamResponse)
        async for answer in answers:
            yield convert.search_result(answer)

    async def moments(
        self,
        query: Item,
        k: int = convert.DEFAULT_K,
        where: Filter = ANYTHING,
        *,
        include_own_patient: bool = False,
        max_per_hour: float | None = None,
    ) -> MomentsAnswer:
        """Stretches of stored videos that show the same course of signs as a clip or a video's seizure.

        With `max_per_hour`, none as similar as which more turn up in an hour of stored background.
        """
        return await self.ask(
            requests.moments(query, k, where, include_own_patient=include_own_patient, max_per_hour=max_per_hour)
        )

    async def similarity(self, query: Item, video_id: str) -> SimilarityAnswer:
        """How similar each part of a stored video is to a clip, or to a video's seizure."""
        return await self.ask(requests.similarity(query, video_id))

    async def search_by_video(
        self,
        path: Path,
        k: int = convert.DEFAULT_K,
        options: Options = PLAIN,
        *,
        patient_id: str = "",
        store_as: str = "",
        label: str = "",
        classify: bool = False,
        moments: int = 0,
        max_per_hour: float | None = None,
    ) -> UploadAnswer:
        """What resembles a video file, and so many `moments`. It is stored only under an id that is given."""
        asked = requests.upload_parts(
            *(path, k, options, patient_id, store_as, label),
            classify=classify,
            moments=moments,
            max_per_hour=max_per_hour,
        )

        async def parts() -> AsyncIterator[retrieval.SearchByVideoRequest]:
            for part in asked:
                yield part

        return convert_verdict.upload_answer(await self._transport.upload(parts()))

    async def search_by_stream(
        self,
        chunks: AsyncIterator[bytes],
        size_bytes: int,
        k: int = convert.DEFAULT_K,
        options: Options = PLAIN,
        *,
        patient_id: str = "",
        classify: bool = False,
        moments: int = 0,
    ) -> UploadAnswer:
        """The same for a file that comes in chunks; nothing of it is kept."""

        async def parts() -> AsyncIterator[retrieval.SearchByVideoRequest]:
            yield requests.upload_header(size_bytes, k, options, patient_id, classify=classify, moments=moments)
            async for chunk in chunks:
                for part in requests.upload_chunks(chunk):
                    yield part

        return convert_verdict.upload_answer(await self._transport.upload(parts()))

    async def classify(self, item: Item) -> ClassifyAnswer:
        """The verdict on one clip or video, with all evidence."""
        return await self.ask(requests.classify(item))

    async def classify_batch(self, items: Sequence[Item]) -> BatchAnswer:
        """Verdicts on up to 1,000 items; each result carries its own status."""
        return await self.ask(requests.classify_batch(items))

    async def classify_stream(self, items: Iterable[Item]) -> AsyncIterator[BatchItem]:
        """A summary for each item, as they come; each carries its own status."""
        messages = map(requests.classify_stream_request, in_parts(items, STREAMED_ITEMS))
        answers = self._transport.stream(requests.CLASSIFY_STREAM, messages, classification.ClassifyStreamResponse)
        async for answer in answers:
            for result in convert_verdict.batch_answer(answer).results:
                yield result

    async def signs(self, video_id: str) -> SignsAnswer:
        """How probable each sign is in every clip of a stored video, and where in it each lies."""
        return await self.ask(requests.signs(video_id))

    async def video(self, video_id: str) -> VideoAnswer:
        """A stored video with its clips, those of a long one in as many calls as it takes."""
        answer = part = await self.ask(requests.video(video_id))
        while len(part.clips) == MAX_CLIPS:
            part = await self.ask(requests.video(video_id, len(answer.clips)))
            answer = requests.joined(answer, part)
        return answer

    async def recording(self, video_id: str) -> RecordingAnswer:
        """What is stored of the recording that a video is of, and where in it each video lies."""
        return await self.ask(requests.recording(video_id))

    async def videos(self, where: Filter = ANYTHING) -> AsyncIterator[Video]:
        """All stored videos, by id, page by page."""
        token = ""
        while True:
            page = await self.ask(requests.videos(where, PAGE, token))
            for video in page.videos:
                yield video
            if not (token := page.next_page_token):
                return

    async def patients(self) -> AsyncIterator[Patient]:
        """All patients, by pseudonym, page by page."""
        token = ""
        while True:
            page = await self.ask(requests.patients(PAGE, token))
            for patient in page.patients:
                yield patient
            if not (token := page.next_page_token):
                return

    async def counts(self) -> CountsAnswer:
        """How much is stored: in all, of each label, of each tag."""
        return await self.ask(requests.counts())

    async def embeddings(self, clip_ids: Sequence[str]) -> tuple[VectorQuery, ...]:
        """Embeddings of stored clips, ready to be queries."""
        return await self.ask(requests.embeddings(clip_ids))

    async def preview(self, video_id: str, offset: int = 0, length: int = 0) -> AsyncIterator[PreviewPart]:
        """A part of a video's preview, as it comes; a length of 0 is all that follows."""
        request = requests.preview_request(video_id, offset, length)
        async for message in self._transport.parts(requests.PREVIEW, request, review.GetPreviewResponse):
            yield convert_review.preview_part(message)

    async def feedback(self, video_ids: Sequence[str] = ()) -> AsyncIterator[Feedback]:
        """What people said of these videos, or of all; oldest first, page by page."""
        token = ""
        while True:
            page = await self.ask(requests.list_feedback(video_ids, token))
            for statement in page.feedback:
                yield statement
            if not (token := page.next_page_token):
                return

    async def save_feedback(self, said: Feedback) -> Feedback:
        """Keep what one says of a video; author and time are the server's."""
        return await self.ask(requests.save_feedback(said))

    async def delete_feedback(self, feedback_id: str) -> None:
        """Take back what one has said."""
        await self.ask(requests.delete_feedback(feedback_id))

    async def status(self) -> StatusAnswer:
        """What each worker serves."""
        return await self.ask(requests.status())

    async def build_generation(self, *, publish: bool = True, force: bool = False) -> Operation:
        """Start to build an index; see `wait`."""
        return await self.ask(requests.build_generation(publish=publish, force=force))

    async def generations(self) -> tuple[GenerationFacts, ...]:
        """All generations, oldest first."""
        return await self.ask(requests.list_generations())

    async def activate_generation(self, generation: str, *, force: bool = False) -> GenerationFacts:
        """Let a generation serve."""
        return await self.ask(requests.activate_generation(generation, force=force))

    async def roll_back_generation(self) -> GenerationFacts:
        """Let the generation before serve again."""
        return await self.ask(requests.roll_back_generation())

    async def heads(self) -> tuple[HeadFacts, ...]:
        """All heads, by id."""
        return await self.ask(requests.list_heads())

    async def activate_head(self, head_id: str) -> HeadFacts:
        """Let a head classify."""
        return await self.ask(requests.activate_head(head_id))

    async def erase_patient(self, patient_id: str) -> Operation:
        """Start to erase a patient; see `wait`."""
        return await self.ask(requests.erase_patient(patient_id))

    async def operation(self, operation_id: str) -> Operation:
        """How an operation stands."""
        return await self.ask(requests.operation(operation_id))

    async def operations(self) -> tuple[Operation, ...]:
        """Operations, newest first."""
        return await self.ask(requests.list_operations())

    async def cancel_operation(self, operation_id: str) -> Operation:
        """Stop a build."""
        return await self.ask(requests.cancel_operation(operation_id))

    async def wait(self, operation: Operation) -> Operation:
        """Wait until an operation has ended, and say how."""
        while operation.state == "running":
            await self._transport.pause(POLL_S)
            operation = await self.operation(operation.operation_id)
        return operation
