"""Nothing is left behind: descriptors, processes, zombies, threads, temporary files."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox import HostFunction, Sandbox, SandboxLimits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
ASK = [HostFunction(name="ask")]


def descriptors(pid="self"):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children(pid):
    return {
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    }


def state(pid):
    """Its state as /proc tells it; ``gone`` when there is none, or only init's zombie is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return "gone" if fields[0] == "Z" and int(fields[1]) == 1 else fields[0]


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path, monkeypatch):
    """Others on this machine make temporary files too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class Ledger:
    """What there is of everything that could leak."""

    def __init__(self, sandbox):
        self.zygote = sandbox._zygote._current()._process.pid

    def count(self):
        gc.collect()
        return {
            "descriptors": descriptors(),
            "descriptors of the zygote": descriptors(self.zygote),
            "workers": len(children(self.zygote)),
            "children of the host": len(children(os.getpid())),
            "threads": threading.active_count(),
            "temporary files": len(list(Path(tempfile.gettempdir()).iterdir())),
        }

    def settles_at(self, expected):
        """There is no more of anything; less is no leak, for what earlier tests have left in this process ends too."""
        wait_until(lambda: not self.more_than(expected))
        assert self.more_than(expected) == {}

    def more_than(self, expected):
        return {name: (count, expected[name]) for name, count in self.count().items() if count > expected[name]}


def one_session(sandbox, i):
    """A session of one of several fates."""
    functions = {"ask": str.upper}
    with sandbox.open(variables={"text": "x" * 100_000}, files={"f": b"y" * 1_000}, functions=functions) as session:
        fate = i % 6
        if fate == 0:
            session.start("ask('left waiting')")
        elif fate == 1:
            session.run("1 / 0")
        elif fate == 2:
            session.run("x = 1")
            session.kill()
            session.run("print(x)")
        elif fate == 3:
            os.kill(session._slot.worker.pid, signal.SIGKILL)
            session.run("print(1)")
        elif fate == 4:
            session.files_written()
        else:
            session.run("print(ask(text[:10]))")


def run_many(count):
    with Sandbox() as sandbox:
        one_session(sandbox, 5)
        ledger = Ledger(sandbox)
        before = ledger.count()
        for i in range(count):
            one_session(sandbox, i)
        ledger.settles_at(before)


def test_nothing_is_left_of_sixty_sessions():
    run_many(60)


@pytest.mark.slow
@pytest.mark.skipif("FUZZ" not in os.environ, reason="`make fuzz` runs it")
def test_nothing_is_left_of_a_thousand_sessions():
    run_many(1_000)


def test_nothing_is_left_of_sessions_that_could_not_be_opened():
    with Sandbox() as sandbox:
        one_session(sandbox, 5)
        ledger = Ledger(sandbox)
        before = ledger.count()
        for _ in range(10):
            with pytest.raises(InputError):
                sandbox.open(variables={"good": "x" * 100_000, "x": object()})
            with pytest.raises(InputError):
                sandbox.open(files={"good": b"x" * 100_000, "missing": "/nonexistent"})
        ledger.settles_at(before)


def test_nothing_is_left_of_sessions_that_were_forgotten():
    with Sandbox() as sandbox:
        one_session(sandbox, 5)
        ledger = Ledger(sandbox)
        before = ledger.count()
        for i in range(10):
            session = sandbox.open(functions=ASK)
            session.start("ask('x')" if i % 2 else "x = 1")
        del session
        gc.collect()
        sandbox.open().close()  # workers that nobody ended are reaped with the next request
        ledger.settles_at(before)


def test_two_hundred_sessions_live_at_the_same_time():
    with Sandbox() as sandbox:
        one_session(sandbox, 5)
        ledger = Ledger(sandbox)
        before, others = ledger.count(), children(ledger.zygote)
        with ThreadPoolExecutor(16) as pool:
            sessions = list(pool.map(lambda i: sandbox.open(variables={"i": i}), range(200)))
            assert list(pool.map(lambda s: s.run("print(i)").stdout, sessions)) == [f"{i}\n" for i in range(200)]
            assert len(children(ledger.zygote) - others) == 200
            list(pool.map(lambda s: s.close(), sessions))
        ledger.settles_at(before)


def test_the_zygote_ends_with_the_last_sandbox():
    with Sandbox() as one:
        zygote = one._zygote._current()._process.pid
        with Sandbox() as other:
            assert other._zygote is one._zygote
        assert one.open().run("print(1)").stdout == "1\n"
    if one._zygote._users == 0:
        assert state(zygote) == "gone"


def test_a_forgotten_sandbox_ends_its_zygote():
    modules = ["wave", "chunk"] if sys.version_info < (3, 13) else ["wave", "colorsys"]
    sandbox = Sandbox(allow_modules=modules)
    sandbox.open()
    zygote = sandbox._zygote._current()._process.pid
    assert state(zygote) != "gone"
    del sandbox
    gc.collect()
    assert state(zygote) == "gone"


SCRIPT = """
import sys, threading, time
from rlm_adapters.sandbox import HostFunction, Sandbox
sandbox = Sandbox()
idle, waiting, busy = (sandbox.open(functions=[HostFunction(name="ask")]) for _ in range(3))
idle.start("x = 1")
waiting.start("ask('x')")
pids = [sandbox._zygote._current()._process.pid, *(s._slot.worker.pid for s in (idle, waiting, busy))]
print(*pids, flush=True)
"""


@pytest.fixture
def host():
    """Starts a host process with three workers (idle, waiting, busy); gives it and the pids."""
    started = []

    def start(rest):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT + textwrap.dedent(rest)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        started.append(process)
        return process, [int(pid) for pid in process.stdout.readline().split()]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_all_processes_end_when_the_host_is_killed(host, number):
    process, pids = host("busy.start('while True:\\n    pass')")
    assert len(pids) == 4
    time.sleep(0.3)
    process.send_signal(number)
    process.wait(timeout=30)
    assert wait_until(lambda: {state(pid) for pid in pids} == {"gone"}), [state(pid) for pid in pids]


def test_all_processes_end_when_the_host_simply_exits(host):
    process, pids = host("")
    assert process.wait(timeout=30) == 0, process.stderr.read()
    assert process.stderr.read() == ""
    assert wait_until(lambda: {state(pid) for pid in pids} == {"gone"}), [state(pid) for pid in pids]


def test_an_interrupt_ends_a_running_cell_and_the_host(host):
    process, pids = host(
        """
        try:
            with sandbox, busy:
                busy.start("while True:\\n    pass")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0, process.stderr.read()
    assert process.stdout.read() == "interrupted\n"
    assert wait_until(lambda: {state(pid) for pid in pids} == {"gone"}), [state(pid) for pid in pids]


def test_a_cancelled_asyncio_run_exits_at_once(host):
    process, pids = host(
        """
        import asyncio
        async def main():
            task = asyncio.create_task(busy.astart("while True:\\n    pass"))
            await asyncio.sleep(0.2)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                print("cancelled", flush=True)
        asyncio.run(main())
        """
    )
    assert process.wait(timeout=30) == 0, process.stderr.read()
    assert process.stdout.read() == "cancelled\n"
    assert wait_until(lambda: {state(pid) for pid in pids} == {"gone"}), [state(pid) for pid in pids]


def test_a_forked_copy_of_the_host_has_a_zygote_of_its_own_and_leaves_the_parents_alone(host):
    process, pids = host(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        child = os.fork()
        with sandbox.open(variables={"pid": os.getpid()}) as session:
            mine = sandbox._zygote._current()._process.pid
            ok = session.run("print(pid)").stdout == f"{os.getpid()}\\n" and (mine == pids[0]) == bool(child)
        if not child:
            os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ok
        print(idle.start("print(x)").stdout, end="", flush=True)
        """
    )
    assert process.wait(timeout=30) == 0, process.stderr.read()
    assert process.stdout.read() == "1\n"
    assert wait_until(lambda: {state(pid) for pid in pids} == {"gone"}), [state(pid) for pid in pids]


def test_sessions_of_many_threads_and_sandboxes_do_not_mix():
    def work(i):
        with Sandbox(limits=SandboxLimits(cpu_seconds=30)) as sandbox:
            for k in range(3):
                with sandbox.open(variables={"i": i, "k": k}, functions={"ask": str.upper}) as session:
                    assert session.run("print(i, k, ask(f'p{i}'))").stdout == f"{i} {k} P{i}\n"

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(32)))
