"""Run-ahead: plain loops of sub-LM calls, one after the other and run ahead, through the whole graph and over HTTP.

Each shape runs as the only cell of a run: 100 calls of 50 ms, 32 in flight. A loop without a true dependency must be
at least 15 times as fast, the others as fast as before; both must make the same calls and give the same output. On a
busy machine the client alone takes longer than the calls: then the batch of the same calls is the measure.

    python -m benchmarks.parallel [--latency 0.05] [--in-flight 32] [part of a shape's name ...]
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks._loop_shapes import SHAPES, Shape
from benchmarks.measure import machine

WANTED = 15.0
SHARE_OF_BATCH = 0.6  # of what a batch of the same calls reaches, where the machine is too busy for 15 times
ALLOWED_LOSS = 0.85  # of the speed of a loop that cannot gain: the machine's noise
SETUP = "out = []\n"
BATCH = Shape("one batch", "out = llm_query_batched([f'Summarize {c}' for c in range(100)])\nprint(len('|'.join(out)))")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a shape gave."""

    seconds: float
    calls: int
    wasted: int
    seen: tuple[Any, ...]


def serve(latency: float) -> None:
    """Play the models, in a process of its own: the client is what is measured."""
    from tests.server import ModelServer, cell, question_text, text_of, turn_of

    codes = {shape.name: shape.code for shape in (*SHAPES, BATCH)}

    def root(messages: list[dict[str, Any]], _request: object) -> str:
        if turn_of(messages):
            return cell("SUBMIT('failed')")
        asked = question_text(messages)
        name = next(name for name in codes if f"[[{name}]]" in asked)
        return cell(SETUP + codes[name] + "\nSUBMIT('done')")

    with ModelServer() as server:
        server.script("root", root)
        server.script("sub", lambda messages, _: f" <{text_of(messages[-1])[:60]}> ", latency=latency)
        print(server.url, flush=True)
        sys.stdin.read()


def record(text: str) -> str:
    """Take a note."""
    return text


async def run(graph: Any, shape: Shape) -> Outcome:
    from rlm_adapters.graph.context import RLMContext

    seen: list[Any] = []

    def note(event: Any) -> None:
        if event.type == "cell_output":
            seen.append((event.data["stdout"], event.data["error"]))

    start = time.perf_counter()
    result = await graph.ainvoke({"query": f"[[{shape.name}]]", "context": "x"}, context=RLMContext(on_event=note))
    seconds = time.perf_counter() - start
    usage = result["usage"]
    return Outcome(seconds, usage["calls"], usage.get("ahead_wasted", 0), (result["answer"], *seen))


async def measure(url: str, shapes: list[Shape], in_flight: int, repeats: int) -> bool:
    from langchain_openai import ChatOpenAI
    from openai import DefaultAioHttpClient

    from rlm_adapters import Limits, create_rlm_graph

    async with DefaultAioHttpClient() as client:

        def graph(parallel: Any) -> Any:
            models = [
                ChatOpenAI(model=name, base_url=url, api_key="test", http_async_client=client)
                for name in ("root", "sub")
            ]
            limits = Limits(max_concurrency=in_flight, max_calls=10_000)
            return create_rlm_graph(*models, tools=[record], limits=limits, parallel=parallel)

        plain, ahead = graph("off"), graph("ahead")
        for warm in (plain, ahead, ahead):  # connections, imports, the zygote
            await run(warm, SHAPES[0])
        alone = await run(plain, SHAPES[0])
        batch = min([await run(plain, BATCH) for _ in range(repeats)], key=lambda outcome: outcome.seconds)
        limit = alone.seconds / batch.seconds
        wanted = min(WANTED, SHARE_OF_BATCH * limit)
        print(
            f"one batch of the same 100 calls: {batch.seconds:.2f} s, {limit:.1f}x: what this machine can do now"
            + (f"; wanted is {wanted:.1f}x, not {WANTED:.0f}x: it is too busy" if wanted < WANTED else "")
        )
        print(f"{'shape':<38}{'sequential':>11}{'ahead':>9}{'':>8}{'calls':>12}{'wasted':>8}  same output")
        good = True
        for shape in shapes:
            before = await run(plain, shape)
            # The best of some runs: other load on the machine can only make it slower.
            after = min([await run(ahead, shape) for _ in range(repeats)], key=lambda outcome: outcome.seconds)
            factor = before.seconds / after.seconds
            same = before.seen == after.seen
            enough = factor >= wanted if shape.free else factor >= ALLOWED_LOSS and not after.wasted
            if shape.free and "threads" in shape.name:
                enough = factor >= ALLOWED_LOSS  # already parallel
            good &= same and enough
            print(
                f"{shape.name:<38}{before.seconds:>9.2f} s{after.seconds:>7.2f} s{factor:>7.1f}x"
                f"{before.calls:>6} ={after.calls:>4}{after.wasted:>8}  {'yes' if same else 'NO'}"
                f"{'' if shape.free else '  (dependent)'}{'' if enough else '  MISSED'}",
                flush=True,
            )
        plain.close()
        ahead.close()
    return good


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.latency)
        return 0
    shapes = [shape for shape in SHAPES if not options.names or any(name in shape.name for name in options.names)]
    command = [sys.executable, "-m", "benchmarks.parallel", "--serve", "--latency", str(options.latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        print(f"{machine()}; sub-LM calls of {options.latency * 1000:.0f} ms, {options.in_flight} in flight")
        try:
            good = asyncio.run(measure(server.stdout.readline().strip(), shapes, options.in_flight, options.repeats))
        finally:
            server.stdin.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
