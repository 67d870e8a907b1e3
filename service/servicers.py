"""The two services: message in, one call to what is known, message out. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from index.errors import InvalidInput
from index.query import ClipQuery, VideoQuery
from protos import classification_pb2 as classification
from protos import classification_pb2_grpc, retrieval_pb2_grpc
from protos import retrieval_pb2 as retrieval
from service import convert
from service.errors import DeadlinePassed
from service.knowledge import Source

Context = grpc.aio.ServicerContext[Any, Any]
Answer = TypeVar("Answer")


class RetrievalServicer(retrieval_pb2_grpc.RetrievalServiceServicer):
    """`semiome.v1.RetrievalService`."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def Search(self, request: retrieval.SearchRequest, context: Context) -> retrieval.SearchResponse:  # noqa: N802
        """Nearest clips, videos or patients."""
        query = convert.query_from_proto(request)
        where = convert.filter_from_proto(request.filter)
        k, group_by = convert.k_from_proto(request), convert.group_from_proto(request)
        knowledge = self._source.knowledge
        answer = await in_thread(
            context,
            lambda: knowledge.search(query, k, where, group_by, include_own_patient=request.include_own_patient),
        )
        return convert.search_response(answer)


class ClassificationServicer(classification_pb2_grpc.ClassificationServiceServicer):
    """`semiome.v1.ClassificationService`."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def Classify(  # noqa: N802
        self, request: classification.ClassifyRequest, context: Context
    ) -> classification.ClassifyResponse:
        """The verdict on one clip or video."""
        item = convert.item_from_proto(request.item)
        knowledge = self._source.knowledge
        answer = await in_thread(context, lambda: knowledge.classify(item))
        return convert.classify_response(answer)

    async def ClassifyBatch(  # noqa: N802
        self, request: classification.ClassifyBatchRequest, context: Context
    ) -> classification.ClassifyBatchResponse:
        """Verdicts on many, each with its status."""
        items = [_item_or_error(item) for item in request.items]
        knowledge = self._source.knowledge
        answer = await in_thread(context, lambda: knowledge.classify_batch(items))
        return convert.batch_response(answer)


async def in_thread(context: Context, work: Callable[[], Answer]) -> Answer:
    """Run work off the event loop, unless its caller has given up by the time a thread is free."""
    loop = asyncio.get_running_loop()
    remaining = context.time_remaining()
    deadline = None if remaining is None else loop.time() + remaining

    def unless_late() -> Answer:
        if deadline is not None and loop.time() >= deadline:
            raise DeadlinePassed("the deadline passed before the work began")
        return work()

    return await asyncio.to_thread(unless_late)


def _item_or_error(message: classification.Item) -> ClipQuery | VideoQuery | InvalidInput:
    try:
        return convert.item_from_proto(message)
    except InvalidInput as error:
        return error
