"""One run of a cell whose name a scripted server finds in the question."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rlm_adapters.graph.context import RLMContext


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave.

    Attributes:
        seconds: that it took.
        calls: of sub-LMs.
        wasted: of these, those that were made in vain.
        seen: the answer, and of each cell its output and error.
    """

    seconds: float
    calls: int
    wasted: int
    seen: tuple[Any, ...]


async def run(graph: Any, name: str, context: Any = "x") -> Outcome:
    """Run it.

    Args:
        graph: that runs it.
        name: of the cell.
        context: that it gets.
    """
    seen: list[Any] = []

    def note(event: Any) -> None:
        if event.type == "cell_output":
            seen.append((event.data["stdout"], event.data["error"]))

    start = time.perf_counter()
    result = await graph.ainvoke({"query": f"[[{name}]]", "context": context}, context=RLMContext(on_event=note))
    seconds = time.perf_counter() - start
    usage = result["usage"]
    return Outcome(seconds, usage["calls"], usage.get("ahead_wasted", 0), (result["answer"], *seen))
