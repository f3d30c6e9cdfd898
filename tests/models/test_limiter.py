"""The limiter: bounded, fair, and never losing a place."""

import asyncio

import pytest

from rlm_adapters.effects import adrive, drive
from rlm_adapters.models.limiter import Limiter


async def test_no_more_calls_are_in_flight_than_allowed():
    limiter, flying, most = Limiter(3), 0, 0

    async def call(owner: str) -> None:
        nonlocal flying, most
        release = await adrive(limiter.slot(owner, 1))
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.002)
        flying -= 1
        release()

    await asyncio.gather(*(call(str(i % 4)) for i in range(40)))
    assert most == 3


async def test_places_go_to_the_owners_in_turn():
    limiter, order = Limiter(1), []
    held = await adrive(limiter.slot("first", 1))

    async def call(owner: str) -> None:
        release = await adrive(limiter.slot(owner, 1))
        order.append(owner)
        release()

    tasks = [asyncio.create_task(call(owner)) for owner in ["big", "big", "big", "big", "small"]]
    await asyncio.sleep(0)
    held()
    await asyncio.gather(*tasks)
    assert order.index("small") == 1


async def test_a_cancelled_waiter_gives_its_place_up():
    limiter = Limiter(1)
    held = await adrive(limiter.slot("a", 1))
    waiting = asyncio.create_task(adrive(limiter.slot("b", 1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held()
    async with asyncio.timeout(1):
        release = await adrive(limiter.slot("c", 1))
    release()


def test_requests_per_minute_delay_the_next_call_until_the_window_moves():
    now = [0.0]
    limiter = Limiter(10, requests_per_minute=2, clock=lambda: now[0])
    drive(limiter.slot("a", 1))()
    drive(limiter.slot("a", 1))()
    steps = limiter.slot("a", 1)
    wait = next(steps)
    assert wait is not None
    now[0] = 61.0
    with pytest.raises(StopIteration):
        steps.send(None)


def test_a_call_heavier_than_the_token_limit_is_let_through_alone():
    limiter = Limiter(10, tokens_per_minute=100, clock=lambda: 0.0)
    drive(limiter.slot("a", 1000))()
