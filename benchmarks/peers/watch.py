"""A program, its descendants, their memory, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import memory

START_SECONDS = 120
"""A program that has not asked the model by then is ended."""
MOST_MEGABYTES = 6_000
"""A tree that is larger is ended: the machine is not to suffer."""


@dataclass(slots=True)
class Watched:
    """What was seen of a program."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    peak: float = 0.0
    """Megabytes of PSS, of the whole tree."""
    base: float = 0.0
    """The same before the first run."""
    ended: str | None = None
    """Why it was ended from outside; None: it was not."""
    status: int | None = None


def tree_of(pid: int) -> list[int]:
    """A process and its descendants."""
    found, pending = [], [pid]
    while pending:
        one = pending.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                pending += map(int, (task / "children").read_text().split())
    return found


def in_session(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(place.name))
    return found


def megabytes_of(pid: int) -> float:
    """PSS of a tree."""
    return sum(map(memory, tree_of(pid))) / 1e6


def watch(
    command: Sequence[str | Path],
    variables: Mapping[str, str],
    errors: Path,
    *,
    seconds: float,
    begun: Callable[[], bool],
    closely: bool,
) -> Watched:
    """Run a program that speaks as `drive` does.

    Args:
        command: the program and its arguments.
        variables: its environment.
        errors: file for its standard error.
        seconds: after which it is ended, from the first request on.
        begun: whether the model has been asked; when it is not within `START_SECONDS`, the program is ended.
        closely: look at its memory often.
    """
    seen = Watched()
    with errors.open("wb") as error_file:
        process = subprocess.Popen(
            command, env=dict(variables), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=error_file,
            start_new_session=True, cwd=errors.parent,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None

    def read() -> None:
        for line in process.stdout or ():
            event = json.loads(line)
            seen.events[event["event"]] = event

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    started, first = time.monotonic(), None
    try:
        while process.poll() is None and "done" not in seen.events:
            if "ready" in seen.events and not seen.base:
                seen.base = megabytes_of(process.pid)
                started = time.monotonic()
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(b"go\n")
                    process.stdin.flush()
            began = time.monotonic()
            size = megabytes_of(process.pid)
            seen.peak = max(seen.peak, size)
            if first is None and begun():
                first = began
            if first is not None and began - first > seconds:
                seen.ended = f"not over after {seconds:.0f} s"
            elif first is None and began - started > START_SECONDS:
                seen.ended = f"no request within {START_SECONDS} s"
            elif size > MOST_MEGABYTES:
                seen.ended = f"more than {MOST_MEGABYTES:,} MB"
            if seen.ended:
                break
            # A look costs milliseconds where there are many processes: never more than a tenth of the time.
            time.sleep(max(0.03 if closely else 0.2, 10 * (time.monotonic() - began)))
    finally:
        for pid in {*tree_of(process.pid), *in_session(process.pid)} if process.poll() is None else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.stdin.close()
        seen.status = process.wait()
        reader.join(5)
        for pid in in_session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return seen
