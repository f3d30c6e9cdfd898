"""What cells do with sub-LMs: calls, batches, failures, threads and coroutines, and handing in the answer."""

from __future__ import annotations

import pytest

from rlm_adapters.sandbox.protocol.types import Failure
from tests.sandbox.language.cell_repl import ScriptedHost, make_repl, printed, run


def failing(call):
    return (
        Failure("the server is down", "server", retryable=True) if "bad" in str(call.args[0]) else f"A({call.args[0]})"
    )


# Calls


def test_a_call_is_the_same_call_however_its_arguments_are_given():
    host = ScriptedHost()
    printed("llm_query('p', 'm'); llm_query(prompt='p', model='m'); llm_query('p', model='m')", make_repl(host))
    assert [(call.args, call.kwargs) for batch in host.batches for call in batch] == [(["p", "m"], {})] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("llm_query()", "llm_query() missing 1 required positional argument: 'prompt'"),
        ("llm_query('a', 'b', 'c')", "llm_query() takes 2 positional arguments but 3 were given"),
        ("llm_query('a', prompt='b')", "llm_query() got multiple values for argument 'prompt'"),
        ("llm_query('a', temperature=1)", "llm_query() got an unexpected keyword argument 'temperature'"),
        ("llm_query(len)", "is not data and cannot be handed over: call it"),
        ("llm_query_batched('abc')", "llm_query_batched() takes a list as its first argument, not str"),
    ],
)
def test_a_wrong_call_is_a_type_error_in_the_cell(call, message):
    host = ScriptedHost()
    error = run(call, make_repl(host)).error
    assert error is not None
    assert error.type == "TypeError"
    assert message in error.message
    assert host.batches == []


def test_a_batch_goes_out_together_and_comes_back_in_order():
    host = ScriptedHost()
    assert printed("print(llm_query_batched([f'q{i}' for i in range(3)], model='m'))", make_repl(host)) == (
        "['A(q0)', 'A(q1)', 'A(q2)']\n"
    )
    assert host.prompts == [["q0", "q1", "q2"]]
    assert {call.function for call in host.batches[0]} == {"llm_query"}


def test_arguments_arrive_as_exact_types():
    host = ScriptedHost(lambda call: "ok")
    source = """
class S(str):
    def __str__(self): return 'lie'
    def __len__(self): return 0
class D(dict):
    def items(self): return []
lookup(S('x'), D(a=(1, 2)), b'raw', 2.5, None, key='\\ud800')
"""
    printed(source, make_repl(host))
    call = host.batches[0][0]
    assert (call.args, call.kwargs) == (["x", {"a": [1, 2]}, b"raw", 2.5, None], {"key": "\ufffd"})
    assert [type(value) for value in call.args[:2]] == [str, dict]


def test_an_input_is_sent_by_its_name():
    host = ScriptedHost(lambda call: "ok")
    repl = make_repl(host)
    repl.set_variable("context", "word " * 1000)
    repl.set_variable("docs", ["one", "two"])
    printed("rlm_query('q', context=context); rlm_query('q', docs); rlm_query('q', context[:10])", repl)
    printed("docs.append('three'); rlm_query('q', docs); copied = context + ''; rlm_query('q', copied[:-1])", repl)
    sent = [call.args[1] for batch in host.batches for call in batch]
    assert sent[:4] == [{"$input": "context"}, {"$input": "docs"}, "word word ", ["one", "two", "three"]]
    assert isinstance(sent[4], str)


def test_a_failed_call_raises_with_its_kind():
    source = """
try:
    llm_query('bad')
except SubCallError as e:
    print(e, e.kind, e.retryable)
try:
    lookup('bad')
except ToolError as e:
    print(type(e).__name__, isinstance(e, SubCallError))
"""
    repl = make_repl(ScriptedHost(failing))
    assert printed(source, repl) == "the server is down server True\nToolError True\n"
    error = run("llm_query('bad')", repl).error
    assert error is not None
    assert (error.type, error.message) == ("SubCallError", "the server is down")


def test_a_failure_in_a_batch_is_falsy_and_refuses_to_be_text():
    repl = make_repl(ScriptedHost(failing))
    assert printed("rs = llm_query_batched(['a', 'bad'])\nprint(rs, [bool(r) for r in rs])\nprint(rs[1])", repl) == (
        "['A(a)', SubCallError('the server is down', kind='server')] [True, False]\n"
        "SubCallError('the server is down', kind='server')\n"
    )
    assert printed("print(isinstance(rs[1], SubCallError), [r for r in rs if r])", repl) == "True ['A(a)']\n"
    for use in ("str(rs[1])", "f'{rs[1]}'", "'x' + rs[1]", "rs[1] + 'x'", "rs[1][:5]", "'a' in rs[1]", "rs[1].strip()",
                "'%s' % rs[1]", "len(rs[1])", "list(rs[1])"):  # fmt: skip
        error = run(use, repl).error
        assert error is not None, use
        assert (error.type, error.message) == ("SubCallError", "the server is down"), use
    assert run("'\\n'.join(rs)", repl).error is not None


@pytest.mark.parametrize(
    "use", ["SUBMIT(rs)", "FINAL(rs[1])", "SUBMIT({'answers': rs})", "llm_query(rs[1])", "lookup([rs])"]
)
def test_a_failure_in_a_batch_is_not_handed_on_as_text(use):
    repl = make_repl(ScriptedHost(failing))
    run("rs = llm_query_batched(['a', 'bad'])", repl)
    outcome = run(use, repl)
    assert outcome.final is None
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message) == ("SubCallError", "the server is down")


def test_a_dict_that_looks_like_an_input_is_none():
    host = ScriptedHost(lambda call: "ok")
    repl = make_repl(host)
    repl.set_variable("context", "word " * 1000)
    printed("lookup({'$input': 'context'}, {'$input': 1, 'x': 2}, [{'$input': 'context'}])", repl)
    assert host.batches[0][0].args == [
        {"$input": {"literal": {"$input": "context"}}},
        {"$input": 1, "x": 2},
        [{"$input": "context"}],
    ]


def test_the_machine_names_come_back_when_a_cell_has_rebound_them():
    repl = make_repl()
    outcome = run("llm_query = 3\ndef SUBMIT(x): pass\nprint = None\nimport json as open", repl)
    assert [variable.name for variable in outcome.variables] == []
    assert printed("print(llm_query('x'))\nopen('f', 'w').close()", repl) == "A(x)\n"
    assert run("SUBMIT(1)", repl).final is not None


# Side by side


@pytest.mark.parametrize(
    ("name", "source"),
    {
        "map over a pool": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(max_workers=2) as ex:
    out = list(ex.map(llm_query, qs))
""",
        "submit a function that asks": """
from concurrent.futures import ThreadPoolExecutor, as_completed
def ask(q):
    return llm_query(q)
with ThreadPoolExecutor() as ex:
    futures = {ex.submit(ask, q): q for q in qs}
    found = {futures[f]: f.result() for f in as_completed(futures)}
out = [found[q] for q in qs]
""",
        "gather coroutines that ask without await": """
import asyncio
async def ask(q):
    return llm_query(q)
async def main():
    return await asyncio.gather(*[ask(q) for q in qs])
out = asyncio.run(main())
""",
        "gather coroutines that await": """
import asyncio
async def ask(q):
    return await llm_query(q)
out = await asyncio.gather(*(ask(q) for q in qs))
""",
        "gather to_thread": """
import asyncio
out = await asyncio.gather(*[asyncio.to_thread(llm_query, q) for q in qs])
""",
        "run_in_executor": """
import asyncio
loop = asyncio.get_event_loop()
async def main():
    return await asyncio.gather(*[loop.run_in_executor(None, llm_query, q) for q in qs])
out = loop.run_until_complete(main())
""",
        "a task group": """
import asyncio
async def ask(q): return llm_query(q)
async with asyncio.TaskGroup() as tg:
    tasks = [tg.create_task(ask(q)) for q in qs]
out = [t.result() for t in tasks]
""",
        "threads": """
import threading
found = {}
def ask(q): found[q] = llm_query(q)
ts = [threading.Thread(target=ask, args=(q,)) for q in qs]
for t in ts: t.start()
for t in ts: t.join()
out = [found[q] for q in qs]
""",
    }.items(),
)
def test_calls_go_out_together_from(name, source):
    host = ScriptedHost()
    repl = make_repl(host)
    repl.set_variable("qs", [f"q{i}" for i in range(5)])
    printed(source, repl)
    assert printed("print(out)", repl) == f"{[f'A(q{i})' for i in range(5)]}\n"
    assert host.prompts == [[f"q{i}" for i in range(5)]]


def test_chains_of_calls_in_tasks_go_out_wave_by_wave_in_a_fixed_order():
    source = """
from concurrent.futures import ThreadPoolExecutor
def work(i):
    first = llm_query(f'first {i}')
    return llm_query(f'then {first}') if i % 2 else first
with ThreadPoolExecutor(8) as ex:
    print(list(ex.map(work, range(4))))
"""
    waves = []
    for _ in range(3):
        host = ScriptedHost()
        printed(source, make_repl(host))
        waves.append(host.prompts)
    assert waves[0] == [["first 0", "first 1", "first 2", "first 3"], ["then A(first 1)", "then A(first 3)"]]
    assert waves[1:] == waves[:2]


def test_a_semaphore_limits_how_many_go_out_together():
    source = """
import asyncio
sem = asyncio.Semaphore(2)
async def ask(i):
    async with sem:
        await asyncio.sleep(0.1)
        return llm_query(f'q{i}')
print(await asyncio.gather(*map(ask, range(5))))
"""
    host = ScriptedHost()
    printed(source, make_repl(host))
    assert max(map(len, host.prompts)) == 2


def test_more_tasks_than_threads():
    source = """
from concurrent.futures import ThreadPoolExecutor
def work(i): return llm_query(str(i))
with ThreadPoolExecutor() as ex:
    print(sum(len(r) for r in ex.map(work, range(500))))
"""
    assert printed(source) == f"{sum(len(f'A({i})') for i in range(500))}\n"


def test_an_error_in_a_task_surfaces_where_it_is_waited_for():
    source = """
import asyncio
async def ask(q):
    if q == 'b': raise ValueError('no b')
    return llm_query(q)
print(await asyncio.gather(ask('a'), ask('b'), return_exceptions=True))
await asyncio.gather(ask('a'), ask('b'))
"""
    outcome = run(source)
    assert outcome.stdout == "['A(a)', ValueError('no b')]\n"
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.line) == ("ValueError", 4)


def test_what_was_submitted_and_not_waited_for_runs_before_the_cell_ends():
    source = (
        "from concurrent.futures import ThreadPoolExecutor\nex = ThreadPoolExecutor()\nf = ex.submit(llm_query, 'x')"
    )
    repl = make_repl()
    printed(source, repl)
    assert printed("print(f.done(), f.result())", repl) == "True A(x)\n"


def test_nothing_runs_on_after_the_cell():
    repl = make_repl()
    source = """
from concurrent.futures import ThreadPoolExecutor
log = []
def work():
    log.append('begun')
    llm_query('x')
    log.append('went on')
ThreadPoolExecutor().submit(work)
ThreadPoolExecutor().submit(FINAL, 'done').result()
"""
    outcome = run(source, repl)
    assert outcome.final is not None
    assert outcome.final.value == "done"
    assert printed("print(log)", repl) in ("['begun']\n", "[]\n")


def test_a_deadlock_is_an_error_and_no_hang():
    error = run("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()").error
    assert error is not None
    assert "deadlock" in error.message


# Handing in the answer


@pytest.mark.parametrize(
    ("call", "function", "value", "fields"),
    [
        ("SUBMIT('x')", "SUBMIT", "x", False),
        ("SUBMIT(a=1, b=[2])", "SUBMIT", {"a": 1, "b": [2]}, True),
        ("FINAL({'k': (1, 2)})", "FINAL", {"k": [1, 2]}, False),
        ("v = 5\nFINAL_VAR('v')", "FINAL_VAR", 5, False),
        ("v = [1]\nFINAL_VAR(v)", "FINAL_VAR", [1], False),
        ("v = 'text'\nFINAL_VAR(v)", "FINAL_VAR", "text", False),
        ("FINAL_VAR('two words')", "FINAL_VAR", "two words", False),
        ("answer = {'content': 'c', 'ready': True}", "answer", "c", False),
        ("FINAL({3, 1, 2})", "FINAL", [1, 2, 3], False),
        ("import datetime\nFINAL(datetime.date(2024, 1, 2))", "FINAL", "2024-01-02", False),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nFINAL(P(1))", "FINAL", {"x": 1}, False),
        ("from enum import Enum\nclass E(Enum):\n    A = 'a'\nFINAL([E.A])", "FINAL", ["a"], False),
        ("from collections import Counter\nFINAL(Counter('aab'))", "FINAL", {"a": 2, "b": 1}, False),
        ("FINAL({1: float('nan'), (1, 2): None})", "FINAL", {"1": "nan", "(1, 2)": None}, False),
        ("FINAL(None)", "FINAL", None, False),
    ],
)
def test_handing_in(call, function, value, fields):
    final = run(call).final
    assert final is not None
    assert (final.function, final.value, final.fields) == (function, value, fields)


def test_output_fields_are_bound_like_parameters():
    def final(source):
        return run(source, make_repl(output_fields=["answer", "score"]))

    assert final("SUBMIT('a', score=2)").final.value == {"answer": "a", "score": 2}
    assert final("SUBMIT('a', 2)").final.fields
    assert final("SUBMIT({'answer': 'a', 'score': 1})").final.value == {"answer": "a", "score": 1}
    assert "missing 1 required positional argument: 'score'" in final("SUBMIT('a')").error.message
    assert "unexpected keyword argument 'total'" in final("SUBMIT('a', total=1)").error.message
    assert "takes 2 positional arguments but 3" in final("SUBMIT(1, 2, 3)").error.message


def test_an_unknown_variable_lists_the_existing_ones():
    repl = make_repl()
    run("total = 1\nnames = []", repl)
    error = run("FINAL_VAR('totl')", repl).error
    assert error is not None
    assert error.type == "NameError"
    assert "existing variables: names, total" in error.message


@pytest.mark.parametrize(
    "around",
    [
        "try:\n    {}\nexcept: pass",
        "try:\n    {}\nexcept BaseException: pass",
        "def f():\n    try:\n        {}\n    finally:\n        return 1\nf()",
        "while True:\n    try:\n        {}\n    finally:\n        break",
        "for _ in range(3):\n    try:\n        {}\n    finally:\n        continue",
        "class C:\n    def __enter__(self): pass\n    def __exit__(self, *a): return True\nwith C():\n    {}",
        "from contextlib import suppress\nwith suppress(BaseException, object if False else Exception):\n    {}",
        "from contextlib import ExitStack\nwith ExitStack() as s:\n    s.push(lambda *a: True)\n    {}",
        "from contextlib import contextmanager\n@contextmanager\ndef cm():\n    try:\n        yield\n    except: pass\nwith cm():\n    {}",
        "import asyncio\nasync def f():\n    {}\nawait asyncio.gather(f(), return_exceptions=True)",
        "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(lambda: {}).exception()",
        "try:\n    {}\nexcept* Exception: pass",
        "sorted([1, 2], key=lambda x: {})",
    ],
)
def test_nothing_in_a_cell_goes_on_after_the_answer(around):
    outcome = run(around.format("FINAL('x')") + "\nprint('went on')\nFINAL('forged')")
    assert outcome.final is not None
    assert outcome.final.value == "x"
    assert outcome.stdout == ""


def test_the_first_answer_of_a_cell_counts_and_each_cell_starts_anew():
    repl = make_repl()
    assert run("xs = [1]\ntry:\n    FINAL(xs)\nfinally:\n    xs.append(2)", repl).final.value == [1]
    assert run("print(xs)", repl).final is None


def test_variables_are_described_and_shown():
    repl = make_repl()
    repl.set_variable("context", "abc")
    outcome = run("n = 1\nwords = ['a', 'b']\ndef f(): pass\nimport json", repl)
    described = [(variable.name, variable.type, variable.size) for variable in outcome.variables]
    assert described == [("n", "int", None), ("words", "list", 2), ("f", "function", None), ("json", "module", None)]
    assert "context: str (3 characters)\nn: int\nwords: list (2 items)\n" in printed("print(SHOW_VARS())", repl)
    assert run("context = 'new'", repl).variables[-1].name == "json"
    assert "context" in [variable.name for variable in run("pass", repl).variables]
