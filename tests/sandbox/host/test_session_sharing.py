"""Big inputs are decoded once and shared copy-on-write, within one scope and never beyond."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox import FileVariable, Sandbox
from rlm_adapters.sandbox.host.inputs import HELD_BYTES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
TEXT = "añ😀 text\n" * (HELD_BYTES // 8)
PLAIN = "first " + " line" * HELD_BYTES
DATA = b"\x00\xff" * HELD_BYTES


@pytest.fixture
def sandbox():
    with Sandbox() as sandbox:
        sandbox.open().close()
        yield sandbox


def parent(session):
    """Pid of the process that the session's worker was forked from."""
    return int(Path(f"/proc/{session._slot.worker.pid}/stat").read_text().rpartition(")")[2].split()[1])


def zygote(sandbox):
    return sandbox._zygote._current()._process.pid


def children(pid):
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def gone(pid):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_small_inputs_lists_and_dicts_come_straight_from_the_zygote(sandbox):
    with sandbox.open(variables={"small": "x" * 1000, "rows": ["line"] * HELD_BYTES}) as session:
        assert parent(session) == zygote(sandbox)
        assert session.run("print(len(small), len(rows))").stdout == f"1000 {HELD_BYTES}\n"


def test_big_texts_bytes_and_files_arrive_as_they_are(sandbox, tmp_path):
    (tmp_path / "t").write_text(TEXT, encoding="utf-8")
    (tmp_path / "b").write_bytes(DATA)
    variables = {
        "text": TEXT,
        "data": DATA,
        "plain": PLAIN,
        "file": FileVariable(path=tmp_path / "t"),
        "raw": FileVariable(path=tmp_path / "b", kind="bytes"),
        "small": 7,
    }
    with sandbox.open(variables=variables, files={"b.bin": tmp_path / "b", "c.bin": DATA}) as session:
        assert parent(session) != zygote(sandbox)
        done = session.run(
            "print(text == file, data == raw, len(text), text[-6:-1], small)\n"
            "print(open('b.bin', 'rb').read() == open('c.bin', 'rb').read() == data)\n"
            "print(len(plain), plain.count(' line'), type(plain).__name__, plain[:6], plain[-4:])"
        )
    assert done.error is None
    assert done.stdout == f"True True {len(TEXT)} {TEXT[-6:-1]} 7\nTrue\n{len(PLAIN)} {HELD_BYTES} str first  line\n"


def test_only_workers_with_a_big_input_get_pages_of_2_mb(sandbox):
    def big_pages(session):
        status = Path(f"/proc/{session._slot.worker.pid}/status").read_text()
        if "THP_enabled" not in status:
            pytest.skip("this kernel does not say it")
        return "THP_enabled:\t1" in status

    with sandbox.open(variables={"text": TEXT}) as one, sandbox.open(variables={"text": "small"}) as two:
        assert (big_pages(one), big_pages(two)) == (True, False)


def test_a_worker_is_replaced_from_the_same_holder(sandbox):
    with sandbox.open(variables={"text": TEXT}) as session:
        holder = parent(session)
        session.run("n = len(text)")
        session.kill()
        assert session.run("print(n, len(text))").stdout == f"{len(TEXT)} {len(TEXT)}\n"
        assert parent(session) == holder


def test_sessions_of_one_scope_share_a_holder_whatever_they_call_the_input(sandbox):
    with (
        sandbox.open(variables={"context": TEXT}, scope="run 1") as root,
        sandbox.open(variables={"document": TEXT, "n": 1}, scope="run 1") as child,
    ):
        assert parent(root) == parent(child)
        assert child.run("print(len(document), 'context' in globals())").stdout == f"{len(TEXT)} False\n"


def test_the_same_file_is_shared_and_a_changed_one_is_not(sandbox, tmp_path):
    path = tmp_path / "t"
    path.write_text("a" * HELD_BYTES)
    with sandbox.open(variables={"x": FileVariable(path=path)}, scope=1) as one:
        with sandbox.open(variables={"x": FileVariable(path=str(path))}, scope=1) as two:
            assert parent(one) == parent(two)
        path.write_text("b" * HELD_BYTES * 2)
        with sandbox.open(variables={"x": FileVariable(path=path)}, scope=1) as three:
            assert parent(one) != parent(three)
            assert three.run("print(x[0])").stdout == "b\n"
        assert one.run("print(x[0])").stdout == "a\n"


@pytest.mark.parametrize("scopes", [("run 1", "run 2"), (None, None), ("run 1", None)])
def test_different_runs_never_share_a_process_that_holds_inputs(sandbox, scopes):
    with (
        sandbox.open(variables={"x": TEXT}, scope=scopes[0]) as one,
        sandbox.open(variables={"x": TEXT}, scope=scopes[1]) as two,
        sandbox.open(variables={"x": "small"}, scope=scopes[0]) as three,
    ):
        assert len({parent(one), parent(two), zygote(sandbox)}) == 3
        assert parent(three) == zygote(sandbox)


def test_what_a_cell_does_to_a_shared_input_stays_in_its_worker(sandbox):
    with sandbox.open(variables={"x": TEXT}, scope=1) as one, sandbox.open(variables={"x": TEXT}, scope=1) as two:
        one.run("x = x.upper()")
        assert two.run("print(x[:6])").stdout == TEXT[:6] + "\n"


def test_a_holder_ends_with_its_last_session(sandbox):
    one = sandbox.open(variables={"x": TEXT}, scope=1)
    two = sandbox.open(variables={"x": TEXT}, scope=1)
    holder = parent(one)
    one.close()
    assert two.run("print(len(x))").stdout == f"{len(TEXT)}\n"
    two.close()
    gc.collect()
    assert gone(holder)
    sandbox.open().close()
    assert not children(zygote(sandbox)) & {str(holder)}


def test_a_holder_that_dies_is_made_anew(sandbox):
    with sandbox.open(variables={"x": TEXT}) as session:
        session.run("n = len(x)")
        holder, worker = parent(session), session._slot.worker.pid
        os.kill(holder, signal.SIGKILL)
        assert gone(worker)
        assert session.run("print(n, len(x))").stdout == f"{len(TEXT)} {len(TEXT)}\n"
        assert parent(session) != holder


def test_the_zygotes_death_takes_its_holders_along_and_is_survived(sandbox):
    with sandbox.open(variables={"x": TEXT}) as session:
        session.run("n = len(x)")
        holder, worker = parent(session), session._slot.worker.pid
        os.kill(zygote(sandbox), signal.SIGKILL)
        assert gone(holder)
        assert gone(worker)
        assert session.run("print(n)").stdout == f"{len(TEXT)}\n"


def test_a_big_file_that_is_not_text_is_named(sandbox, tmp_path):
    (tmp_path / "bad").write_bytes(b"\xff" * HELD_BYTES)
    with pytest.raises(InputError, match="the content of 'x' is not valid text"):
        sandbox.open(variables={"x": FileVariable(path=tmp_path / "bad")})
    with pytest.raises(InputError, match="No such file"):
        sandbox.open(variables={"y": TEXT, "x": FileVariable(path=tmp_path / "missing")})


def test_sessions_opened_at_the_same_time_share_one_holder(sandbox):
    with ThreadPoolExecutor(12) as pool:
        sessions = list(pool.map(lambda i: sandbox.open(variables={"x": TEXT, "i": i}, scope="run"), range(24)))
        assert len({parent(session) for session in sessions}) == 1
        said = list(pool.map(lambda s: s.run("print(i, len(x))").stdout, sessions))
    assert said == [f"{i} {len(TEXT)}\n" for i in range(24)]
    for session in sessions:
        session.close()


def test_the_memory_limit_grows_with_the_inputs():
    text = "x" * (64 << 20)
    with Sandbox() as sandbox, sandbox.open(variables={"x": text}) as session:
        done = session.run("y = [x.replace('x', c) for c in 'abcdefgh']\nprint(len(y))")
        assert done.error is None
        error = session.run("z = [x.replace('x', c) for c in 'abcdefghijklmnopqrstuvwxyz']").error
        assert error is not None
        assert error.kind == "memory"
