"""The server process: build, announce, keep fresh, drain."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
from collections.abc import Callable

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import BaseModel, ConfigDict, Field, field_validator

from index.errors import StateError
from index.workspace import Workspace
from protos import classification_pb2, classification_pb2_grpc, retrieval_pb2, retrieval_pb2_grpc
from service.errors import ErrorInterceptor
from service.knowledge import Source
from service.servicers import ClassificationServicer, RetrievalServicer

SERVICES = (
    retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"].full_name,
    classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"].full_name,
)


class ServerConfig(BaseModel):
    """How to serve."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Loopback address to listen on: without TLS, patients' data must not leave this machine."""
    port: int = Field(default=50051, ge=0, le=65535)
    """0 takes a free one."""
    max_message_bytes: int = Field(default=4 * 2**20, ge=1024)
    """Larger requests are refused."""
    max_calls: int = Field(default=256, ge=1)
    """Calls at once; one more is refused at once with RESOURCE_EXHAUSTED."""
    refresh_s: float = Field(default=0.5, gt=0)
    """How often to look for a new generation, new labels or a new head."""
    drain_s: float = Field(default=10.0, ge=0)
    """How long calls in flight may go on after SIGTERM."""

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str) -> str:
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"expected a loopback address such as 127.0.0.1, got {host}")
        return host


_SWITCH_S = 0.0005
"""A call changes threads several times; behind one that takes up a new index each change would cost Python's 5 ms."""


async def serve(
    workspace: Workspace,
    config: ServerConfig,
    on_ready: Callable[[str, Source], None] = lambda address, source: None,
) -> None:
    """Serve a workspace until SIGTERM or SIGINT, then let calls in flight finish.

    Args:
        workspace: what to serve.
        config: how.
        on_ready: told the address, once calls are answered.

    Raises:
        StateError: nothing is published, or the port is taken.
    """
    sys.setswitchinterval(_SWITCH_S)
    source = await asyncio.to_thread(Source, workspace)
    server, healthy = build(source, config)
    try:
        port = server.add_insecure_port(f"{_bracketed(config.host)}:{config.port}")
    except RuntimeError:
        raise StateError(f"port {config.port} of {config.host} can't be had: is another server running?") from None
    await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for name in ("", *SERVICES):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    on_ready(f"{_bracketed(config.host)}:{port}", source)
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), config.refresh_s)
        except TimeoutError:
            await asyncio.to_thread(source.refresh)
    await healthy.enter_graceful_shutdown()
    await server.stop(config.drain_s)


def build(source: Source, config: ServerConfig) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A server with all services, not yet started, and its health."""
    server = grpc.aio.server(
        interceptors=[ErrorInterceptor()],
        maximum_concurrent_rpcs=config.max_calls,
        options=[
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_concurrent_streams", config.max_calls),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ],
    )
    retrieval_pb2_grpc.add_RetrievalServiceServicer_to_server(RetrievalServicer(source), server)
    classification_pb2_grpc.add_ClassificationServiceServicer_to_server(ClassificationServicer(source), server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server, healthy


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
