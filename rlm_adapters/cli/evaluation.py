"""``rlm eval``: models and settings on tasks that are made from seeds, and on public data."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_adapters.cli.engine import Models, end_on_sigterm
from rlm_adapters.cli.options import (
    ApiKeyOption,
    BaseUrlOption,
    ModelOption,
    QuietOption,
    SubModelOption,
    limit_option,
    parse_price,
)
from rlm_adapters.cli.output import ExitCode, failures_reported
from rlm_adapters.errors import InputError
from rlm_adapters.models.limits import Limits
from rlm_adapters.views.text import safe

if TYPE_CHECKING:
    from rlm_adapters.evaluation import Evaluation, Figures, Result

_DEFAULTS = Limits()
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(|b|kb|mb)", re.IGNORECASE)
_UNITS: Final = {"": 1, "b": 1, "kb": 1_000, "mb": 1_000_000}
_WIDE: Final = 200  # columns, if the output is not a terminal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The arguments of the command."""

    models: Models
    options: dict[str, Any]
    quiet: bool


def eval_(
    *,
    model: ModelOption = "",
    sub_model: SubModelOption = None,
    base_url: BaseUrlOption = None,
    api_key: ApiKeyOption = None,
    families: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Families of tasks; default: all, or none beside --data.", show_default=False),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:PATH",
            help="Public data in local files: oolong, longbench-codeqa, browsecomp-plus, ruler, locodiff.",
            show_default=False,
        ),
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="A,B", help="Sizes of the contexts: 10kB to 10MB and more.")
    ] = "10kB,100kB",
    samples: Annotated[int, typer.Option(help="Number of tasks of each family and size, and of each data set.")] = 5,
    seed: Annotated[int, typer.Option(help="Another seed gives other tasks.")] = 0,
    split: Annotated[
        str, typer.Option(help="held_out, or train: the half of the seeds on which prompts are optimised.")
    ] = "held_out",
    settings: Annotated[
        str,
        typer.Option(
            metavar="A,B", help="direct, direct-cut, rlm-0, rlm-1, rlm-2 (the depth), rlm-1+example, rlm-1@FILE."
        ),
    ] = "direct,rlm-1",
    prompt: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A prompt file to compare as well: the setting rlm-1@FILE.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="File of the results; a second start continues it."),
    ] = Path("eval.jsonl"),
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures as a page.", show_default=False)
    ] = None,
    traces: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the trace of every task.", show_default=False)
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Dollars for all starts with the file.", show_default=False)
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=IN,OUT", help="Dollars per million tokens.", show_default=False),
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Window of the model in tokens, for direct-cut.", show_default=False)
    ] = None,
    parallel: Annotated[int, typer.Option(help="Tasks at the same time.")] = 4,
    max_iterations: Annotated[int, limit_option("max_iterations")] = _DEFAULTS.max_iterations,
    max_calls: Annotated[int | None, limit_option("max_calls")] = _DEFAULTS.max_calls,
    max_cost: Annotated[float | None, limit_option("max_cost")] = _DEFAULTS.max_cost,
    timeout: Annotated[float | None, limit_option("max_seconds")] = _DEFAULTS.max_seconds,
    concurrency: Annotated[int, limit_option("max_concurrency")] = _DEFAULTS.max_concurrency,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Ask models tasks from seeds or public data, in several settings, and score the answers.

    Limits are per task. A second start with the same file asks only tasks without a result.
    """
    chosen = [*_listed(settings), *(f"rlm-1@{path}" for path in prompt or ())]
    try:
        with failures_reported(as_json=as_json):
            asked = _Asked(
                models=Models(model=model, sub_model=sub_model, base_url=base_url, api_key=api_key),
                options={
                    "families": None if families is None else _listed(families),
                    "data": data or [],
                    "sizes": [parse_size(one) for one in _listed(sizes)],
                    "samples": samples,
                    "seed": seed,
                    "split": split,
                    "settings": chosen,
                    "output": output,
                    "traces": traces,
                    "budget": budget,
                    "prices": dict(parse_price(one) for one in price or ()),
                    "window": window,
                    "parallel": parallel,
                    "limits": Limits(
                        max_iterations=max_iterations,
                        max_calls=max_calls,
                        max_cost=max_cost,
                        max_seconds=timeout,
                        max_concurrency=concurrency,
                    ),
                },
                quiet=quiet,
            )
            asked.models.check()
            asked.models.load()
            found = asyncio.run(_run(asked))
            if page is not None:
                _write(page, found.to_html())
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo(f"interrupted; start again to continue {safe(str(output))}", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _show(found)
    raise typer.Exit(ExitCode.ANSWERED if found.complete else ExitCode.PARTIAL)


def add_commands(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command(
        name="eval",
        epilog="Exit status: 0 all tasks have a result, 1 a model or the machine failed, 2 bad input, 3 some tasks "
        "have no result, 130 interrupted.",
    )(eval_)


async def _run(asked: _Asked) -> Evaluation:
    from rlm_adapters.evaluation import aevaluate  # noqa: PLC0415 - not needed for `rlm --help`

    end_on_sigterm()
    async with AsyncExitStack() as stack:
        root, *sub = await asked.models.open(stack)
        return await aevaluate(root, *sub, on_result=None if asked.quiet else _tell, **asked.options)


def _tell(result: Result, evaluation: Evaluation) -> None:
    """Print a line for a result."""
    what = "void" if result.void else "right" if result.correct else "wrong"
    done = f"{len(evaluation.results):,}/{evaluation.total:,}"
    said = f" ({result.why or result.finish_reason})" if what != "right" else ""
    typer.echo(safe(f"{done} {what:<5} {result.setting} {result.task} {result.seconds:.1f} s{said}"), err=True)


def _show(found: Evaluation) -> None:
    from rlm_adapters.evaluation.page import dollars, interval, percent, size_text  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    names = {one.key: one.name for one in found.settings}
    heads = (
        "setting", "tasks", "accuracy", "95 %", "score", "tokens in", "out", "root calls", "sub calls", "cost",
        "p95", "seconds", "p95", "ended by",
    )  # fmt: skip
    table = _table(heads)
    for one in found.figures():
        reasons = ", ".join(f"{name} {count}" for name, count in one.finish_reasons.items())
        _row(
            table, names[one.setting], f"{one.tasks:,}", percent(one.accuracy), interval(one), percent(one.score),
            f"{one.input_tokens:,.0f}", f"{one.output_tokens:,.0f}", f"{one.root_calls:.1f}", f"{one.sub_calls:.1f}",
            dollars(one.cost_median), dollars(one.cost_p95), f"{one.seconds_median:.1f}", f"{one.seconds_p95:.1f}",
            reasons,
        )  # fmt: skip
    console.print(table)
    console.print(_accuracy("family", {one: one for one in found.families}, found.figures(family=True), names))
    console.print(_accuracy("size", {one: size_text(one) for one in found.sizes}, found.figures(size=True), names))
    for text in (
        found.stopped,
        f"{found.voids} tasks were not answered: start again to ask them" if found.voids else "",
    ):
        if text:
            typer.echo(f"rlm: {safe(text)}", err=True)


def _accuracy(what: str, values: Mapping[Any, str], figures: Sequence[Figures], names: Mapping[str, str]) -> Table:
    """A table of accuracy by family or size, with a column for each setting."""
    from rlm_adapters.evaluation.page import percent  # noqa: PLC0415

    by = {(one.setting, getattr(one, what)): one for one in figures}
    table = _table((what, *names.values()))
    for value, shown in values.items():
        cells = (by[key, value] for key in names)
        _row(table, shown, *(f"{percent(one.accuracy)} ({one.correct}/{one.tasks})" for one in cells))
    return table


def _table(heads: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if not place or head == "ended by" else "right")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(safe(cell)) for cell in cells))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_size(text: str) -> int:
    """Read a size: ``10kB``, ``1.5MB``, ``20000``.

    Raises:
        InputError: it is not a size.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InputError(f"--sizes {text!r}: give bytes, such as 10kB, 1MB or 20000")
    return round(float(found[1]) * _UNITS[found[2].lower()])


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--page {path}: {error.strerror}; give a file that can be written") from error
