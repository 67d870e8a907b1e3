"""A small typed client. Records in, records out; a status becomes a `ServiceError`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import grpc

from index.errors import ServiceError
from index.query import ANYTHING, ClipQuery, GroupBy, Query, SearchFilter, VideoQuery
from protos import classification_pb2 as classification
from protos import classification_pb2_grpc, retrieval_pb2_grpc
from service import convert
from service.answers import BatchAnswer, ClassifyAnswer, SearchAnswer

Message = TypeVar("Message")


class Client:
    """Talks to one server.

    Args:
        address: `host:port`.
        timeout_s: longest wait for one answer.
    """

    def __init__(self, address: str, timeout_s: float = 30.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address)
        self._retrieval: Any = retrieval_pb2_grpc.RetrievalServiceStub(self._channel)
        self._classification: Any = classification_pb2_grpc.ClassificationServiceStub(self._channel)

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
        *,
        where: SearchFilter = ANYTHING,
        group_by: GroupBy = GroupBy.CLIP,
        include_own_patient: bool = False,
    ) -> SearchAnswer:
        """Nearest clips, videos or patients.

        Raises:
            ServiceError: with the status of the answer.
        """
        request = convert.search_request(query, k, where, group_by, include_own_patient=include_own_patient)
        return convert.search_answer(self._call(self._retrieval.Search, request))

    def classify(self, item: ClipQuery | VideoQuery) -> ClassifyAnswer:
        """The verdict on one clip or video.

        Raises:
            ServiceError: with the status of the answer.
        """
        request = classification.ClassifyRequest(item=convert.item_to_proto(item))
        return convert.classify_answer(self._call(self._classification.Classify, request))

    def classify_batch(self, items: Sequence[ClipQuery | VideoQuery]) -> BatchAnswer:
        """Verdicts on up to 1,000 items; each result carries its own status.

        Raises:
            ServiceError: the batch as a whole was refused.
        """
        request = classification.ClassifyBatchRequest(items=[convert.item_to_proto(item) for item in items])
        return convert.batch_answer(self._call(self._classification.ClassifyBatch, request))

    def _call(self, method: Callable[..., Message], request: object) -> Message:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code = error.code().name
            if code == "UNAVAILABLE":
                raise ServiceError(
                    code, f"no server answers at {self._address}: start one with `semiome serve`"
                ) from None
            raise ServiceError(code, error.details() or "no details") from None
