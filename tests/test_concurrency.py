"""The limiter and the ledger of a run under many calls at once: bounded, fair, nothing lost."""

import asyncio
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from rlm_adapters.effects import adrive, drive
from rlm_adapters.errors import BudgetExceededError
from rlm_adapters.models.budget import Ledger
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits


async def test_a_small_run_is_not_held_up_by_the_batch_of_its_sibling():
    limiter, order = Limiter(4), []

    async def call(owner: str) -> None:
        release = await adrive(limiter.slot(owner, 1))
        order.append(owner)
        await asyncio.sleep(0)
        release()

    big = [asyncio.create_task(call("big")) for _ in range(200)]
    await asyncio.sleep(0)
    small = [asyncio.create_task(call("small")) for _ in range(5)]
    await asyncio.gather(*big, *small)
    last = max(index for index, owner in enumerate(order) if owner == "small")
    assert last <= 4 + 4 + 2 * 5, "of the free places every second one was the small run's"


def test_threads_and_an_event_loop_share_one_limiter():
    limiter, lock = Limiter(5), threading.Lock()
    flying = most = done = 0

    def enter(change: int) -> None:
        nonlocal flying, most, done
        with lock:
            flying += change
            most = max(most, flying)
            done += change < 0

    def in_thread(number: int) -> None:
        release = drive(limiter.slot(f"thread {number % 3}", 1))
        enter(1)
        enter(-1)
        release()

    async def on_loop(number: int) -> None:
        release = await adrive(limiter.slot(f"task {number % 3}", 1))
        enter(1)
        await asyncio.sleep(0)
        enter(-1)
        release()

    async def tasks() -> None:
        await asyncio.gather(*(on_loop(number) for number in range(200)))

    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(in_thread, number) for number in range(200)]
        asyncio.run(tasks())
        for one in waiting:
            one.result()
    assert done == 400
    assert most <= 5
    assert limiter._free == 5


async def test_cancelling_at_random_loses_no_place():
    limiter, dice = Limiter(3), random.Random(1)

    async def call(owner: str) -> None:
        release = await adrive(limiter.slot(owner, 1))
        try:
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
        finally:
            release()

    tasks = [asyncio.create_task(call(f"{number % 7}")) for number in range(300)]
    while not all(task.done() for task in tasks):
        dice.choice(tasks).cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert limiter._free == 3
    assert not limiter._queues


def test_a_parent_that_waits_for_its_child_holds_no_place():
    """With a single place a tree of any depth comes to its end."""
    limiter = Limiter(1)

    async def level(depth: int, name: str) -> int:
        release = await adrive(limiter.slot(name, 1))
        await asyncio.sleep(0)
        release()
        if depth == 0:
            return 1
        return sum(await asyncio.gather(*(level(depth - 1, f"{name}.{child}") for child in range(4))))

    async def within() -> int:
        async with asyncio.timeout(30):
            return await level(3, "top")

    assert asyncio.run(within()) == 64


def test_calls_that_fail_or_take_less_give_back_what_they_reserved():
    limits = Limits(max_calls=120, max_tokens=40_000, max_output_tokens=100)
    ledger = Ledger(limits)

    def call(seed: int) -> str:
        dice = random.Random(seed)
        place = ledger.try_reserve("m", "sub", 50)
        while isinstance(place, Future):
            place.result(timeout=30)
            place = ledger.try_reserve("m", "sub", 50)
        if dice.random() < 0.3:
            ledger.release(place)
            return "failed"
        ledger.settle(place, 40, min(dice.randrange(100), place.output_tokens or 100))
        return "answered"

    def attempt(seed: int) -> str:
        try:
            return call(seed)
        except BudgetExceededError:
            return "refused"

    with ThreadPoolExecutor(24) as pool:
        ends = list(pool.map(attempt, range(400)))
    used = ledger.used
    assert used["calls"] == ends.count("answered") <= 120
    assert used["input_tokens"] + used["output_tokens"] <= 40_000
    assert "refused" in ends
    assert not ledger._reserved
    assert ledger.balance().calls == 120 - used["calls"]


def test_what_goes_ahead_leaves_half_of_the_calls_and_nothing_near_the_end():
    ledger = Ledger(Limits(max_calls=20))
    assert ledger.room_ahead() == 10
    ledger.book({"calls": 15})
    assert ledger.room_ahead() == 2
    assert Ledger(Limits(max_calls=None)).room_ahead() is None
    tokens = Ledger(Limits(max_calls=None, max_tokens=1_000))
    assert tokens.room_ahead() is None
    tokens.book({"input_tokens": 800, "output_tokens": 0})
    assert tokens.room_ahead() == 0
