"""What the command shows: results on stdout, as words or as one JSON object; everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

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


class Report(Protocol):
    """Told (done, total), and what is being done where that changes."""

    def __call__(self, done: float, total: int, now: str = "", /) -> None:
        """Say it."""


class Screen:
    """The two streams of one command run.

    Args:
        as_json: whether the result is one JSON object.
        silent: whether notes, warnings and progress are kept back, since another process says the same.
    """

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
        self._err.print(text, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Something the user should know before trusting the result."""
        self._err.print(Text.assemble(("warning: ", "yellow"), text), soft_wrap=True)

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
        """A bar with the time that remains, on stderr."""
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


class _TwoLines(Progress):
    """A bar, and below it what goes on."""

    now = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.now:
            yield Text(self.now, "dim")
