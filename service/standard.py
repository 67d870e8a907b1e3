"""Health and reflection, as every gRPC service has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any

from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from service.method import Call, Method


def standard_methods(healthy: health.aio.HealthServicer, services: Sequence[str]) -> tuple[Method, ...]:
    """Their methods.

    Args:
        healthy: says how the server is.
        services: full names of the server's own.
    """
    reflected = reflection.aio.ReflectionServicer((*services, health.SERVICE_NAME, reflection.SERVICE_NAME))

    async def check(request: health_pb2.HealthCheckRequest, call: Call) -> object:
        return await healthy.Check(request, call.context)

    async def watch(request: health_pb2.HealthCheckRequest, call: Call) -> AsyncIterator[object]:
        for nothing in await _written(healthy.Watch(request, call.context)):
            yield nothing

    async def reflect(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[object]:
        async for answer in reflected.ServerReflectionInfo(requests, call.context):
            yield answer

    request = health_pb2.HealthCheckRequest
    return (
        Method(f"/{health.SERVICE_NAME}/Check", request, check, public=True),
        Method(f"/{health.SERVICE_NAME}/Watch", request, watch, streams_out=True, public=True),
        Method(
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest,
            reflect,
            streams_in=True,
            streams_out=True,
        ),
    )


async def _written(watching: Awaitable[object]) -> tuple[object, ...]:
    """Health's Watch writes its answers itself and has none to give."""
    await watching
    return ()
