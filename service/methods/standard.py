"""Health and reflection, as every gRPC service has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from index.errors import NotFound
from service.gate.call import Call, Method

_Status = health_pb2.HealthCheckResponse


class Health:
    """How the server and its services are.

    In place of the library's servicer, which holds a lock while it writes to a watcher: one that does not read would
    keep all callers from learning that the server is not ready, and the server from ending.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, Any] = {}
        self._changed = asyncio.Event()

    def set(self, services: Sequence[str], *, ready: bool) -> None:
        """Say of these whether they answer; the empty name is the server's."""
        status = _Status.SERVING if ready else _Status.NOT_SERVING
        self._statuses.update(dict.fromkeys(services, status))
        self._changed.set()
        self._changed = asyncio.Event()

    async def check(self, request: health_pb2.HealthCheckRequest, call: Call) -> object:  # noqa: ARG002
        """How one is.

        Raises:
            NotFound: If there is no such service.
        """
        if request.service not in self._statuses:
            raise NotFound("there is no service of that name")
        return _Status(status=self._statuses[request.service])

    async def watch(self, request: health_pb2.HealthCheckRequest, call: Call) -> AsyncIterator[object]:  # noqa: ARG002
        """How one is, and again whenever that changes; each watcher reads at its own pace."""
        last = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, _Status.SERVICE_UNKNOWN)
            if status != last:
                yield _Status(status=status)
                last = status
                continue  # it may have changed while that was sent
            await changed.wait()


def standard_methods(healthy: Health, services: Sequence[str]) -> tuple[Method, ...]:
    """Their methods.

    Args:
        healthy: says how the server is.
        services: full names of the server's own.
    """
    reflected = reflection.aio.ReflectionServicer((*services, health.SERVICE_NAME, reflection.SERVICE_NAME))

    async def reflect(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[object]:
        async for answer in reflected.ServerReflectionInfo(requests, call.context):
            yield answer

    request = health_pb2.HealthCheckRequest
    return (
        Method(f"/{health.SERVICE_NAME}/Check", request, healthy.check, public=True),
        Method(f"/{health.SERVICE_NAME}/Watch", request, healthy.watch, streams_out=True, public=True),
        Method(
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest,
            reflect,
            streams_in=True,
            streams_out=True,
        ),
    )
