"""One body for sync and async: what is gathered runs together, and ends together."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from contextlib import aclosing, closing, contextmanager

import pytest

from rlm_adapters.effects import Item, Items, Wait, adrive, drive, gather, sleep

NAME = contextvars.ContextVar("NAME", default="none")


def both(steps):
    """A body driven in both ways."""
    return [drive(steps()), asyncio.run(adrive(steps()))]


def test_results_come_in_the_order_of_the_works_whichever_ends_first():
    def work(number):
        yield sleep(0.02 * (3 - number))
        return number

    def all_of_them():
        return (yield gather([work(number) for number in range(3)], 3))

    assert both(all_of_them) == [[0, 1, 2], [0, 1, 2]]


def test_works_run_at_the_same_time_as_many_as_there_are_threads():
    running, most, lock = 0, [], threading.Lock()

    def count(change):
        nonlocal running
        with lock:
            running += change
            most.append(running)

    def work():
        count(1)
        yield sleep(0.02)
        count(-1)

    def all_of_them():
        yield gather([work() for _ in range(6)], 2)

    drive(all_of_them())
    assert max(most) == 2
    most.clear()
    asyncio.run(adrive(all_of_them()))
    assert max(most) == 6


def test_works_see_the_context_of_the_caller():
    def work():
        yield sleep(0)
        return NAME.get()

    def all_of_them():
        return (yield gather([work(), work()], 2))

    token = NAME.set("mine")
    try:
        assert both(all_of_them) == [["mine", "mine"]] * 2
    finally:
        NAME.reset(token)


@pytest.mark.parametrize("way", [drive, lambda steps: asyncio.run(adrive(steps))], ids=["sync", "async"])
def test_the_first_error_ends_the_wait_and_the_others_with_it(way):
    ended = threading.Event()

    def fails():
        yield sleep(0)
        raise ValueError("no")

    def waits():
        try:
            yield Wait(lambda: ended.wait(20), lambda: asyncio.sleep(20))
        finally:
            ended.set()

    def all_of_them():
        yield gather([fails(), waits()], 2)

    start = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        way(all_of_them())
    assert time.monotonic() - start < 10, "the caller did not wait for the other one"
    ended.set()  # lets the thread of the blocking form go, which nobody can stop


async def test_a_cancelled_caller_cancels_what_it_gathers():
    ended = []

    def work():
        try:
            yield sleep(20)
        except BaseException as error:
            ended.append(type(error))
            raise

    def all_of_them():
        yield gather([work(), work()], 2)

    task = asyncio.create_task(adrive(all_of_them()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert ended == [asyncio.CancelledError] * 2


class Told:
    """A body that hands over numbers, and notes what happens to it."""

    def __init__(self, *, broken: bool = False) -> None:
        self.seen = []
        self.broken = broken

    def body(self):
        try:
            for number in range(3):
                yield sleep(0)
                self.seen.append(NAME.get())
                if self.broken and number == 1:
                    raise ValueError("broken")
                yield Item(number)
        finally:
            yield sleep(0)
            self.seen.append("closed")

    def items(self):
        return Items(self.body(), within=self.within, after=self.seen.append)

    @contextmanager
    def within(self):
        token = NAME.set("inside")
        yield
        NAME.reset(token)


def read_sync(items, first):
    read = []
    with closing(iter(items)) as numbers:
        for number in numbers:
            read.append((number, NAME.get()))
            if len(read) == first:
                break
    return read


def read_async(items, first):
    async def reading():
        read = []
        async with aclosing(aiter(items)) as numbers:
            async for number in numbers:
                read.append((number, NAME.get()))
                if len(read) == first:
                    break
        return read

    return asyncio.run(reading())


@pytest.mark.parametrize("read", [read_sync, read_async])
def test_items_are_handed_over_between_waits_and_outside_of_what_the_body_runs_within(read):
    told = Told()
    assert read(told.items(), None) == [(0, "none"), (1, "none"), (2, "none")]
    assert told.seen == ["inside", 0, "inside", 1, "inside", 2, "closed"]


@pytest.mark.parametrize("read", [read_sync, read_async])
def test_a_body_whose_reader_stops_may_wait_while_it_is_closed(read):
    told = Told()
    assert read(told.items(), 2) == [(0, "none"), (1, "none")]
    assert told.seen == ["inside", 0, "inside", "closed"]


@pytest.mark.parametrize("read", [read_sync, read_async])
def test_an_error_of_a_body_reaches_its_reader(read):
    told = Told(broken=True)
    with pytest.raises(ValueError, match="broken"):
        read(told.items(), None)
    assert told.seen == ["inside", 0, "inside", "closed"]
