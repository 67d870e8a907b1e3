"""Starting another process of Semiome and ending it: the one way in which this is done.

A child is a fresh interpreter, never a fork. It may be told what to do by one line of JSON on stdin, which stays open:
its end tells the child that its parent is gone, however that happened. Once it is ready, or can't be, the child answers
with one line of JSON on stdout. SIGTERM asks it to end; a child that does not is killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from index.errors import StateError
from service.config import PageSettings, ServerConfig
from service.environment import PREFIX

_PAGE_ENDS_S, _PAGE_AGAIN_S, _PAGE_AGAIN_MOST_S = 15.0, 0.5, 10.0
_LOOKS_S = 0.2
_LOG_SHOWN = 2_000
"""Characters of a log that an error shows: its end."""

_logger = logging.getLogger(__name__)


class Child:
    """A process that was started here."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        request: Mapping[str, Any] | None = None,
        log: IO[str] | None = None,
        descriptors: Sequence[int] = (),
        outlives: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start `python -m module`.

        Args:
            module: a module with a `main`.
            arguments: of its command line.
            request: see `tell`; by default none yet.
            log: what it says on stderr goes there; by default to this process's stderr.
            descriptors: open files that it inherits, under the same numbers.
            outlives: it keeps running when this process ends, and answers nothing.
            environment: its variables; by default those of this process.
        """
        self._process = subprocess.Popen(  # noqa: S603  this interpreter, without a shell
            [sys.executable, "-P", "-m", module, *arguments],  # -P: nothing is imported from the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL if outlives else subprocess.PIPE,
            stderr=log,
            text=True,
            pass_fds=descriptors,
            start_new_session=outlives,
            env=environment,
        )
        self._outlives = outlives
        if request is not None:
            self.tell(request)
        if outlives:
            threading.Thread(target=self._process.wait, daemon=True).start()  # else it would stay as a zombie

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative the signal that killed it; None while it runs."""
        return self._process.poll()

    def answer(self, wanted: Callable[[], bool] = lambda: True) -> dict[str, Any]:
        """What it says of itself once it is ready; waits for it.

        Args:
            wanted: asked again and again whether to wait on.

        Raises:
            StateError: If it ended instead, answered why it can't go on, said something else, or is not waited for.
        """
        while self._process.stdout and not select.select([self._process.stdout], [], [], _LOOKS_S)[0]:
            if not wanted():
                raise StateError("a process that was started is not waited for")
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise StateError(f"a process that was started ended with status {self._process.wait()} before it was ready")
        try:
            answered: dict[str, Any] = json.loads(line)
        except ValueError:
            raise StateError("a process that was started said something other than that it is ready") from None
        if "error" in answered:
            raise StateError(str(answered["error"]["message"]))
        return answered

    def ask_to_end(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self._process.terminate()

    def end(self, patience_s: float) -> bool:
        """Ask it to end and wait; kill it when it has not ended after `patience_s` seconds.

        Returns:
            Whether it ended without being killed here.
        """
        self.ask_to_end()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        finally:
            self._close()
        return True

    def tell(self, request: Mapping[str, Any]) -> None:
        """Send what `request_of_parent` receives there; once."""
        with contextlib.suppress(BrokenPipeError):  # that it has died is seen when it does not answer
            if self._process.stdin is not None:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
        if self._outlives:
            self._close()

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def request_of_parent() -> dict[str, Any]:
    """What this process was told on stdin."""
    line = sys.stdin.readline()
    if not line:
        sys.exit("the process that started this one ended before it said what to do")
    request: dict[str, Any] = json.loads(line)
    return request


def answer_parent(values: Mapping[str, Any]) -> None:
    """Say on stdout that this process is ready, and what there is to know of it."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def end_with_parent() -> None:
    """Send SIGTERM to this process once its parent has ended, or has closed its stdin."""

    def follow() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def server_process(workspace: Path, *options: str, patience_s: float = 60.0) -> Iterator[dict[str, Any]]:
    """A `semiome serve` process on a free port, for the length of the block, without settings of the environment.

    Args:
        workspace: the workspace it serves.
        options: more of its options.
        patience_s: how long it may take to end, in seconds.

    Yields:
        What it says of itself: its `address`, with `--web-port` also its `page`, and more.

    Raises:
        StateError: If it does not start, or does not end cleanly.
    """
    served = ("--workspace", str(workspace), "--port", "0", "--json", "--until-stdin-ends", *options)
    with tempfile.TemporaryFile("w+") as log:  # a pipe that is not read would stop it once it is full
        plain = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
        server = Child("semiome", "serve", *served, log=log, environment=plain)
        try:
            try:
                answered = server.answer()
            except StateError as error:
                log.seek(0)
                said = log.read().strip()[-_LOG_SHOWN:]
                more = "" if str(error) in said else f"; {said}"
                raise StateError(f"the server did not start: {error}{more}") from None
            yield answered
        finally:
            server.end(patience_s)
        if server.status:
            raise StateError(f"the server ended with status {server.status} instead of 0")


@contextmanager
def page_process(*options: str) -> Iterator[str]:
    """A `semiome web` process with these options, for the length of the block; another one where it dies.

    Yields:
        The page's address.

    Raises:
        StateError: If it does not start.
    """
    command = ("web", "--json", "--until-stdin-ends", *options)
    page, ending = Child("semiome", *command), threading.Event()

    def look_after(port: int) -> None:
        nonlocal page
        again_s = _PAGE_AGAIN_S
        while not ending.wait(again_s):
            if page.status is None:
                again_s = _PAGE_AGAIN_S
                continue
            _logger.error("the review page ended with %d: another one is started", page.status)
            page.end(0.0)
            page = Child("semiome", *command, "--port", str(port))
            try:
                page.answer(lambda: not ending.is_set())
            except StateError as error:
                _logger.error("the review page did not start: %s", error)
                page.end(0.0)
                again_s = min(2 * again_s, _PAGE_AGAIN_MOST_S)

    try:
        address = str(page.answer()["page"])
        watch = threading.Thread(target=look_after, args=(urlsplit(address).port,), daemon=True)
        watch.start()
        try:
            yield address
        finally:
            ending.set()
            watch.join()
    finally:
        page.end(_PAGE_ENDS_S)


def page_beside(config: ServerConfig, address: str) -> AbstractContextManager[str]:
    """The review page beside a server, as `page_process` gives it.

    Args:
        config: the server's, with a page.
        address: where the server listens.
    """
    page = config.page or PageSettings()
    host, _, port = address.rpartition(":")
    wildcard = host.strip("[]") in {"0.0.0.0", "::"}  # noqa: S104  listened on, not connected to
    options = ["--server", f"{'localhost' if wildcard else host}:{port}", "--port", str(page.port)]
    options += [part for name in page.names for part in ("--name", name)]
    if config.tls is not None:
        options += ["--ca", str(page.ca), "--host", config.host]
        options += ["--tls-certificate", str(config.tls.certificate), "--tls-key", str(config.tls.key)]
    return page_process(*options)
