"""``rlm map``: one question over the rows of a data set."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rlm_adapters.cli.engine import Models, end_on_sigterm
from rlm_adapters.cli.options import (
    ApiKeyOption,
    BaseUrlOption,
    ModelOption,
    OutputTypeOption,
    PriceOption,
    PromptOption,
    SubModelOption,
    limit_option,
    parse_output_type,
    parse_price,
)
from rlm_adapters.cli.output import ExitCode
from rlm_adapters.errors import InputError, MissingExtraError, RLMError
from rlm_adapters.models.limits import Limits
from rlm_adapters.views.text import safe

if TYPE_CHECKING:
    from rlm_adapters.datasets.result import MapResult
    from rlm_adapters.prompts.artefact import PromptSource

_DEFAULTS = Limits()
_SECONDS: Final = 30.0
"""Seconds between two lines of progress, if there is no terminal."""
_CSV_CHARS: Final = 2**31 - 1  # of one value; what Python allows by default is 131,072


def map_command(
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUESTION", help="Asked about each row; {column} is replaced by its value.", show_default=False
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="JSON lines, a .json list, a .csv or .tsv table, or - for JSON lines from standard input.",
            show_default=False,
        ),
    ],
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="File for the answers, one line of JSON for each row; -: standard output.",
            show_default=False,
        ),
    ],
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column that becomes the context; several: a dict. Default: all columns not in QUESTION.",
            show_default=False,
        ),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Column with the id of a row. Default: line number and hash.",
            show_default=False,
        ),
    ] = None,
    model: ModelOption = "",
    sub_model: SubModelOption = None,
    base_url: BaseUrlOption = None,
    api_key: ApiKeyOption = None,
    concurrency: Annotated[int, typer.Option(help="Rows at the same time.")] = 8,
    call_concurrency: Annotated[
        int, typer.Option(help="Model calls at the same time, of all rows together.")
    ] = _DEFAULTS.max_concurrency,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Model calls that start in any 60 seconds, of all rows together.")
    ] = None,
    max_cost: Annotated[float | None, typer.Option(help="US dollars of the whole job, with earlier starts.")] = None,
    max_calls: Annotated[int | None, typer.Option(help="All model calls of the whole job.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Input and output tokens of the whole job.")] = None,
    row_max_cost: Annotated[float | None, typer.Option(help="US dollars of one row.")] = None,
    row_max_calls: Annotated[
        int | None, typer.Option(help="Calls of sub-LMs, and turns of child RLMs, of one row.")
    ] = _DEFAULTS.max_calls,
    row_max_tokens: Annotated[int | None, typer.Option(help="Input and output tokens of one row.")] = None,
    row_timeout: Annotated[float | None, typer.Option(help="Seconds of one row.")] = None,
    max_iterations: Annotated[int, limit_option("max_iterations")] = _DEFAULTS.max_iterations,
    max_depth: Annotated[int, limit_option("max_depth")] = _DEFAULTS.max_depth,
    direct_below: Annotated[
        int, typer.Option(help="Rows of fewer characters are answered by one call, without a REPL; 0: none.")
    ] = 0,
    price: PriceOption = None,
    output_type: OutputTypeOption = None,
    prompt: PromptOption = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ask the rows on the nodes of a Ray cluster: host:port, ray://host:port, auto, local.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Read only the first N rows of DATA.")] = None,
    ordered: Annotated[bool, typer.Option("--ordered", help="Write the answers in the order of the rows.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask rows again that failed in an earlier start.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")] = False,
) -> None:
    """Ask QUESTION about each row of DATA, and write each answer to OUT when it is there.

    Start it again to continue: answered rows are not asked again.
    """
    models = Models(model=model, sub_model=sub_model, base_url=base_url, api_key=api_key)
    told = _Told(show=not quiet)
    code, failed = ExitCode.FAILED, ""
    try:
        models.check()
        table = _Table(
            question=question,
            data=data,
            output=output,
            models=models,
            limits=Limits(
                max_iterations=max_iterations,
                max_depth=max_depth,
                max_calls=row_max_calls,
                max_tokens=row_max_tokens,
                max_cost=row_max_cost,
                max_seconds=row_timeout,
                max_concurrency=call_concurrency,
                requests_per_minute=requests_per_minute,
            ),
            prices=dict(parse_price(text) for text in price or ()),
            output_type=None if output_type is None else parse_output_type(output_type),
            prompt=prompt,
            direct_below=direct_below,
            ray=ray,
            options={
                "fields": field or None,
                "id": id_,
                "concurrency": concurrency,
                "max_cost": max_cost,
                "max_calls": max_calls,
                "max_tokens": max_tokens,
                "limit": limit,
                "ordered": ordered,
                "retry_failed": retry_failed,
            },
        )
        code = _exit_code(_map_table(table, told))
    except (KeyboardInterrupt, asyncio.CancelledError):
        code, failed = ExitCode.INTERRUPTED, "interrupted; start again to continue"
    except (InputError, MissingExtraError) as error:
        code, failed = ExitCode.BAD_INPUT, str(error)
    except RLMError as error:
        failed = str(error)
    if told.last is not None and not quiet:
        for line in _summary(told.last, output):
            typer.echo(f"rlm: {line}", err=True)
    if failed:
        typer.echo(f"rlm: {safe(failed)}", err=True)
    raise typer.Exit(code)


def add_commands(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command(
        "map",
        epilog="Exit status: 0 all rows answered, 1 a model or the machine failed and the job stopped, 2 bad input, "
        "3 some rows failed or the budget of the job ended it, 130 interrupted. A second start continues.",
    )(map_command)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """The checked arguments of the command."""

    question: str
    data: str
    output: str
    models: Models
    limits: Limits
    prices: Mapping[str, tuple[float, float]]
    output_type: Any
    prompt: PromptSource | None
    direct_below: int
    ray: str | None
    """Address of a cluster."""
    options: Mapping[str, Any]
    """Arguments of `amap_rows`."""


class _Told:
    """Shows the progress of a job on standard error: a bar on a terminal, else a line from time to time.

    Args:
        show: False: show nothing.
    """

    def __init__(self, *, show: bool) -> None:
        self.last: MapResult | None = None
        """The result so far; None: the job has not started."""
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
        """Show the result so far."""
        self.last = done
        passed = done.skipped + done.answered + done.failed
        if self._bar is not None:
            self._bar.update(self._task, total=done.rows, completed=passed, description=_figures(done))
        elif self._show and time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            of = "" if done.rows is None else f" of {done.rows:,}"
            typer.echo(f"rlm: {passed:,}{of} rows, {_figures(done)}", err=True)


def _map_table(table: _Table, told: _Told) -> MapResult:
    """Ask every row. SIGTERM and Ctrl-C close everything, and finished rows are kept."""
    table.models.load()
    limit = csv.field_size_limit(_CSV_CHARS)  # of this process, which runs only this command
    try:
        with told:
            return asyncio.run(_map(table, told))
    finally:
        csv.field_size_limit(limit)


def _exit_code(done: MapResult) -> ExitCode:
    """The exit code of a job that was not interrupted."""
    return ExitCode.PARTIAL if done.failed or done.stopped else ExitCode.ANSWERED


def _summary(done: MapResult, output: str) -> list[str]:
    """A summary of one start, in a few lines."""
    skipped = f", {done.skipped:,} skipped (asked in an earlier start)" if done.skipped else ""
    where = "" if output == "-" else f" -> {output}"
    lines = [f"{done.answered:,} answered, {done.failed:,} failed{skipped}{where}"]
    lines.append(f"{_figures(done)}, {done.seconds:.1f} s")
    if done.failures:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(done.failures.items()))
        lines.append(f"failed: {kinds}; --retry-failed asks them again")
    if done.stopped:
        lines.append(f"stopped: {done.stopped}; start again with a higher limit to continue")
    return [safe(line) for line in lines]


async def _map(table: _Table, told: _Told) -> MapResult:
    # LangGraph is not needed for `rlm --help`
    from rlm_adapters import RayEngine, amap_rows  # noqa: PLC0415

    end_on_sigterm()
    if table.ray is not None:
        if isinstance(table.prompt, Path):  # a node has no such file
            table = replace(table, prompt=await asyncio.to_thread(_prompt_of, table.prompt))
        engine = RayEngine(partial(graph_for_rows, table), address=table.ray)
        return await amap_rows(engine, table.question, table.data, table.output, on_progress=told.note, **table.options)
    async with graph_for_rows(table) as graph:
        return await amap_rows(graph, table.question, table.data, table.output, on_progress=told.note, **table.options)


def _prompt_of(path: Path) -> Mapping[str, Any]:
    """The content of a prompt file, which is checked where it is used."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"the prompt file {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"the prompt file {path} holds a {type(content).__name__}: give one that rlm.save(...) wrote")
    return content


@asynccontextmanager
async def graph_for_rows(table: _Table) -> AsyncIterator[Any]:
    """The graph that answers rows, here or on a node."""
    from rlm_adapters import create_rlm_graph  # noqa: PLC0415

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
        yield graph


def _figures(done: MapResult) -> str:
    used, job = done.usage, done.job_usage
    tokens = used.get("input_tokens", 0) + used.get("output_tokens", 0)
    parts = [f"{done.failed:,} failed"] if done.failed else []
    parts.append(f"{tokens:,} tokens")
    if used.get("cost"):
        earlier = f" (${job['cost']:.4f} with earlier starts)" if job.get("cost") and done.skipped else ""
        parts.append(f"${used['cost']:.4f}{earlier}")
    return ", ".join(parts)
