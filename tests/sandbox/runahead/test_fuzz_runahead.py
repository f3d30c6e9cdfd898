"""Random cells give the same with run-ahead as without: output, error, answer, variables and random state.

``FUZZ=4000`` tries so many programs, ``FUZZ_FROM`` other ones.
"""

import hashlib
import os
from collections import Counter
from typing import Any

import pytest

from rlm_adapters.sandbox import Failure, HostFunction, Pending, Sandbox, Value
from tests.sandbox.runahead.loop_programs import grow

FIRST = int(os.environ.get("FUZZ_FROM", "0"))
PROGRAMS = int(os.environ.get("FUZZ") or 300)
BATCH_SIZE = 25
BATCHES = PROGRAMS // BATCH_SIZE
MOST_CALLS = 400
FUNCTIONS = (
    HostFunction(name="llm_query", effects=False, parameters=("prompt", "model=")),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts",)),
    HostFunction(name="note", parameters=("text",)),
)
LOOK = """
import random
print(random.random())
for name, value in sorted(globals().items()):
    if not callable(value) and name != 'context':
        print(name, repr(value)[:300], repr(getattr(value, '__dict__', '')))
"""


@pytest.fixture(scope="module")
def sandboxes():
    with Sandbox(parallel="off") as plain, Sandbox() as ahead:
        yield plain, ahead


def answer(call: Any) -> Value | Failure:
    """Depends on what is asked and how often, and on nothing else."""
    digest = hashlib.sha256(call.id.partition(":")[2].encode()).hexdigest()
    if call.function == "note":
        return Value(f"noted {digest[:2]}")
    if digest[:2] < "06":
        return Failure(f"overloaded {digest[:4]}", kind="server", retryable=True)
    return Value(f" <{call.args[0][:10]} {digest[:5]}> yes"[: 5 + int(digest[2], 16) * 2])


def run(sandbox: Sandbox, code: str) -> tuple[dict[str, Any] | None, Counter[str]]:
    """What a program gives (None: it asks too much), and what was asked how often."""
    asked: Counter[str] = Counter()
    seen: dict[str, Any] = {}
    with sandbox.open(functions=FUNCTIONS, epoch=0) as session:
        for part, cell in (("cell", code), ("after", LOOK)):
            step = session.start(cell)
            while isinstance(step, Pending):
                assert len({call.id for call in step.calls}) == len(step.calls)
                asked.update(call.function for call in step.calls)
                asked["ahead"] += sum(call.ahead for call in step.calls)
                assert not any(call.ahead and call.function == "note" for call in step.calls), "a tool was run ahead"
                if asked.total() > MOST_CALLS:
                    return None, asked
                step = session.resume({call.id: answer(call) for call in step.calls})
            seen[part] = (step.stdout, step.stdout_chars, step.error, step.final, step.variables, step.replaced)
            asked["wasted"] += step.ahead_wasted
        journal = [(record.stdout_sha256, record.failed, dict(record.answers)) for record in session.journal]
    return {**seen, "journal": journal}, asked


@pytest.mark.parametrize("batch", range(BATCHES))
def test_fuzz_random_programs_do_the_same_run_ahead(sandboxes, batch):
    plain, ahead = sandboxes
    compared = found = 0
    for seed in range(FIRST + batch * BATCH_SIZE, FIRST + (batch + 1) * BATCH_SIZE):
        code = grow(seed)
        expected, asked = run(plain, code)
        got, asked_ahead = run(ahead, code)
        if expected is None or got is None:
            continue
        assert got == expected, f"seed {seed}:\n{code}"
        assert asked_ahead["llm_query"] == asked["llm_query"] + asked_ahead["wasted"], f"seed {seed}"
        assert asked_ahead["note"] == asked["note"]
        compared += 1
        found += asked_ahead["ahead"]
    assert compared > BATCH_SIZE // 2
    assert found > compared, "run-ahead found next to nothing: it is not being tested"
