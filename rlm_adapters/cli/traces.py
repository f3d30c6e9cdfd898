"""The commands about traces: ``rlm show``, ``rlm report`` and ``rlm diff``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from rlm_adapters.cli.options import VerboseOption
from rlm_adapters.cli.output import ExitCode
from rlm_adapters.errors import InputError
from rlm_adapters.events import Event
from rlm_adapters.traces.reader import TraceReader
from rlm_adapters.traces.trajectory import Trajectory
from rlm_adapters.views.comparison import print_comparison
from rlm_adapters.views.console import ConsoleView
from rlm_adapters.views.text import safe

_POLL_SECONDS: Final = 0.1
_FIRST_BYTES: Final = 100_000
"""Bytes of a file in which a whole line is searched. The first line of a run is shorter."""

_SIDES: Final = 2
"""Number of runs in a comparison."""

_TraceArgument = Annotated[
    Path,
    typer.Argument(metavar="TRACE", help="A file that `rlm ask --trace` or `trace=PATH` wrote.", show_default=False),
]
_RunOption = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Run of the trace: its number from 0, -1 for the last, or the beginning of its id.",
    ),
]


def show(
    trace: _TraceArgument,
    *,
    run: _RunOption = "-1",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the run has ended.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Show a run of TRACE in the terminal, as the live view shows it.

    If the process of the run was killed, it is shown up to its last event.
    """
    with _Ends(), ConsoleView(Console(), verbose=verbose) as view:
        if follow:
            _wait_for(trace)
        chosen = Trajectory.from_trace(trace, _number(run)).run_id
        reader = TraceReader(trace)
        events = _followed(reader, chosen) if follow else _of_tree(iter(reader), chosen)
        ended = False
        for event in events:
            with suppress(TypeError, ValueError, KeyError, AttributeError):  # a trace may come from an untrusted source
                view.handle(event)
            ended = ended or _ends(event, chosen)
        view.close()
        if not ended:
            typer.echo("the run had not ended when the trace ended", err=True)
        if reader.damaged:
            lines = "1 line" if reader.damaged == 1 else f"{reader.damaged:,} lines"
            typer.echo(f"{lines} of the trace could not be read", err=True)


def report(
    trace: _TraceArgument,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The page; default: TRACE.html. -: standard output."),
    ] = None,
    run: _RunOption = "-1",
) -> None:
    """Write a run of TRACE as one HTML page: timeline, tree, prompts and answers, search and filters.

    The page needs no other files and no network.
    """
    with _Ends():
        page = Trajectory.from_trace(trace, _number(run)).to_html()
        if output is not None and str(output) == "-":
            sys.stdout.write(page)
            return
        target = output or trace.with_name(f"{trace.name}.html")
        if target.exists() and target.samefile(trace):
            raise InputError(f"--output {target} is the trace itself: give another file")
        try:
            file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it has the same content as the trace
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                stream.write(page)
        except OSError as error:
            raise InputError(f"--output {target}: {error.strerror}; give a file that can be written") from error
        typer.echo(str(target))


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A trace.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another trace, or the same.", show_default=False)],
    *,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Run of the traces, as for `rlm show`; given twice: first for A, then for B. Default: the last run.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a run of A with a run of B: where they differ, and the calls, tokens, cost and time of each.

    Runs are the same if questions, models, limits, prompts, code, outputs and answers are the same.
    """
    with _Ends():
        chosen = list(run or ("-1",))
        if len(chosen) > _SIDES:
            raise InputError(f"--run {chosen[-1]}: two runs are compared; give --run once for both, or once for each")
        first, second = (
            Trajectory.from_trace(path, _number(one))
            for path, one in zip((a, b), (chosen * _SIDES)[:_SIDES], strict=True)
        )
        found = first.diff(second)
        if as_json:
            typer.echo(json.dumps(found.to_dict(), indent=2))
        else:
            print_comparison(found.comparison(str(a), str(b)))
    raise typer.Exit(0 if found.same else 1)


def add_commands(app: typer.Typer) -> None:
    """Add the commands about traces to an application."""
    app.command(epilog="Exit status: 0 shown, 2 no trace, 130 interrupted.")(show)
    app.command(epilog="Exit status: 0 written, 2 no trace, or the page cannot be written.")(report)
    app.command(epilog="Exit status: 0 the same, 1 they differ, 2 no trace.")(diff)


class _Ends:
    """Ends the command with one line about what the user must change."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, InputError):
            typer.echo(f"rlm: {safe(str(error))}", err=True)
            raise typer.Exit(ExitCode.BAD_INPUT) from None
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _number(run: str) -> str | int:
    """The number of a run, or its id. 32 digits are an id."""
    return int(run) if run.lstrip("-").isdecimal() and len(run) < 8 else run


def _wait_for(trace: Path) -> None:
    """Wait until there is a run to follow."""
    while not (trace.is_file() and b"\n" in trace.read_bytes()[:_FIRST_BYTES]):
        time.sleep(_POLL_SECONDS)


def _of_tree(events: Iterable[Event], chosen: str) -> Iterator[Event]:
    """The events of a run and its child runs."""
    known = {chosen}
    for event in events:
        if event.run_id not in known and event.parent_run_id in known:
            known.add(event.run_id)
        if event.run_id in known:
            yield event


def _followed(reader: TraceReader, chosen: str) -> Iterator[Event]:
    """The events of a run when they come, until it has ended."""
    ended: list[Event] = []
    told = (event for event in reader.follow(lambda: bool(ended), _POLL_SECONDS) if event is not None)
    for event in _of_tree(told, chosen):
        if _ends(event, chosen):
            ended.append(event)
        yield event


def _ends(event: Event, chosen: str) -> bool:
    return event.type == "run_finished" and event.run_id == chosen
