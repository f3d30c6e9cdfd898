"""What a trace costs: an iteration, and 1,000 sub-calls in a batch, with `trace` and without, side by side.

    python -m benchmarks.tracing [ROUNDS]

The models answer from this process: an iteration at once, which shows most of what a trace costs, and after 100 ms,
which is quick for a model; each sub-call after 50 ms. Rounds alternate, so that a busy machine is busy for both.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks.measure import machine, ratio, seconds, table
from rlm_adapters import Limits, create_rlm_graph

ITERATIONS = 20
CALLS = 1_000
PROMPT_CHARS = 4_000


class Playing(BaseChatModel):
    """Answers after a while: with the next of its cells, or with a text of 500 characters."""

    cells: tuple[str, ...] = ()
    latency: float = 0.0

    @property
    def _llm_type(self) -> str:
        return "playing"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError("runs here are async")

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        if self.latency:
            await asyncio.sleep(self.latency)
        turn = sum(message.type == "ai" for message in messages)
        text = f"```repl\n{self.cells[turn]}\n```" if self.cells else "words " * 80
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def iterations(latency: float, trace: Path | None) -> Any:
    cells = (*(f"print({turn}, 'x' * 500)" for turn in range(ITERATIONS - 1)), "SUBMIT(1)")
    return create_rlm_graph(Playing(cells=cells, latency=latency), trace=trace)


def batch(latency: float, trace: Path | None) -> Any:
    code = (
        f"answers = llm_query_batched(['words ' * {PROMPT_CHARS // 6} + str(i) for i in range({CALLS})])\n"
        "SUBMIT(len(answers))"
    )
    limits = Limits(max_calls=CALLS, max_concurrency=100)
    return create_rlm_graph(Playing(cells=(code,)), Playing(latency=latency), limits=limits, trace=trace)


async def one(graph: Any) -> tuple[float, float]:
    """Seconds of a run, and of CPU in this process."""
    began, cpu = time.perf_counter(), time.process_time()
    result = await graph.ainvoke({"query": "q", "context": "abc"})
    assert result["finish_reason"] == "submitted", result
    return time.perf_counter() - began, time.process_time() - cpu


async def compare(make: Any, latency: float, rounds: int) -> list[tuple[float, float]]:
    """Medians of a run without a trace, and with one: seconds, and of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        graphs = [make(latency, None), make(latency, Path(folder) / "run.jsonl")]
        for graph in graphs:
            await one(graph)
        took: list[list[tuple[float, float]]] = [[], []]
        for number in range(rounds):
            for index in (0, 1) if number % 2 else (1, 0):
                took[index].append(await one(graphs[index]))
        for graph in graphs:
            graph.close()
    return [
        (statistics.median(wall), statistics.median(cpu)) for wall, cpu in (zip(*runs, strict=True) for runs in took)
    ]


async def main(rounds: int) -> None:
    print(machine())
    rows = []
    for name, make, latency, parts in (
        ("an iteration, root LM answers at once", iterations, 0.0, ITERATIONS),
        ("an iteration, root LM answers after 100 ms", iterations, 0.1, ITERATIONS),
        (f"{CALLS:,} sub-calls that answer at once", batch, 0.0, 1),
        (f"{CALLS:,} sub-calls of 50 ms, 100 at a time", batch, 0.05, 1),
    ):
        (wall, cpu), (traced, traced_cpu) = await compare(make, latency, rounds)
        row = (seconds(wall / parts), seconds(traced / parts), ratio(traced, wall))
        rows.append((name, *row, seconds(cpu / parts), seconds(traced_cpu / parts), ratio(traced_cpu, cpu)))
    table("the cost of a trace", ["what", "without", "with", "ratio", "CPU without", "with", "ratio"], rows)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
