"""Run-ahead: which calls are found, which are not, and what it leaves alone."""

import time
from pathlib import Path
from typing import Any

import pytest

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox import AheadAccount, Done, Failure, HostFunction, Pending, Sandbox, Session, Value
from rlm_adapters.sandbox.host.runahead import CellAhead
from rlm_adapters.sandbox.protocol.frames import ProtocolError
from rlm_adapters.sandbox.runahead.reach import can_gain

FUNCTIONS = (
    HostFunction(name="llm_query", effects=False, parameters=("prompt", "model=")),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts", "model=")),
    HostFunction(name="tool", parameters=("text",)),
)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def session(sandbox):
    with sandbox.open(functions=FUNCTIONS, epoch=0) as session:
        yield session


def answer(call: Any) -> Value:
    return Value(f" <{call.args[0][:40]}> ")


def finish(session: Session, code: str) -> tuple[Done, list[list[str]]]:
    """Run a cell; its end, and the prompts of each wave."""
    waves = []
    step = session.start(code)
    while isinstance(step, Pending):
        waves.append([call.args[0] for call in step.calls])
        step = session.resume({call.id: answer(call) for call in step.calls})
    return step, waves


FREE = {
    "a loop": "for c in range(40):\n    out.append(llm_query(f'{c}').strip())",
    "a comprehension": "out = [llm_query(f'{c}') for c in range(40)]",
    "a comprehension filtered by the answer": "out = [c for c in range(40) if '1' in llm_query(f'{c}')]",
    "a generator that is counted": "print(sum('3' in llm_query(f'{c}') for c in range(40)))",
    "a set of answers": "print(sorted({llm_query(f'{c}') for c in range(40)})[:2])",
    "a dict by answer": "d = {llm_query(f'{c}'): c for c in range(40)}\nprint(len(d))",
    "counting by answer": "d = {}\nfor c in range(40):\n    k = llm_query(f'{c}')[:3]\n    d[k] = d.get(k, 0) + 1\nprint(d)",
    "a while loop": "i = 0\nwhile i < 40:\n    if 'x' in llm_query(f'{i}'): print(i)\n    i += 1",
    "nested loops": "for i in range(8):\n    for j in range(5):\n        out.append(llm_query(f'{i} {j}')[:4])",
    "try and except": "import json\nfor c in range(40):\n    try: out.append(json.loads(llm_query(f'{c}')))\n    except ValueError: out.append(None)",
    "a caught raise": "for c in range(40):\n    try:\n        if '7' in llm_query(f'{c}'): raise ValueError(c)\n    except Exception as e: out.append(e)",
    "a helper with a conditional return": "def f(c):\n    r = llm_query(f'{c}')\n    if '2' in r: return 0\n    return len(r)\nprint([f(c) for c in range(40)])",
    "a method": "class K:\n    def __init__(self): self.seen = []\n    def add(self, c): self.seen.append(llm_query(f'{c}'))\nk = K()\nfor c in range(40): k.add(c)\nprint(len(k.seen))",
    "a closure": "def f():\n    got = []\n    def g(c): got.append(llm_query(f'{c}'))\n    for c in range(40): g(c)\n    return got\nprint(len(f()))",
    "a key function": "print(max(range(40), key=lambda c: llm_query(f'{c}')))",
    "filter": "print(list(filter(lambda c: '4' in llm_query(f'{c}'), range(40))))",
    "a conditional expression": "out = ['yes' if '5' in llm_query(f'{c}') else 'no' for c in range(40)]\nprint(out[:7])",
    "continue on the answer": "for c in range(40):\n    if not llm_query(f'{c}'): continue\n    out.append(c)",
    "match": "for c in range(40):\n    match llm_query(f'{c}').split():\n        case [one]: out.append(one)\n        case _: pass",
}  # fmt: skip


@pytest.mark.parametrize("shape", FREE)
def test_the_calls_of_a_plain_loop_go_out_in_a_few_waves(session, shape):
    done, waves = finish(session, "out = []\n" + FREE[shape] + "\nprint(len(out))")
    assert done.error is None
    assert sum(map(len, waves)) == 40, "no call is made that the cell does not make"
    assert len(waves) == 2, "16, then up to 32 together"
    assert (done.ahead_calls, done.ahead_wasted) == (38, 0)


BOUND = {
    "a search that ends": "for c in range(40):\n    if '<9>' in llm_query(f'{c}'): break",
    "the first success": "print(next(c for c in range(40) if '<9>' in llm_query(f'{c}')))",
    "any": "print(any('<9>' in llm_query(f'{c}') for c in range(40)))",
    "an error": "for c in range(40):\n    if '<9>' in llm_query(f'{c}'): raise ValueError(c)",
    "an answer": "for c in range(40):\n    if '<9>' in llm_query(f'{c}'): SUBMIT(c)",
    "a rolling text": "t = ''\nfor c in range(10): t = llm_query(f'{t[-5:]} {c}')",
    "a rolling list": "t = []\nfor c in range(10): t.append(llm_query(f'{t[-1:]} {c}'))",
    "rolling in an object": "class M: pass\nm = M()\nm.t = ''\ndef f(c): m.t = llm_query(f'{m.t[-5:]} {c}')\nfor c in range(10): f(c)",
    "rolling by global": "t = ''\ndef f(c):\n    global t\n    t = (llm_query(f'{t} {c}') + t)[:9]\nfor c in range(10): f(c)",
    "rolling after a conditional return": "t = []\ndef f(c):\n    r = llm_query(f'{t} {c}')\n    if '99' in r: return\n    t.append(r[:5])\nfor c in range(10): f(c)",
    "a tool between the calls": "for c in range(10): tool(llm_query(f'{c}'))",
    "a tool before the call": "for c in range(10): llm_query(tool(f'{c}'))",
}  # fmt: skip


@pytest.mark.parametrize("shape", BOUND)
def test_a_call_that_may_never_be_made_is_not_made_ahead(session, shape):
    _, waves = finish(session, BOUND[shape])
    assert {len(wave) for wave in waves} == {1}


def test_a_second_call_on_the_answer_belongs_to_the_next_wave(session):
    code = "out = []\nfor c in range(16):\n    a = llm_query(f'A {c}').strip()\n    out.append(llm_query(f'B {a}'))"
    done, waves = finish(session, code)
    assert [len(wave) for wave in waves] == [16, 16]
    assert all(prompt.startswith("B <A") for prompt in waves[1])
    assert done.ahead_wasted == 0


def test_functions_of_earlier_cells_are_run_ahead_too(session):
    finish(
        session,
        "import re\ndef ask(c):\n    r = llm_query(f'{c}')\n    if re.search('3', r): return 'three'\n    return r",
    )
    _, waves = finish(session, "print([ask(c) for c in range(16)])")
    assert [len(wave) for wave in waves] == [16]


def test_threads_and_batches_in_a_loop_are_found_as_well(session):
    code = """
from concurrent.futures import ThreadPoolExecutor
def f(c): return llm_query(f'{c} ' + llm_query(f'first {c}').strip()[:9])
out = []
for start in (0, 2, 4):
    with ThreadPoolExecutor(2) as pool:
        out += pool.map(f, range(start, start + 2))
    out += llm_query_batched([f'batch {start}', out[-1][:5]])
print(len(out))
"""
    done, waves = finish(session, code)
    assert done.stdout == "12\n"
    assert done.ahead_wasted == 0
    assert len(waves) < 9, "three groups of three waves each when run alone"


def test_without_run_ahead_there_is_one_call_at_a_time():
    with Sandbox(parallel="off") as sandbox, sandbox.open(functions=FUNCTIONS) as session:
        done, waves = finish(session, FREE["a comprehension"])
    assert len(waves) == 40
    assert done.ahead_calls == 0


def test_a_wrong_setting_names_the_remedy():
    with pytest.raises(InputError, match="ahead"):
        Sandbox(parallel="threads")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="max_ahead"):
        Sandbox(max_ahead=0)


def test_max_ahead_bounds_a_wave():
    with Sandbox(max_ahead=5) as sandbox, sandbox.open(functions=FUNCTIONS) as session:
        _, waves = finish(session, FREE["a comprehension"])
    assert max(map(len, waves)) == 5


def test_answers_may_come_for_some_of_the_calls_only(session):
    step = session.start("print([llm_query(f'{c}').strip() for c in range(8)])")
    asked = []
    while isinstance(step, Pending):
        asked += [call.args[0] for call in step.calls if not call.ahead]
        step = session.resume({call.id: answer(call) for call in step.calls if not call.ahead or call.args[0] in "246"})
    assert step.stdout == str([f"<{c}>" for c in range(8)]) + "\n"
    assert asked == ["0", "1", "3", "5", "7"]


def test_a_failed_call_found_ahead_fails_where_the_cell_makes_it(session):
    step = session.start(
        "for c in range(4):\n    try: print(llm_query(f'{c}'))\n    except SubCallError as e: print('failed', e)"
    )
    while isinstance(step, Pending):
        step = session.resume(
            {call.id: Failure("overloaded") if call.args[0] == "2" else answer(call) for call in step.calls}
        )
    assert step.stdout.split("\n")[2] == "failed overloaded"


def test_the_same_prompt_stays_as_many_samples(session):
    step = session.start("print([llm_query('same') for _ in range(5)])")
    assert isinstance(step, Pending)
    assert len({call.id for call in step.calls}) == 5
    done = session.resume({call.id: Value(f"{number}") for number, call in enumerate(step.calls)})
    assert isinstance(done, Done)
    assert done.stdout == "['0', '1', '2', '3', '4']\n"


def test_a_text_in_the_context_cannot_pass_for_an_unknown(sandbox):
    text = "\ue000unknown\ue001 and \ue0001\ue001"
    with sandbox.open(functions=FUNCTIONS, variables={"context": text}) as session:
        _, waves = finish(session, "out = [llm_query(f'{context} {c}') for c in range(6)]\nprint(len(out))")
    assert len(waves) == 1
    assert all(prompt.startswith(text) for prompt in waves[0])


def test_random_numbers_are_those_of_the_real_run(session):
    code = "import random\nout = [llm_query(f'{random.random()}') for _ in range(6)]\nprint(random.random())"
    done, waves = finish(session, code)
    assert len(waves) == 1
    assert done.ahead_wasted == 0


def test_a_cell_with_much_work_before_its_calls_is_not_run_again_for_them(session):
    code = "n = 0\nwhile n < 25_000_000: n += 1\nout = [llm_query(f'{c}') for c in range(4)]"
    _, waves = finish(session, code)
    assert [len(wave) for wave in waves] == [1, 1, 1, 1]


def test_waste_stops_it_for_the_session(session):
    code = "for c in range(60):\n    r = llm_query(f'{c}')\n    int(r)"
    done, waves = finish(session, code)
    assert done.error is not None
    assert done.ahead_wasted == len(waves[0]) - 1 == 31
    done, waves = finish(session, FREE["a comprehension"])
    assert done.ahead_calls == 0
    assert len(waves) == 40


def test_waste_of_an_earlier_worker_counts_in_the_one_that_goes_on(sandbox):
    code = "for c in range(60):\n    r = llm_query(f'{c}')\n    int(r)"
    with sandbox.open(functions=FUNCTIONS, epoch=0) as session:
        step = session.start(code)
        assert isinstance(step, Pending)
        answers = {call.id: answer(call) for call in step.calls}
    with sandbox.open(functions=FUNCTIONS, epoch=0) as session:
        done = session.start(code, answers=answers)
        assert isinstance(done, Done)
        assert done.error is not None
        assert (len(answers), done.ahead_wasted) == (32, 31)
        assert len(finish(session, FREE["a comprehension"])[1]) == 40, "it has stopped running ahead"


def test_a_session_killed_in_the_middle_goes_on_with_the_answers_found_ahead(sandbox):
    code = "out = [llm_query(f'{c}').strip() for c in range(40)]\nprint(out[-1])"
    with sandbox.open(functions=FUNCTIONS, epoch=0) as session:
        finish(session, "base = [llm_query(f'base {c}') for c in range(3)]")
        step = session.start(code)
        assert isinstance(step, Pending)
        answers = {call.id: answer(call) for call in step.calls}
        journal = session.journal
    with sandbox.open(functions=FUNCTIONS, epoch=0, journal=journal) as session:
        step = session.start(code, answers=answers)
        assert isinstance(step, Pending)
        assert not set(answers) & {call.id for call in step.calls}, "nothing is asked twice"
        session.kill()
        while isinstance(step, Pending):
            step = session.resume({call.id: answer(call) for call in step.calls})
        assert step.stdout == "<39>\n"
        assert step.replaced


def test_nothing_is_left_of_a_cell_or_a_session(sandbox):
    def processes() -> int:
        return len([path for path in Path("/proc").iterdir() if path.name.isdigit() and _group(path.name) == pid])

    session = sandbox.open(functions=FUNCTIONS)
    pid = session._slot.worker.pid
    step = session.start(FREE["a comprehension"])
    assert processes() == 2, "the worker and its snapshot"
    while isinstance(step, Pending):
        step = session.resume({call.id: answer(call) for call in step.calls})
    finish(session, "x = 1")
    _eventually(lambda: processes() == 1)
    session.start(FREE["a comprehension"])
    session.close()
    _eventually(lambda: processes() == 0)


def _group(pid: str) -> int:
    try:
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return 0
    return 0 if state == "Z" else int(group)


def _eventually(true: Any) -> None:
    for _ in range(200):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true")


def test_the_cpu_limit_of_a_cell_stands():
    from rlm_adapters.sandbox import SandboxLimits

    with Sandbox(limits=SandboxLimits(cpu_seconds=1)) as sandbox, sandbox.open(functions=FUNCTIONS) as session:
        done, _ = finish(session, "for c in range(3): llm_query(f'{c}')\nwhile True: pass")
        assert done.error.kind == "cpu"


def test_a_large_context_is_run_ahead(sandbox):
    text = "line of text\n" * 1_500_000  # 20 MB
    with sandbox.open(functions=FUNCTIONS, variables={"context": text}) as session:
        done, waves = finish(session, "print([len(llm_query(context[i:i + 9])) for i in range(0, 160, 10)][:2])")
    assert len(waves) == 1
    assert done.error is None


@pytest.mark.slow
def test_400_mb_of_context_are_run_ahead_confined(sandbox, tmp_path):
    from rlm_adapters.sandbox import FileVariable

    path = tmp_path / "context.txt"
    path.write_text("line of text\n" * (400_000_000 // 13))
    variable = FileVariable(path=path, kind="text", chars=path.stat().st_size)
    with sandbox.open(functions=FUNCTIONS, variables={"context": variable}) as session:
        done, waves = finish(
            session, "out = [llm_query(context[i:i + 9]) for i in range(0, 400, 10)]\nprint(len(context))"
        )
    assert [len(wave) for wave in waves] == [32, 8]
    assert done.error is None


# ---------------------------------------------------------------------------------------------- the host's side


def test_only_cells_that_can_gain_get_a_snapshot():
    names = {"llm_query", "llm_query_batched"}
    assert can_gain("for c in cs: llm_query(c)", {}, names)
    assert can_gain("a = llm_query(x); b = llm_query(y)", {}, names)
    assert not can_gain("a = llm_query(x)", {}, names)
    assert not can_gain("answers = llm_query_batched(prompts)", {}, names)
    assert not can_gain("for line in lines: print(line)", {"lines": ["x"]}, names)


@pytest.mark.parametrize(
    "frame",
    [
        {"t": "done"},
        {"t": "found", "calls": []},
        {"t": "found", "more": 1, "calls": []},
        {"t": "found", "more": True, "calls": ["x"]},
        {"t": "found", "more": True, "calls": [{"f": "tool", "a": ["x"], "k": {}, "n": 0}]},
        {"t": "found", "more": True, "calls": [{"f": "llm_query", "a": ["x"], "k": {}}]},
        {"t": "found", "more": True, "calls": [{"f": "llm_query", "a": ["x"], "k": {}, "n": -1}]},
        {"t": "found", "more": True, "calls": [{"f": "llm_query", "a": ["x"], "k": {}, "n": True}]},
    ],
)
def test_a_hostile_report_is_refused(frame):
    ahead = CellAhead(AheadAccount(), 0, {"llm_query"})
    with pytest.raises(ProtocolError):
        ahead.take(frame, (), set())


def test_a_report_of_more_than_was_asked_for_is_cut():
    ahead = CellAhead(AheadAccount(8), 0, {"llm_query"})
    calls = [{"f": "llm_query", "a": [f"{n}"], "k": {}, "n": 0} for n in range(1000)]
    assert len(ahead.take({"t": "found", "more": True, "calls": calls}, (), set())) == 8


def test_a_search_that_finds_nothing_does_not_hold_up_the_loop_after_it(session):
    code = "for hit in range(40):\n    if 'zz' in llm_query(f'search {hit}'): break\n"
    done, waves = finish(session, code + "out = [llm_query(f'map {c} of {hit}') for c in range(40)]")
    assert [len(wave) for wave in waves] == [1] * 40 + [32, 8]
    assert done.ahead_wasted == 0


def test_where_nothing_is_found_it_is_looked_less_and_less_often():
    ahead = CellAhead(AheadAccount(), 0, {"llm_query"})
    looks = []
    for number in range(60):
        for place in (7, 8):
            if ahead.request((), {}, place) is not None:
                looks.append((number, place))
                ahead.take({"t": "found", "more": True, "calls": []}, (), set(), place)
    assert looks == [(number, place) for number in (0, 2, 7, 24) for place in (7, 8)]


def test_the_window_grows_with_success_and_shrinks_with_waste():
    account = AheadAccount(128)
    rooms = []
    for _ in range(4):
        rooms.append(account.room(1))
        account.found(rooms[-1], rooms[-1])
    assert rooms == [31, 127, 127, 127]
    account.settle(100, 2)
    assert account.room(1) == 63
    account.settle(100, 30)
    assert account.room(1) == 0
    assert account.stopped


def test_the_budget_bounds_what_is_made_ahead():
    account = AheadAccount(64)
    account.limit = 3
    assert account.room(1) == 3
