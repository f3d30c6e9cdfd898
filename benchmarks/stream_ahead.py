"""Stream-ahead: cells as root LMs write them, sub-calls one after the other, run ahead, or started while it writes.

A server plays a root LM that writes so many tokens a second (of four characters), and a sub-LM that takes so long. Each
cell is the first of a run, whose second cell submits. Wall times are those of the whole run, over HTTP, by ChatOpenAI.

What can be won is at most what run-ahead leaves of the calls after the reply is complete: a reply that takes 7 s to
write and whose calls take 0.5 s cannot become 25 % faster. So of the cells whose calls stand in the first half, those
that could gain 25 % must, and the others must win most of what there is; all others must not be 2 % slower. Output
and calls must be the same.

    python -m benchmarks.stream_ahead [--quick] [--rates 30 60 120] [--calls 0.5 3] [--at-once 5] [part of a name ...]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
from typing import Any

from langchain_openai import ChatOpenAI
from openai import DefaultAioHttpClient

from benchmarks._graph_runs import Outcome, run
from benchmarks._written_cells import CELLS, CONTEXT, Written
from benchmarks.measure import machine
from rlm_adapters import Limits, create_rlm_graph
from tests.server import cell
from tests.server.protocol import CHARS_PER_TOKEN

MODES = ("off", "ahead", "stream")
GAIN = 0.25
"""Of the wall time of run-ahead, where so much can be won."""
MOST_OF = 0.7
"""Of what can be won, where it is less."""
WORSE = 0.02
END = "SUBMIT('done')"
PROSE = "I will work through the reports and check the results."
"""Before each cell."""


def serve() -> None:
    """Play the models, in a process of its own; the name of a model says how fast it is."""
    from tests.server import ModelServer, Reply, question_text, text_of, turn_of

    codes = {written.name: written.code for written in CELLS}

    def root(messages: list[dict[str, Any]], request: Any) -> Reply:
        rate = float(request.model.partition("-")[2])
        if turn_of(messages):
            return Reply(cell(END))
        asked = question_text(messages)
        code = next(code for name, code in codes.items() if f"[[{name}]]" in asked)
        return Reply(cell(code, PROSE), tokens_per_second=rate)

    def sub(messages: list[dict[str, Any]], _request: Any) -> str:
        return f" <{text_of(messages[-1])[-60:]}> "

    with ModelServer() as server:
        print(server.url, flush=True)
        for line in sys.stdin:  # name and latency of one more model
            name, latency = line.split()
            server.script(name, root if name.startswith("root") else sub, latency=float(latency))
            print("ready", flush=True)


def note(text: str) -> str:
    """Take a note."""
    return f"noted: {text}"


async def measure(server: subprocess.Popen[str], url: str, options: argparse.Namespace) -> bool:
    cells = [one for one in CELLS if not options.names or any(name in one.name for name in options.names)]
    async with DefaultAioHttpClient() as pool:

        def model(name: str, latency: float) -> ChatOpenAI:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(f"{name} {latency}\n")
            server.stdin.flush()
            server.stdout.readline()
            return ChatOpenAI(model=name, base_url=url, api_key="test", http_async_client=pool)

        good = True
        for rate in options.rates:
            for latency in options.calls:
                models = model(f"root-{rate:g}", 0.0), model(f"sub-{latency:g}", latency)
                graphs = {
                    mode: create_rlm_graph(*models, tools=[note], limits=Limits(max_concurrency=32), parallel=mode)
                    for mode in MODES
                }
                for graph in graphs.values():  # connections, imports, the zygote
                    await run(graph, CELLS[-2].name, CONTEXT)
                good &= await compare(graphs, cells, rate, latency, options)
                for graph in graphs.values():
                    graph.close()
    return good


async def compare(
    graphs: dict[str, Any], cells: list[Written], rate: float, latency: float, options: argparse.Namespace
) -> bool:
    free = asyncio.Semaphore(options.at_once)
    outcomes: dict[tuple[str, str], list[Outcome]] = {}

    async def once(mode: str, written: Written) -> None:
        async with free:
            outcomes.setdefault((mode, written.name), []).append(await run(graphs[mode], written.name, CONTEXT))

    for number in range(options.rounds):  # alternating, so that other load of the machine meets all of them
        for mode in MODES:
            if mode != "off" or not number:
                await asyncio.gather(*(once(mode, written) for written in cells))
    print(f"\n{rate:g} tokens a second, sub-calls of {latency:g} s")
    print(f"{'cell':<30}{'off':>8}{'ahead':>8}{'stream':>8}{'saved':>7}{'of':>6}{'calls':>7}{'wasted':>7}  same")
    good = True
    for written in cells:
        off, ahead, stream = (outcomes[mode, written.name] for mode in MODES)
        before, after = (statistics.median(one.seconds for one in runs) for runs in (ahead, stream))
        writing = len(cell(written.code, PROSE)) / CHARS_PER_TOKEN / rate
        possible = max(0.0, before - writing) / before
        saved = 1 - after / before
        same = {one.seen for one in (*off, *ahead, *stream)} == {off[0].seen}
        same = same and all(one.calls == off[0].calls + one.wasted for one in (*ahead, *stream))
        enough = saved >= (-WORSE if written.where == "elsewhere" else min(GAIN, MOST_OF * possible))
        good &= same and enough
        print(
            f"{written.name:<30}{off[0].seconds:>7.1f}s{before:>7.2f}s{after:>7.2f}s{saved:>7.0%}{possible:>6.0%}"
            f"{stream[0].calls:>7}{max(one.wasted for one in stream):>7}  {'yes' if same else 'NO'}"
            f"{'' if enough else '  MISSED'}",
            flush=True,
        )
    return good


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true", help="60 tokens a second and calls of 3 s only")
    parser.add_argument("--rates", nargs="+", type=float, default=[30, 60, 120])
    parser.add_argument("--calls", nargs="+", type=float, default=[0.5, 3])
    parser.add_argument("--at-once", type=int, default=5, help="cells at the same time: they mostly wait")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve()
        return 0
    if options.quick:
        options.rates, options.calls, options.rounds = [60], [3], 1
    command = [sys.executable, "-m", "benchmarks.stream_ahead", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        print(f"{machine()}; {options.at_once} cells at once")
        try:
            good = asyncio.run(measure(server, server.stdout.readline().strip(), options))
        finally:
            server.stdin.close()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
