"""Helpers of the language tests: a `Repl` with a scripted host, and plain Python to compare it with."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlm_adapters.sandbox.protocol.types import Answer, Failure, HostFunction, Value
from rlm_adapters.sandbox.repl.repl import CellOutcome, Repl, WireCall

FUNCTIONS = (
    HostFunction(name="llm_query", effects=False, parameters=("prompt", "model="), doc="Ask a sub-LM."),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts", "model=")),
    HostFunction(name="rlm_query", effects=False, parameters=("prompt", "context=")),
    HostFunction(name="lookup", parameters=None, doc="A tool."),
)


class ScriptedHost:
    """Answers calls, and remembers which came together.

    Attributes:
        batches: the calls, as they were handed over.
    """

    def __init__(self, answer: Callable[[WireCall], Any] = lambda call: f"A({call.args[0]})") -> None:
        self._answer = answer
        self.batches: list[list[WireCall]] = []

    def __call__(self, calls: Sequence[WireCall]) -> list[Answer]:
        self.batches.append(list(calls))
        answers = [self._answer(call) for call in calls]
        return [answer if isinstance(answer, (Value, Failure)) else Value(answer) for answer in answers]

    @property
    def prompts(self) -> list[list[Any]]:
        """The first arguments, batch by batch."""
        return [[call.args[0] for call in batch] for batch in self.batches]


def make_repl(host: ScriptedHost | None = None, **options: Any) -> Repl:
    """A namespace with the usual functions."""
    settings: dict[str, Any] = {
        "call_host": host or ScriptedHost(),
        "functions": FUNCTIONS,
        "output_chars": 200_000,
        "file_bytes": 1 << 20,
    }
    allowed = options.pop("allow_modules", ())
    return Repl(allow_modules=allowed).begin(**{**settings, **options})


def run(source: str, repl: Repl | None = None) -> CellOutcome:
    """Run one cell."""
    return (repl or make_repl()).run(source)


def printed(source: str, repl: Repl | None = None) -> str:
    """What a cell prints; it must not fail."""
    outcome = run(source, repl)
    assert outcome.error is None, outcome.error.traceback
    return outcome.stdout


def plain_python(source: str, names: dict[str, Any], directory: Path) -> str:
    """What plain Python prints for the same code, in an empty directory."""
    namespace = {**names, "__name__": "__main__"}
    output = io.StringIO()
    before = Path.cwd()
    os.chdir(directory)
    try:
        with contextlib.redirect_stdout(output):
            exec(compile(source, "<cell>", "exec", dont_inherit=True), namespace)
    finally:
        os.chdir(before)
    return output.getvalue()
