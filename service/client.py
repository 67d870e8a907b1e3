"""A small typed client. Records in, records out; a status becomes a `ServiceError`.

Written from `service.aio_client` by `python -m service.calling.generate_sync_client`: change that one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from service.calling.connection import Connection, Rpc
from service.calling.requests import PAGE, POLL_S, STREAMED_ITEMS, Item, in_parts
from service.calling.sync_transport import Transport
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


class Client:
    """Talks to one server, or to several behind one address. Threads may share it.

    Calls that may be repeated are tried again where the server is away or asks to wait. Every method raises
    `ServiceError` with the status of the answer.

    Args:
        server: `host:port`, or a `Connection` with certificates and a token.
        timeout_s: longest wait for one answer, where `server` is an address.
        channel: an open one to the same server, which stays open when this client is closed.
    """

    def __init__(
        self, server: str | Connection, timeout_s: float = 30.0, *, channel: grpc.Channel | None = None
    ) -> None:
        self.connection = server if isinstance(server, Connection) else Connection(server, timeout_s)
        self._transport = Transport(self.connection, channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, where it is this client's own."""
        self._transport.close()

    def ask(self, rpc: Rpc[Answer]) -> Answer:
        """Make any call of `service.calling.requests`."""
        return self._transport.ask(rpc)

    def search(self, query: Query, k: int = convert.DEFAULT_K, options: Options = PLAIN) -> SearchAnswer:
        """Nearest clips, videos or patients; of examples what resembles them."""
        return self.ask(requests.search(query, k, options))

    def search_batch(
        self, queries: Sequence[Query], k: int = convert.DEFAULT_K, options: Options = PLAIN
    ) -> SearchBatchAnswer:
        """Up to 1,000 searches; each result carries its own status."""
        return self.ask(requests.search_batch(queries, k, options))

    def search_stream(
        self, queries: Iterable[Query], k: int = convert.DEFAULT_K, options: Options = PLAIN
    ) -> Iterator[SearchResultItem]:
        """A search for each query, as they come; each result carries its own status."""
        messages = (requests.search_stream_request(query, k, options) for query in queries)
        answers = self._transport.stream(requests.SEARCH_STREAM, messages, retrieval.SearchStreamResponse)
        for answer in answers:
            yield convert.search_result(answer)

    def moments(
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
        return self.ask(
            requests.moments(query, k, where, include_own_patient=include_own_patient, max_per_hour=max_per_hour)
        )

    def similarity(self, query: Item, video_id: str) -> SimilarityAnswer:
        """How similar each part of a stored video is to a clip, or to a video's seizure."""
        return self.ask(requests.similarity(query, video_id))

    def search_by_video(
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

        def parts() -> Iterator[retrieval.SearchByVideoRequest]:
            yield from asked

        return convert_verdict.upload_answer(self._transport.upload(parts()))

    def search_by_stream(
        self,
        chunks: Iterator[bytes],
        size_bytes: int,
        k: int = convert.DEFAULT_K,
        options: Options = PLAIN,
        *,
        patient_id: str = "",
        classify: bool = False,
        moments: int = 0,
    ) -> UploadAnswer:
        """The same for a file that comes in chunks; nothing of it is kept."""

        def parts() -> Iterator[retrieval.SearchByVideoRequest]:
            yield requests.upload_header(size_bytes, k, options, patient_id, classify=classify, moments=moments)
            for chunk in chunks:
                yield from requests.upload_chunks(chunk)

        return convert_verdict.upload_answer(self._transport.upload(parts()))

    def classify(self, item: Item) -> ClassifyAnswer:
        """The verdict on one clip or video, with all evidence."""
        return self.ask(requests.classify(item))

    def classify_batch(self, items: Sequence[Item]) -> BatchAnswer:
        """Verdicts on up to 1,000 items; each result carries its own status."""
        return self.ask(requests.classify_batch(items))

    def classify_stream(self, items: Iterable[Item]) -> Iterator[BatchItem]:
        """A summary for each item, as they come; each carries its own status."""
        messages = map(requests.classify_stream_request, in_parts(items, STREAMED_ITEMS))
        answers = self._transport.stream(requests.CLASSIFY_STREAM, messages, classification.ClassifyStreamResponse)
        for answer in answers:
            yield from convert_verdict.batch_answer(answer).results

    def signs(self, video_id: str) -> SignsAnswer:
        """How probable each sign is in every clip of a stored video, and where in it each lies."""
        return self.ask(requests.signs(video_id))

    def video(self, video_id: str) -> VideoAnswer:
        """A stored video with its clips, those of a long one in as many calls as it takes."""
        answer = part = self.ask(requests.video(video_id))
        while len(part.clips) == MAX_CLIPS:
            part = self.ask(requests.video(video_id, len(answer.clips)))
            answer = requests.joined(answer, part)
        return answer

    def recording(self, video_id: str) -> RecordingAnswer:
        """What is stored of the recording that a video is of, and where in it each video lies."""
        return self.ask(requests.recording(video_id))

    def videos(self, where: Filter = ANYTHING) -> Iterator[Video]:
        """All stored videos, by id, page by page."""
        token = ""
        while True:
            page = self.ask(requests.videos(where, PAGE, token))
            yield from page.videos
            if not (token := page.next_page_token):
                return

    def patients(self) -> Iterator[Patient]:
        """All patients, by pseudonym, page by page."""
        token = ""
        while True:
            page = self.ask(requests.patients(PAGE, token))
            yield from page.patients
            if not (token := page.next_page_token):
                return

    def counts(self) -> CountsAnswer:
        """How much is stored: in all, of each label, of each tag."""
        return self.ask(requests.counts())

    def embeddings(self, clip_ids: Sequence[str]) -> tuple[VectorQuery, ...]:
        """Embeddings of stored clips, ready to be queries."""
        return self.ask(requests.embeddings(clip_ids))

    def preview(self, video_id: str, offset: int = 0, length: int = 0) -> Iterator[PreviewPart]:
        """A part of a video's preview, as it comes; a length of 0 is all that follows."""
        request = requests.preview_request(video_id, offset, length)
        for message in self._transport.parts(requests.PREVIEW, request, review.GetPreviewResponse):
            yield convert_review.preview_part(message)

    def feedback(self, video_ids: Sequence[str] = ()) -> Iterator[Feedback]:
        """What people said of these videos, or of all; oldest first, page by page."""
        token = ""
        while True:
            page = self.ask(requests.list_feedback(video_ids, token))
            yield from page.feedback
            if not (token := page.next_page_token):
                return

    def save_feedback(self, said: Feedback) -> Feedback:
        """Keep what one says of a video; author and time are the server's."""
        return self.ask(requests.save_feedback(said))

    def delete_feedback(self, feedback_id: str) -> None:
        """Take back what one has said."""
        self.ask(requests.delete_feedback(feedback_id))

    def status(self) -> StatusAnswer:
        """What each worker serves."""
        return self.ask(requests.status())

    def build_generation(self, *, publish: bool = True, force: bool = False) -> Operation:
        """Start to build an index; see `wait`."""
        return self.ask(requests.build_generation(publish=publish, force=force))

    def generations(self) -> tuple[GenerationFacts, ...]:
        """All generations, oldest first."""
        return self.ask(requests.list_generations())

    def activate_generation(self, generation: str, *, force: bool = False) -> GenerationFacts:
        """Let a generation serve."""
        return self.ask(requests.activate_generation(generation, force=force))

    def roll_back_generation(self) -> GenerationFacts:
        """Let the generation before serve again."""
        return self.ask(requests.roll_back_generation())

    def heads(self) -> tuple[HeadFacts, ...]:
        """All heads, by id."""
        return self.ask(requests.list_heads())

    def activate_head(self, head_id: str) -> HeadFacts:
        """Let a head classify."""
        return self.ask(requests.activate_head(head_id))

    def erase_patient(self, patient_id: str) -> Operation:
        """Start to erase a patient; see `wait`."""
        return self.ask(requests.erase_patient(patient_id))

    def operation(self, operation_id: str) -> Operation:
        """How an operation stands."""
        return self.ask(requests.operation(operation_id))

    def operations(self) -> tuple[Operation, ...]:
        """Operations, newest first."""
        return self.ask(requests.list_operations())

    def cancel_operation(self, operation_id: str) -> Operation:
        """Stop a build."""
        return self.ask(requests.cancel_operation(operation_id))

    def wait(self, operation: Operation) -> Operation:
        """Wait until an operation has ended, and say how."""
        while operation.state == "running":
            self._transport.pause(POLL_S)
            operation = self.operation(operation.operation_id)
        return operation
