"""Several workers on one port: started, watched, started again when they die, ended together."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from index.errors import StateError
from index.files.locks import ensure_temporary_folder
from index.workspace import Workspace
from service.config import ServerConfig, bracketed
from service.methods import uploads
from service.processes.starting import Child, answer_parent, end_with_parent, request_of_parent
from service.processes.worker_status import WorkerStatuses
from service.server.worker import WorkerSlot, run, serve
from service.serving.watcher import StateWatcher
from service.telemetry import logs
from service.telemetry.metrics import count_into, serve_metrics, worker_is_gone

_AGAIN_S, _AGAIN_MOST_S = 0.2, 10.0
_PIPE_BYTES = 65_536
_LIVED_S = 30.0
"""Seconds after which a worker's death has other causes than what it was started with."""

_logger = logging.getLogger(__name__)


def supervise(
    workspace: Workspace, config: ServerConfig, on_ready: Callable[[str, dict[str, Any]], None] = lambda a, s: None
) -> None:
    """Serve with several workers until SIGTERM or SIGINT.

    Args:
        workspace: what to serve.
        config: settings.
        on_ready: told the address and what the first worker says of itself, once all answer calls.

    Raises:
        StateError: If the port is taken, or the workers do not start.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    uploads.remove_leftovers(workspace)
    ensure_temporary_folder(workspace.root)
    with tempfile.TemporaryDirectory(prefix="semiome-") as folder, _reserved(config) as reserved:
        count_into(Path(folder) / "metrics")
        port = int(reserved.getsockname()[1])
        workers = [_Worker(workspace, config, port, Path(folder), number) for number in range(config.workers)]
        try:
            for worker in workers:
                worker.start()
            try:
                said = [worker.ready(lambda: not stop.is_set()) for worker in workers]
            except StateError:
                if stop.is_set():
                    return
                raise
            end_metrics: Callable[[], None] = lambda: None  # noqa: E731
            if config.metrics_port is not None:
                _, end_metrics = serve_metrics(config.metrics_port)
            on_ready(f"{bracketed(config.host)}:{port}", said[0])
            while not stop.wait(0.1):
                for worker in workers:
                    worker.look_after()
            end_metrics()
        finally:
            for worker in workers:
                worker.ask_to_end()
            for worker in workers:
                worker.end(config.drain_s + 20)


class _Worker:
    """One worker process, and the next one after it."""

    def __init__(self, workspace: Workspace, config: ServerConfig, port: int, folder: Path, number: int) -> None:
        slot = workspace.address
        self._told = {
            "workspace": slot,
            "config": config.model_dump(mode="json"),
            "port": port,
            "statuses": str(folder),
            "number": number,
        }
        self._number = number
        self._late_s = config.late_s
        self._pulse = -1
        self._heard: float | None = None
        self._process: Child | None = None
        self._started = 0.0
        self._again_s = _AGAIN_S
        self._again_at = 0.0

    def start(self) -> None:
        """Start a process; it says when it is ready."""
        self._started, self._heard = time.monotonic(), None
        if self._pulse >= 0:
            os.close(self._pulse)
        self._pulse, beats = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            told = {**self._told, "pulse": beats}
            self._process = Child("service.server.supervisor", request=told, descriptors=[beats])
        finally:
            os.close(beats)

    def ready(self, wanted: Callable[[], bool]) -> dict[str, Any]:
        """What it says when it answers calls.

        Args:
            wanted: asked again and again whether to wait on.

        Raises:
            StateError: If it did not come so far.
        """
        if self._process is None:
            raise StateError(f"worker {self._number} is not running")
        try:
            return self._process.answer(wanted)
        except StateError as error:
            raise StateError(f"worker {self._number} did not start: {error}") from None

    def look_after(self) -> None:
        """Start it again if it has died, later each time that it dies at once."""
        process, now = self._process, time.monotonic()
        if process is None:
            if now >= self._again_at:
                try:
                    self.start()
                except OSError as error:  # no descriptors, no memory: the others answer meanwhile
                    _logger.error("worker %d can't be started now (%s)", self._number, type(error).__name__)
                    self._again_at = now + _AGAIN_MOST_S
            return
        if process.status is None and not self._is_silent(now):
            return
        process.end(0.0)
        worker_is_gone(process.pid)
        self._again_s = _AGAIN_S if now - self._started > _LIVED_S else min(2 * self._again_s, _AGAIN_MOST_S)
        self._again_at = now + self._again_s
        self._process = None
        _logger.error(
            "worker %d ended with %d: another one starts in %.1f s", self._number, process.status, self._again_s
        )

    def _is_silent(self, now: float) -> bool:
        """Whether its event loop has stopped turning; one that still starts has said nothing yet."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._pulse, _PIPE_BYTES):
                self._heard = now
        if self._heard is None or now - self._heard < self._late_s:
            return False
        _logger.error("worker %d has not turned for %.0f s: it is killed", self._number, now - self._heard)
        return True

    def ask_to_end(self) -> None:
        """Let it drain and end."""
        if self._process is not None:
            self._process.ask_to_end()

    def end(self, seconds: float) -> None:
        """Wait for its end; one that does not end is killed."""
        if self._process is not None and not self._process.end(seconds):
            _logger.error("worker %d did not end in time and was killed", self._number)


def _reserved(config: ServerConfig) -> socket.socket:
    """The port, held without listening: the workers share it."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    if not config.port:
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((config.host, 0))
        return found
    try:  # alone, to learn whether another server has it; sharing it would succeed in any case
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((config.host, config.port))
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((config.host, config.port))
    except OSError:
        raise StateError(f"port {config.port} of {config.host} is taken: is another server running?") from None
    return found


def main() -> None:
    """One worker process: told on stdin what to do; it drains when its supervisor is gone."""
    told = request_of_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: the supervisor says when
    logs.set_up()
    end_with_parent()
    config = ServerConfig(**told["config"])
    slot = WorkerSlot(
        told["port"], WorkerStatuses(Path(told["statuses"]), told["number"]), alone=False, pulse=told["pulse"]
    )

    def ready(address: str, watcher: StateWatcher) -> None:
        answer_parent({**watcher.state.summary(), "address": address})

    try:
        run(serve(Workspace.at(told["workspace"]), config, ready, slot))
    except StateError as error:
        answer_parent({"error": {"type": type(error).__name__, "message": str(error)}})
        sys.exit(4)


if __name__ == "__main__":
    main()
