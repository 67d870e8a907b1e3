"""One worker: build, warm up, announce, keep fresh, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import uvloop

from encoder.video.sandbox import LEVELS, check_level, level_here
from index.errors import ServiceError
from index.query import ClipQuery
from index.search.search import search_each
from index.workspace import Workspace
from protos import admin_pb2, catalog_pb2, classification_pb2, retrieval_pb2, review_pb2
from service.config import ServerConfig, bracketed
from service.gate.callers import Callers
from service.gate.limits import Limits
from service.gate.middleware import Middleware
from service.gate.refusals import Refusals
from service.methods import uploads
from service.methods.admin import Admin
from service.methods.catalog import Catalog
from service.methods.classification import Classification
from service.methods.retrieval import Retrieval
from service.methods.review import Review
from service.methods.standard import Health, standard_methods
from service.processes.descriptors import connections_at_most, raise_soft_limit
from service.processes.duties import Duties, Duty
from service.processes.shutdown import end_in_any_case, ended
from service.processes.worker_status import WorkerStatuses
from service.records import Judged
from service.server import tls
from service.server.host_records import OtherHosts, open_records
from service.serving.watcher import StateWatcher
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoTracer, OpenTelemetry, Tracer

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (retrieval_pb2, "RetrievalService"),
        (classification_pb2, "ClassificationService"),
        (catalog_pb2, "CatalogService"),
        (admin_pb2, "AdminService"),
        (review_pb2, "ReviewService"),
    )
)
_SWITCH_S = 0.002
"""A call changes threads several times; behind one that picks up a new index each change would cost Python's 5 ms."""
_WARM_QUERIES = 64
_ENDS_S = 10.0
_METADATA_BYTES = 32 * 1024
_HANDSHAKE_MS = 10_000
_IDLE_MS, _AGE_MS, _GRACE_MS = 300_000, 3_600_000, 600_000
"""A connection without calls is closed after the first, one of that age takes no new calls, and after the last it is
cut; our clients and gRPC's own connect again by themselves."""
_LOOKS_APART_S = 0.1
_STREAMS_OF_A_CONNECTION = 32
"""What one client has more under way waits with it. Were it taken in here, it would wait in front of those that are to
be refused: at twice the bearable load these then had to wait for most of a second."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """Where a worker stands among the others of its server.

    Attributes:
        port: to listen on; 0 takes a free one.
        statuses: the workers' status files.
        alone: whether it is the only one, and so serves the metrics and clears what a killed server left.
        pulse: of the pipe on which its supervisor hears that its event loop turns; None without a supervisor.
    """

    port: int
    statuses: WorkerStatuses
    alone: bool = True
    pulse: int | None = None

    def beat(self) -> None:
        """Say that the event loop turns."""
        if self.pulse is not None:
            with contextlib.suppress(OSError):  # a supervisor that does not listen now has heard enough
                os.write(self.pulse, b".")


class Server:
    """Everything one worker holds."""

    def __init__(self, workspace: Workspace, config: ServerConfig, slot: WorkerSlot) -> None:
        """Load what is served.

        Raises:
            StateError: If nothing is published, or keys or certificates can't be read.
        """
        self._config = config
        self._root = workspace.root
        self._slot = slot
        self._metrics = Metrics()
        self._tracer: Tracer = OpenTelemetry() if config.trace else NoTracer()
        self._credentials = tls.credentials(config.tls) if config.tls else None
        self._callers = Callers(config)
        if slot.alone:
            uploads.remove_leftovers(workspace)
        self.watcher = StateWatcher(workspace)
        self._audit, ledger = open_records(workspace, config)
        self._others = OtherHosts(workspace, self.watcher) if workspace.bucket else None
        self._limits = Limits(config, ledger)
        self._refusals = Refusals(self._audit)
        # More than cores, and than one caller has places: an abandoned search still runs to its end.
        self.threads = ThreadPoolExecutor(max(config.max_calls // 4, 8), "work")
        self._guard = Middleware(
            *(config, self._callers, self._limits, self._audit, self._refusals, self._metrics, self._tracer),
            watcher=self.watcher,
            catch_up=self._catch_up,
            threads=self.threads,
        )
        self._next_look: asyncio.Future[None] | None = None
        self._looked_at = -_LOOKS_APART_S
        self.healthy = Health()
        embedder = uploads.Uploads(workspace, self.watcher, config)
        self._retrieval = Retrieval(self.watcher, embedder, self._metrics.batch.observe, self._count_verdict)
        classification = Classification(self.watcher, self._count_verdict)
        administration = Admin(workspace, self.watcher, slot.statuses, _sandbox(config.least_sandbox))
        self._methods = (
            *self._retrieval.methods(),
            *classification.methods(),
            *Catalog(self.watcher).methods(),
            *administration.methods(),
            *Review(workspace, self.watcher).methods(),
            *standard_methods(self.healthy, SERVICES),
        )

    def listen(self) -> tuple[grpc.aio.Server, int]:
        """A server with all methods on its port, not yet started.

        Raises:
            StateError: If the port is taken.
        """
        config = self._config
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_concurrent_streams", _STREAMS_OF_A_CONNECTION),
                ("grpc.max_metadata_size", _METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", 2 * _METADATA_BYTES),
                ("grpc.max_allowed_incoming_connections", connections_at_most(config.max_connections)),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.http2.settings_timeout", _HANDSHAKE_MS),
                ("grpc.max_connection_idle_ms", _IDLE_MS),
                ("grpc.max_connection_age_ms", _AGE_MS),
                ("grpc.max_connection_age_grace_ms", _GRACE_MS),
                ("grpc.so_reuseport", int(not self._slot.alone)),
                ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ],
        )
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for method in self._methods:
            _, service, name = method.name.split("/")
            by_service.setdefault(service, {})[name] = self._guard.handler(method)
        server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(service, handlers) for service, handlers in by_service.items())
        )
        return server, tls.add_port(server, f"{bracketed(config.host)}:{self._slot.port}", self._credentials)

    def warm_up(self) -> None:
        """Do once what the first callers would wait for."""
        state = self.watcher.state
        clips = state.snapshot.generation.clips
        rows = np.linspace(0, len(clips) - 1, min(_WARM_QUERIES, len(clips))).astype(int).tolist()
        search_each(state.snapshot, [ClipQuery(clips[row].clip_id) for row in rows])
        self._measure_usual()

    def announce(self, *, ready: bool) -> None:
        """Say by health whether calls are answered."""
        self.healthy.set(("", *SERVICES), ready=ready)

    def duties(self) -> tuple[Duty, ...]:
        """What is done between calls."""
        duties: tuple[Duty, ...] = (
            Duty("the list of the erased", self.watcher.withhold_erased, needed=True),
            Duty("the index and the store", self.watcher.look, needed=True),
            Duty("the audit log on the disk", self._audit.sync, needed=True),
            Duty("usual distances", self._measure_usual),
            Duty("refusals for the audit log", self._refusals.write),
            Duty("the day's quotas", self._limits.exchange),
            Duty("the roster", self.report),
        )
        if self._others is not None:
            duties = (*duties, Duty("what other hosts have erased", self._others.follow))
        tokens = self._callers.tokens
        return duties if tokens is None else (*duties, Duty("keys for tokens", tokens.refresh))

    def report(self) -> None:
        """Say to other workers, and in metrics, what is served."""
        state = self.watcher.state
        snapshot = state.snapshot
        tail = len(snapshot) - len(snapshot.generation.clips)
        self._metrics.index_age.set(state.index_age_s)
        self._metrics.tail.set(tail)
        self._metrics.clips.set(len(snapshot))
        disk = shutil.disk_usage(self._root)
        self._metrics.disk_free.set(disk.free / disk.total)
        if self._config.tls is not None:
            with contextlib.suppress(OSError, ValueError):  # as while it is exchanged: told when clients connect
                self._metrics.certificate_ends.set(tls.ends_at(self._config.tls))
        self._slot.statuses.say(state.provenance, tail, self._guard.calls)

    async def watch(self, duties: Duties, stop: asyncio.Event) -> None:
        """Say how the duties stand, by metrics and by health, until it is time to stop."""
        ready = True
        while not stop.is_set():
            self._slot.beat()
            for name, age in duties.ages().items():
                self._metrics.duty_age.labels(name).set(age)
            if ready != (not duties.late()):
                ready = not ready
                self.announce(ready=ready)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._config.refresh_s)

    async def drain(self, server: grpc.aio.Server) -> None:
        """Say that no more is answered, and let calls in flight finish."""
        self._guard.draining = True
        self.announce(ready=False)
        await server.stop(self._config.drain_s)

    def close(self) -> None:
        """Bring what was counted and written to the disk; what hangs is waited for some seconds, and left."""
        ended(self._retrieval.close, self._limits.exchange, self._close_log, self._tracer.close)

    def _close_log(self) -> None:
        try:
            self._refusals.write(everything=True)
        finally:
            self._audit.close()

    def serve_metrics(self) -> Callable[[], None]:
        """Over HTTP, where that is wanted of this worker; returns what ends it."""
        if self._config.metrics_port is None or not self._slot.alone:
            return lambda: None
        return self._metrics.serve(self._config.metrics_port)[1]

    def _measure_usual(self) -> None:
        _ = self.watcher.state.usual

    def _count_verdict(self, judged: Judged) -> None:
        sets = judged.evidence.prediction_set
        abstains = sets is not None and sets.abstains
        self._metrics.verdicts.labels(judged.verdict.label, str(abstains).lower()).inc()

    async def _catch_up(self, seen: str) -> None:
        """Nothing older than what a caller has seen may follow: what is published is looked at again."""
        generation, _, version = seen.partition("/")
        provenance = self.watcher.state.provenance
        number = int(version) if version.isascii() and version.isdecimal() and len(version) < 19 else 0
        newer = number > provenance.table_version
        if generation != provenance.generation or newer:
            if self._next_look is None:
                self._next_look = asyncio.ensure_future(self._look_again())
            await asyncio.shield(self._next_look)
            if await asyncio.to_thread(self.watcher.is_behind, generation):
                raise ServiceError("UNAVAILABLE", "this server could not take up the index that you have seen already")

    async def _look_again(self) -> None:
        """For all who ask for it until it begins: whatever callers claim to have seen, it costs no more."""
        await asyncio.sleep(self._looked_at + _LOOKS_APART_S - time.monotonic())
        self._next_look, self._looked_at = None, time.monotonic()
        await asyncio.to_thread(self.watcher.refresh)


def run(serving: Coroutine[Any, Any, None]) -> None:
    """Run a server to its end, in uvloop's event loop: a tenth more calls than in asyncio's own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


async def serve(
    workspace: Workspace,
    config: ServerConfig,
    on_ready: Callable[[str, StateWatcher], None] = lambda address, watcher: None,
    slot: WorkerSlot | None = None,
) -> None:
    """Serve a workspace until SIGTERM or SIGINT, then let calls in flight finish.

    Args:
        workspace: what to serve.
        config: settings.
        on_ready: told the address, once calls are answered.
        slot: its place among other workers; by default it is alone.

    Raises:
        StateError: If nothing is published, the port is taken, or keys or certificates can't be read.
    """
    sys.setswitchinterval(_SWITCH_S)
    raise_soft_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not stop.is_set():
            end_in_any_case(config.drain_s + _ENDS_S)  # from now on: what hangs may be what comes next
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)  # before anybody can see that there is a server
    server = await asyncio.to_thread(Server, workspace, config, slot or WorkerSlot(config.port, WorkerStatuses()))
    loop.set_default_executor(server.threads)
    listener, port = server.listen()
    server.announce(ready=False)
    await asyncio.to_thread(server.warm_up)
    await asyncio.to_thread(server.report)
    end_metrics = server.serve_metrics()
    duties = Duties(server.duties(), config.refresh_s, config.late_s)
    duties.start()
    await listener.start()
    server.announce(ready=True)
    on_ready(f"{bracketed(config.host)}:{port}", server.watcher)
    await server.watch(duties, stop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)  # it is ending: a second one must not make it end otherwise
    duties.stop()
    await server.drain(listener)
    await asyncio.to_thread(server.close)
    end_metrics()


def _sandbox(least: str) -> str:
    """How far decoders of uploads are sandboxed on this machine.

    Raises:
        StateError: If that is less than was asked for.
    """
    level = level_here()
    check_level(level, least)
    _logger.log(logging.INFO if level == LEVELS[-1] else logging.WARNING, "decoders are sandboxed at level %s", level)
    return level
