"""100 `ChatRLM.ainvoke`s at once: time, and how long the event loop stood still.

    python -m benchmarks.chat_concurrency [RUNS]

The models are scripted (50 ms an answer) on a server in a process of its own, so that its work is not counted as ours.
Every step of the event loop is timed: while one runs, no other task can. Warm-up runs come first: the import of what is
only needed once is not what a service feels.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from langchain_openai import ChatOpenAI
from openai import DefaultAioHttpClient

from rlm_adapters import ChatRLM, Limits

ROOT = Path(__file__).parents[1]
LATENCY = 0.05


def scripts(server) -> None:
    """The models that the server plays (see `tests.server.__main__`)."""
    from tests.server import cell

    def root(messages, _):
        number = int(messages[1]["content"].split("number ")[1].split(";")[0])
        return cell(f"SUBMIT(llm_query('say {number}') + str(len(context)))")

    server.script("root", root, latency=LATENCY)
    server.script("sub", lambda messages, _: messages[-1]["content"].upper() + " ", latency=LATENCY)


@contextlib.contextmanager
def model_server() -> Iterator[str]:
    """The test server in another process; yields its URL."""
    command = [sys.executable, "-m", "tests.server", "benchmarks.chat_concurrency:scripts"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """One callback of the event loop: while it runs, nothing else does."""

    wall: float
    collector: float
    """Of this, in Python's garbage collector."""
    name: str

    @property
    def own(self) -> float:
        return self.wall - self.collector


@contextlib.contextmanager
def watched_loop() -> Iterator[list[Step]]:
    """Measures every callback of the event loop, and how much of it was the garbage collector's.

    A full collection takes as long as there are objects, whoever made them, and comes when it likes.
    """
    steps: list[Step] = []
    run = asyncio.Handle._run  # noqa: SLF001 - asyncio has no public hook
    collecting = 0.0
    begun = 0.0

    def collector(phase: str, _: object) -> None:
        nonlocal collecting, begun
        if phase == "start":
            begun = time.perf_counter()
        else:
            collecting += time.perf_counter() - begun

    def timed(handle: asyncio.Handle) -> None:
        before, start = collecting, time.perf_counter()
        run(handle)
        took = time.perf_counter() - start
        if took > 0.005:
            steps.append(Step(took, min(took, collecting - before), repr(handle)[:160]))

    asyncio.Handle._run = timed  # noqa: SLF001
    gc.callbacks.append(collector)
    try:
        yield steps
    finally:
        asyncio.Handle._run = run  # noqa: SLF001
        gc.callbacks.remove(collector)


async def measure(url: str, runs: int) -> None:
    async with DefaultAioHttpClient() as client:
        options = {"base_url": url, "api_key": "test", "max_retries": 0, "http_async_client": client}
        model = ChatRLM(
            model=ChatOpenAI(model="root", **options), sub_model=ChatOpenAI(model="sub", **options), limits=Limits()
        )

        async def ask(number: int) -> bool:
            answer = await model.bind(context="x" * (100_000 + number)).ainvoke(f"number {number};")
            return answer.text == f"SAY {number} {100_000 + number}"

        await asyncio.gather(*(ask(number) for number in range(3)))
        # A full collection of all that LangChain and the clients have imported stops the process for 150 ms, every
        # few thousand objects. Services freeze that heap after their start, and so does this one.
        gc.collect()
        gc.freeze()
        for round_number in range(3):
            start = time.perf_counter()
            with watched_loop() as steps:
                right = await asyncio.gather(*(ask(number) for number in range(runs)))
            seconds = time.perf_counter() - start
            nothing = Step(0, 0, "")
            longest = max(steps, default=nothing)
            own = max(steps, key=lambda step: step.own, default=nothing)
            print(
                f"round {round_number + 1}: {runs} runs in {seconds:.2f} s (ideal {2 * LATENCY:.2f}), "
                f"{sum(right)} right; longest step of the loop {longest.wall * 1e3:.0f} ms; without Python's garbage "
                f"collector {own.own * 1e3:.0f} ms ({own.name})"
            )
        model.close()


if __name__ == "__main__":
    with model_server() as address:
        asyncio.run(measure(address, int(sys.argv[1]) if len(sys.argv) > 1 else 100))
