"""``rlm map``: one question over the rows of a data set."""

from __future__ import annotations

import asyncio
import csv
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rlm_adapters.cli.engine import Models, end_on_sigterm
from rlm_adapters.cli.output import ExitCode
from rlm_adapters.models.limits import Limits
from rlm_adapters.views.text import safe

if TYPE_CHECKING:
    from rlm_adapters.datasets.result import MapResult

_SECONDS: Final = 30.0
"""Between two lines of progress where there is no terminal."""
_CSV_CHARS: Final = 2**31 - 1  # of one value; what Python allows by default is 131,072


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What was asked for, options checked."""

    question: str
    data: str
    output: str
    models: Models
    limits: Limits
    prices: Mapping[str, tuple[float, float]]
    output_type: Any
    prompt: Path | None
    direct_below: int
    options: Mapping[str, Any]
    """Arguments of `amap_rows`."""


class Told:
    """Tells how far a job is, on standard error: a bar on a terminal, else a line now and then.

    Args:
        show: anything at all.
    """

    def __init__(self, *, show: bool) -> None:
        self.last: MapResult | None = None
        """What was done so far; None: nothing was begun."""
        self._show = show
        self._bar = None
        self._next = time.monotonic() + _SECONDS
        console = Console(stderr=True)
        if show and console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, done: MapResult) -> None:
        """Take what was done so far."""
        self.last = done
        passed = done.skipped + done.answered + done.failed
        if self._bar is not None:
            self._bar.update(self._task, total=done.rows, completed=passed, description=_figures(done))
        elif self._show and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            of = "" if done.rows is None else f" of {done.rows:,}"
            typer.echo(f"rlm: {passed:,}{of} rows, {_figures(done)}", err=True)


def map_table(table: Table, told: Told) -> MapResult:
    """Ask every row; from SIGTERM and Ctrl-C on all is closed, and what is finished is kept."""
    table.models.load()
    limit = csv.field_size_limit(_CSV_CHARS)  # of this process, which is the command's own
    try:
        with told:
            return asyncio.run(_map(table, told))
    finally:
        csv.field_size_limit(limit)


def exit_code(done: MapResult) -> ExitCode:
    """The exit code of a job that ended by itself."""
    return ExitCode.PARTIAL if done.failed or done.stopped else ExitCode.ANSWERED


def summary(done: MapResult, output: str) -> list[str]:
    """What a start has done, in a few lines."""
    skipped = f", {done.skipped:,} skipped (asked in an earlier start)" if done.skipped else ""
    where = "" if output == "-" else f" -> {output}"
    lines = [f"{done.answered:,} answered, {done.failed:,} failed{skipped}{where}"]
    lines.append(f"{_figures(done)}, {done.seconds:.1f} s")
    if done.failures:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(done.failures.items()))
        lines.append(f"failed: {kinds}; --retry-failed asks them again")
    if done.stopped:
        lines.append(f"stopped: {done.stopped}; a start with more of it goes on")
    return [safe(line) for line in lines]


async def _map(table: Table, told: Told) -> MapResult:
    # LangGraph is not needed for `rlm --help`
    from rlm_adapters import amap_rows, create_rlm_graph  # noqa: PLC0415

    end_on_sigterm()
    async with AsyncExitStack() as stack:
        graph = create_rlm_graph(
            *await table.models.open(stack),
            limits=table.limits,
            prices=table.prices,
            output_type=table.output_type,
            prompt=table.prompt,
            direct_below=table.direct_below,
        )
        stack.callback(graph.close)
        return await amap_rows(graph, table.question, table.data, table.output, on_progress=told.note, **table.options)


def _figures(done: MapResult) -> str:
    used, job = done.usage, done.job_usage
    tokens = used.get("input_tokens", 0) + used.get("output_tokens", 0)
    parts = [f"{done.failed:,} failed"] if done.failed else []
    parts.append(f"{tokens:,} tokens")
    if used.get("cost"):
        earlier = f" (${job['cost']:.4f} with earlier starts)" if job.get("cost") and done.skipped else ""
        parts.append(f"${used['cost']:.4f}{earlier}")
    return ", ".join(parts)
