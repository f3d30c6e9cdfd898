"""A session's life: cells, calls to the host, limits, lost workers, replay."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import select
import signal
import threading
import time
from pathlib import Path

import pytest

from rlm_adapters.errors import InputError, ModelCallError, ReplayDivergenceError, SandboxError
from rlm_adapters.sandbox import (
    Failure,
    FileVariable,
    HostFunction,
    Pending,
    Sandbox,
    SandboxLimits,
    Value,
    journal_from_json,
    journal_to_json,
)

ASK = [HostFunction(name="ask")]


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(limits=SandboxLimits(cpu_seconds=20, wall_seconds=60)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def hasty():
    """A sandbox with short limits."""
    with Sandbox(limits=SandboxLimits(cpu_seconds=0.3, wall_seconds=5)) as sandbox:
        yield sandbox


def only(step):
    assert isinstance(step, Pending)
    (call,) = step.calls
    return call


# ---------------------------------------------------------------------------------------------- the front door


def test_a_cell_runs_with_inputs_and_functions_and_submits():
    with (
        Sandbox() as sandbox,
        sandbox.open(variables={"context": "abc" * 1000}, functions={"llm_query": str.upper}) as session,
    ):
        done = session.run("print(len(context))\nFINAL(llm_query(context[:3]))")
    assert done.stdout == "3000\n"
    assert done.error is None
    assert done.final is not None
    assert done.final.value == "ABC"


def test_variables_live_on_from_cell_to_cell(sandbox):
    with sandbox.open() as session:
        session.run("x = 41\ndef f(n):\n    return n + 1")
        done = session.run("print(f(x))")
    assert done.stdout == "42\n"
    assert {"x", "f"} <= {variable.name for variable in done.variables}


def test_an_exception_is_the_cells_and_the_session_goes_on(sandbox):
    with sandbox.open() as session:
        done = session.run("a = 1\nprint('before')\n1 / 0")
        assert done.stdout == "before\n"
        assert done.error is not None
        assert (done.error.kind, done.error.type, done.error.line) == ("exception", "ZeroDivisionError", 3)
        assert session.run("print(a)").stdout == "1\n"


def test_sessions_do_not_see_each_other(sandbox):
    with sandbox.open() as one, sandbox.open() as other:
        one.run("secret = 1")
        error = other.run("print(secret)").error
    assert error is not None
    assert error.type == "NameError"


def test_functions_get_positional_and_keyword_arguments_of_all_json_types_and_bytes(sandbox):
    seen = []

    def tool(value, note=None):
        seen.append((value, note))
        return {"value": value, "note": note}

    with sandbox.open(functions={"tool": tool}) as session:
        done = session.run("r = tool({'a': [1, 2.5, None, True, 'é', b'\\x00']}, note='n')\nprint(r)")
    assert seen == [({"a": [1, 2.5, None, True, "é", b"\x00"]}, "n")]
    assert done.stdout == "{'value': {'a': [1, 2.5, None, True, 'é', b'\\x00']}, 'note': 'n'}\n"


def test_an_exception_of_a_function_reaches_the_cell_as_a_failure(sandbox):
    def broken(prompt):
        raise ModelCallError("too many requests", kind="rate_limit", retryable=True)

    code = "try:\n    llm_query('x')\nexcept SubCallError as e:\n    print(e, e.kind, e.retryable)"
    with sandbox.open(functions={"llm_query": broken}) as session:
        assert session.run(code).stdout.strip() == "too many requests rate_limit True"


def test_a_function_that_returns_what_cannot_enter_is_a_failure_in_the_cell(sandbox):
    code = "try:\n    llm_query('x')\nexcept SubCallError as e:\n    print(e)"
    with sandbox.open(functions={"llm_query": lambda prompt: object()}) as session:
        assert "object cannot enter the sandbox" in session.run(code).stdout


def test_the_calls_of_a_batch_run_at_the_same_time(sandbox):
    together = threading.Barrier(4, timeout=20)

    def ask(prompt):
        together.wait()
        return prompt.upper()

    functions = {"ask": ask, "ask_all": HostFunction(name="ask_all", batch_of="ask")}
    with sandbox.open(functions=functions) as session:
        assert session.run("print(ask_all(['a', 'b', 'c', 'd']))").stdout == "['A', 'B', 'C', 'D']\n"


def test_run_needs_callables(sandbox):
    with sandbox.open(functions=ASK) as session, pytest.raises(InputError, match="nothing to answer ask with"):
        session.run("ask('x')")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variables": {"not a name": 1}}, "not a Python identifier"),
        ({"variables": {"x": object()}}, "'x' cannot be handed over"),
        ({"variables": {"x": {1, 2}}}, "type set"),
        ({"variables": {"ask": 1}, "functions": {"ask": len}}, "both a variable and a function"),
        ({"functions": {"ask me": len}}, "not a Python identifier"),
        ({"functions": [*ASK, *ASK]}, "given twice"),
        ({"functions": {"ask": 1}}, "give a callable"),
        ({"files": {"": b""}}, "not a path"),
        ({"files": {"a.txt": "/nonexistent/a.txt"}}, "cannot be read from '/nonexistent/a.txt': No such file"),
        ({"variables": {"x": FileVariable(path="/nonexistent/x")}}, "No such file"),
        ({"variables": {"x": FileVariable(path="/dev/null", kind="pickle")}}, "use text, bytes or json"),
    ],
)
def test_bad_input_is_an_error_that_names_the_value(sandbox, arguments, message):
    with pytest.raises(InputError, match=message):
        sandbox.open(**arguments)


@pytest.mark.parametrize(
    "limits", [{"cpu_seconds": 0}, {"wall_seconds": -1}, {"wall_seconds": float("inf")}, {"memory_bytes": 0}]
)
def test_a_limit_that_is_none_is_refused(limits):
    with pytest.raises(InputError, match=next(iter(limits))):
        Sandbox(limits=SandboxLimits(**limits))


# ------------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize(
    "value",
    [
        "",
        "é☃😀" * 10,
        "é☃😀\n" * 100_000,
        "x" * 300_000,
        b"",
        b"\x00\xff" * 200_000,
        [],
        ["line ☃"] * 100_000,
        [{"id": i, "text": f"t{i}", "raw": b"\x00"} for i in range(3_000)],
        {str(i): [i, None, True] for i in range(5_000)},
        {"$bytes": "not bytes"},
        {"raw": b"\x00", **{str(i): "x" * 500 for i in range(10_000)}, "$bytes": "not bytes"},
        ["x" * 3_000_000, b"", {"$escaped": {"$bytes": 1}}],
        3,
        2.5,
        None,
        True,
    ],
    ids=lambda value: f"{type(value).__name__}-{len(value) if hasattr(value, '__len__') else value}",
)
def test_every_kind_of_input_arrives_as_it_was(sandbox, value):
    seen = []
    with sandbox.open(variables={"value": value, "wanted": value}, functions={"give": seen.append}) as session:
        assert session.run("print(value == wanted, type(value).__name__)\ngive(value)").error is None
    assert seen in ([value], [{"$input": "value"}])


def test_non_ascii_text_is_counted_in_characters(sandbox):
    text = "añ😀" * 200_000
    with sandbox.open(variables={"text": text}) as session:
        assert session.run("print(len(text), text[2], text[-1])").stdout == "600000 😀 😀\n"


def test_files_are_handed_over_as_variables_and_as_workspace_files(sandbox, tmp_path):
    (tmp_path / "t.txt").write_text("grüße\r\n" * 50_000, encoding="utf-8", newline="")
    (tmp_path / "b.bin").write_bytes(bytes(range(256)) * 1_000)
    (tmp_path / "j.json").write_text(json.dumps({"rows": [1, "zwei"]}))
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "t.txt").open("rb") as opened:
        variables = {
            "text": FileVariable(path=tmp_path / "t.txt"),
            "again": FileVariable(path=opened.fileno()),
            "data": FileVariable(path=str(tmp_path / "b.bin"), kind="bytes"),
            "rows": FileVariable(path=tmp_path / "j.json", kind="json"),
            "nothing": FileVariable(path=tmp_path / "empty"),
        }
        files = {"docs/in.bin": tmp_path / "b.bin", "small.txt": b"hello"}
        with sandbox.open(variables=variables, files=files) as session:
            done = session.run(
                "print(len(text), text == again, text[:7] == 'grüße\\r\\n', data[:3], rows, repr(nothing))\n"
                "print(open('small.txt').read(), len(open('docs/in.bin', 'rb').read()))"
            )
    assert done.error is None, done.error
    assert done.stdout == "350000 True True b'\\x00\\x01\\x02' {'rows': [1, 'zwei']} ''\nhello 256000\n"


@pytest.mark.parametrize(("kind", "content"), [("text", b"\xff\xfe\xff"), ("json", b"{")])
def test_a_file_that_is_not_what_its_kind_says_is_named(sandbox, tmp_path, kind, content):
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(InputError, match=f"the content of 'x' is not valid {kind}"):
        sandbox.open(variables={"x": FileVariable(path=tmp_path / "bad", kind=kind)})


def test_more_inputs_than_fit_in_one_message_arrive(sandbox, tmp_path):
    (tmp_path / "f").write_text("content")
    variables = {f"v{i}": FileVariable(path=tmp_path / "f") for i in range(450)}
    with sandbox.open(variables=variables) as session:
        assert session.run("print(v0, v449)").stdout == "content content\n"


def test_files_that_cells_write_can_be_fetched(sandbox):
    with sandbox.open(files={"in.txt": b"in"}) as session:
        session.run("with open('a.txt', 'w') as f:\n    f.write('é')\nopen('b.bin', 'wb').write(b'\\x00')")
        written = session.files_written()
        assert {path.lstrip("./"): data for path, data in written.items()} == {
            "a.txt": "é".encode(),
            "b.bin": b"\x00",
        }
        session.kill()
        assert session.files_written() == written


def test_files_larger_than_a_frame_can_be_fetched():
    limits = SandboxLimits(frame_bytes=100_000, file_bytes=2_000_000)
    with Sandbox(limits=limits) as sandbox, sandbox.open() as session:
        session.run("open('a', 'w').write('x' * 1_000_001)\nopen('b', 'w').write('')\nopen('c', 'w').write('y')")
        assert session.files_written() == {"a": b"x" * 1_000_001, "b": b"", "c": b"y"}


# ------------------------------------------------------------------------------------------ start and resume


def test_start_and_resume_hand_the_calls_to_the_caller(sandbox):
    with sandbox.open(functions=ASK) as session:
        call = only(session.start("a = ask('x', n=1)\nb = ask('y')\nprint(a, b)"))
        assert (call.function, call.args, call.kwargs, call.ahead) == ("ask", ("x",), {"n": 1}, False)
        call = only(session.resume({call.id: Value("A")}))
        done = session.resume({call.id: Value("B")})
        assert done.stdout == "A B\n"
        (record,) = session.journal
        assert list(record.answers.values()) == [Value("A"), Value("B")]


def test_ids_say_what_was_asked_and_are_the_same_in_every_session(sandbox):
    def ids(code):
        with sandbox.open(functions=ASK) as session:
            session.start("pass")
            step, seen = session.start(code), []
            while isinstance(step, Pending):
                seen.append(step.calls[0].id)
                step = session.resume({step.calls[0].id: Value("")})
            return seen

    first = ids("ask('x')\nask('y')\nask('x')")
    assert ids("for p in 'xyx': ask(p)") == first
    assert len(set(first)) == 3
    assert [call.split(":")[0] for call in first] == ["1", "1", "1"]
    assert [call.split(":")[2] for call in first] == ["0", "0", "1"]
    assert first[0].split(":")[1] == first[2].split(":")[1]


def test_answers_may_come_in_parts_and_ahead_of_the_call(sandbox):
    functions = [*ASK, HostFunction(name="ask_all", batch_of="ask")]
    with sandbox.open(functions=functions) as session:
        step = session.start("print(ask_all(['a', 'b', 'c']), ask('d'))")
        assert [call.args for call in step.calls] == [("a",), ("b",), ("c",)]
        a, b, c = (call.id for call in step.calls)
        left = session.resume({b: Value("B")})
        assert [call.id for call in left.calls] == [a, c]
        with sandbox.open(functions=functions) as other:
            step = other.start("print(ask_all(['a', 'b', 'c']), ask('d'))")
            d = only(other.resume({call.id: Value("") for call in step.calls})).id
        done = session.resume({a: Value("A"), c: Value("C"), d: Value("D")})
    assert done.stdout == "['A', 'B', 'C'] D\n"


def test_known_answers_are_not_asked_for_again(sandbox):
    code = "print(ask('x'), ask('y'))"
    with sandbox.open(functions=ASK) as session:
        x = only(session.start(code)).id
    with sandbox.open(functions=ASK) as session:
        y = only(session.start(code, answers={x: Value("X")})).id
        assert session.resume({y: Value("Y")}).stdout == "X Y\n"
        assert set(session.journal[0].answers) == {x, y}


def test_a_failure_in_a_batch_stands_in_its_place(sandbox):
    functions = [*ASK, HostFunction(name="ask_all", batch_of="ask")]
    with sandbox.open(functions=functions) as session:
        step = session.start("r = ask_all(['a', 'b'])\nprint([bool(x) for x in r], r[1].kind)")
        a, b = (call.id for call in step.calls)
        done = session.resume({a: Value("A"), b: Failure("no", kind="server")})
    assert done.stdout == "[True, False] server\n"


@pytest.mark.parametrize("answer", ["text", {"value": 1}, None, Value(object())])
def test_an_answer_of_another_type_is_refused_and_the_cell_goes_on_waiting(sandbox, answer):
    with sandbox.open(functions=ASK) as session:
        call = only(session.start("print(ask('x'))"))
        with pytest.raises(InputError, match=call.id):
            session.resume({call.id: answer})
        assert session.resume({call.id: Value("ok")}).stdout == "ok\n"


def test_calls_out_of_order_are_refused(sandbox):
    with sandbox.open(functions=ASK) as session:
        with pytest.raises(SandboxError, match="no cell is waiting"):
            session.resume({})
        call = only(session.start("ask('x')"))
        with pytest.raises(SandboxError, match="waiting for answers"):
            session.start("pass")
        with pytest.raises(SandboxError, match="waiting for answers"):
            session.files_written()
        session.resume({call.id: Value("")})
        with pytest.raises(InputError, match="a cell is a str"):
            session.start(None)
    with pytest.raises(SandboxError, match="closed"):
        session.start("pass")
    assert session.closed


def test_an_answer_larger_than_the_socket_buffer_arrives(sandbox):
    with sandbox.open(functions={"ask": lambda prompt: prompt * 3_000_000}) as session:
        assert session.run("print(len(ask('é☃')))").stdout == "6000000\n"


def test_arguments_too_large_for_a_frame_are_the_cells_error():
    with (
        Sandbox(limits=SandboxLimits(frame_bytes=100_000)) as sandbox,
        sandbox.open(functions={"ask": len}) as session,
    ):
        error = session.run("ask('x' * 200_000)").error
        assert error is not None
        assert "too large" in error.message
        error = session.run("FINAL('x' * 200_000)").error
        assert error is not None
        assert "too large" in error.message
        assert session.run("print(ask('x'))").stdout == "1\n"


# ---------------------------------------------------------------------------------------------------- limits


def test_a_cell_that_uses_too_much_cpu_leaves_no_trace(hasty):
    with hasty.open() as session:
        session.run("kept = 1")
        done = session.run("kept = 2\nlost = 3\nwhile True:\n    pass")
        assert done.error is not None
        assert done.error.kind == "cpu"
        assert "lost (also to kept, lost)" in done.error.message
        assert "as it was before this cell: kept" in done.error.message
        assert done.replaced
        assert session.run("print(kept, 'lost' in globals())").stdout == "1 False\n"
        assert [record.failed for record in session.journal] == [False, True, False]


def test_a_cell_that_catches_everything_is_ended_too(hasty):
    with hasty.open() as session:
        done = session.run("while True:\n    try:\n        while True:\n            pass\n    except:\n        pass")
        assert done.error is not None
        assert done.error.kind in ("cpu", "wall")


def test_a_cell_in_one_long_c_call_is_killed_at_the_wall_limit():
    limits = SandboxLimits(cpu_seconds=0.2, wall_seconds=1)
    with Sandbox(limits=limits) as sandbox, sandbox.open() as session:
        session.run("kept = 1")
        done = session.run("x = sum(range(10 ** 12))")
        assert done.error is not None
        assert (done.error.kind, done.error.type) == ("wall", "TimeoutError")
        assert "ran for 1 s" in done.error.message
        assert session.run("print(kept)").stdout == "1\n"


def test_waiting_for_the_host_counts_neither_as_cpu_nor_as_wall_time():
    limits = SandboxLimits(cpu_seconds=0.5, wall_seconds=0.5)
    with Sandbox(limits=limits) as sandbox, sandbox.open(functions={"ask": lambda p: time.sleep(1) or p}) as session:
        assert session.run("print(ask('x'))").stdout == "x\n"


def test_a_cell_that_allocates_without_end_is_ended_and_its_memory_is_given_back(sandbox):
    with sandbox.open() as session:
        session.run("kept = 'k'")
        done = session.run("hoard = []\nwhile True:\n    hoard.append('a' * 10 ** 7)")
        assert done.error is not None
        assert done.error.kind == "memory"
        assert session.run("print(kept, len('b' * 10 ** 8))").stdout == "k 100000000\n"


def test_what_was_printed_before_a_cpu_limit_is_kept(hasty):
    with hasty.open() as session:
        done = session.run("print('so far')\nwhile True:\n    pass")
    assert done.stdout == "so far\n"


def test_an_answer_given_before_the_limit_was_hit_is_kept(hasty):
    with hasty.open() as session:
        done = session.run(
            "def f():\n    try:\n        FINAL('answer')\n    finally:\n        while True:\n            pass\nf()"
        )
    assert done.final is not None
    assert done.final.value == "answer"
    assert done.error is not None


def test_conversions_of_what_a_cell_hands_out_are_within_its_cpu_limit(hasty):
    code = "class A:\n    def __str__(self):\n        while True:\n            pass\n    __repr__ = __str__\nFINAL(A())"
    with hasty.open() as session:
        done = session.run(code)
        assert done.error is not None
        assert done.error.kind in ("cpu", "exception")
        assert session.run("print(1)").stdout == "1\n"


# ---------------------------------------------------------------------------------------------- lost workers


def kill_worker(session):
    worker = session._slot.worker
    os.kill(worker.pid, signal.SIGKILL)
    wait_for_end(worker)


def wait_for_end(worker):
    """A signal takes its time."""
    ended = select.poll()
    ended.register(worker.channel._socket, 0)
    ended.poll()


def kill_soon(session, pid=None):
    """Kill the worker, or another process, while its next cell runs: when it has computed for some 30 ms from now on."""
    worker = session._slot.worker.pid

    def ticks():
        fields = Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def kill(before):
        while ticks() < before + 3:
            time.sleep(0.005)
        os.kill(pid or worker, signal.SIGKILL)

    thread = threading.Thread(target=kill, args=(ticks(),))
    thread.start()
    return thread


BUSY = "import time\ntotal = 0\nfor i in range(30):\n    total += sum(range(400_000))\nprint(total, n)"


def test_a_cell_whose_worker_is_killed_from_outside_runs_again_with_its_answers(sandbox):
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return prompt.upper()

    with sandbox.open(variables={"n": 5}, functions={"ask": ask}) as session:
        session.run("m = n + 1")
        thread = kill_soon(session)
        done = session.run("a = ask('once')\n" + BUSY + "\nprint(a, m)")
        thread.join()
        assert done.error is None
        assert done.stdout.endswith("ONCE 6\n")
        assert done.replaced
        assert asked == ["once"]
        assert not session.journal[-1].failed


def test_a_cell_whose_fork_server_is_killed_runs_again(sandbox):
    with sandbox.open(variables={"n": 5}) as session:
        thread = kill_soon(session, sandbox._zygote._current()._process.pid)
        done = session.run(BUSY)
        thread.join()
        assert done.error is None
        assert done.replaced


def test_a_cell_that_is_killed_twice_is_lost(sandbox):
    with sandbox.open(variables={"n": 5}) as session:
        kept = session.run("kept = 1")
        assert kept.error is None
        start = session._workers.start

        def start_and_kill():
            worker = start()
            threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL)).start()
            return worker

        session._workers.start = start_and_kill
        thread = kill_soon(session)
        done = session.run("while True:\n    pass")
        thread.join()
        assert done.error.kind == "memory"
        session._workers.start = start
        assert session.run("print(kept)").stdout == "1\n"


@pytest.mark.parametrize(("kills", "error"), [(3, None), (4, "memory")])
def test_a_cell_that_is_killed_after_each_answer_runs_again_three_times(sandbox, kills, error):
    asked, threads = [], []

    def ask(prompt):
        asked.append(prompt)
        if len(asked) <= kills:
            threads.append(kill_soon(session))
        return prompt

    with sandbox.open(variables={"n": 5}, functions={"ask": ask}) as session:
        done = session.run(
            f"for each in range(4):\n    ask(f'p{{each}}')\n    {BUSY.replace(chr(10), chr(10) + '    ')}"
        )
        for thread in threads:
            thread.join()
        assert (done.error and done.error.kind) == error
        assert asked == [f"p{number}" for number in range(4)], "each was asked once"


def test_a_worker_killed_between_cells_is_replaced_unseen(sandbox):
    with sandbox.open(variables={"n": 5}) as session:
        session.run("x = n + 1")
        kill_worker(session)
        done = session.run("print(x)")
        assert done.stdout == "6\n"
        assert done.error is None
        assert done.replaced


def test_a_worker_killed_while_its_cell_waits_is_replaced_in_the_middle_of_the_cell_without_asking_again(sandbox):
    asked = []
    with sandbox.open(functions=ASK) as session:
        step = session.start("seen = []\nfor i in range(4):\n    seen.append(ask(f'p{i}'))\nprint(seen)")
        while isinstance(step, Pending):
            asked.append(step.calls[0].args[0])
            if len(asked) == 2:
                kill_worker(session)
            if len(asked) == 3:
                session.kill()
            step = session.resume({step.calls[0].id: Value(f"a{len(asked)}")})
    assert asked == ["p0", "p1", "p2", "p3"]
    assert step.stdout == "['a1', 'a2', 'a3', 'a4']\n"
    assert step.replaced


def test_a_session_killed_by_its_owner_stops_at_once_and_can_go_on(sandbox):
    with sandbox.open() as session:
        session.run("kept = 1")
        threading.Timer(0.2, session.kill).start()
        with pytest.raises(SandboxError, match="was killed"):
            session.run("while True:\n    pass")
        assert session.run("print(kept)").stdout == "1\n"
        assert len(session.journal) == 2


def test_a_session_closed_while_it_runs_stops_at_once(sandbox):
    session = sandbox.open()
    threading.Timer(0.2, session.close).start()
    with pytest.raises(SandboxError):
        session.run("while True:\n    pass")
    with pytest.raises(SandboxError, match="closed"):
        session.run("1")


def test_an_interrupt_leaves_the_session_usable(sandbox, monkeypatch):
    with sandbox.open(functions=ASK) as session:
        session.start("kept = 1")
        channel = session._slot.worker.channel

        def interrupted(**_):
            raise KeyboardInterrupt

        monkeypatch.setattr(channel, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.start("print(1)")
        assert session.start("print(kept)").stdout == "1\n"


def test_the_zygotes_death_is_survived():
    with Sandbox() as sandbox, sandbox.open() as session:
        session.run("kept = 1")
        zygote = sandbox._zygote._current()._process
        zygote.kill()
        zygote.wait()
        wait_for_end(session._slot.worker)
        assert session.run("print(kept)").stdout == "1\n"
        with sandbox.open() as other:
            assert other.run("print(2)").stdout == "2\n"


def test_no_worker_at_all_is_an_exception(monkeypatch):
    monkeypatch.setattr("rlm_adapters.sandbox.host.zygotes._BOOT", "raise RuntimeError('no interpreter')")
    with Sandbox(allow_modules=["wave"]) as sandbox, pytest.raises(SandboxError, match="no interpreter"):
        sandbox.open()


def test_a_module_that_cannot_be_imported_is_named():
    with Sandbox(allow_modules=["no_such_module"]) as sandbox, pytest.raises(SandboxError, match="no_such_module"):
        sandbox.open()


# ---------------------------------------------------------------------------------------------------- replay

CELLS = [
    "import random, time\nlines = context.split('\\n')\nr = random.random()\nt = time.time()",
    "answers = [ask(line) for line in lines]\nprint(answers, {'b', 'a', 'c', *answers}, hash('abc'))",
    "class T:\n    pass\nprint(T(), r, t, object())",
    "g = (x for x in answers)\nprint(next(g))",
    "1 / 0",
]


def run_cells(session):
    for cell in CELLS:
        session.run(cell)
    return session.run("print(next(g), r, t)").stdout


def test_a_journal_rebuilds_the_session_in_another_process_without_a_call(sandbox):
    inputs = {"variables": {"context": "a\nb\na"}, "seed": 7, "epoch": 1_700_000_000.0}
    with sandbox.open(functions={"ask": str.upper}, **inputs) as session:
        expected = run_cells(session)
        journal = journal_from_json(json.loads(json.dumps(journal_to_json(session.journal))))
        assert journal == session.journal

    def never(prompt):
        raise AssertionError("asked again")

    with (
        Sandbox(allow_modules=["wave"]) as elsewhere,  # another zygote
        elsewhere.open(functions={"ask": never}, journal=journal[:-1], **inputs) as session,
    ):
        assert session.journal == journal[:-1]
        assert session.run("print(next(g), r, t)").stdout == expected


def test_failed_cells_are_not_run_again_but_keep_their_place(hasty):
    with hasty.open(functions={"ask": str.upper}) as session:
        session.run("x = 1")
        session.run("x = 2\nwhile True:\n    pass")
        session.run("y = ask('q')")
        journal = session.journal
        epoch = session.epoch
    with hasty.open(functions={"ask": str.lower}, journal=journal, epoch=epoch) as session:
        assert session.run("print(x, y)").stdout == "1 Q\n"
        assert next(iter(session.journal[2].answers)).startswith("2:")


def test_a_replay_that_asks_something_new_is_refused(sandbox):
    with sandbox.open(functions={"ask": str.upper}, variables={"v": "a"}) as session:
        session.run("x = ask(v)")
        journal = session.journal
    with pytest.raises(ReplayDivergenceError, match="cell 1 of the journal asks ask something else"):
        sandbox.open(functions=ASK, variables={"v": "b"}, journal=journal)


def test_a_replay_that_prints_something_else_is_refused(sandbox):
    with sandbox.open(variables={"v": "a"}) as session:
        session.run("pass")
        session.run("print(v)")
        journal = session.journal
    with pytest.raises(ReplayDivergenceError, match="cell 2 of the journal prints something else"):
        sandbox.open(variables={"v": "b"}, journal=journal)


@pytest.mark.parametrize("code", ["ask('x')\n1 / v", "if v:\n    ask('x')"])
def test_a_replay_that_fails_otherwise_or_asks_less_is_refused(sandbox, code):
    with sandbox.open(functions={"ask": str.upper}, variables={"v": 1}) as session:
        session.run(code)
        journal = session.journal
    with pytest.raises(ReplayDivergenceError, match=r"another error|asks less"):
        sandbox.open(functions=ASK, variables={"v": 0}, journal=journal)


def test_a_replay_whose_worker_dies_is_refused(hasty):
    with hasty.open() as session:
        session.run("x = 1")
        journal = [dataclasses.replace(session.journal[0], code="while True:\n    pass")]
    with pytest.raises(ReplayDivergenceError, match="cell 1 of the journal"):
        hasty.open(journal=journal)


# ------------------------------------------------------------------------------------------------ asynchronous


async def test_a_cell_runs_without_blocking_the_event_loop(sandbox):
    async def ask(prompt):
        await asyncio.sleep(0.01)
        return prompt.upper()

    functions = {"ask": ask, "ask_all": HostFunction(name="ask_all", batch_of="ask"), "plain": str.lower}
    with sandbox.open(functions=functions) as session:
        done = await session.arun("print(ask_all(['a', 'b']), ask('c'), plain('D'))")
    assert done.stdout == "['A', 'B'] C d\n"


async def test_many_sessions_wait_at_the_same_time(sandbox):
    async def one(i):
        session = await sandbox.in_pool(lambda: sandbox.open(functions=ASK))
        with session:
            call = only(await session.astart("print(ask('x'))"))
            await asyncio.sleep(0.01)
            return (await session.aresume({call.id: Value(i)})).stdout

    assert await asyncio.gather(*(one(i) for i in range(60))) == [f"{i}\n" for i in range(60)]


async def test_a_cancelled_cell_ends_its_worker_and_the_session_can_go_on(sandbox):
    with sandbox.open() as session:
        await session.astart("kept = 1")
        task = asyncio.create_task(session.astart("while True:\n    pass"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert session._slot.worker is None
        assert (await session.astart("print(kept)")).stdout == "1\n"


async def test_a_cell_that_is_cancelled_twice_leaves_no_complaint(sandbox):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
    with sandbox.open() as session:
        task = asyncio.create_task(session.astart("while True:\n    pass"))
        await asyncio.sleep(0.2)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        session.kill()
        del task
        for _ in range(3):
            await asyncio.sleep(0.1)
            gc.collect()  # a future that nobody has asked complains when it goes
    assert told == []


def test_a_session_is_used_by_one_thread_at_a_time(sandbox):
    started = threading.Event()

    def ask(prompt):
        started.set()
        return prompt

    with sandbox.open(functions={"ask": ask}) as session:
        thread = threading.Thread(target=session.run, args=("x = sum(range(10 ** 7))",))
        thread.start()
        errors = []
        while thread.is_alive():
            try:
                session.start("pass")
            except SandboxError as error:
                errors.append(str(error))
                break
        thread.join()
    assert not errors or "another thread" in errors[0]


# ------------------------------------------------------------------------------------- hostile workers, end to end


@pytest.fixture(scope="module")
def plain():
    """Cells as plain Python: what a cell that has beaten the policy can do to the host."""
    with Sandbox(_policy_off=True, limits=SandboxLimits(cpu_seconds=2, wall_seconds=3)) as sandbox:
        yield sandbox


FIND = """
import os, json
for fd in range(3, 256):
    try:
        os.write(fd, b'')
        break
    except OSError:
        pass
"""
SEND = "def send(body):\n    os.write(fd, len(body).to_bytes(4, 'big') + body)\n"


@pytest.mark.parametrize(
    "forged",
    [
        "os.write(fd, b'\\xff' * 8)",
        "os.write(fd, b'\\x00')",
        "os.write(fd, (1 << 20).to_bytes(4, 'big') + b'x')",
        "send(b'nonsense')",
        "send(b'[' * 100_000)",
        "send(json.dumps({'t': 'call', 'calls': [{'f': 'secret', 'a': [], 'k': {}}]}).encode())",
        "send(json.dumps({'t': 'call', 'calls': [{'f': 'ask', 'a': {}, 'k': {}}]}).encode())",
        "send(json.dumps({'t': 'ready', 'layers': []}).encode())",
        "send(json.dumps({'t': 'done', 'pid': 1}).encode())",
        "send(json.dumps({'t': 'failed', 'message': ['x']}).encode())",
        "os.close(fd)",
        "os._exit(0)",
        "os.write(fd, b'\\x00\\x00'); os._exit(0)",
    ],
)
def test_a_worker_that_sends_nonsense_loses_its_cell_and_the_host_goes_on(plain, forged):
    with plain.open(functions={"ask": str.upper}) as session:
        session.run("kept = 1\n" + FIND)
        done = session.run(SEND + forged)
        assert done.error is not None
        assert done.error.kind in ("crash", "wall")
        assert session.run("print(kept, ask('x'))").stdout == "1 X\n"


def test_a_worker_that_sends_files_without_end_is_stopped(plain):
    limits = SandboxLimits(file_bytes=10_000, wall_seconds=20)
    flood = """
class Flood(dict):
    def items(self):
        while True:
            yield 'f', b'x' * 1000
import sys
for frame in sys._current_frames().values():
    while frame:
        worker = frame.f_locals.get('self')
        if type(worker).__name__ == 'PlainRepl':
            worker._files = Flood()
        frame = frame.f_back
"""
    with Sandbox(_policy_off=True, limits=limits) as sandbox, sandbox.open() as session:
        assert session.run(flood).error is None
        with pytest.raises(SandboxError, match="more files than"):
            session.files_written()


def test_a_forged_call_cannot_take_an_answer_of_another_session(plain):
    with plain.open(functions=ASK) as one, plain.open(functions=ASK) as other:
        mine = only(one.start("print(ask('x'))"))
        theirs = only(other.start("print(ask('x'))"))
        assert mine.id == theirs.id
        one.resume({mine.id: Value("for one")})
        assert other.resume({theirs.id: Value("for the other")}).stdout == "for the other\n"
