"""A queue for few places, fair to callers: the one whose last turn is the longest ago is next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.errors import TooMuch

_MOST_WAITING, _MOST_OF_ONE = 32, 4
_RETRY_S = 5.0
_REMEMBERED = 1000


class FairQueue:
    """Gives out places; one caller has at most one, and few waiting.

    Args:
        places: number of places.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._busy: set[str] = set()
        self._turns: dict[str, int] = {}
        self._number = 0
        self._queue: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """Hold a place, once one is free and this caller's turn.

        Raises:
            TooMuch: If too many wait, or too many of this caller.
        """
        waiting = Counter(name for name, _ in self._queue)
        if waiting.total() >= _MOST_WAITING or waiting[caller] >= _MOST_OF_ONE:
            raise TooMuch("too many uploads wait already: try again in some seconds", _RETRY_S, "uploads at once")
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((caller, mine))
        self._call_next()
        try:
            await mine
        except BaseException:
            self._queue = [one for one in self._queue if one[1] is not mine]
            if mine.done() and not mine.cancelled():  # it was this one's turn just as it gave up
                self._end(caller)
            raise
        try:
            yield
        finally:
            self._end(caller)

    def _end(self, caller: str) -> None:
        self._free += 1
        self._busy.discard(caller)
        self._call_next()

    def _call_next(self) -> None:
        """The caller without a place whose last turn is the longest ago."""
        while self._free:
            ready = [one for one in self._queue if one[0] not in self._busy and not one[1].done()]
            if not ready:
                return
            caller, waiting = first = min(ready, key=lambda one: self._turns.get(one[0], 0))
            self._queue.remove(first)
            self._free -= 1
            self._busy.add(caller)
            if len(self._turns) >= _REMEMBERED:
                self._turns.clear()
            self._turns[caller] = self._number = self._number + 1
            waiting.set_result(None)
