"""The end of a process, which comes though a disk or a thread hangs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from service.errors import type_and_place

_CLOSES_S = 5.0

_logger = logging.getLogger(__name__)


class _Ending:
    """Something done at the end, in a thread that the end of the process does not wait for."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self.done, self.error = False, ""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  the others are brought to their end all the same
            self.error = f"failed with {type_and_place(error)}"
        self.done = True


def ended(*works: Callable[[], None]) -> None:
    """Do what has to be done at the end, all at once; what hangs is waited for some seconds, and left."""
    endings = [_Ending(work) for work in works]
    until = time.monotonic() + _CLOSES_S
    while not all(ending.done for ending in endings) and time.monotonic() < until:
        time.sleep(0.01)
    for ending in endings:
        if ending.error or not ending.done:
            _logger.error("ending: %s", ending.error or "something hangs, and is left")


def end_in_any_case(seconds: float) -> None:
    """End this process after this many seconds, whichever of its threads hangs."""

    def end() -> None:
        time.sleep(seconds)
        _logger.error("something hangs: %.0f s after the signal the server ends without it", seconds)
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
