"""Concurrent searches, gathered: what comes in while one pass over the index is under way goes into the next one.

A search that comes in alone begins at once. After a pass that had several, the next one waits for company, but no
longer than `WAIT_S`: a pass costs as much for one query as for three, and at such times they come soon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Question = TypeVar("Question")
Reply = TypeVar("Reply")

MOST = 32
ENOUGH = 16
WAIT_S = 0.002


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Question, Reply]):
    question: Question
    key: object
    answer: asyncio.Future[Reply]


class Batcher(Generic[Question, Reply]):
    """Gathers questions for one thread.

    Args:
        ask: answers many questions of one key, in order, in that thread; an answer may be an exception.
        on_batch: told how many were answered in one pass.
    """

    def __init__(
        self,
        ask: Callable[[object, Sequence[Question]], Sequence[Reply | BaseException]],
        on_batch: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._ask = ask
        self._on_batch = on_batch
        self._waiting: deque[_Waiting[Question, Reply]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._busy = False
        self._several = False
        self._timer: asyncio.TimerHandle | None = None

    async def answer(self, key: object, question: Question) -> Reply:
        """The reply to one question; only questions of equal keys go together."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Question, Reply] = _Waiting(question, key, loop.create_future())
        self._waiting.append(waiting)
        if not self._busy:
            self._next(loop)
        elif self._timer is not None and len(self._waiting) >= ENOUGH:
            self._timer.cancel()
            self._next(loop)
        return await waiting.answer

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """The next pass, at once or when enough have come."""
        if self._several and len(self._waiting) < ENOUGH:
            self._timer = loop.call_later(WAIT_S, self._next, loop)
        else:
            self._next(loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        batch: list[_Waiting[Question, Reply]] = []
        others: deque[_Waiting[Question, Reply]] = deque()
        while self._waiting and len(batch) < MOST:
            one = self._waiting.popleft()
            if one.answer.cancelled():  # its caller has gone
                continue
            (batch if not batch or one.key == batch[0].key else others).append(one)
        self._waiting.extendleft(reversed(others))
        self._busy, self._several = bool(batch), len(batch) > 1
        if batch:
            self._thread.submit(self._pass, loop, batch)

    def _pass(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting[Question, Reply]]) -> None:
        replies: Sequence[Reply | BaseException]
        try:
            replies = self._ask(batch[0].key, [one.question for one in batch])
            self._on_batch(len(batch))
        except BaseException as error:  # noqa: BLE001  raised where it was asked
            replies = [error] * len(batch)
        loop.call_soon_threadsafe(self._tell, loop, batch, replies)

    def _tell(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Waiting[Question, Reply]],
        replies: Sequence[Reply | BaseException],
    ) -> None:
        self._soon(loop)  # the thread continues while these are sent
        for one, reply in zip(batch, replies, strict=True):
            if one.answer.done():
                continue
            if isinstance(reply, BaseException):
                one.answer.set_exception(reply)
            else:
                one.answer.set_result(reply)
