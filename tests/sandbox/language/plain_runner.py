"""Runs attacks as plain Python, each in a fork with limits, and reports what they got hold of.

An attack that does not even work without a sandbox would prove nothing by failing in one.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.corpus import hostmod
from tests.sandbox.attacks.attack_oracle import leak

SECONDS = 20
MODULES = [
    "asyncio",
    "collections",
    "concurrent.futures",
    "copyreg",
    "dataclasses",
    "enum",
    "inspect",
    "logging.config",
    "pickle",
    "pypdf",
    "sqlite3",
    "typing",
    "xml.etree.ElementTree",
    "zoneinfo",
]
HOST_SOURCE = """
def SUBMIT(*args, **kwargs):
    raise Final(args)
def SHOW_VARS():
    return ""
def llm_query_batched(prompts, model=None):
    return ["ok" for _ in prompts]
class SubCallError(RuntimeError):
    def __init__(self, message=""):
        super().__init__(message)
"""


def make_globals() -> dict[str, Any]:
    """The names that a cell expects, with every builtin."""
    names = "llm_query llm_query_batched FINAL SUBMIT SHOW_VARS SubCallError"
    host = {name: getattr(hostmod, name) for name in names.split()}
    return {"__name__": "__main__", "obj": hostmod.Obj(), "docs": ["a"], "context": "text", **host}


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Execute the cell and the probe."""
    namespace = make_globals()
    error = None
    source = request["source"].replace("/tmp/rlm-", f"{Path.cwd()}/rlm-")
    try:
        exec(compile(source, "<cell>", "exec", dont_inherit=True), namespace)
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"[:300]
    verdict = {"error": error, "leak": leak(namespace.get("PWN")), "probe": None}
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            exec(request["probe"], namespace)
        except BaseException as raised:
            print(type(raised).__name__)
    verdict["probe"] = output.getvalue()
    return verdict


def child(request: dict[str, Any], result: int) -> None:
    """In the fork: limits, an empty directory with the input file, silent streams."""
    os.chdir(tempfile.mkdtemp(prefix="rlm-plain-", dir=request["directory"]))
    Path("input.txt").write_text("INPUT", encoding="utf-8")
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(SECONDS)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.write(result, ascii(run(request)).encode())


def attempt(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, and collect the verdict."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(read)
            child(request, write)
        finally:
            os._exit(99)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        return {"died": signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"}
    verdict: dict[str, Any] = ast.literal_eval(data.decode())
    return verdict


def main() -> None:
    """Serve requests from standard input."""
    exec(HOST_SOURCE, vars(hostmod))
    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
