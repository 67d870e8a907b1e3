"""How much one caller may ask for: calls a second, and queries a day."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from service.config import ServerConfig
from service.errors import TooMuch
from service.roles import Caller

_logger = logging.getLogger(__name__)

_BURST_S = 2.0
"""Seconds' worth of calls that a caller who was quiet may make at once."""
_MAX_CALLERS = 10_000
PATIENTS_A_CALL = 100
"""An answer that names more counts as several calls: each of them stands in the audit log, with 35 bytes."""


_WAIT_S = 5.0


class Limits:
    """Counts what callers ask for. Calls a second are shared evenly by the workers; a day's queries are one count.

    The day's count lies in a small database that all workers write to; what another worker has counted is seen after
    `exchange`, which the server calls twice a second.

    Args:
        config: has the limits of each role.
        ledger: path of that database; None where it can't be written, and each worker counts for itself.
        clock: seconds, for rates.
        now: gives the time of day.
    """

    def __init__(
        self,
        config: ServerConfig,
        ledger: Path | None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._clock, self._now = clock, now
        self._limit_of = cache(config.limit_of)
        self._buckets: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._day, self._day_ends = self._today()
        self._own: dict[str, int] = defaultdict(int)
        self._all: dict[str, int] = {}
        self._ledger = ledger
        if ledger is None:
            return
        ledger.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.exchange()
        except sqlite3.OperationalError as error:  # a folder, or locked: this process counts for itself
            _logger.error("the day's quotas can't be kept on the disk: %s", type(error).__name__)
            self._ledger = None

    def call(self, caller: Caller) -> None:
        """Count one call.

        Raises:
            TooMuch: If there were too many in the last seconds.
        """
        rate = self._limit_of(caller.roles).calls_per_s / self._config.workers
        now = self._clock()
        most = max(rate * _BURST_S, 1.0)
        tokens, since = self._buckets.get(caller.identity, (most, now))
        tokens = min(tokens + (now - since) * rate, most)
        if tokens < 1:
            self._buckets[caller.identity] = tokens, now
            raise TooMuch(
                f"expected at most {rate * self._config.workers:g} calls a second of one caller: wait a little",
                (1 - tokens) / rate,
                "calls a second",
            )
        if len(self._buckets) >= _MAX_CALLERS:
            self._buckets.clear()
        self._buckets[caller.identity] = tokens - 1, now

    def told(self, caller: Caller, patients: int) -> None:
        """Count an answer's patients, each of whom stands in the audit log: many count as further calls."""
        tokens, since = self._buckets.get(caller.identity, (0.0, self._clock()))
        self._buckets[caller.identity] = tokens - patients // PATIENTS_A_CALL, since

    def queries(self, caller: Caller, count: int) -> None:
        """Count queries against the day's quota, all or none.

        Raises:
            TooMuch: If it is used up.
        """
        most = self._limit_of(caller.roles).searches_a_day
        with self._lock:
            if self._clock() >= self._day_ends:
                self._day, self._day_ends = self._today()
                self._all = {}
                self._own.clear()
            if self._all.get(caller.identity, 0) + self._own[caller.identity] + count > most:
                raise TooMuch(
                    f"expected at most {most} queries a day of one caller: go on tomorrow (UTC), or ask for more",
                    max(self._day_ends - self._clock(), 1.0),
                    "queries a day",
                )
            self._own[caller.identity] += count

    def exchange(self) -> None:
        """Add what was counted here to the ledger, and learn what others have counted."""
        if self._ledger is None:
            return
        try:
            self._exchange(self._ledger)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            _logger.error("the day's quotas are damaged, and counted from the beginning")
            self._ledger.replace(self._ledger.with_suffix(".damaged"))
            self._exchange(self._ledger)

    def _exchange(self, ledger: Path) -> None:
        with self._lock:
            day, counted = self._day, dict(self._own)
        with closing(sqlite3.connect(ledger, timeout=_WAIT_S)) as database, database:
            database.execute(
                "create table if not exists used (day text, caller text, n int, primary key (day, caller))"
            )  # each time: the file may have been taken away
            database.execute("delete from used where day < ?", (day,))
            database.executemany(
                "insert into used values (?, ?, ?) on conflict (day, caller) do update set n = n + excluded.n",
                [(day, name, n) for name, n in counted.items() if n],
            )
            all_ = dict(
                database.execute(
                    "select caller, n from used where day = ? and typeof(n) = 'integer'", (day,)
                ).fetchall()
            )
        with self._lock:
            if day == self._day:
                self._all = all_
                for name, n in counted.items():
                    self._own[name] -= n

    def _today(self) -> tuple[str, float]:
        """The day, and when by the clock another one begins."""
        now = self._now()
        tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return f"{now:%Y-%m-%d}", self._clock() + (tomorrow - now).total_seconds()
