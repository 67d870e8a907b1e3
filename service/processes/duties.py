"""What a server does between calls, each duty in a thread of its own: one that hangs holds up no other.

A thread can't be stopped from outside. So nothing waits for a duty: how long ago each came through is a metric, one
that is late is logged, and where answers rest on it the server says that it is not ready.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.errors import type_and_place

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """One thing that is done again and again.

    Attributes:
        name: in logs and metrics.
        work: does it once; raises where it could not.
        needed: answers rest on it: late, it makes the server not ready.
    """

    name: str
    work: Callable[[], None]
    needed: bool = False


class Duties:
    """Runs several, each at its interval in seconds, until stopped.

    Args:
        duties: what to run.
        every_s: from the end of one time to the beginning of the next.
        late_s: one that has not succeeded for this many seconds is late.
    """

    def __init__(self, duties: Sequence[Duty], every_s: float, late_s: float) -> None:
        self._duties = duties
        self._every_s, self._late_s = every_s, late_s
        self._ending = threading.Event()
        self._late: set[str] = set()
        now = time.monotonic()
        self._last_success = {duty.name: now for duty in duties}

    def start(self) -> None:
        """Begin; threads that end with the process, whatever they are doing."""
        for duty in self._duties:
            threading.Thread(target=self._again_and_again, args=(duty,), name=duty.name, daemon=True).start()

    def stop(self) -> None:
        """Begin none again. Waits for none."""
        self._ending.set()

    def ages(self) -> dict[str, float]:
        """Seconds since each last succeeded, or since the start."""
        now = time.monotonic()
        return {name: now - at for name, at in self._last_success.items()}

    def late(self) -> list[str]:
        """Those that answers rest on and that have not succeeded for too long."""
        late = {name for name, age in self.ages().items() if age > self._late_s}
        for name in sorted(late - self._late):
            _logger.error("%s: has not succeeded for %.0f s", name, self._late_s)
        for name in sorted(self._late - late):
            _logger.warning("%s: succeeds again", name)
        self._late = late
        return sorted(duty.name for duty in self._duties if duty.needed and duty.name in late)

    def _again_and_again(self, duty: Duty) -> None:
        complaint = ""
        while not self._ending.wait(self._every_s):
            try:
                duty.work()
            except Exception as error:  # noqa: BLE001  a full disk, say: it is tried again, and its age tells
                said = type_and_place(error)
                if said != complaint:  # once, not every second
                    _logger.error("%s: failed with %s", duty.name, said)
                complaint = said
            else:
                complaint = ""
                self._last_success[duty.name] = time.monotonic()
