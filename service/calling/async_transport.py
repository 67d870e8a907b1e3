"""How the asynchronous client reaches a server: one call at a time, streams, and uploads.

`service.calling.sync_transport` is the same for the synchronous one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from protos import retrieval_pb2 as retrieval
from service.calling.connection import UPLOAD_TIMEOUT_S, Connection, Rpc
from service.calling.requests import UPLOAD, Watched
from service.metadata import TAKEN

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


class Transport:
    """Calls over one channel; a status becomes a `ServiceError`.

    Args:
        connection: how to reach the server.
        channel: an open one to it, which stays open when this is closed.
    """

    def __init__(self, connection: Connection, channel: grpc.aio.Channel | None = None) -> None:
        self._connection = connection
        self._owns = channel is None
        self._channel = channel or open_channel(connection)
        self._methods: dict[str, Any] = {}

    async def close(self) -> None:
        """Close the channel, where it is this transport's own."""
        if self._owns:
            await self._channel.close()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def ask(self, rpc: Rpc[Answer]) -> Answer:
        """Make one call, again where it may be repeated and the server is away or asks to wait."""
        method = self._methods.get(rpc.method)
        if method is None:
            method = self._methods[rpc.method] = self._channel.unary_unary(
                rpc.method, type(rpc.request).SerializeToString, rpc.response.FromString
            )
        loop = asyncio.get_running_loop()
        until = loop.time() + self._connection.timeout_s
        failed: grpc.RpcError | None = None
        pauses = self._connection.pauses(lambda: failed, repeatable=rpc.repeatable)
        while True:
            asked_at = loop.time()
            try:
                message = await method(
                    rpc.request, timeout=max(until - loop.time(), 0.001), metadata=self._connection.metadata()
                )
            except grpc.RpcError as error:
                failed = error
                pause = next(pauses, None)
                if pause is None or loop.time() + pause >= until:
                    raise self._connection.failure(error) from None
                await asyncio.sleep(pause)
                continue
            answer = rpc.read(message)
            self._connection.note(getattr(answer, "provenance", None), asked_at)
            return answer

    async def stream(self, name: str, messages: Iterator[Any], response: Any) -> AsyncIterator[Any]:  # noqa: ANN401
        """Answers to a stream of messages, as they come."""
        method: Any = self._channel.stream_stream(
            name, lambda message: message.SerializeToString(), response.FromString
        )
        watched = Watched(messages)
        call = method(watched, metadata=self._connection.metadata())
        try:
            async for answer in call:
                yield answer
            watched.check()
        except grpc.RpcError as error:
            raise self._connection.failure(error) from None
        finally:
            call.cancel()

    async def parts(self, name: str, request: Message, response: Any) -> AsyncIterator[Any]:  # noqa: ANN401
        """Answers to one request, as they come."""
        method: Any = self._channel.unary_stream(name, type(request).SerializeToString, response.FromString)
        call = method(request, timeout=self._connection.timeout_s, metadata=self._connection.metadata())
        try:
            async for answer in call:
                yield answer
        except grpc.RpcError as error:
            raise self._connection.failure(error) from None
        finally:
            call.cancel()

    async def upload(self, parts: AsyncIterator[retrieval.SearchByVideoRequest]) -> retrieval.SearchByVideoResponse:
        """Send a video in parts."""
        method: Any = self._channel.stream_unary(
            UPLOAD,
            retrieval.SearchByVideoRequest.SerializeToString,
            retrieval.SearchByVideoResponse.FromString,
        )
        timeout_s = max(self._connection.timeout_s, UPLOAD_TIMEOUT_S)
        call = method(timeout=timeout_s, metadata=self._connection.metadata())
        try:
            with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):  # it has ended: its status says why
                await self._send(call, parts)
            return await call  # type: ignore[no-any-return]
        except grpc.RpcError as error:
            raise self._connection.failure(error) from None
        finally:
            call.cancel()  # of a sender who has failed or gone; no call that has ended

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
