"""Log lines: one JSON object each where programs read them, words where people do."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from service.errors import type_and_place

_REPEATS, _REPEATS_S, _KINDS = 50, 10.0, 1000
"""Most lines of a kind in a time in seconds, and most kinds remembered."""


class Repeats(logging.Filter):
    """Lets a few lines of a kind through at a time, and says how many more there were: strangers fill no disk.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written."""
        key, now = (record.name, record.levelno, str(record.msg)), self._clock()
        began, count = self._seen.get(key, (now, 0))
        if now - began >= _REPEATS_S:
            if count > _REPEATS:
                record.msg = f"{record.msg} ({count - _REPEATS} more of these lines were left out before)"
            began, count = now, 0
        if len(self._seen) >= _KINDS:
            self._seen.clear()
        self._seen[key] = began, count + 1
        return count < _REPEATS


class JsonLines(logging.Formatter):
    """A record as JSON. Of an exception it says type and place only: its text may name a file or a patient."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        values = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            values["exception"] = type_and_place(record.exc_info[1])
        return json.dumps(values)


class Words(logging.Formatter):
    """A record for people who watch; of an exception type and place only."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatException(self, ei: object) -> str:  # noqa: N802  logging's name
        """In a few words."""
        return type_and_place(ei[1]) if isinstance(ei, tuple) and ei[1] is not None else ""


def set_up() -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler()
    handler.addFilter(Repeats())
    handler.setFormatter(Words() if sys.stderr.isatty() else JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # it repeats metadata that is not UTF-8
