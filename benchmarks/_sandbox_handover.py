"""Handing inputs over: time and memory by kind and size, each case in a process of its own."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import megabytes, memory, ratio, seconds, table
from rlm_adapters.sandbox import Sandbox, SandboxLimits

MB = 1_000_000
SIZES = (1, 10, 100, 500)
_SHARING = 5
_LINE = "a line of some English text, as long as lines of books are, of a hundred characters in all, no more.\n"
_WORLD = "eine Zeile mit Umlauten äöü, ein wenig 日本語 und русский текст, so lang wie Zeilen in Büchern sind\n"


def _text(size: int, line: str) -> str:
    return line * (size // len(line.encode()))


KINDS: dict[str, Callable[[int], Any]] = {
    "str, ASCII": lambda size: _text(size, _LINE),
    "str, not ASCII": lambda size: _text(size, _WORLD),
    "bytes": lambda size: _text(size, _LINE).encode(),
    "list[str]": lambda size: [f"{i:08d} {_LINE * 10}" for i in range(size // (10 * len(_LINE)))],
    "list of dict": lambda size: [
        {"id": i, "title": f"document {i}", "text": _LINE * 10, "score": i / 7}
        for i in range(size // (10 * len(_LINE)))
    ],
}


def measure(sizes: Sequence[int] = SIZES) -> None:
    """Print the tables."""
    rows = []
    for kind in KINDS:
        for size in sizes:
            case = _case("one", kind, size)
            rows.append(
                (
                    f"{kind}, {size} MB",
                    seconds(case["open"]),
                    ratio(case["open"], case["pickled"]),
                    seconds(case["again"]),
                    f"{megabytes(case['host'])} ({case['host'] / size / MB:.2f})",
                    f"{megabytes(case['workers'])} ({case['workers'] / size / MB:.2f})" if case["workers"] else "-",
                )
            )
    table(
        "hand-over of one input\n"
        "  open: a session with it, ready to run cells; ratio: to pickling and unpickling it in one process\n"
        "  again: the worker is killed and the next cell runs in a new one\n"
        "  host: growth of the host's memory at its peak; sandbox: PSS of all its processes; in brackets: per byte",
        ["input", "open", "ratio", "again", "host", "sandbox"],
        rows,
    )
    _sharing([size for size in sizes if size >= 10])


def _sharing(sizes: Sequence[int]) -> None:
    rows = []
    for size in sizes:
        case = _case("shared", "str, ASCII", size)
        rows.append(
            (
                f"{size} MB",
                seconds(case["first"]),
                seconds(case["next"]),
                ratio(case["next"], case["first"]),
                f"{megabytes(case['workers'])} ({case['workers'] / size / MB:.2f})" if case["workers"] else "-",
            )
        )
    table(
        f"{_SHARING} sessions of one scope with the same text (str, ASCII), all of them read",
        ["input", "first", "next", "ratio", f"sandbox, {_SHARING} sessions"],
        rows,
    )


def _case(what: str, kind: str, size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks._sandbox_handover", what, kind, str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _one(kind: str, size: int) -> dict[str, float]:
    value = KINDS[kind](size * MB)
    with Sandbox(limits=_limits()) as sandbox:
        with sandbox.open(variables={"x": [1]}) as session:
            session.run("print(x)")
        before = processes(sandbox)
        _reset_peak()
        resident = _status("VmRSS")
        start = time.perf_counter()
        session = sandbox.open(variables={"value": value})
        opened = time.perf_counter() - start
        host = _status("VmHWM") - resident
        with session:
            _check(session, value)
            workers = processes(sandbox) - before
            session.kill()
            start = time.perf_counter()
            _check(session, value)
            again = time.perf_counter() - start
    start = time.perf_counter()
    pickle.loads(pickle.dumps(value, protocol=5))
    pickled = time.perf_counter() - start
    return {"open": opened, "again": again, "pickled": pickled, "host": max(0, host), "workers": max(0, workers)}


def _shared(kind: str, size: int) -> dict[str, float]:
    value = KINDS[kind](size * MB)
    with Sandbox(limits=_limits()) as sandbox:
        sandbox.open().close()
        before = processes(sandbox)
        times, sessions = [], []
        for _ in range(_SHARING):
            start = time.perf_counter()
            sessions.append(sandbox.open(variables={"value": value}, scope="one run"))
            times.append(time.perf_counter() - start)
        for session in sessions:
            session.run("n = value.count('e')")
        workers = processes(sandbox) - before
    return {"first": times[0], "next": min(times[1:]), "workers": max(0, workers)}


def _check(session: Any, value: Any) -> None:
    done = session.run("print(len(value))")
    if done.stdout != f"{len(value)}\n":
        raise RuntimeError(f"the worker counts {done.stdout.strip()!r} of {len(value)}: {done.error}")


def _limits() -> SandboxLimits:
    return SandboxLimits(cpu_seconds=120, wall_seconds=600)


def processes(sandbox: Sandbox) -> int:
    """PSS of the zygote and all that were forked from it."""
    pids = [sandbox._zygote._current()._process.pid]  # noqa: SLF001 - measured from outside, offered to nobody
    for pid in pids:
        pids += _children(pid)
    return sum(map(memory, pids))


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []


def _status(field: str) -> int:
    """A field of /proc/self/status in bytes; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    case = {"one": _one, "shared": _shared}[sys.argv[1]]
    print(json.dumps(case(sys.argv[2], int(sys.argv[3]))))
