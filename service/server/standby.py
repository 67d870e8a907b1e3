"""A server that has nothing to serve yet: it listens, and says that it is not ready, until there is an index."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from index.errors import Unreachable
from index.vectors.publication import fetch
from index.workspace import Workspace, read_pointer
from service.config import ServerConfig, bracketed
from service.server import tls

_LOOKS_S = 1.0


def has_index(workspace: Workspace) -> bool:
    """Whether a generation is published.

    Raises:
        StateError: If it can't be told.
    """
    fetch(workspace)
    return read_pointer(workspace.generations, "CURRENT") is not None


def wait_for_index(
    workspace: Workspace, config: ServerConfig, on_listening: Callable[[str], None] = lambda address: None
) -> bool:
    """Say NOT_SERVING to all who ask until a generation is published, or SIGTERM or SIGINT comes.

    Args:
        workspace: what is to be served.
        config: where, and with which certificate.
        on_listening: called with the address.

    Returns:
        Whether there is one now.

    Raises:
        StateError: If the port is taken, or certificates can't be read.
    """
    stop = threading.Event()
    before = [(number, signal.signal(number, lambda *_: stop.set())) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        with _not_serving(config) as address:
            on_listening(address)
            while not stop.is_set():
                with suppress(Unreachable):
                    if has_index(workspace):
                        return True
                stop.wait(_LOOKS_S)
        return False
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def _not_serving(config: ServerConfig) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4, "waiting"), options=[("grpc.so_reuseport", 0)])
    answers = health.HealthServicer()
    answers.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(answers, server)
    secured = None if config.tls is None else tls.credentials(config.tls)
    port = tls.add_port(server, f"{bracketed(config.host)}:{config.port}", secured)
    server.start()
    try:
        yield f"{bracketed(config.host)}:{port}"
    finally:
        server.stop(0).wait()
