"""Ours beside dspy.RLM: python benchmarks/dspy_rlm.py [ROUNDS].

The same work with the same scripted LM: `rlm_adapters.RLM`, dspy.RLM on our interpreter, dspy.RLM on DSPy's local
interpreter (a plain Python process, no sandbox), and dspy.RLM on its default one (Deno) where that can start. Medians
of ROUNDS rounds, taken in turn.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Callable

import dspy
from dspy.lm15 import Message, Response, TextPart, Usage, response_to_events

from rlm_adapters import RLM, RestrictedPythonInterpreter

SUB_CALL_SECONDS = 0.05
ITERATIONS = 10


class Engine:
    """A root LM that plays cells, and a sub-LM that takes 50 ms."""

    def __init__(self, cells: list[str]) -> None:
        self.cells = cells
        self.first_request = 0.0

    def complete(self, request: object) -> Response:
        self.first_request = self.first_request or time.perf_counter()
        prompt = request.messages[-1].text or ""
        if "repl_history" in prompt:
            step = prompt.count("=== Step ")
            text = f"[[ ## reasoning ## ]]\nr\n\n[[ ## code ## ]]\n{self.cells[min(step, len(self.cells) - 1)]}"
        else:
            time.sleep(SUB_CALL_SECONDS)
            text = "yes"
        return Response(
            id=None, model=request.model, message=Message.assistant([TextPart(text)]), finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1),
        )  # fmt: skip

    def stream(self, request: object) -> object:
        return response_to_events(self.complete(request))

    def close(self) -> None:
        pass


WORK: dict[str, tuple[list[str], int]] = {
    "start to the first request": (["SUBMIT('x')"], 1),
    f"{ITERATIONS} iterations": ([*["x = 1\nprint(x)"] * (ITERATIONS - 1), "SUBMIT('x')"], 1),
    "an input of 10 MB": (["print(len(context))", "SUBMIT(str(context.count('a')))"], 10_000_000),
    "a loop of 100 sub-calls of 50 ms": (
        ["found = []\nfor i in range(100):\n    found.append(llm_query(f'item {i}').strip())\nSUBMIT(found[-1])"],
        1,
    ),
}
"""Cells and size of the input by what is measured."""


def timed(make: Callable[[], dspy.Module], cells: list[str], size: int, *, first: bool) -> float:
    """Seconds of one run; until the first request when ``first``."""
    engine = Engine(cells)
    lm = dspy.LM("bench/lm", engine=engine, cache=False)
    program = make()
    with dspy.context(lm=lm):
        start = time.perf_counter()
        program(context="a" * size, query="q")
        return (engine.first_request if first else time.perf_counter()) - start


def main(rounds: int) -> None:
    """Measure and print."""
    logging.getLogger("dspy").setLevel(logging.ERROR)
    options = {"max_iters": 20, "max_llm_calls": 200}
    signature = "context, query -> answer"
    programs: dict[str, Callable[[], dspy.Module]] = {
        "ours": lambda: RLM(signature, **options),
        "dspy.RLM, our interpreter": lambda: dspy.RLM(
            signature, interpreter_factory=RestrictedPythonInterpreter, **options
        ),
        "dspy.RLM, local process": lambda: dspy.RLM(signature, interpreter_factory=dspy.LocalInterpreter, **options),
        "dspy.RLM, Deno": lambda: dspy.RLM(signature, **options),
    }
    for name, make in list(programs.items()):
        try:
            timed(make, ["SUBMIT('x')"], 1, first=False)  # warm
        except Exception as error:  # noqa: BLE001 - Deno is missing, or may not load its runtime
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            print(f"{name} cannot start here: {reason[:120]}")
            del programs[name]
    print(f"{'milliseconds, median of ' + str(rounds):<36}" + "".join(f"{name:>28}" for name in programs))
    for title, (cells, size) in WORK.items():
        times: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(rounds):
            for name, make in programs.items():
                times[name].append(timed(make, cells, size, first=title.startswith("start")))
        medians = {name: 1000 * statistics.median(values) for name, values in times.items()}
        ours = medians["ours"]
        print(f"{title:<36}" + "".join(f"{value:>19.1f} ({value / ours:4.1f}x)" for value in medians.values()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
