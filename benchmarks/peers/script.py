"""The scripted model. What it answers follows from the prompt alone, as each peer tells its history in another way."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.peers.driver import Dialect
from benchmarks.peers.scenarios import Plan
from tests.server import ModelRequest, Reply, RequestRecord, ToolCall, server_error
from tests.server.protocol import prompt_text

MODEL = "scripted"
_STEP = re.compile(r"BENCHSTEP(\d+)")
_ROOT = re.compile(r"BENCHROOT(\d+)")


def run_of(record: RequestRecord) -> int | None:
    """The number of the run whose root LM was asked; None: a sub-call."""
    found = _ROOT.search(record.prompt)
    return None if found is None else int(found[1])


def step_of(record: RequestRecord) -> int:
    """How many cells the root LM has written before."""
    return max((int(one) for one in _STEP.findall(record.prompt)), default=0)


def script_of(dialect: Dialect, plan: Plan) -> Callable[[list[dict[str, Any]], ModelRequest], Reply]:
    """What the model answers."""
    failures = iter([server_error()] if plan.sub_fails_once else [])

    def answer(messages: list[dict[str, Any]], _: ModelRequest) -> Reply:
        told = prompt_text(messages)
        if _ROOT.search(told) is None:
            return next(failures, Reply(_sub_answer(told, dialect), latency=plan.sub_latency))
        step = max((int(one) for one in _STEP.findall(told)), default=0)
        return _root_answer(dialect, plan, step)

    return answer


def _sub_answer(told: str, dialect: Dialect) -> str:
    place = told.rfind("BENCHSUB")
    mark = hashlib.sha256(told[place : place + 200].encode()).hexdigest()[:8]
    return dialect.sub_reply.format(text=f"SUB{mark}")


def _root_answer(dialect: Dialect, plan: Plan, step: int) -> Reply:
    if dialect.ends_with_text and step >= len(plan.cells) - 1:
        return Reply(plan.expect or "done", latency=plan.root_latency)
    code = plan.cells[min(step, len(plan.cells) - 1)]
    if dialect.way == "tool":
        tool, argument = dialect.tool
        return Reply(None, tool_calls=(ToolCall(tool, {argument: code}),), latency=plan.root_latency)
    return Reply(_worded(dialect, code), latency=plan.root_latency)


def _worded(dialect: Dialect, code: str) -> str:
    if dialect.way == "plan":
        return json.dumps({"plan": "go on", "code": code})
    if dialect.way == "dspy":
        return f"[[ ## reasoning ## ]]\ngo on\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"
    return f"I run this.\n\n```{dialect.way}\n{code}\n```"


def whole_prompt(record: RequestRecord) -> str:
    """All that a provider counts: tools and the form of the answer, then the messages."""
    extra = [record.body[name] for name in ("tools", "response_format") if record.body.get(name)]
    told = [f"<{one.get('role')}>{prompt_text([one])}" for one in record.messages]
    return "".join([*(json.dumps(one) for one in extra), *told])


def common_prefix(first: str, second: str) -> int:
    """Characters that two texts share at their start."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[:middle] == second[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def cached_share(prompts: Sequence[str]) -> float:
    """Share of the characters of a run's prompts that a cache would hit: what each shares with the one before."""
    hit = sum(common_prefix(before, after) for before, after in itertools.pairwise(prompts))
    return hit / max(1, sum(map(len, prompts)))
