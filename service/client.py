"""A small typed client. Records in, records out; a status becomes a `ServiceError`. `service.aio_client` awaits."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from index.feedback.statement import Feedback
from index.query import ANYTHING, PLAIN, Filter, Options, Query, VectorQuery
from index.records import SearchAnswer, Video
from protos import classification_pb2 as classification
from protos import retrieval_pb2 as retrieval
from service.calling import requests
from service.calling.connection import Connection, Rpc
from service.calling.requests import Item
from service.messages import convert, convert_verdict
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
    SearchBatchAnswer,
    SearchResultItem,
    StatusAnswer,
    UploadAnswer,
    VideoAnswer,
)

Answer = TypeVar("Answer")
PAGE = 500
STREAMED_ITEMS = 1000
POLL_S = 0.2
UPLOAD_TIMEOUT_S = 3600.0


class Client:
    """Talks to one server, or to several behind one address. Threads may share it.

    Calls that may be repeated are tried again where the server is away or asks to wait. Every method raises
    `ServiceError` with the status of the answer.

    Args:
        server: `host:port`, or a `Connection` with certificates and a token.
        timeout_s: longest wait for one answer, where `server` is an address.
    """

    def __init__(self, server: str | Connection, timeout_s: float = 30.0) -> None:
        self.connection = server if isinstance(server, Connection) else Connection(server, timeout_s)
        if self.connection.encrypted:
            self._channel = grpc.secure_channel(
                self.connection.address, self.connection.credentials(), self.connection.options()
            )
        else:
            self._channel = grpc.insecure_channel(self.connection.address, self.connection.options())
        self._methods: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def search(
        self,
        query: Query,
        k: int = convert.DEFAULT_K,
        options: Options = PLAIN,
    ) -> SearchAnswer:
        """Nearest clips, videos or patients; of examples what resembles them."""
        return self._ask(requests.search(query, k, options))

    def search_batch(
        self, queries: Sequence[Query], k: int = convert.DEFAULT_K, options: Options = PLAIN
    ) -> SearchBatchAnswer:
        """Up to 1,000 searches; each result carries its own status."""
        return self._ask(requests.search_batch(queries, k, options))

    def search_stream(
        self, queries: Iterable[Query], k: int = convert.DEFAULT_K, options: Options = PLAIN
    ) -> Iterator[SearchResultItem]:
        """A search for each query, as they come; each result carries its own status."""
        messages = (requests.search_stream_request(query, k, options) for query in queries)
        answers = self._stream(requests.SEARCH_STREAM, messages, retrieval.SearchStreamResponse)
        return map(convert.search_result, answers)

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
    ) -> UploadAnswer:
        """What resembles a video file. Its embeddings are kept only under an id that is given."""
        method = self._channel.stream_unary(
            requests.UPLOAD,
            retrieval.SearchByVideoRequest.SerializeToString,
            retrieval.SearchByVideoResponse.FromString,
        )
        parts = requests.upload_parts(path, k, options, patient_id, store_as, label, classify=classify)
        timeout_s = max(self.connection.timeout_s, UPLOAD_TIMEOUT_S)
        try:
            return convert_verdict.upload_answer(method(parts, timeout=timeout_s, metadata=self.connection.metadata()))
        except grpc.RpcError as error:
            raise self.connection.failure(error) from None

    def classify(self, item: Item) -> ClassifyAnswer:
        """The verdict on one clip or video, with all evidence."""
        return self._ask(requests.classify(item))

    def classify_batch(self, items: Sequence[Item]) -> BatchAnswer:
        """Verdicts on up to 1,000 items; each result carries its own status."""
        return self._ask(requests.classify_batch(items))

    def classify_stream(self, items: Iterable[Item]) -> Iterator[BatchItem]:
        """A summary for each item, as they come; each carries its own status."""
        messages = map(requests.classify_stream_request, in_parts(items, STREAMED_ITEMS))
        answers = self._stream(requests.CLASSIFY_STREAM, messages, classification.ClassifyStreamResponse)
        for answer in answers:
            yield from convert_verdict.batch_answer(answer).results

    def video(self, video_id: str) -> VideoAnswer:
        """A stored video with its clips, those of a long one in as many calls as it takes."""
        answer = part = self._ask(requests.video(video_id))
        while len(part.clips) == MAX_CLIPS:
            part = self._ask(requests.video(video_id, len(answer.clips)))
            answer = requests.joined(answer, part)
        return answer

    def videos(self, where: Filter = ANYTHING) -> Iterator[Video]:
        """All stored videos, by id, page by page."""
        token = ""
        while True:
            page = self._ask(requests.videos(where, PAGE, token))
            yield from page.videos
            if not (token := page.next_page_token):
                return

    def patients(self) -> Iterator[Patient]:
        """All patients, by pseudonym, page by page."""
        token = ""
        while True:
            page = self._ask(requests.patients(PAGE, token))
            yield from page.patients
            if not (token := page.next_page_token):
                return

    def counts(self) -> CountsAnswer:
        """How much is stored: in all, of each label, of each tag."""
        return self._ask(requests.counts())

    def embeddings(self, clip_ids: Sequence[str]) -> tuple[VectorQuery, ...]:
        """Embeddings of stored clips, ready to be queries."""
        return self._ask(requests.embeddings(clip_ids))

    def feedback(self, video_ids: Sequence[str] = ()) -> Iterator[Feedback]:
        """What people said of these videos, or of all; oldest first, page by page."""
        token = ""
        while True:
            page = self._ask(requests.list_feedback(video_ids, token))
            yield from page.feedback
            if not (token := page.next_page_token):
                return

    def save_feedback(self, said: Feedback) -> Feedback:
        """Keep what one says of a video; author and time are the server's."""
        return self._ask(requests.save_feedback(said))

    def delete_feedback(self, feedback_id: str) -> None:
        """Take back what one has said."""
        self._ask(requests.delete_feedback(feedback_id))

    def status(self) -> StatusAnswer:
        """What each worker serves."""
        return self._ask(requests.status())

    def build_generation(self, *, publish: bool = True, force: bool = False) -> Operation:
        """Start to build an index; see `wait`."""
        return self._ask(requests.build_generation(publish=publish, force=force))

    def generations(self) -> tuple[GenerationFacts, ...]:
        """All generations, oldest first."""
        return self._ask(requests.list_generations())

    def activate_generation(self, generation: str, *, force: bool = False) -> GenerationFacts:
        """Let a generation serve."""
        return self._ask(requests.activate_generation(generation, force=force))

    def roll_back_generation(self) -> GenerationFacts:
        """Let the generation before serve again."""
        return self._ask(requests.roll_back_generation())

    def heads(self) -> tuple[HeadFacts, ...]:
        """All heads, by id."""
        return self._ask(requests.list_heads())

    def activate_head(self, head_id: str) -> HeadFacts:
        """Let a head classify."""
        return self._ask(requests.activate_head(head_id))

    def erase_patient(self, patient_id: str) -> Operation:
        """Start to erase a patient; see `wait`."""
        return self._ask(requests.erase_patient(patient_id))

    def operation(self, operation_id: str) -> Operation:
        """How an operation stands."""
        return self._ask(requests.operation(operation_id))

    def operations(self) -> tuple[Operation, ...]:
        """Operations, newest first."""
        return self._ask(requests.list_operations())

    def cancel_operation(self, operation_id: str) -> Operation:
        """Stop a build."""
        return self._ask(requests.cancel_operation(operation_id))

    def wait(self, operation: Operation) -> Operation:
        """Wait until an operation has ended, and say how."""
        while operation.state == "running":
            time.sleep(POLL_S)
            operation = self.operation(operation.operation_id)
        return operation

    def _ask(self, rpc: Rpc[Answer]) -> Answer:
        method = self._methods.get(rpc.method)
        if method is None:
            method = self._methods[rpc.method] = self._channel.unary_unary(
                rpc.method, type(rpc.request).SerializeToString, rpc.response.FromString
            )
        until = time.monotonic() + self.connection.timeout_s
        failed: grpc.RpcError | None = None
        pauses = self.connection.pauses(lambda: failed, repeatable=rpc.repeatable)
        while True:
            asked_at = time.monotonic()
            try:
                message = method(
                    rpc.request, timeout=max(until - time.monotonic(), 0.001), metadata=self.connection.metadata()
                )
            except grpc.RpcError as error:
                failed = error
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause >= until:
                    raise self.connection.failure(error) from None
                time.sleep(pause)
                continue
            answer = rpc.read(message)
            self.connection.note(getattr(answer, "provenance", None), asked_at)
            return answer

    def _stream(self, name: str, messages: Iterator[Any], response: Any) -> Iterator[Any]:  # noqa: ANN401
        method: Any = self._channel.stream_stream(
            name, lambda message: message.SerializeToString(), response.FromString
        )
        call = method(messages, metadata=self.connection.metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.connection.failure(error) from None
        finally:
            call.cancel()


def in_parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most so many."""
    part: list[Item] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
