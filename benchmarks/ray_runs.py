"""Runs with sandboxes on a Ray cluster of three nodes, and rows asked there, beside the same on this machine.

    python -m benchmarks.ray_runs --runs 60 --rounds 3

All nodes are processes of this machine, so the cluster has no more CPUs than it: what is measured is what the way to
the nodes and back costs. Rounds alternate; the figures are medians, to be compared within one run only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from rlm_adapters import RayEngine, RaySandbox, Sandbox, amap_rows, create_rlm_graph
from rlm_adapters.sandbox import Executor
from tests.cluster.nodes import Nodes, until
from tests.server import ModelServer, cell, turn_of

CELLS = [
    cell("words = context.split()\nparts = [llm_query(f'part {i}') for i in range(3)]\nprint(len(words), parts)"),
    cell("from collections import Counter\nprint(Counter(words).most_common(3))"),
    cell("SUBMIT(len(words))"),
]


def script(server: ModelServer) -> None:
    """A run of three cells and three sub-calls."""
    server.script("root", lambda messages, _request: CELLS[turn_of(messages)])
    server.script("sub", lambda _messages, _request: "answer")


async def runs(server: ModelServer, sandbox: Executor, count: int, at_once: int) -> float:
    """Seconds that so many runs take, all answers checked."""
    from langchain_openai import ChatOpenAI

    models = [ChatOpenAI(model=name, base_url=server.url, api_key="test", max_retries=0) for name in ("root", "sub")]
    graph = create_rlm_graph(*models, sandbox=sandbox)
    places = asyncio.Semaphore(at_once)

    async def one(number: int) -> Mapping[str, Any]:
        async with places:
            result: Mapping[str, Any] = await graph.ainvoke({"query": "Count.", "context": f"{number} " * 20_000})
            return result

    await one(0)
    began = time.perf_counter()
    results = await asyncio.gather(*(one(number) for number in range(count)))
    seconds = time.perf_counter() - began
    graph.close()
    assert {result["answer"] for result in results} == {20_000}, results
    return seconds


def asks(url: str) -> Any:
    """A graph that answers rows with the runs of `script`."""
    from langchain_openai import ChatOpenAI

    return create_rlm_graph(
        *(ChatOpenAI(model=name, base_url=url, api_key="test", max_retries=0) for name in ("root", "sub"))
    )


async def rows(engine: Any, count: int, at_once: int) -> float:
    """Rows a second, between the first answer and the last: the start of actors is not in it."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        done = await amap_rows(
            engine,
            "Count.",
            ({"text": f"{number} " * 20_000} for number in range(count)),
            f"{folder}/out.jsonl",
            fields="text",
            concurrency=at_once,
            on_progress=lambda _: times.append(time.perf_counter()),
        )
    assert done.answered == count, done
    return (count - 1) / (times[count - 1] - times[0])


def cell_ms(sandbox: Executor) -> float:
    """Milliseconds of a cell that does nothing, in an open session."""
    session = sandbox.open()
    session.start("x = 0")
    began = time.perf_counter()
    for number in range(100):
        session.start(f"x = {number}")
    session.close()
    return (time.perf_counter() - began) * 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=16)
    given = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with (
        Nodes() as nodes,
        ModelServer() as server,
        Sandbox() as here,
        RaySandbox(address=nodes.address, actors=3, num_cpus=0.5) as there,
    ):
        script(server)
        print(f"isolation on the nodes: {there.isolation}; load before: {os.getloadavg()[0]:.1f}")
        until(lambda: len(there.sessions()) == 3)
        figures: dict[str, list[tuple[float, ...]]] = {"this machine": [], "Ray, 3 nodes": []}
        graph = asks(server.url)
        far = RayEngine(partial(asks, server.url), address=nodes.address, actors=3, num_cpus=0.25)
        for _ in range(given.rounds):
            for name, sandbox, engine in (("this machine", here, graph), ("Ray, 3 nodes", there, far)):
                seconds = asyncio.run(runs(server, sandbox, given.runs, given.at_once))
                rate = asyncio.run(rows(engine, given.runs, given.at_once))
                figures[name].append((given.runs / seconds, cell_ms(sandbox), rate))
        graph.close()
        medians = [[statistics.median(column) for column in zip(*rounds, strict=True)] for rounds in figures.values()]
        for name, (rate, cells, asked) in zip(figures, medians, strict=True):
            print(f"{name:14} {rate:6.1f} runs/s, {cells:5.2f} ms a cell, {asked:6.1f} rows/s")
        (here_runs, _, here_rows), (there_runs, _, there_rows) = medians
        print(
            f"ratios: {there_runs / here_runs:.2f} of the runs, {there_rows / here_rows:.2f} of the rows a second; "
            f"load after: {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
