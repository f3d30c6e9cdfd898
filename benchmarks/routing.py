"""What the edges of the graph cost: an iteration with them, and with nodes that say themselves where to go.

    python -m benchmarks.routing [ROUNDS]

The root LM answers at once, from this process: over a network an iteration takes longer, and the edges less of it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from benchmarks.measure import machine, ratio, seconds, table
from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.graph.compiled import RLMGraph
from rlm_adapters.graph.execute import execute
from rlm_adapters.graph.finish import check_final, extract
from rlm_adapters.graph.generate import generate_code
from rlm_adapters.graph.node import Node
from rlm_adapters.graph.prepare import prepare
from rlm_adapters.graph.recurse import recurse
from rlm_adapters.graph.routing import after_check, after_execute
from rlm_adapters.graph.state import RecurseInput, RLMInput, RLMOutput, RLMState

ITERATIONS = 20
GIVEN = {"query": "q", "context": "abc"}


class Instant(BaseChatModel):
    """Prints something in each cell, and submits in the last one."""

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        turn = sum(message.type == "ai" for message in messages)
        code = "SUBMIT(1)" if turn == ITERATIONS - 1 else f"print({turn})"
        return ChatResult(generations=[ChatGeneration(message=AIMessage(f"```repl\n{code}\n```"))])

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return self._generate(messages)


class SayingNode(Node):
    """A node that returns where to go with its update; an edited run ends after it."""

    def __init__(self, body: Any, name: str, after: Any) -> None:
        super().__init__(body, name)
        self._after = after

    def invoke(self, input: Any, config: Any = None, **_: Any) -> Any:  # noqa: A002
        update = super().invoke(input, config)
        return Command(update=update, goto=self._after({**input, **update}, config))

    async def ainvoke(self, input: Any, config: Any = None, **_: Any) -> Any:  # noqa: A002
        update = await super().ainvoke(input, config)
        return Command(update=update, goto=self._after({**input, **update}, config))


def without_edges(graph: RLMGraph) -> RLMGraph:
    builder = StateGraph(RLMState, input_schema=RLMInput, output_schema=RLMOutput)
    builder.add_node("prepare", Node(prepare, "prepare"))
    builder.add_node("generate_code", Node(generate_code, "generate_code"))
    builder.add_node("execute", SayingNode(execute, "execute", after_execute), destinations=("recurse", "check_final"))
    builder.add_node("recurse", Node(recurse, "recurse"), input_schema=RecurseInput)
    ends = ("generate_code", "extract", END)
    builder.add_node("check_final", SayingNode(check_final, "check_final", after_check), destinations=ends)
    builder.add_node("extract", Node(extract, "extract"))
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "generate_code")
    builder.add_edge("generate_code", "execute")
    builder.add_edge("recurse", "execute")
    builder.add_edge("extract", END)
    return RLMGraph(rlm=graph.rlm, **vars(builder.compile(name="rlm")))


def taken(graph: RLMGraph, form: str) -> float:
    """Seconds of an iteration."""

    async def twice() -> float:
        await graph.ainvoke(GIVEN)
        start = time.perf_counter()
        await graph.ainvoke(GIVEN)
        return time.perf_counter() - start

    if form == "async":
        return asyncio.run(twice()) / ITERATIONS
    start = time.perf_counter()
    graph.invoke(GIVEN)
    return (time.perf_counter() - start) / ITERATIONS


def main(rounds: int) -> None:
    edges = create_rlm_graph(Instant(), limits=Limits(max_iterations=ITERATIONS + 1))
    graphs = {"nodes say where to go": without_edges(edges), "edges": edges}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):  # side by side, so that a noisy moment hits both
        for form in ("sync", "async"):
            for name, graph in graphs.items():
                times.setdefault((form, name), []).append(taken(graph, form))
    print(machine())
    rows = []
    for (form, name), runs in times.items():
        base = times[form, "nodes say where to go"]
        rows.append((
            f"{form}, {name}", seconds(min(runs)), ratio(min(runs), min(base)), ratio(statistics.median(runs),
            statistics.median(base)),
        ))  # fmt: skip
    table("An iteration", ("", "best", "best, ratio", "median, ratio"), rows)
    edges.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
