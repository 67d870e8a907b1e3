"""Concurrent questions go together, and each gets its own answer."""

import asyncio
import threading

import pytest

from service.serving.batcher import MOST, Batcher


@pytest.fixture
def gate():
    return threading.Event()


@pytest.fixture
def batcher(gate):
    """Answers (key, question) once the gate is open; remembers what came together."""

    def ask(key, questions):
        gate.wait(10)
        batcher.passes.append((key, list(questions)))
        return [ValueError(one) if one == "bad" else (key, one) for one in questions]

    batcher = Batcher(ask)
    batcher.passes = []
    yield batcher
    batcher.close()


async def test_what_comes_in_during_a_pass_goes_into_the_next_one(batcher, gate):
    first = asyncio.create_task(batcher.answer("k", 0))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(batcher.answer("k", number)) for number in range(1, 6)]
    await asyncio.sleep(0.05)
    gate.set()

    assert await first == ("k", 0)
    assert await asyncio.gather(*others) == [("k", number) for number in range(1, 6)]
    assert batcher.passes == [("k", [0]), ("k", [1, 2, 3, 4, 5])]


async def test_a_pass_is_bounded(batcher, gate):
    gate.set()
    await asyncio.gather(*(batcher.answer("k", number) for number in range(3 * MOST)))

    assert max(len(questions) for _, questions in batcher.passes) <= MOST


async def test_questions_of_two_keys_never_go_together(batcher, gate):
    waiting = [asyncio.create_task(batcher.answer(number % 2, number)) for number in range(10)]
    await asyncio.sleep(0.05)
    gate.set()

    assert await asyncio.gather(*waiting) == [(number % 2, number) for number in range(10)]
    assert all({question % 2 for question in questions} == {key} for key, questions in batcher.passes)


async def test_a_question_that_fails_spoils_no_other(batcher, gate):
    gate.set()
    good, bad = await asyncio.gather(batcher.answer("k", "good"), batcher.answer("k", "bad"), return_exceptions=True)

    assert good == ("k", "good")
    assert isinstance(bad, ValueError)


async def test_a_bug_is_told_to_everybody_who_waits_and_ends_nothing():
    def ask(key, questions):
        if key == "bug":
            raise RuntimeError
        return questions

    batcher = Batcher(ask)
    with pytest.raises(RuntimeError):
        await batcher.answer("bug", 1)
    assert await batcher.answer("k", 2) == 2
    batcher.close()


async def test_nobody_is_searched_for_who_has_gone(batcher, gate):
    first = asyncio.create_task(batcher.answer("k", 0))
    gone = asyncio.create_task(batcher.answer("k", 1))
    last = asyncio.create_task(batcher.answer("k", 2))
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.sleep(0)
    gate.set()

    assert [await first, await last] == [("k", 0), ("k", 2)]
    assert [question for _, questions in batcher.passes for question in questions] == [0, 2]
