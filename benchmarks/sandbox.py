"""What the sandbox costs: starting, a cell, a call to the host, guards, inputs, many sessions.

python -m benchmarks.sandbox [start] [cells] [loops] [inputs] [many] [--largest MB]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks import _sandbox_handover, _sandbox_loops
from benchmarks.measure import machine, megabytes, memory, ratio, repeat, seconds, table
from rlm_adapters.sandbox import HostFunction, MontySandbox, Pending, Sandbox, Value

_COLD = """
import time
start = time.perf_counter()
from rlm_adapters.sandbox import Sandbox
sandbox = Sandbox()
session = sandbox.open()
assert session.run("print(1)").stdout == "1\\n"
print(time.perf_counter() - start)
"""
_CELL = "x = 1"
_CALLS = 300
_BATCH = 1_000
_MANY = 200
ASK = HostFunction(name="llm_query", effects=False, parameters=("prompt",))
ASK_ALL = HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts",))
TOOL = HostFunction(name="tool", parameters=("prompt",))


def start() -> None:
    interpreter = repeat(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True), 5).best
    cold = min(float(subprocess.check_output([sys.executable, "-c", _COLD])) for _ in range(5))

    def session(sandbox: Sandbox | MontySandbox) -> Callable[[], None]:
        def run() -> None:
            with sandbox.open() as session:
                session.start(_CELL)

        return run

    rows = [("a bare interpreter (baseline)", seconds(interpreter), "1x")]
    rows.append(("cold: import, zygote, first cell", seconds(cold), ratio(cold, interpreter)))
    with Sandbox() as sandbox:
        warm = repeat(session(sandbox), 50, warm=3).median
    rows.append(("warm: open, first cell, close", seconds(warm), ratio(warm, interpreter)))
    with Sandbox(parallel="off") as sandbox, sandbox.open() as live:
        live.run(_CELL)

        def replace() -> None:
            live.kill()
            live.run(_CELL)

        killed = repeat(replace, 20, warm=2).median
    rows.append(("a killed worker replaced", seconds(killed), ratio(killed, interpreter)))
    try:
        with MontySandbox() as other:
            monty = repeat(session(other), 20, warm=3).median
        rows.append(("warm, pydantic-monty", seconds(monty), ratio(monty, interpreter)))
    except ImportError:
        rows.append(("warm, pydantic-monty", "not installed", "-"))
    table("start of a session", ["what", "time", "ratio"], rows)


def cells() -> None:
    code = compile(_CELL, "<cell>", "exec")
    bare = repeat(lambda: [exec(_CELL, {}) for _ in range(100)], 20).best / 100
    compiled = repeat(lambda: [exec(code, {}) for _ in range(1000)], 20).best / 1000
    rows = [
        ("bare exec(), with compile (baseline)", seconds(bare), "1x"),
        ("bare exec() of compiled code", seconds(compiled), ratio(compiled, bare)),
    ]
    with Sandbox(parallel="off") as sandbox, sandbox.open(functions=[ASK, ASK_ALL, TOOL]) as session:
        cell = repeat(lambda: session.start(_CELL), 300, warm=10).median
        rows.append(("a cell", seconds(cell), ratio(cell, bare)))
        loop = f"for i in range({_CALLS}): tool(f'prompt {{i}}')"
        call = repeat(lambda: _drive(session, loop), 5, warm=1).median / _CALLS
        long = f"for i in range({_CALLS}): tool('x' * 50_000)"
        large = repeat(lambda: _drive(session, long), 3, warm=1).median / _CALLS
        many = f"llm_query_batched([f'prompt {{i}}' for i in range({_BATCH})])"
        batch = repeat(lambda: _drive(session, many), 5, warm=1).median / _BATCH
    names: dict[str, object] = {"tool": lambda _: "ok"}
    plain = repeat(lambda: exec(loop, names), 5).best / _CALLS
    with Sandbox(parallel="ahead") as sandbox, sandbox.open(functions=[ASK]) as session:
        reaching = "def f():\n    return llm_query('p')"
        ahead = repeat(lambda: session.start(reaching), 50, warm=3).median
        untouched = repeat(lambda: session.start(_CELL), 50, warm=3).median
    rows += [
        ("a cell, run-ahead on, no LM call in reach", seconds(untouched), ratio(untouched, bare)),
        ("a cell, run-ahead on, an LM call in reach", seconds(ahead), ratio(ahead, bare)),
    ]
    table("cost of a cell", ["what", "time", "ratio"], rows)
    table(
        "cost of a call to the host, answered at once",
        ["what", "each", "ratio"],
        [
            ("a function in a bare exec() (baseline)", seconds(plain), "1x"),
            (f"one after the other, {_CALLS} of them", seconds(call), ratio(call, plain)),
            ("the same with prompts of 50 kB", seconds(large), ratio(large, plain)),
            (f"in one batch of {_BATCH}", seconds(batch), ratio(batch, plain)),
        ],
    )


def _drive(session: object, code: str) -> None:
    step = session.start(code)  # type: ignore[attr-defined]
    while isinstance(step, Pending):
        step = session.resume({call.id: Value("ok") for call in step.calls})  # type: ignore[attr-defined]
    if step.error is not None:
        raise RuntimeError(step.error.traceback)


def many() -> None:
    with Sandbox() as sandbox, ThreadPoolExecutor(16) as pool:
        one = repeat(lambda: sandbox.open(variables={"i": 0}).close(), 20, warm=3).median
        base = _sandbox_handover.processes(sandbox)
        own = memory()
        begin = time.perf_counter()
        sessions = list(pool.map(lambda i: sandbox.open(variables={"i": i}), range(_MANY)))
        opened = time.perf_counter() - begin
        begin = time.perf_counter()
        found = list(pool.map(lambda session: session.run("print(i)").stdout, sessions))
        ran = time.perf_counter() - begin
        if found != [f"{i}\n" for i in range(_MANY)]:
            raise RuntimeError("a session printed what it should not")
        workers = _sandbox_handover.processes(sandbox) - base
        host = memory() - own
        begin = time.perf_counter()
        list(pool.map(lambda session: session.close(), sessions))
        closed = time.perf_counter() - begin
    table(
        f"{_MANY} sessions at once (ratio: to opening one after the other)",
        ["what", "all", "each", "ratio"],
        [
            ("open", seconds(opened), seconds(opened / _MANY), ratio(opened, one * _MANY)),
            ("a cell in each", seconds(ran), seconds(ran / _MANY), "-"),
            ("close", seconds(closed), seconds(closed / _MANY), "-"),
            ("memory of the workers (PSS)", megabytes(workers), megabytes(workers / _MANY), "-"),
            ("memory of the host", megabytes(host), megabytes(host / _MANY), "-"),
        ],
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description="What the sandbox costs.")
    parser.add_argument("parts", nargs="*", metavar="PART", help="start, cells, loops, inputs, many; default: all")
    parser.add_argument("--largest", type=int, default=max(_sandbox_handover.SIZES), help="largest input in MB")
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "start": start,
        "cells": cells,
        "loops": _sandbox_loops.measure,
        "inputs": lambda: _sandbox_handover.measure([s for s in _sandbox_handover.SIZES if s <= options.largest]),
        "many": many,
    }
    if unknown := [name for name in options.parts if name not in parts]:
        parser.error(f"there is no part {unknown[0]!r}: there are {', '.join(parts)}")
    print(machine())
    with Sandbox() as sandbox:
        print(f"workers are confined at level {sandbox.isolation!r}")
    for name in options.parts or parts:
        parts[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
