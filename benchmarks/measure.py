"""Taking times and memory, and printing them as tables."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of several runs of one thing."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def best(self) -> float:
        """What noise of the machine can only make slower."""
        return min(self.runs)


def repeat(work: Callable[[], object], times: int = 5, *, warm: int = 0) -> Timing:
    """Take the time of ``work``, several times.

    Args:
        work: what is measured.
        times: how often.
        warm: how often to run it before, untimed.
    """
    for _ in range(warm):
        work()
    runs = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        runs.append(time.perf_counter() - start)
    return Timing(tuple(runs))


def seconds(value: float) -> str:
    """A duration in the unit that fits it."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} us"
    return f"{value * 1e3:.{2 if value < 0.01 else 1 if value < 0.1 else 0}f} ms" if value < 1 else f"{value:.2f} s"


def ratio(value: float, baseline: float) -> str:
    """How many times the baseline."""
    if baseline <= 0:
        return "-"
    times = value / baseline
    return f"{times:.0f}x" if times >= 100 else f"{times:.1f}x" if times >= 10 else f"{times:.2f}x"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if abs(size) < 1e7 else f"{size / 1e6:.0f} MB"


def memory(pid: int | str = "self") -> int:
    """Proportional set size of a process: shared pages are divided among those who share them. 0: not known."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def machine() -> str:
    """What the figures were taken on."""
    import platform

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()} {platform.release()} "
        f"{platform.machine()}, {cores} cores{load}"
    )


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under a header, the first column to the left and the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    print(f"\n{title}")
    for row in [list(header), ["-" * width for width in widths], *cells]:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())
    print(end="", flush=True)
