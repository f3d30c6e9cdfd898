"""The cells that language models write, run through a session and as plain Python, to be compared.

``tests/corpus/cells.json`` comes with the names of `env`. ``real_cells.json`` holds cells of six real runs without
their inputs: they get inputs of the same form here, so that their idioms run and not just compile.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlm_adapters.sandbox import Executor, ExecutorSession, HostFunction, Pending
from rlm_adapters.sandbox.host.driving import answer_calls
from tests.corpus.env import make_env

CORPUS = Path(__file__).parents[1] / "corpus"
Ask = Callable[[str], str]
FUNCTIONS = (
    HostFunction(name="llm_query", effects=False, parameters=("prompt", "model=")),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts", "model=")),
    HostFunction(name="rlm_query", effects=False, parameters=("prompt", "context=")),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cell did, as far as it can be compared."""

    stdout: str
    error: str | None
    final: Any


@dataclass(frozen=True, slots=True)
class Compared:
    """One cell, in plain Python and in a session."""

    id: str
    plain: Outcome
    ours: Outcome

    @property
    def equal(self) -> bool:
        return self.plain == self.ours


class _Submitted(BaseException):
    pass


def cells() -> list[dict[str, str]]:
    """The cells written for the purpose, each with a namespace of its own."""
    return list(json.loads((CORPUS / "cells.json").read_text(encoding="utf-8")))


def real_runs() -> list[tuple[str, list[dict[str, str]]]]:
    """The cells of real runs: the input and the cells that ran on it, one after the other."""
    by_id = {cell["id"]: cell for cell in json.loads((CORPUS / "real_cells.json").read_text(encoding="utf-8"))}
    runs = [(context, [by_id.pop(name) for name in names.split()]) for context, names in _RUNS]
    assert not by_id, f"without an input: {sorted(by_id)}"
    return runs


def compare_cells(sandbox: Executor) -> list[Compared]:
    """Each of the `cells`, in a session of its own."""
    env = make_env()
    inputs = {name: value for name, value in env.items() if not callable(value)}
    return [_compare(sandbox, inputs, [cell], env["llm_query"])[0] for cell in cells()]


def compare_real_cells(sandbox: Executor) -> list[Compared]:
    """The cells of `real_runs`, those of a run in one session."""
    compared = []
    for context, run in real_runs():
        inputs = {"context": context, "answer": {"content": "", "ready": False}}  # so their REPL had it
        compared += _compare(sandbox, inputs, run, _classify)
    return compared


def _compare(
    sandbox: Executor, inputs: Mapping[str, Any], run: Sequence[Mapping[str, str]], ask: Ask
) -> list[Compared]:
    plain = _Plain(inputs, ask)
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.chdir(directory),
        sandbox.open(variables=inputs, functions=FUNCTIONS, epoch=0.0) as session,
    ):
        return [Compared(cell["id"], plain.run(cell["src"]), _ours(session, cell["src"], ask)) for cell in run]


def _ours(session: ExecutorSession, code: str, ask: Ask) -> Outcome:
    done = session.start(code)
    while isinstance(done, Pending):
        done = session.resume(answer_calls(done.calls, {"llm_query": ask, "rlm_query": ask}))
    return Outcome(done.stdout, done.error and done.error.type, done.final and done.final.value)


class _Plain:
    """A REPL of plain Python: a bare last expression is displayed, as the sandbox does on purpose."""

    def __init__(self, inputs: Mapping[str, Any], ask: Ask) -> None:
        copied = json.loads(json.dumps(inputs))
        asking = {"llm_query": ask, "rlm_query": ask, "llm_query_batched": lambda prompts: [ask(p) for p in prompts]}
        self._namespace = make_env() | asking | copied | {"__name__": "__main__"}
        self._namespace |= {"FINAL": self._submit, "FINAL_VAR": self._submit_variable}

    def run(self, code: str) -> Outcome:
        tree = ast.parse(code)
        display = bool(tree.body) and isinstance(tree.body[-1], ast.Expr)
        last = ast.Interactive([tree.body.pop()]) if display else None
        error, final = None, None
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            try:
                exec(compile(tree, "<cell>", "exec"), self._namespace)
                if last is not None:
                    exec(compile(last, "<cell>", "single"), self._namespace)
            except _Submitted as submitted:
                final = submitted.args[0]
            except Exception as raised:
                error = type(raised).__name__
        answer = self._namespace.get("answer")
        if final is None and isinstance(answer, dict) and answer.get("ready"):
            final = answer["content"]
        return Outcome(output.getvalue(), error, final)

    def _submit(self, value: Any) -> None:
        raise _Submitted(value)

    def _submit_variable(self, name: str) -> None:
        raise _Submitted(self._namespace[name])


def _classify(prompt: str, model: str | None = None) -> str:
    """A sub-LM that puts numbered items into categories, as the real runs asked."""
    numbers = [int(number) for number in re.findall(r"(?m)^(\d+)\. ", prompt)]
    return "\n".join(f"{number}: {_CATEGORIES[number % len(_CATEGORIES)]}" for number in numbers)


_CATEGORIES = ("animal", "artifact", "food", "location", "person", "plant")
_LINES = "".join(
    f"Date: 2023-01-{1 + i % 28:02d} || User: {1000 + i % 17} || Instance: the capital or a native of place {i}\n"
    for i in range(120)
)
_STORY = (
    "The Pertamquil survey was paid for by the estate of Lunperzan. Much later the private papers of Lunperzan ended "
    "up at Harrow House. Harrow House has been in the care of a curator called Ostrel. The strongroom that Ostrel "
    "looks after opens with the number 48213. "
)
_PAGES = "\f".join(f"PAGE {i}\n\nOn this page the struggle for life is told, part {i}.\n{i}" for i in range(1, 81))
_FILES = "".join(
    f"=== FILE pkg/module_{i}.py\nimport asyncio\n\nasync def work_{i}(x):\n    return x\n\n# async def none(\n"
    for i in range(12)
)
_SECRET = "Nothing here. " * 200 + "The access  code of the LUNNEVAL vault is 7731, said L.u.n.n.e.v.a.l himself. " * 2

_RUNS = (
    (_STORY * 3, "r01 r07 r13"),
    (_LINES, "r02 r08 r17"),
    (_LINES, "r03 r09 r18 r19 r20"),
    (_PAGES, "r04 r10 r14"),
    (_FILES, "r05 r11 r16"),
    (_SECRET, "r06 r12 r15"),
)
