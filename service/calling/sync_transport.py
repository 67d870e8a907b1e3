"""How the synchronous client reaches a server: one call at a time, streams, and uploads.

`service.calling.async_transport` is the same for the asynchronous one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from protos import retrieval_pb2 as retrieval
from service.calling.connection import UPLOAD_TIMEOUT_S, Connection, Rpc
from service.calling.requests import UPLOAD, Watched

Answer = TypeVar("Answer")


def open_channel(connection: Connection, *, own: bool = False) -> grpc.Channel:
    """A channel to a server.

    Args:
        connection: how to reach it.
        own: it shares no connection with other channels of this process.
    """
    options: Any = [*connection.options(), ("grpc.use_local_subchannel_pool", int(own))]
    if connection.encrypted:
        return grpc.secure_channel(connection.address, connection.credentials(), options)
    return grpc.insecure_channel(connection.address, options)


class Transport:
    """Calls over one channel; a status becomes a `ServiceError`.

    Args:
        connection: how to reach the server.
        channel: an open one to it, which stays open when this is closed.
    """

    def __init__(self, connection: Connection, channel: grpc.Channel | None = None) -> None:
        self._connection = connection
        self._owns = channel is None
        self._channel = channel or open_channel(connection)
        self._methods: dict[str, Any] = {}

    def close(self) -> None:
        """Close the channel, where it is this transport's own."""
        if self._owns:
            self._channel.close()

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def ask(self, rpc: Rpc[Answer]) -> Answer:
        """Make one call, again where it may be repeated and the server is away or asks to wait."""
        method = self._methods.get(rpc.method)
        if method is None:
            method = self._methods[rpc.method] = self._channel.unary_unary(
                rpc.method, type(rpc.request).SerializeToString, rpc.response.FromString
            )
        until = time.monotonic() + self._connection.timeout_s
        failed: grpc.RpcError | None = None
        pauses = self._connection.pauses(lambda: failed, repeatable=rpc.repeatable)
        while True:
            asked_at = time.monotonic()
            try:
                message = method(
                    rpc.request, timeout=max(until - time.monotonic(), 0.001), metadata=self._connection.metadata()
                )
            except grpc.RpcError as error:
                failed = error
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause >= until:
                    raise self._connection.failure(error) from None
                time.sleep(pause)
                continue
            answer = rpc.read(message)
            self._connection.note(getattr(answer, "provenance", None), asked_at)
            return answer

    def stream(self, name: str, messages: Iterator[Any], response: Any) -> Iterator[Any]:  # noqa: ANN401
        """Answers to a stream of messages, as they come."""
        method: Any = self._channel.stream_stream(
            name, lambda message: message.SerializeToString(), response.FromString
        )
        watched = Watched(messages)
        call = method(watched, metadata=self._connection.metadata())
        try:
            yield from call
            watched.check()
        except grpc.RpcError as error:
            raise self._connection.failure(error) from None
        finally:
            call.cancel()

    def parts(self, name: str, request: Message, response: Any) -> Iterator[Any]:  # noqa: ANN401
        """Answers to one request, as they come."""
        method: Any = self._channel.unary_stream(name, type(request).SerializeToString, response.FromString)
        call = method(request, timeout=self._connection.timeout_s, metadata=self._connection.metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._connection.failure(error) from None
        finally:
            call.cancel()

    def upload(self, parts: Iterator[retrieval.SearchByVideoRequest]) -> retrieval.SearchByVideoResponse:
        """Send a video in parts."""
        method: Any = self._channel.stream_unary(
            UPLOAD, retrieval.SearchByVideoRequest.SerializeToString, retrieval.SearchByVideoResponse.FromString
        )
        timeout_s = max(self._connection.timeout_s, UPLOAD_TIMEOUT_S)
        watched = Watched(parts, ends=False)  # part of a film is no film
        first = [next(watched)]  # fails before the call where there is no such file
        try:
            return method(  # type: ignore[no-any-return]
                chain(first, watched), timeout=timeout_s, metadata=self._connection.metadata()
            )
        except grpc.RpcError as error:
            watched.check()
            raise self._connection.failure(error) from None
