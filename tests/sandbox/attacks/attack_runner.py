"""Runs attacks in-process against a `Repl`, each in a forked child, and reports what they got hold of.

Started by the tests as a process of its own: it reads one JSON object per line and answers with one. A child that a
successful attack corrupts, or that hangs, harms nobody.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import rlm_adapters.sandbox
from rlm_adapters.sandbox.protocol.types import Answer, HostFunction, Value
from rlm_adapters.sandbox.repl.repl import Repl
from rlm_adapters.sandbox.runtime.hostcalls import WireCall
from rlm_adapters.sandbox.worker.timer import CpuTimer
from tests.corpus import hostmod
from tests.sandbox.attacks.attack_oracle import SECRET, leak

SECONDS = 20
CELL_SECONDS = 0.3
MEMORY = 3 << 30
FUNCTIONS = (
    HostFunction(name="llm_query", effects=False, parameters=("prompt", "model=")),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts", "model=")),
    HostFunction(name="rlm_query", effects=False, parameters=("prompt", "context=")),
    HostFunction(name="tool", doc="A tool."),
)
DOCS = ["doc one", "doc two"]


def answer(calls: Sequence[WireCall]) -> list[Answer]:
    """The host: everything is "ok"."""
    return [Value("ok") for _ in calls]


def plant_secret() -> None:
    """Put the secret into the globals of every module of the sandbox, where an escape finds it."""
    for module in pkgutil.walk_packages(rlm_adapters.sandbox.__path__, "rlm_adapters.sandbox."):
        if not module.name.endswith(".plain"):
            vars(importlib.import_module(module.name))["SECRET"] = f"{SECRET}-TOKEN"


def make_repl(files: dict[str, str]) -> Repl:
    """A namespace like the one of a session, and in addition objects of the host, which sessions never hold."""
    repl = Repl().begin(call_host=answer, functions=FUNCTIONS, output_chars=20_000, file_bytes=1 << 20)
    for name, text in files.items():
        repl.add_file(name, text.encode())
    repl.set_variable("context", "some context " * 100)
    repl.set_variable("docs", list(DOCS))
    repl.set_variable("obj", hostmod.Obj())
    repl.set_variable("raw_query", hostmod.llm_query)
    return repl


def text_of(value: Any) -> str:
    """The start of the text of a submitted value, which is plain data by then."""
    if isinstance(value, str):
        value = value[:200]
    try:
        return ascii(value)[:500]
    except ValueError:
        return "a number with too many digits"


def run_attack(request: dict[str, Any]) -> dict[str, Any]:
    """Run the cell, then the probe; look at what is there afterwards."""
    repl = make_repl(request["files"])
    outcome = repl.run(request["source"])
    namespace = repl.namespace
    held = {name: why for name, value in list(namespace.items()) if name == "PWN" and (why := leak(value))}
    verdict = {
        "error": outcome.error and f"{outcome.error.kind} {outcome.error.type}: {outcome.error.message}"[:500],
        "stdout": outcome.stdout[:2_000],
        "final": outcome.final and text_of(outcome.final.value),
        "leak": held.get("PWN"),
        "printed": leak(outcome.stdout),
        "probe": None,
    }
    if request["probe"]:
        probed = repl.run(request["probe"])
        verdict["probe"] = probed.stdout + (f"{probed.error.type}: {probed.error.message}" if probed.error else "")
    gc.collect()
    return verdict


PREPARED: list[Repl] = []
"""The namespace that `run_cells` goes on from; each attempt runs in a fork and leaves it as it is."""


def prepare(cells: Sequence[str]) -> dict[str, Any]:
    """Run cells that all later attempts start from."""
    PREPARED[:] = [make_repl({"input.txt": "INPUT"})]
    outcomes = [PREPARED[0].run(cell) for cell in cells]
    gc.freeze()
    return {"errors": [outcome.error and outcome.error.message for outcome in outcomes]}


def run_cells(request: dict[str, Any]) -> dict[str, Any]:
    """Run several cells, one after the other, and look at everything that they have bound."""
    repl = PREPARED[0]
    timer = CpuTimer()
    errors = []
    given = set(repl.namespace) - {"walked"}
    for cell in request["cells"]:
        timer.start(CELL_SECONDS)
        outcome = repl.run(cell)
        timer.stop()
        errors.append(outcome.error and f"{outcome.error.kind} {outcome.error.type}: {outcome.error.message}"[:200])
        if why := leak(outcome.stdout):
            return {"leak": f"printed: {why}", "errors": errors}
    for name, value in list(repl.namespace.items()):
        values = [value, *value] if name == "walked" and type(value) is list else [value]
        for one in values if name not in given else []:
            if why := leak(one):
                return {"leak": f"{name}: {why}", "errors": errors}
    return {"leak": None, "errors": errors}


def child(request: dict[str, Any], result: int) -> None:
    """In the fork: limits, an empty directory, streams that are watched."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(SECONDS)
    with tempfile.TemporaryFile() as watched:
        os.dup2(watched.fileno(), 1)
        os.dup2(watched.fileno(), 2)
        verdict = run_cells(request) if "cells" in request else run_attack(request)
        for stream in (sys.__stdout__, sys.__stderr__):
            assert stream is not None
            with contextlib.suppress(ValueError):
                stream.flush()
        os.lseek(watched.fileno(), 0, os.SEEK_SET)
        verdict["streams"] = os.read(watched.fileno(), 2_000).decode("utf-8", "replace")
    os.write(result, ascii(verdict).encode())


def attempt(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, and collect the verdict."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(read)
            child(request, write)
        except BaseException as error:
            os.write(write, ascii({"broken": f"{type(error).__name__}: {error}"[:500]}).encode())
        finally:
            os._exit(0)
    os.close(write)
    data = bytearray()
    deadline = time.monotonic() + SECONDS + 5
    while time.monotonic() < deadline and select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(read, 1 << 16)
        if not chunk:
            break
        data += chunk
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not data:
        return {"died": signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"}
    verdict: dict[str, Any] = ast.literal_eval(data.decode())
    return verdict


def main() -> None:
    """Serve requests from standard input."""
    plant_secret()
    # Warm what the first attack would otherwise import in every child.
    make_repl({}).run("import json, re, collections, datetime, dataclasses, enum, typing, functools\nprint(1)")
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        answered = prepare(request["prepare"]) if "prepare" in request else attempt(request)
        print(json.dumps(answered), flush=True)


if __name__ == "__main__":
    main()
