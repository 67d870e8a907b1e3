"""What is counted and measured, under the names that Prometheus' gRPC dashboards expect. No label names a patient."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from index.errors import StateError

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_SCRAPES, _SCRAPE_S = 8, 15.0
"""At once, and the longest."""


def count_into(folder: Path) -> None:
    """Let this process, and those it starts, count into files of one folder, which `serve_metrics` adds up.

    Before anything of this module is used: prometheus_client decides when it is imported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[_FOLDER] = str(folder)


class MethodMetrics:
    """Metrics of one method; its children are looked up once."""

    def __init__(self, metrics: Metrics, method: str, kind: str) -> None:
        _, service, name = method.split("/")
        self._names = (kind, service, name)
        self._started = metrics.started.labels(*self._names)
        self._seconds = metrics.seconds.labels(*self._names)
        self._handled = {"OK": metrics.handled.labels(*self._names, "OK")}
        self._all = metrics.handled

    def begin(self) -> float:
        """A call has come in; returns when."""
        self._started.inc()
        return time.perf_counter()

    def end(self, code: str, began: float) -> None:
        """It has been answered."""
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = self._all.labels(*self._names, code)
        handled.inc()
        self._seconds.observe(time.perf_counter() - began)


class Metrics:
    """Everything a worker counts."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()
        names = ("grpc_type", "grpc_service", "grpc_method")
        self._registry = registry
        self.started = Counter("grpc_server_started", "Calls begun.", names, registry=registry)
        self.handled = Counter("grpc_server_handled", "Calls answered.", (*names, "grpc_code"), registry=registry)
        self.seconds = Histogram(
            "grpc_server_handling_seconds", "Seconds a call took.", names, buckets=_LATENCIES, registry=registry
        )
        self.batch = Histogram(
            "semiome_search_batch_queries", "Searches made in one pass.", buckets=_BATCHES, registry=registry
        )
        self.verdicts = Counter(
            "semiome_verdicts", "Verdicts on videos and clips.", ("label", "abstained"), registry=registry
        )
        self.in_flight = Gauge(
            "semiome_calls_in_flight", "Calls being answered.", registry=registry, multiprocess_mode="livesum"
        )
        self.index_age = Gauge(
            "semiome_index_age_seconds",
            "Since the index that serves was built.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.tail = Gauge(
            "semiome_index_tail_clips",
            "Clips stored since, compared one by one.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.duty_age = Gauge(
            "semiome_duty_age_seconds",
            "Since a duty of the server came through.",
            ("duty",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.disk_free = Gauge(
            "semiome_disk_free_ratio",
            "Share of the workspace's disk that is free.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.certificate_ends = Gauge(
            "semiome_certificate_ends_timestamp_seconds",
            "When the server's certificate ends, Unix time; 0 without TLS.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.clips = Gauge("semiome_clips", "Clips that are searched.", registry=registry, multiprocess_mode="livemin")

    def of(self, method: str, kind: str) -> MethodMetrics:
        """Metrics of one method."""
        return MethodMetrics(self, method, kind)

    def serve(self, port: int) -> tuple[int, Callable[[], None]]:
        """Answer Prometheus over HTTP on the loopback address: this process' figures, or all workers' added up.

        Returns:
            The port, and what ends it.
        """
        return serve_metrics(port, self._registry)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as the library names it
        """Nothing: a scrape comes every few seconds."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers a few at a time, and each for some seconds: a thread and a descriptor go with each connection."""

    daemon_threads = True

    def __init__(self, *given: Any, **named: Any) -> None:  # noqa: ANN401  as the library has it
        super().__init__(*given, **named)
        self._places = threading.Semaphore(_SCRAPES)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Start a thread for it, or close it."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answer it, within its time."""
        timer = threading.Timer(_SCRAPE_S, _cut, (request,))
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Nothing: who asked has gone, or was cut."""


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def serve_metrics(port: int, registry: object = None) -> tuple[int, Callable[[], None]]:
    """Serve metrics, see `Metrics.serve`; without a registry those of all processes that count into the same folder."""
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.multiprocess import MultiProcessCollector

    if os.environ.get(_FOLDER):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    app = make_wsgi_app(registry)  # type: ignore[arg-type]
    try:
        server = make_server("127.0.0.1", port, app, _Server, _Handler)
    except OSError:
        raise StateError(f"port {port} is taken, and metrics want it: is another server running?") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), end


def worker_is_gone(pid: int) -> None:
    """Forget the gauges of a worker that has ended; its counts stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]
