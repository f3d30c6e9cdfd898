"""Random cells do the same whatever was looked at while they were being written, also when they end differently.

Each program is cut behind every statement, as a reply is while it streams; at each cut the session looks ahead, and what it
finds is answered. Then the program is run, or another one that begins like it: a reply that was not what it seemed.
``FUZZ=4000`` tries an eighth of so many programs, ``FUZZ_FROM`` other ones.
"""

import ast
import os
import random

import pytest

from rlm_adapters.replies.unfinished import beginning_of, what_is_new
from rlm_adapters.sandbox import Pending, Sandbox, Session, Value
from tests.sandbox.runahead.loop_programs import grow
from tests.sandbox.runahead.test_fuzz_runahead import FIRST, FUNCTIONS, LOOK, MOST_CALLS, answer

PROGRAMS = int(os.environ.get("FUZZ") or 80) // 8
BATCH_SIZE = 5
BATCHES = PROGRAMS // BATCH_SIZE
WINDOW = 32


@pytest.fixture(scope="module")
def sandboxes():
    with Sandbox(parallel="off") as plain, Sandbox() as ahead:
        yield plain, ahead


def look_at_each_cut(session: Session, code: str) -> dict[str, str]:
    """Look at the reply with this cell as it is written; the functions of the calls that were found, by id."""
    found: dict[str, str] = {}
    answers = {}
    seen = 0
    reply = f"Now:\n```python\n{code}"
    for statement in ast.parse(code).body:
        end = len("Now:\n```python\n") + sum(len(line) + 1 for line in code.split("\n")[: statement.end_lineno])
        written = beginning_of(reply[:end] + "next_one")
        assert written is not None
        assert code.startswith(written.code)
        new = what_is_new(written.code, seen)
        seen = written.count
        if not new:
            continue
        waiting = found.keys() - answers.keys()
        calls, more = session.rehearse(written.code, new, most=WINDOW - len(found), answers=answers, waiting=waiting)
        for call in calls:
            assert call.function == "llm_query", "a tool was run ahead"
            assert call.id not in found
            found[call.id] = call.function
            given = answer(call)
            if isinstance(given, Value):
                answers[call.id] = given
        if not more or len(found) >= WINDOW:
            break
    return found


def run(sandbox: Sandbox, code: str, written: str | None = None):
    """What a program gives (None: it asks too much), the ids it asked for, and those found in what was written."""
    asked: set[str] = set()
    seen = []
    with sandbox.open(functions=FUNCTIONS, epoch=0) as session:
        found = {} if written is None else look_at_each_cut(session, written)
        for cell in (code, LOOK):
            step = session.start(cell)
            while isinstance(step, Pending):
                asked |= {call.id for call in step.calls if not call.ahead}
                if len(asked) > MOST_CALLS:
                    return None, asked, found
                step = session.resume({call.id: answer(call) for call in step.calls})
            seen.append((step.stdout, step.stdout_chars, step.error, step.final, step.variables, step.replaced))
        used = {call for record in session.journal for call in record.answers}
        journal = [(record.stdout_sha256, record.failed, dict(record.answers)) for record in session.journal]
    return (seen, journal), used, found


def changed(code: str, seed: int) -> str:
    """A program that begins like this one: some statements are left out, and it ends in its own way."""
    choose = random.Random(seed)
    statements = ast.parse(code).body
    lines = code.split("\n")
    cut = choose.randrange(3, len(statements))
    kept = lines[: statements[cut].lineno - 1]
    return "\n".join(kept) + choose.choice(
        ["\nprint(out)\n", "\nraise ValueError(total)\n", "\nSUBMIT(len(out))\n", "\n)"]
    )


@pytest.mark.parametrize("batch", range(BATCHES))
def test_fuzz_cells_do_the_same_whatever_was_looked_at_before(sandboxes, batch):
    plain, ahead = sandboxes
    early = wasted = compared = 0
    for seed in range(FIRST + batch * BATCH_SIZE, FIRST + (batch + 1) * BATCH_SIZE):
        code = grow(seed)
        expected, _, _ = run(plain, code)
        got, used, found = run(ahead, code, code)
        if expected is None or got is None:
            continue
        assert got == expected, f"seed {seed}:\n{code}"
        compared += 1
        early += len(found)
        failed = expected[0][0][2] is not None
        wasted += 0 if failed else len(found.keys() - used)
        other = changed(code, seed)
        assert run(ahead, other, code)[0] == run(plain, other)[0], f"seed {seed}, changed:\n{other}"
    assert compared > BATCH_SIZE // 2
    assert early > compared, "next to nothing was found: it is not being tested"
    assert wasted <= early / 20, "calls are found that the cell never makes"
