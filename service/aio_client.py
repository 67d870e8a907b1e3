"""The same client as `service.client`, for programs that await."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc

from index.query import ANYTHING, PLAIN, Filter, Options, Query, VectorQuery
from index.records import SearchAnswer, Video
from protos import classification_pb2 as classification
from protos import retrieval_pb2 as retrieval
from protos import review_pb2 as review
from service.calling import requests
from service.calling.connection import Connection, Rpc
from service.calling.requests import Item
from service.client import PAGE, POLL_S, STREAMED_ITEMS, UPLOAD_TIMEOUT_S, in_parts
from service.messages import convert, convert_review, convert_verdict
from service.metadata import TAKEN
from service.records import (
    MAX_CLIPS,
    BatchAnswer,
    BatchItem,
    ClassifyAnswer,
    CountsAnswer,
    Operation,
    PreviewPart,
    SearchBatchAnswer,
    SearchResultItem,
    StatusAnswer,
    UploadAnswer,
    VideoAnswer,
)

_TAKEN_S = 5.0
"""How long a server is waited for that does not say whether it takes an upload."""

Answer = TypeVar("Answer")


def open_channel(connection: Connection, *, own: bool = False) -> grpc.aio.Channel:
    """A channel to a server.

    Args:
        connection: how to reach it.
        own: it shares no connection with other channels of this process.
    """
    options: Any = [*connection.options(), ("grpc.use_local_subchannel_pool", int(own))]
    if connection.encrypted:
        return grpc.aio.secure_channel(connection.address, connection.credentials(), options)
    return grpc.aio.insecure_channel(connection.address, options)


class AioClient:
    """Talks to one server, or to several behind one address; see `service.client.Client`.

    Args:
        server: `host:port`, or a `Connection` with certificates and a token.
        timeout_s: longest wait for one answer, where `server` is an address.
        channel: an open one to the same server, which stays open when this client is closed.
    """

    def __init__(
        self, server: str | Connection, timeout_s: float = 30.0, *, channel: grpc.aio.Channel | None = None
    ) -> None:
        self.connection = server if isinstance(server, Connection) else Connection(server, timeout_s)
        self._owns = channel is None
        self._channel = channel or open_channel(self.connection)
        self._methods: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection, where it is this client's own."""
        if self._owns:
            await self._channel.close()

    async def search(
        self,
        query: Query,
        k: int = convert.DEFAULT_K,
        options: Options = PLAIN,
    ) -> SearchAnswer:
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
        async for answer in self._stream(requests.SEARCH_STREAM, messages, retrieval.SearchStreamResponse):
            yield convert.search_result(answer)

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
    ) -> UploadAnswer:
        """What resembles a video file. Its embeddings are kept only under an id that is given."""

        async def parts() -> AsyncIterator[Any]:
            for part in requests.upload_parts(path, k, options, patient_id, store_as, label, classify=classify):
                yield part

        return await self._uploaded(parts())

    async def search_by_stream(
        self,
        chunks: AsyncIterator[bytes],
        size_bytes: int,
        k: int = convert.DEFAULT_K,
        options: Options = PLAIN,
        *,
        patient_id: str = "",
        classify: bool = False,
    ) -> UploadAnswer:
        """The same for a file that comes in chunks; nothing of it is kept."""

        async def parts() -> AsyncIterator[retrieval.SearchByVideoRequest]:
            yield requests.upload_header(size_bytes, k, options, patient_id, classify=classify)
            async for chunk in chunks:
                for start in range(0, len(chunk), requests.CHUNK_BYTES):
                    yield retrieval.SearchByVideoRequest(chunk=chunk[start : start + requests.CHUNK_BYTES])

        return await self._uploaded(parts())

    async def _uploaded(self, parts: AsyncIterator[Any]) -> UploadAnswer:
        method = self._channel.stream_unary(
            requests.UPLOAD,
            retrieval.SearchByVideoRequest.SerializeToString,
            retrieval.SearchByVideoResponse.FromString,
        )
        timeout_s = max(self.connection.timeout_s, UPLOAD_TIMEOUT_S)
        call = method(timeout=timeout_s, metadata=self.connection.metadata())
        try:
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):  # it has ended: its status says why
                await self._send(call, parts)
            message = await call
        except grpc.RpcError as error:
            raise self.connection.failure(error) from None
        finally:
            call.cancel()  # of a sender who has failed or gone; no call that has ended
        return convert_verdict.upload_answer(message)

    @staticmethod
    async def _send(call: Any, parts: AsyncIterator[Any]) -> None:  # noqa: ANN401  gRPC's call
        """The header, and the film once the server takes it: sent before, it would cover up why it is refused."""
        await call.write(await anext(parts))
        with contextlib.suppress(TimeoutError):  # one before 0.2 says nothing before its answer
            async with asyncio.timeout(_TAKEN_S):
                if TAKEN not in await asyncio.shield(call.initial_metadata()):
                    await asyncio.shield(call.code())  # it is refused
                    return
        async for part in parts:
            await call.write(part)
        await call.done_writing()

    async def classify(self, item: Item) -> ClassifyAnswer:
        """The verdict on one clip or video, with all evidence."""
        return await self.ask(requests.classify(item))

    async def classify_batch(self, items: Sequence[Item]) -> BatchAnswer:
        """Verdicts on up to 1,000 items; each result carries its own status."""
        return await self.ask(requests.classify_batch(items))

    async def classify_stream(self, items: Iterable[Item]) -> AsyncIterator[BatchItem]:
        """A summary for each item, as they come; each carries its own status."""
        messages = map(requests.classify_stream_request, in_parts(items, STREAMED_ITEMS))
        async for answer in self._stream(requests.CLASSIFY_STREAM, messages, classification.ClassifyStreamResponse):
            for result in convert_verdict.batch_answer(answer).results:
                yield result

    async def video(self, video_id: str) -> VideoAnswer:
        """A stored video with its clips, those of a long one in as many calls as it takes."""
        answer = part = await self.ask(requests.video(video_id))
        while len(part.clips) == MAX_CLIPS:
            part = await self.ask(requests.video(video_id, len(answer.clips)))
            answer = requests.joined(answer, part)
        return answer

    async def videos(self, where: Filter = ANYTHING) -> AsyncIterator[Video]:
        """All stored videos, by id, page by page."""
        token = ""
        while True:
            page = await self.ask(requests.videos(where, PAGE, token))
            for video in page.videos:
                yield video
            if not (token := page.next_page_token):
                return

    async def counts(self) -> CountsAnswer:
        """How much is stored: in all, of each label, of each tag."""
        return await self.ask(requests.counts())

    async def embeddings(self, clip_ids: Sequence[str]) -> tuple[VectorQuery, ...]:
        """Embeddings of stored clips, ready to be queries."""
        return await self.ask(requests.embeddings(clip_ids))

    async def status(self) -> StatusAnswer:
        """What each worker serves."""
        return await self.ask(requests.status())

    async def preview(self, video_id: str, offset: int = 0, length: int = 0) -> AsyncIterator[PreviewPart]:
        """A part of a video's preview, as it comes; a length of 0 is all that follows."""
        method: Any = self._channel.unary_stream(
            requests.PREVIEW, review.GetPreviewRequest.SerializeToString, review.GetPreviewResponse.FromString
        )
        request, said = requests.preview_request(video_id, offset, length), self.connection.metadata()
        call = method(request, timeout=self.connection.timeout_s, metadata=said)
        try:
            async for message in call:
                yield convert_review.preview_part(message)
        except grpc.RpcError as error:
            raise self.connection.failure(error) from None
        finally:
            call.cancel()

    async def wait(self, operation: Operation) -> Operation:
        """Wait until an operation has ended, and say how."""
        while operation.state == "running":
            await asyncio.sleep(POLL_S)
            operation = await self.ask(requests.operation(operation.operation_id))
        return operation

    async def ask(self, rpc: Rpc[Answer]) -> Answer:
        """Make any call of `service.calling.requests`; what is not a method of its own above is asked so."""
        method = self._methods.get(rpc.method)
        if method is None:
            method = self._methods[rpc.method] = self._channel.unary_unary(
                rpc.method, type(rpc.request).SerializeToString, rpc.response.FromString
            )
        loop = asyncio.get_running_loop()
        until = loop.time() + self.connection.timeout_s
        failed: grpc.RpcError | None = None
        pauses = self.connection.pauses(lambda: failed, repeatable=rpc.repeatable)
        while True:
            asked_at = loop.time()
            try:
                message = await method(
                    rpc.request, timeout=max(until - loop.time(), 0.001), metadata=self.connection.metadata()
                )
            except grpc.RpcError as error:
                failed = error
                pause = next(pauses, None)
                if pause is None or loop.time() + pause >= until:
                    raise self.connection.failure(error) from None
                await asyncio.sleep(pause)
                continue
            answer = rpc.read(message)
            self.connection.note(getattr(answer, "provenance", None), asked_at)
            return answer

    async def _stream(self, name: str, messages: Iterator[Any], response: Any) -> AsyncIterator[Any]:  # noqa: ANN401
        method: Any = self._channel.stream_stream(
            name, lambda message: message.SerializeToString(), response.FromString
        )
        call = method(messages, metadata=self.connection.metadata())
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise self.connection.failure(error) from None
        finally:
            call.cancel()
