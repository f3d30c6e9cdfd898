"""Performs runs inside a peer's virtual environment: ``drive.py ORDER``, an `Order` as JSON.

Prints a line of JSON for each event on standard output; what the peer prints goes to standard error. Waits for a line
on standard input before the first run, so that the memory before it can be taken.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # at the end: a peer's own modules come first

from benchmarks.peers.driver import Config, Driver, Order, load


def make_context(megabytes: float) -> str:
    """Lines of ASCII, the same ones always; one in ten has a code."""
    chance = random.Random(7)
    words = [f"w{chance.randrange(10**6):06d}" for _ in range(500)]
    lines = [
        f"{number:05d} {' '.join(chance.choices(words, k=11))} {'no code' if number % 10 else f'CODE-{number:04d}'}\n"
        for number in range(1000)
    ]
    block = "".join(lines)
    size = int(megabytes * 1e6)
    return (block * (size // len(block) + 1))[:size]


def query_of(number: int) -> str:
    """The question of a run; the server knows the run by it."""
    return f"BENCHROOT{number:03d} Follow the plan."


def main(order: Order) -> None:
    """Make the runs."""
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(event: str, **more: object) -> None:
        said.write(json.dumps({"event": event, "time": time.monotonic(), **more}) + "\n")

    begun = time.monotonic()
    driver = load(order.peer).make(order.config)
    took = time.monotonic() - begun
    context = make_context(order.megabytes)
    tell("ready", import_seconds=took)
    sys.stdin.readline()
    tell("go")
    if order.together:
        answers = at_once(driver, context, order.runs)
    else:
        answers = []
        for number in range(order.runs):
            if number:
                tell("again")
            answers.append(answered(partial(driver.run, query_of(number), context)))
    tell("done", answers=answers)
    os._exit(0)  # what a peer does at its end is not measured


def at_once(driver: Driver, context: str, runs: int) -> list[str]:
    """What all the runs together come to: ``ok:`` and the answer, or ``error:`` and what went wrong."""
    asked = [(query_of(number), f"RUNID{number:03d} {context}") for number in range(runs)]
    if driver.arun is None:
        with ThreadPoolExecutor(runs) as pool:
            return list(pool.map(lambda one: answered(partial(driver.run, *one)), asked))
    arun = driver.arun

    async def answer(query: str, text: str) -> str:
        try:
            return f"ok:{await arun(query, text)}"
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            return _failed(error)

    async def everything() -> list[str]:
        return await asyncio.gather(*(answer(*one) for one in asked))

    return asyncio.run(everything())


def answered(run: Callable[[], str]) -> str:
    """What one run comes to; see `at_once`."""
    try:
        return f"ok:{run()}"
    except Exception as error:  # noqa: BLE001 - whatever a peer raises
        return _failed(error)


def _failed(error: Exception) -> str:
    traceback.print_exc()
    return f"error:{type(error).__name__}: {str(error)[:200]}"


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    main(Order(**{**given, "config": Config(**given["config"])}))
