"""Big inputs and long runs: what the content store costs.

    python -m benchmarks.content

A run with an input of 100 MB beside writing and hashing as many bytes, and a run of 40 iterations whose outputs all go
into the store beside as many bare calls of the model. In the async form every value of 100 kB wherever there are any,
and the longest step of the event loop while it runs. The models are scripted, on a server in a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite import SqliteSaver

from benchmarks.chat_concurrency import ROOT, watched_loop
from benchmarks.measure import Timing, machine, ratio, repeat, seconds, table
from rlm_adapters import ContentStore, Limits, create_rlm_graph

ITERATIONS = 40
INPUT = "The quick brown fox jumps over the lazy dog. " * (100_000_000 // 45)


def scripts(server) -> None:
    """The models that the server plays (see `tests.server.__main__`)."""
    from tests.server import cell

    def root(messages, _):
        turn = sum(message["role"] == "assistant" for message in messages)
        kind = re.search(r"kind (\w+)", str(messages))[1]
        if kind == "big":
            return cell("SUBMIT(len(context))")
        if kind == "wide":
            calls = "x = llm_query_batched(['p' * 100_000 + str(i) for i in range(8)])\nprint('o' * 100_000)"
            return cell(f"# {'c' * 100_000}\n{calls}" if turn < 3 else "SUBMIT(x[0])")
        return cell("print('o' * 6000)" if turn < ITERATIONS - 1 else "SUBMIT(1)")

    server.script("root", root)
    server.script("sub", lambda *_: "s" * 100_000)


def write_and_hash() -> None:
    """The least that has to be done with an input: its bytes in a file, and their hash."""
    data = INPUT.encode()
    with tempfile.TemporaryFile() as file:
        file.write(data)
    hashlib.sha256(data).hexdigest()


def run(graph: Any, given: dict[str, Any], *, asynchronous: bool) -> Callable[[], object]:
    def config() -> dict[str, Any]:
        return {"configurable": {"thread_id": uuid.uuid4().hex}}

    if asynchronous:
        return lambda: asyncio.run(graph.ainvoke(given, config()))
    return lambda: graph.invoke(given, config())


def measure(url: str) -> None:
    def model(name: str) -> ChatOpenAI:
        return ChatOpenAI(model=name, base_url=url, api_key="test", max_retries=2)

    limits = Limits(max_iterations=ITERATIONS + 5)
    with tempfile.TemporaryDirectory() as folder:
        saver = SqliteSaver(sqlite3.connect(Path(folder, "db"), check_same_thread=False))
        graph = create_rlm_graph(model("root"), model("sub"), limits=limits)
        saved = create_rlm_graph(
            model("root"), model("sub"), limits=limits, checkpointer=saver, store=ContentStore(Path(folder, "store"))
        )
        graph.invoke({"query": "kind big", "context": "warm"})

        floor = repeat(write_and_hash, 3)
        big = {"query": "kind big", "context": INPUT}
        rows: list[tuple[str, Timing, Timing]] = [
            ("100 MB, sync", repeat(run(graph, big, asynchronous=False), 3, warm=1), floor),
            ("100 MB, async", repeat(run(graph, big, asynchronous=True), 3), floor),
        ]
        bare = model("root")
        calls = repeat(lambda: [bare.invoke("kind big") for _ in range(ITERATIONS)], 3, warm=1)
        long = {"query": "kind long", "context": "x"}
        rows += [
            ("40 iterations, sync", repeat(run(graph, long, asynchronous=False), 5, warm=1), calls),
            ("40 iterations, async", repeat(run(graph, long, asynchronous=True), 5), calls),
            ("40 iterations, SQLite", repeat(run(saved, long, asynchronous=False), 3), calls),
        ]
        table(
            f"{machine()}; 100 MB beside write and hash, 40 iterations beside 40 bare calls",
            ("run", "median", "best", "baseline", "ratio of best"),
            [
                (name, seconds(took.median), seconds(took.best), seconds(base.best), ratio(took.best, base.best))
                for name, took, base in rows
            ],
        )
        longest_step(graph)


def longest_step(graph: Any) -> None:
    """How long the event loop stood still, with 100 kB in each code, output, prompt, answer and context."""
    given = {"query": "kind wide " + "q" * 100_000, "context": "x" * 100_000}

    async def watched() -> list[Any]:
        await graph.ainvoke(given)
        gc.collect()
        gc.freeze()
        with watched_loop() as steps:
            await graph.ainvoke(given)
        return steps

    steps = asyncio.run(watched())
    own = max((step.own for step in steps), default=0.0)
    print(f"\nlongest step of the event loop: {own * 1e3:.0f} ms; steps over 5 ms: {len(steps)}")
    for step in sorted(steps, key=lambda step: -step.own)[:3]:
        print(f"  {step.own * 1e3:.0f} ms {step.name}")


if __name__ == "__main__":
    command = [sys.executable, "-m", "tests.server", "benchmarks.content:scripts"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        measure(process.stdout.readline().strip())
        process.stdin.close()
