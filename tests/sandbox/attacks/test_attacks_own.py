"""Every attack of ours against the real thing, in-process and through a session.

In-process (`attack_runner`) the value that an attack got hold of is judged with the real builtins. Through a session
the promises are those that a user relies on: nothing leaks into the report, submissions are what was submitted, limits
end what does not end, the host's own streams stay silent, and the session is usable afterwards.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_adapters.sandbox import CellError, Done, Failure, HostFunction, Pending, Sandbox, SandboxLimits, Value
from tests.sandbox.attacks.attack_corpus import NO_FINAL, Attack, given_attacks, own_attacks
from tests.sandbox.attacks.attack_oracle import SECRET

ROOT = Path(__file__).parents[3]
ATTACKS = own_attacks()
CONTAINED = [attack for attack in ATTACKS if attack.kind in ("escape", "tamper")]
INSIDES = frozenset({"frame", "code", "traceback", "cell", "mappingproxy", "ModuleSpec", "FileLoader"})
LIMITS = SandboxLimits(cpu_seconds=0.5, wall_seconds=4, output_chars=20_000, file_bytes=1 << 20, memory_bytes=None)
FUNCTIONS = (
    HostFunction(name="llm_query", effects=False, parameters=("prompt", "model=")),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts", "model=")),
    HostFunction(name="rlm_query", effects=False, parameters=("prompt", "context=")),
    HostFunction(name="tool", doc="A tool."),
)
MAX_STEPS = 200
"""Exchanges with the host, after which a cell that never stops asking is killed, as a budget would do it."""


def ids(attacks: list[Attack] | tuple[Attack, ...]) -> list[str]:
    return [attack.id for attack in attacks]


# In-process


@pytest.fixture(scope="module")
def attempt() -> Iterator[Callable[[Attack, str], dict[str, Any]]]:
    """Runs an attack in a fork of a process that has everything loaded."""
    runner = subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox.attacks.attack_runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert runner.stdin is not None
    assert runner.stdout is not None

    def run(attack: Attack, source: str) -> dict[str, Any]:
        request = {"source": source, "files": attack.files, "probe": attack.probe}
        runner.stdin.write(json.dumps(request) + "\n")
        runner.stdin.flush()
        verdict: dict[str, Any] = json.loads(runner.stdout.readline())
        return verdict

    yield run
    runner.stdin.close()
    runner.wait(30)


@pytest.mark.parametrize("attack", CONTAINED, ids=ids(CONTAINED))
def test_an_attack_gets_hold_of_nothing(attack, attempt):
    sources = [attack.source]
    if "llm_query" in attack.source and attack.kind == "escape":
        # The same with a function of the host's own, which sessions never hold: a harder case.
        sources.append(attack.source.replace("llm_query", "raw_query"))
    for source in sources:
        verdict = attempt(attack, source)
        assert "broken" not in verdict, verdict
        assert "died" not in verdict, verdict
        assert verdict["leak"] is None, verdict
        if attack.kind == "escape":
            assert verdict["printed"] is None, verdict
        if attack.probe:
            assert verdict["probe"] == attack.expect, verdict


GIVEN = [attack for attack in given_attacks() if attack.kind == "escape"]


@pytest.mark.parametrize("attack", GIVEN, ids=ids(GIVEN))
def test_a_given_attack_gets_hold_of_nothing(attack, attempt):
    for source in {attack.source, attack.source.replace("llm_query", "raw_query")}:
        verdict = attempt(attack, source)
        assert verdict.get("leak", "died") is None, verdict


# Through a session


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(limits=LIMITS) as sandbox:
        yield sandbox


def drive(session: Any, code: str) -> Done:
    """Run a cell; the host answers "ok" to everything."""
    step = session.start(code)
    for _ in range(MAX_STEPS):
        if isinstance(step, Done):
            return step
        step = session.resume({call.id: Value("ok") for call in step.calls})
    session.kill()
    assert isinstance(step, Pending)
    step = session.resume({call.id: Failure("the budget is used up", kind="budget") for call in step.calls})
    return step if isinstance(step, Done) else Done("", CellError("wall", "TimeoutError", "never stops asking"))


def open_session(sandbox: Sandbox, attack: Attack) -> Any:
    return sandbox.open(
        variables={"context": "some context " * 100, "docs": ["doc one", "doc two"], "obj": {"value": 1}},
        files={name: text.encode() for name, text in attack.files.items()},
        functions=FUNCTIONS,
        epoch=0.0,
    )


def check_done(attack: Attack, done: Done) -> None:
    """What holds for any report, whatever the cell was."""
    text = json.dumps([done.stdout, [v.name for v in done.variables], done.error and done.error.message])
    text.encode("utf-8")
    if attack.kind == "escape":
        held = {v.name: v.type for v in done.variables}
        assert held.get("PWN") not in INSIDES, done
        assert f"{SECRET}-TOKEN" not in done.stdout
        assert "root:x:0" not in done.stdout
    assert len(done.stdout) <= 2 * LIMITS.output_chars + 1_000
    if attack.no_final:
        assert done.final is None, done
    if attack.final is not NO_FINAL and done.final is not None:
        assert done.final.value == attack.final, done


def check_usable(session: Any, attack: Attack) -> None:
    """The session goes on, in the same worker or a new one."""
    if attack.probe and "obj" not in attack.probe:
        probed = drive(session, attack.probe)
        if not probed.replaced:
            assert probed.stdout == attack.expect, probed
    alive = drive(session, "print('alive', llm_query('are you there?'))")
    assert alive.stdout == "alive ok\n", alive


FAST = [attack for attack in ATTACKS if attack.kind != "dos"]
SLOW = [attack for attack in ATTACKS if attack.kind == "dos"]
QUICK_DOS = {attack.id for attack in SLOW if attack.family in {"memory/reentrant-eq", "memory/except-star"}} | {
    "own-dos-except-base-loop",
    "own-dos-zlib-bomb",
    "own-dos-regex-backtrack",
    "own-dos-max-repeat",
    "own-dos-list-mul",
    "own-dos-memory-slow",
    "own-dos-sys-exit",
    "own-dos-os-exit",
    "own-dos-kill-self",
    "own-dos-print-flood",
    "own-dos-thread-endless",
    "own-dos-sequential-flood",
    "own-mem-deep-json",
    "own-mem-chain-nest",
}


def run_through_session(attack: Attack, sandbox: Sandbox) -> None:
    with open_session(sandbox, attack) as session:
        check_done(attack, drive(session, attack.source))
        check_usable(session, attack)


@pytest.mark.parametrize("attack", FAST, ids=ids(FAST))
def test_a_session_withstands(attack, sandbox, capfd):
    capfd.readouterr()
    run_through_session(attack, sandbox)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "attack",
    [pytest.param(a, id=a.id, marks=() if a.id in QUICK_DOS else pytest.mark.slow) for a in SLOW],
)
def test_a_limit_ends(attack, sandbox):
    run_through_session(attack, sandbox)


# With the policy off: the operating system's layers alone

OS_PROBES = {
    "reads a file": "PWN = open('/etc/passwd').read()",
    "reads a file by descriptor": "import os\nfd = os.open('/etc/passwd', os.O_RDONLY)\nPWN = os.read(fd, 10)",
    "writes a file": "with open('/tmp/rlm-own-attack', 'w') as f:\n    f.write('x')\nPWN = 1",
    "lists a directory": "import os\nPWN = os.listdir('/')",
    "walks": "import os\nPWN = next(os.walk('/etc'), None) and [f for _, _, f in os.walk('/etc')][0]",
    "reads its environment": "import os\nPWN = [k for k in os.environ if 'KEY' in k or k in ('PATH', 'HOME')] or None",
    "reads the environment in memory": "PWN = open('/proc/self/environ', 'rb').read()",
    "reads the parent": "import os\nPWN = open(f'/proc/{os.getppid()}/cmdline').read()",
    "opens a socket": "import socket\nPWN = socket.socket()",
    "opens a unix socket": "import socket\nPWN = socket.socket(socket.AF_UNIX)",
    "opens a pair of sockets": "import socket\nPWN = socket.socketpair()",
    "forks": "import os\nPWN = os.fork()",
    "starts a program": "import subprocess\nPWN = subprocess.run(['true']).returncode == 0",
    "replaces itself": "import os\nos.execv('/bin/true', ['true'])\nPWN = 1",
    "signals its parent": "import os, signal\nPWN = os.kill(os.getppid(), 0) is None",
    "signals everybody": "import os\nPWN = os.kill(-1, 0) is None",
    "traces": "import ctypes\nPWN = ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 or None",
    "maps code": "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\nPWN = 1",
    "makes a directory": "import os\nos.mkdir('/tmp/rlm-own-attack-dir')\nPWN = 1",
    "links": "import os\nos.symlink('/etc/passwd', '/tmp/rlm-own-attack-link')\nPWN = 1",
    "changes a mode": "import os\nos.chmod('/tmp', 0o777)\nPWN = 1",
    "raises its limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)\nPWN = 1",
    "makes shared memory": "import ctypes\nPWN = ctypes.CDLL(None).shmget(4242, 4096, 0o1666) >= 0 or None",
    "makes a message queue": "import ctypes\nPWN = ctypes.CDLL(None).msgget(4242, 0o1666) >= 0 or None",
    "attaches to sqlite files": "import sqlite3\nsqlite3.connect('/tmp/rlm-own-attack.db').execute('CREATE TABLE t(a)')\nPWN = 1",
    "imports what was not loaded": "import xmlrpc.server\nPWN = 1",
    "opens a descriptor of another process": "import os\nPWN = os.open('/proc/1/fd/0', os.O_RDONLY)",
    "makes a namespace": "import ctypes\nPWN = ctypes.CDLL(None).unshare(0x10000000) == 0 or None",
    "mounts": "import ctypes\nPWN = ctypes.CDLL(None).mount(b'none', b'/mnt', b'tmpfs', 0, None) == 0 or None",
}


@pytest.fixture(scope="module")
def bare_sandbox() -> Iterator[Sandbox]:
    # Run-ahead forks the worker, so there a cell that beat the policy can fork too (docs/security.md).
    with Sandbox(limits=LIMITS, parallel="off", _policy_off=True) as sandbox:
        if sandbox.isolation != "os":
            pytest.skip(f"this machine does not confine workers fully: {sandbox.report}")
        yield sandbox


@pytest.mark.parametrize("code", OS_PROBES.values(), ids=OS_PROBES)
def test_with_the_policy_off_the_operating_system_alone_refuses_a_cell_that(code, bare_sandbox):
    with bare_sandbox.open(functions=FUNCTIONS, epoch=0.0) as session:
        session.start("PWN = None")
        session.start(code)
        done = session.start("print(PWN)")
        assert isinstance(done, Done)
        assert done.stdout in ("None\n", ""), done
        if done.error is not None:
            assert "PWN" in done.error.message, done


BARE = [a for a in ATTACKS if a.kind == "escape" and a.family.startswith(("facade/os", "facade/pathlib", "vfs/path"))]


@pytest.mark.parametrize("attack", BARE, ids=ids(BARE))
def test_with_the_policy_off_no_file_of_the_host_is_read(attack, bare_sandbox):
    with bare_sandbox.open(functions=FUNCTIONS, epoch=0.0) as session:
        session.start("PWN = None")
        session.start(attack.source)
        done = session.start("print(str(PWN)[:2000])")
        assert isinstance(done, Done)
        assert "root:x:0" not in done.stdout
        assert "passwd" not in done.stdout


CRASHING = [a for a in ATTACKS if a.real == "crash" and a.applies]


@pytest.mark.parametrize("attack", CRASHING, ids=ids(CRASHING))
def test_with_the_policy_off_a_crash_of_the_interpreter_is_an_error_of_the_cell(attack, bare_sandbox):
    with bare_sandbox.open(functions=FUNCTIONS, epoch=0.0) as session:
        done = session.start(attack.source)
        assert isinstance(done, Done)
        assert session.start("print('alive')").stdout == "alive\n"
