"""The second executor behind the same protocol: sessions in pydantic-monty, and a whole run on it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from rlm_adapters import create_rlm_graph
from rlm_adapters.errors import InputError, IsolationError, MissingExtraError, ReplayDivergenceError, SandboxError
from rlm_adapters.sandbox import (
    Executor,
    Failure,
    FileVariable,
    HostFunction,
    MontySandbox,
    Pending,
    Sandbox,
    SandboxLimits,
    Value,
)
from tests.sandbox.corpus_cells import compare_cells, compare_real_cells

ROOT = Path(__file__).parents[3]

FUNCTIONS = (
    HostFunction(name="llm_query", effects=False, parameters=("prompt", "model=")),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts", "model=")),
    HostFunction(name="tool"),
)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    with pytest.raises(MissingExtraError, match=r"rlm-adapters\[monty\]"):
        MontySandbox()


@pytest.fixture(scope="module")
def sandbox():
    pytest.importorskip("pydantic_monty")
    with MontySandbox(limits=SandboxLimits(cpu_seconds=1, wall_seconds=20)) as sandbox:
        yield sandbox


@pytest.fixture
def session(sandbox):
    with sandbox.open(variables={"context": "hello world"}, functions=FUNCTIONS, epoch=0.0) as session:
        yield session


def drive(session, code, answer="ans({})"):
    step, rounds = session.start(code), []
    while isinstance(step, Pending):
        rounds.append([call.args[0] if call.args else None for call in step.calls])
        step = session.resume({call.id: Value(answer.format(*call.args)) for call in step.calls})
    return step, rounds


def test_both_sandboxes_are_executors(sandbox):
    assert isinstance(sandbox, Executor)
    with Sandbox() as ours:
        assert isinstance(ours, Executor)


def test_a_cell_runs_calls_the_host_and_submits(session):
    done, rounds = drive(session, "a = llm_query(context[:5])\nprint(a)\nSUBMIT([a, 1])")
    assert rounds == [["hello"]]
    assert (done.stdout, done.error) == ("ans(hello)\n", None)
    assert (done.final.function, done.final.value) == ("SUBMIT", ["ans(hello)", 1])
    assert [(v.name, v.type, v.size) for v in done.variables] == [("a", "str", 10)]


def test_the_calls_of_a_batch_are_asked_together(session):
    done, rounds = drive(session, "print(llm_query_batched(['a', 'b', 'c']))")
    assert rounds == [["a", "b", "c"]]
    assert done.stdout == "['ans(a)', 'ans(b)', 'ans(c)']\n"


def test_calls_that_are_awaited_together_are_asked_together(session):
    code = (
        "import asyncio\nasync def ask(p):\n    return await llm_query(p)\nasync def main():\n"
        "    return await asyncio.gather(ask('x'), ask('y'), llm_query('z'))\nprint(asyncio.run(main()))"
    )
    done, rounds = drive(session, code)
    assert [sorted(one) for one in rounds] == [["x", "y", "z"]]
    assert done.stdout == "['ans(x)', 'ans(y)', 'ans(z)']\n"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("x = {'a': (1, 2)}\nFINAL_VAR('x')", {"a": [1, 2]}),
        ("FINAL('text')", "text"),
        ("try:\n    FINAL(1)\nexcept Exception:\n    FINAL(2)", 1),
        ("answer = {'content': 'c', 'ready': True}", "c"),
    ],
)
def test_answers_are_handed_in(session, code, value):
    assert session.start(code).final.value == value


def test_a_final_var_of_no_variable_is_an_error(session):
    done = session.start("FINAL_VAR('missing')")
    assert done.final is None
    assert done.error.type == "NameError"


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        ("1 / 0", "exception", "ZeroDivisionError"),
        ("def f(:", "syntax", "SyntaxError"),
        ("def f():\n    yield 1", "policy", "NotImplementedError"),
        ("print(nothing)", "exception", "NameError"),
        ("llm_query()", "exception", "TypeError"),
        ("import socket", "exception", "ModuleNotFoundError"),
        ("open('/etc/passwd').read()", "exception", "FileNotFoundError"),
        ("import os\nos.system('true')", "exception", "AttributeError"),
    ],
)
def test_errors_are_those_of_the_cell(session, code, kind, name):
    done = session.start(code)
    assert (done.error.kind, done.error.type) == (kind, name)
    assert name in done.error.traceback
    assert session.start("print('alive')").stdout == "alive\n"


@pytest.mark.parametrize(("code", "kind"), [("while True:\n    pass", "cpu"), ("x = ['m'] * 10**10", "memory")])
def test_a_limit_costs_the_cell_and_nothing_else(session, code, kind):
    drive(session, "kept = llm_query('once')")
    done = session.start(code)
    assert done.error.kind == kind
    assert done.replaced
    assert session.start("print(kept)").stdout == "ans(once)\n"
    assert [record.failed for record in session.journal] == [False, True, False]


def test_a_failed_call_is_an_error_in_the_cell_and_none_in_a_batch(session):
    step = session.start("try:\n    llm_query('p')\nexcept RuntimeError as e:\n    print(e)")
    done = session.resume({step.calls[0].id: Failure("no luck")})
    assert done.stdout == "SubCallError: no luck\n"
    step = session.start("print(llm_query_batched(['a', 'b']))")
    done = session.resume({step.calls[0].id: Value("A"), step.calls[1].id: Failure("no luck")})
    assert done.stdout == "['A', None]\n"


def test_a_killed_worker_is_replaced_in_the_middle_of_a_cell(session):
    drive(session, "before = llm_query('once')")
    step = session.start("x = llm_query('one')\nprint(before)\ny = llm_query('two ' + x)\nprint(y)")
    session.kill()
    step = session.resume({step.calls[0].id: Value("1")})
    assert [call.args for call in step.calls] == [("two 1",)]
    session.kill()
    done = session.resume({step.calls[0].id: Value("2")})
    assert (done.stdout, done.replaced) == ("ans(once)\n2\n", True)


def test_another_session_is_rebuilt_from_the_journal(sandbox, session):
    drive(session, "import random\nx = llm_query('one')\nr = random.random()")
    drive(session, "def f(n):\n    return n + len(x)\nprint(r)")
    again = {"variables": {"context": "hello world"}, "functions": FUNCTIONS, "epoch": session.epoch}
    with sandbox.open(**again, journal=session.journal) as other:
        assert drive(other, "print(f(1), r)")[0].stdout == drive(session, "print(f(1), r)")[0].stdout
    with pytest.raises(ReplayDivergenceError):
        sandbox.open(**again, seed=7, journal=session.journal)


def test_inputs_and_files_come_from_files(sandbox, tmp_path):
    (tmp_path / "a.txt").write_text("ünïcode")
    (tmp_path / "b.json").write_text('[{"k": 1}]')
    with sandbox.open(
        variables={
            "a": FileVariable(path=tmp_path / "a.txt"),
            "b": FileVariable(path=tmp_path / "b.json", kind="json"),
        },
        files={"data/c.txt": tmp_path / "a.txt", "d.bin": b"\xff"},
    ) as session:
        done = session.start("print(len(a), b, open('data/c.txt').read(), open('d.bin', 'rb').read())")
    assert done.stdout == "7 [{'k': 1}] ünïcode b'\\xff'\n"
    with pytest.raises(InputError, match="'x'"):
        sandbox.open(variables={"x": object()})
    with pytest.raises(InputError, match="cannot be read"):
        sandbox.open(files={"x": tmp_path / "missing"})


async def test_the_asynchronous_forms_do_not_block_and_a_cancelled_cell_is_killed(session):
    step = await session.astart("x = llm_query('p')\nprint(x)")
    done = await session.aresume({step.calls[0].id: Value("A")})
    assert done.stdout == "A\n"
    task = asyncio.create_task(session.astart("while True:\n    pass"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await session.astart("print(x)")).stdout == "A\n"


def test_a_closed_session_is_over(sandbox):
    session = sandbox.open()
    session.close()
    session.close()
    assert session.closed
    with pytest.raises(SandboxError, match="closed"):
        session.start("1")


def test_the_operating_systems_confinement_is_not_claimed():
    pytest.importorskip("pydantic_monty")
    with pytest.raises(IsolationError, match="monty"):
        MontySandbox(require="os")


def test_more_sessions_than_processors_wait_for_the_host_at_once(sandbox):
    sessions = [sandbox.open(functions=FUNCTIONS) for _ in range(12)]
    steps = [session.start(f"print(llm_query('p{i}'))") for i, session in enumerate(sessions)]
    for i, (session, step) in enumerate(zip(sessions, steps, strict=True)):
        assert session.resume({step.calls[0].id: Value(f"a{i}")}).stdout == f"a{i}\n"
        session.close()


def test_more_than_half_of_the_corpus_cells_run_and_print_what_plain_python_does():
    pytest.importorskip("pydantic_monty")
    with MontySandbox() as sandbox:  # its limits are not what is tested here
        compared = compare_cells(sandbox)
        real = compare_real_cells(sandbox)
    assert sum(one.equal for one in compared) >= 28, [one.id for one in compared if one.equal]
    said = " ".join((ROOT / "docs" / "security.md").read_text().split())
    assert f"{sum(one.equal for one in compared)} of the {len(compared)} cells" in said
    assert f"{sum(one.equal for one in real)} of the {len(real)} of real runs" in said


def test_a_whole_run_of_the_graph_goes_on_it():
    pytest.importorskip("pydantic_monty")
    from langchain_core.language_models.fake_chat_models import FakeListChatModel

    root = FakeListChatModel(
        responses=["```repl\nparts = llm_query_batched([context[:3], context[3:6]])\nprint(parts)\n```",
                   "```repl\nSUBMIT('-'.join(parts))\n```"]
    )  # fmt: skip
    sub = FakeListChatModel(responses=["same", "same"])
    graph = create_rlm_graph(root, sub, sandbox="monty")
    assert isinstance(graph.rlm.sandbox, MontySandbox)
    result = graph.invoke({"query": "q", "context": "abcdef" * 100})
    assert (result["answer"], result["finish_reason"]) == ("same-same", "submitted")
    graph.close()


def test_an_unknown_executor_is_refused():
    from langchain_core.language_models.fake_chat_models import FakeListChatModel

    with pytest.raises(InputError, match="monty"):
        create_rlm_graph(FakeListChatModel(responses=["x"]), sandbox="docker")
