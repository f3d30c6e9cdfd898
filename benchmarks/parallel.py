"""Run-ahead: plain loops of sub-LM calls, one after the other and run ahead, through the whole graph and over HTTP.

Each shape runs as the only cell of a run: 100 calls of 50 ms, 32 in flight. A loop whose calls need no other call must
be at least 15 times as fast. Where calls need earlier answers, each level takes a round of its own: such shapes are
marked, and must be 10 times as fast. A chain, in which each call needs the one before, can only be as fast as before.
With and without run-ahead the same calls must be made and the same output given.

The client counts: `ChatOpenAI` takes 1 to 4 ms of CPU for a call, by the machine, and 100 calls of 3.5 ms cannot take
less than 0.35 s whoever makes them. So the shapes are judged with a chat model that does little more than its POST
(`benchmarks._thin_model`); ``--client openai`` shows them with `ChatOpenAI`. What the client reaches alone, without
any graph around it, is printed first.

    python -m benchmarks.parallel [--client openai] [--latency 0.05] [--in-flight 32] [part of a shape's name ...]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from typing import Any, Self

import aiohttp
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from openai import DefaultAioHttpClient

from benchmarks._graph_runs import run
from benchmarks._loop_shapes import SHAPES, Shape
from benchmarks._thin_model import ThinChatModel
from benchmarks.measure import machine
from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.graph import RLMGraph

WANTED = {"nothing": 15.0, "levels": 10.0, "each": 0.85}
"""Times as fast, by what the calls need; 0.85 is the machine's noise."""
NOTES = {"nothing": "", "levels": "  (levels)", "each": "  (chain)"}
SETUP = "out = []\n"
BATCH = Shape("one batch", "out = llm_query_batched([f'Summarize {c}' for c in range(100)])\nprint(len('|'.join(out)))")


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


class Client:
    """Chat models over HTTP, of one kind, with one pool of connections."""

    def __init__(self, kind: str, url: str) -> None:
        self._kind = kind
        self._url = url
        self._pool: Any = DefaultAioHttpClient() if kind == "openai" else aiohttp.ClientSession()

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *exit_: object) -> None:
        await self._pool.__aexit__(*exit_)

    def model(self, name: str) -> BaseChatModel:
        if self._kind == "openai":
            return ChatOpenAI(model=name, base_url=self._url, api_key="test", http_async_client=self._pool)
        return ThinChatModel(model=name, base_url=self._url, session=self._pool)


async def alone(model: BaseChatModel, in_flight: int) -> float:
    """Seconds of the same 100 calls without any graph."""
    free = asyncio.Semaphore(in_flight)

    async def ask(number: int) -> None:
        async with free:
            await model.ainvoke(f"Summarize {number}")

    start = time.perf_counter()
    await asyncio.gather(*map(ask, range(100)))
    return time.perf_counter() - start


async def measure(client: Client, shapes: list[Shape], in_flight: int, repeats: int) -> bool:
    def graph(parallel: Any) -> RLMGraph:
        limits = Limits(max_concurrency=in_flight, max_calls=10_000)
        models = (client.model("root"), client.model("sub"))
        return create_rlm_graph(*models, tools=[record], limits=limits, parallel=parallel)

    plain, ahead = graph("off"), graph("ahead")
    for warm in (plain, ahead, ahead):  # connections, imports, the zygote
        await run(warm, SHAPES[0].name)
    gc.collect()
    gc.freeze()  # as services do: a full collection of all that the frameworks have imported takes 150 ms
    bare = min([await alone(client.model("sub"), in_flight) for _ in range(repeats)])
    one_by_one = await run(plain, SHAPES[0].name)
    batch = min([await run(plain, BATCH.name) for _ in range(repeats)], key=lambda outcome: outcome.seconds)
    print(
        f"100 calls: one by one {one_by_one.seconds:.2f} s; by the client alone, {in_flight} in flight, {bare:.2f} s "
        f"({one_by_one.seconds / bare:.1f}x); as one batch of a cell {batch.seconds:.2f} s "
        f"({one_by_one.seconds / batch.seconds:.1f}x)"
    )
    print(f"{'shape':<38}{'sequential':>11}{'ahead':>9}{'':>8}{'calls':>12}{'wasted':>8}  same output")
    good = True
    for shape in shapes:
        before = await run(plain, shape.name)
        # The best of some runs: other load on the machine can only make it slower.
        after = min([await run(ahead, shape.name) for _ in range(repeats)], key=lambda outcome: outcome.seconds)
        factor = before.seconds / after.seconds
        same = before.seen == after.seen
        wanted = WANTED["each"] if shape.name == "threads" else WANTED[shape.needs]  # threads are parallel already
        enough = factor >= wanted and (shape.needs != "each" or not after.wasted)
        good &= same and enough
        print(
            f"{shape.name:<38}{before.seconds:>9.2f} s{after.seconds:>7.2f} s{factor:>7.1f}x"
            f"{before.calls:>6} ={after.calls:>4}{after.wasted:>8}  {'yes' if same else 'NO'}"
            f"{NOTES[shape.needs]}{'' if enough else '  MISSED'}",
            flush=True,
        )
    plain.close()
    ahead.close()
    return good


async def measure_with(url: str, options: argparse.Namespace) -> bool:
    shapes = [shape for shape in SHAPES if not options.names or any(name in shape.name for name in options.names)]
    async with Client(options.client, url) as client:
        return await measure(client, shapes, options.in_flight, options.repeats)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--client", choices=("thin", "openai"), default="thin")
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.latency)
        return 0
    command = [sys.executable, "-m", "benchmarks.parallel", "--serve", "--latency", str(options.latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        print(
            f"{machine()}; sub-LM calls of {options.latency * 1000:.0f} ms, {options.in_flight} in flight, "
            f"{options.client} client"
        )
        try:
            good = asyncio.run(measure_with(server.stdout.readline().strip(), options))
        finally:
            server.stdin.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
