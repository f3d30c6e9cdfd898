"""What is left of 1,000 sessions of several fates, and of a host that was killed with SIGKILL."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.security.report import Part
from rlm_adapters.sandbox import Sandbox
from tests.sandbox.host import test_session_leaks as leaks

_SESSIONS = 1_000
_THREADS = 4
_HOSTS = 5
ROOT = Path(__file__).parents[2]


def run() -> list[Part]:
    if sys.platform != "linux":
        return [Part("leaks: not looked for, since there is no /proc to look into")]
    return [_sessions(), _killed_hosts()]


def _sessions() -> Part:
    """Sessions that end well, with errors, killed, waiting, forgotten; what there is before and after."""
    with _own_temporary_directory(), Sandbox() as sandbox, ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda i: leaks.one_session(sandbox, i), range(4 * _THREADS)))
        ledger = leaks.Ledger(sandbox)
        before = ledger.count() | {"sockets": _sockets()}
        errors = [error for error in pool.map(lambda i: _attempt(sandbox, i), range(_SESSIONS)) if error]
        leaks.wait_until(lambda: ledger.count() | {"sockets": _sockets()} == before)
        after = ledger.count() | {"sockets": _sockets()}
    left = {name: after[name] - before[name] for name in before}
    found = {name: f"{more:+d}" for name, more in left.items() if more}
    found |= {f"session {i}": error for i, error in enumerate(errors)}
    told = ", ".join(f"{name} {more:+d}" for name, more in left.items())
    return Part(f"left of {_SESSIONS} sessions: {told}", found)


@contextlib.contextmanager
def _own_temporary_directory() -> Iterator[None]:
    """Others on this machine make temporary files too."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as directory:
        tempfile.tempdir = directory
        try:
            yield
        finally:
            tempfile.tempdir = before


def _attempt(sandbox: Sandbox, i: int) -> str:
    try:
        leaks.one_session(sandbox, i)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(error).__name__}: {error}"
    return ""


def _sockets() -> int:
    """Sockets of this process."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += entry.readlink().name.startswith("socket:")
        except OSError:  # the descriptor of this very listing
            continue
    return count


def _killed_hosts() -> Part:
    """Kill hosts whose workers are idle, waiting and busy, and see whether everything of theirs ends."""
    left = {}
    processes, ended = 0, 0
    busy = "busy.start('while True:\\n    pass')"
    for i in range(_HOSTS):
        host = subprocess.Popen(
            [sys.executable, "-c", leaks.SCRIPT + busy],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        with host:
            assert host.stdout is not None
            pids = [int(pid) for pid in host.stdout.readline().split()]
            host.send_signal(signal.SIGKILL)
        leaks.wait_until(lambda pids=pids: {leaks.state(pid) for pid in pids} == {"gone"})  # type: ignore[misc]
        alive = [pid for pid in pids if leaks.state(pid) != "gone"]
        processes += len(pids)
        ended += len(pids) - len(alive)
        if alive or len(pids) != 4:  # a zygote and three workers
            left[f"host {i}"] = f"{len(alive)} of {len(pids)} processes still there"
    return Part(
        f"{_HOSTS} hosts killed with SIGKILL: of their {processes} zygotes and workers {ended} ended by themselves",
        left,
    )
