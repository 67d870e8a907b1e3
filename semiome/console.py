"""What the command shows: results on stdout, as words or as one JSON object; everything else on stderr."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from types import FrameType
from typing import Any, ClassVar, Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_LINE_EVERY_S, _LOOKS_S = 60.0, 1.0
_ENDS_S = 60.0
"""Seconds a command may take to end after SIGTERM: a computation in a library sees no signal."""


class Log(StrEnum):
    """How notes, warnings and progress are written to stderr."""

    WORDS = "words"
    JSON = "json"


class Terminated(KeyboardInterrupt):
    """SIGTERM came: a command ends as it does at Ctrl-C."""


class Report(Protocol):
    """Called with (done, total), and what is being done where that changes."""

    def __call__(self, done: float, total: int, now: str = "", /) -> None:
        """Say it."""


class Screen:
    """The two streams of one command run.

    Args:
        as_json: whether the result is one JSON object.
        silent: whether notes, warnings and progress are kept back, since another process says the same.

    Attributes:
        log: how the second stream is written, by whatever screen of this process.
    """

    log: ClassVar[Log] = Log.WORDS

    def __init__(self, *, as_json: bool, silent: bool = False) -> None:
        self.as_json = as_json
        # No markup: ids and file names may hold brackets. In a pipe lines are as long as they must be.
        self._out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)
        self._err = Console(stderr=True, highlight=False, markup=False, quiet=silent)

    def result(self, values: Mapping[str, Any], show: Callable[[], None]) -> None:
        """The command's one result: `values` as JSON, or whatever `show` prints."""
        if self.as_json:
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()
        else:
            show()

    def say(self, text: str, style: str | None = None) -> None:
        """A line of the result, for people."""
        self._out.print(text, style=style, soft_wrap=True)

    def can_ask(self) -> bool:
        """Whether a question can be answered: results are for people, and standard input is a terminal."""
        return not self.as_json and sys.stdin.isatty()

    def note(self, text: str) -> None:
        """A line about what is going on, for people who watch."""
        self._write("info", text, text)

    def warn(self, text: str) -> None:
        """Something the user should know before trusting the result."""
        self._write("warning", text, Text.assemble(("warning: ", "yellow"), text))

    def _write(self, level: str, message: str, shown: Text | str, **values: object) -> None:
        if self.log == Log.WORDS:
            self._err.print(shown, soft_wrap=True)
        elif not self._err.quiet:
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            sys.stderr.write(json.dumps({"at": at, "level": level, "message": message, **values}) + "\n")
            sys.stderr.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table of the result; numbers are aligned right."""
        table = Table(title=Text(title, "bold"), title_justify="left")
        for index, column in enumerate(columns):
            numeric = bool(rows) and isinstance(rows[0][index], int | float)
            table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row))
        self._out.print(table)

    @contextmanager
    def progress(self, what: str) -> Iterator[Report]:
        """How far a command has come, on stderr: a bar, or where no terminal is, a line a minute and one at the end.

        SIGTERM ends what is done within as Ctrl-C does, by `Terminated`.
        """
        lines = _Lines(what, self._write)
        with _ending_as_by_ctrl_c(lambda: lines.end("interrupted")):
            if self._err.is_terminal and self.log == Log.WORDS:
                with self._bar(what) as report:
                    yield report
            else:
                try:
                    with lines.each_minute():
                        yield lines.report
                except BaseException as error:
                    lines.end("interrupted" if isinstance(error, KeyboardInterrupt) else "ended")
                    raise
                lines.end("done")

    @contextmanager
    def _bar(self, what: str) -> Iterator[Report]:
        columns = (
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
            *(TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn()),
        )
        with _TwoLines(*columns, console=self._err) as bar:
            task = bar.add_task(what, total=None)

            def report(done: float, total: int, now: str = "") -> None:
                bar.now = now
                bar.update(task, completed=done, total=total or None)

            yield report


class _Lines:
    """Progress for a log: how much is done, how fast, how long it will still take.

    Args:
        what: is done.
        write: given a level, a message, how it is shown, and values.
        clock: seconds.
    """

    def __init__(self, what: str, write: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._write, self._clock = what, write, clock
        self._began = self._said = clock()
        self._first: float | None = None
        self._done, self._total, self._now = 0.0, 0, ""
        self._printing = threading.Lock()

    def report(self, done: float, total: int, now: str = "", /) -> None:
        """Note it; print it when a minute has passed."""
        self._first = done if self._first is None else self._first
        self._done, self._total, self._now = done, total, now
        self.tick()

    def tick(self) -> None:
        """Print it when a minute has passed."""
        with self._printing:
            if self._clock() - self._said >= _LINE_EVERY_S:
                self._say("")

    @contextmanager
    def each_minute(self) -> Iterator[None]:
        """Within the block a line comes each minute, also while nothing comes on."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOKS_S):
                self.tick()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def end(self, how: str) -> None:
        """The last line."""
        self._say(how)

    def _say(self, how: str) -> None:
        self._said = self._clock()
        took_s = self._said - self._began
        rate = (self._done - (self._first or 0.0)) / took_s if took_s > 0 else 0.0
        left_s = (self._total - self._done) / rate if rate > 0 and self._total else None
        text = f"{self._what}: {self._done:.6g}"
        text += f" of {self._total} ({self._done / self._total:.0%})" if self._total else ""
        text += f", {60 * rate:.3g} a minute" if rate > 0 else ""
        if how:
            text += f", {how} after {duration(took_s)}"
        elif left_s is not None:
            text += f", about {duration(left_s)} left"
        text += f"; {self._now}" if self._now else ""
        values = {"what": self._what, "done": round(self._done, 3), "total": self._total, "now": self._now}
        values |= {"a_minute": round(60 * rate, 3), "left_s": None if how or left_s is None else round(left_s)}
        self._write("info", text, text, **values, state=how or "running", took_s=round(took_s, 1))


def duration(seconds: float) -> str:
    """A duration in words: 40 s, 12 min, 3 h 20 min, 2 days 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


@contextmanager
def _ending_as_by_ctrl_c(last: Callable[[], None]) -> Iterator[None]:
    """Within the block SIGTERM raises `Terminated`; where no signal is heard, the process ends a minute later.

    A thread sees to that: Python's handlers wait until a library's call returns. Nothing is changed outside the main
    thread, or where SIGTERM is handled or ignored already.

    Args:
        last: called before the process is ended so.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    reading, writing = socket.socketpair()
    writing.setblocking(False)

    def see_to_it() -> None:
        with reading, suppress(OSError):
            while data := reading.recv(64):
                if signal.SIGTERM in data or signal.SIGINT in data:
                    reading.settimeout(_ENDS_S)
                    with suppress(TimeoutError):
                        while reading.recv(64):
                            pass
                        return
                    last()
                    os._exit(128 + (signal.SIGTERM if signal.SIGTERM in data else signal.SIGINT))

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  as the signal module has it
        raise Terminated

    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=see_to_it, daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        writing.close()


class _TwoLines(Progress):
    """A bar, and below it what is being done."""

    now = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.now:
            yield Text(self.now, "dim")
