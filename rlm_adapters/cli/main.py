"""The command ``rlm``.

``rlm ask QUESTION FILE...`` writes the answer to standard output and the trajectory to standard error.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from rlm_adapters import __version__
from rlm_adapters.cli import evaluation
from rlm_adapters.cli.engine import Models
from rlm_adapters.cli.options import (
    ApiKeyOption,
    ApproveOption,
    BaseUrlOption,
    ModelOption,
    OutputTypeOption,
    PriceOption,
    PromptOption,
    QuietOption,
    SubModelOption,
    VerboseOption,
    limit_option,
    parse_output_type,
    parse_price,
)
from rlm_adapters.cli.output import ExitCode, exit_code_of, failure, failures_reported, report
from rlm_adapters.cli.traces import add_commands
from rlm_adapters.errors import InputError, MissingExtraError, RLMError
from rlm_adapters.models.limits import Limits
from rlm_adapters.values.inputs import STDIN
from rlm_adapters.views.text import safe

_EPILOG = (
    "Exit status: 0 answered, 1 a model or the machine failed, 2 bad input, 3 partial answer (a limit ended the run, "
    "or the model never submitted), 130 interrupted."
)

_DEFAULTS = Limits()

app = typer.Typer(
    help="Recursive Language Models: ask a question about inputs of any size.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, API keys among them
)


def main() -> None:
    """Run the command line."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every flaw that it has mended
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rlm-adapters {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    del version


@app.command(epilog=_EPILOG)
def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.", show_default=False)],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Files (text, PDF, JSON, images, Office documents), directories, web addresses, or - for standard "
            "input (default: -, in a pipe).",
            show_default=False,
        ),
    ] = None,
    *,
    model: ModelOption = "",
    sub_model: SubModelOption = None,
    base_url: BaseUrlOption = None,
    api_key: ApiKeyOption = None,
    max_iterations: Annotated[int, limit_option("max_iterations")] = _DEFAULTS.max_iterations,
    max_depth: Annotated[int, limit_option("max_depth")] = _DEFAULTS.max_depth,
    max_calls: Annotated[int | None, limit_option("max_calls")] = _DEFAULTS.max_calls,
    max_tokens: Annotated[int | None, limit_option("max_tokens")] = _DEFAULTS.max_tokens,
    max_cost: Annotated[float | None, limit_option("max_cost")] = _DEFAULTS.max_cost,
    price: PriceOption = None,
    timeout: Annotated[float | None, limit_option("max_seconds")] = _DEFAULTS.max_seconds,
    concurrency: Annotated[int, limit_option("max_concurrency")] = _DEFAULTS.max_concurrency,
    output_type: OutputTypeOption = None,
    prompt: PromptOption = None,
    approve: ApproveOption = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write every event as a line of JSON, long texts into FILE.content.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Answer QUESTION about the FILEs, however long they are.

    The answer goes to standard output, the trajectory to standard error.
    """
    from rlm_adapters.cli.ask import Question, Used  # noqa: PLC0415 - not needed for `rlm --help`
    from rlm_adapters.cli.ask import ask as answer  # noqa: PLC0415

    used = Used()
    models = Models(model=model, sub_model=sub_model, base_url=base_url, api_key=api_key)
    try:
        text = _checked(question)
        paths = tuple(files or _default_paths(sys.stdin))
        models.check()
        asked = Question(
            text=text,
            paths=paths,
            models=models,
            limits=Limits(
                max_iterations=max_iterations,
                max_depth=max_depth,
                max_calls=max_calls,
                max_tokens=max_tokens,
                max_cost=max_cost,
                max_seconds=timeout,
                max_concurrency=concurrency,
            ),
            prices=dict(parse_price(text) for text in price or ()),
            output_type=None if output_type is None else parse_output_type(output_type),
            prompt=prompt,
            approve=approve,
        )
        result = answer(asked, trace=trace, show=not quiet, verbose=verbose, tell=used.note)
        code = exit_code_of(result["finish_reason"])
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupted = {"answer": None, "finish_reason": "interrupted", "error": "interrupted", "usage": used.usage}
        report(interrupted, ExitCode.INTERRUPTED, as_json=as_json)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (InputError, MissingExtraError) as error:
        code, result = ExitCode.BAD_INPUT, failure(error)
    except RLMError as error:
        code, result = ExitCode.FAILED, failure(error)
    report(result, code, as_json=as_json)
    raise typer.Exit(code)


@app.command(epilog="Exit status: 0 ended by the user, 1 a model or the machine failed, 2 bad input.")
def chat(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Files, directories, or web addresses.", show_default=False),
    ] = None,
    *,
    model: ModelOption = "",
    sub_model: SubModelOption = None,
    base_url: BaseUrlOption = None,
    api_key: ApiKeyOption = None,
    max_iterations: Annotated[int, limit_option("max_iterations")] = _DEFAULTS.max_iterations,
    max_depth: Annotated[int, limit_option("max_depth")] = _DEFAULTS.max_depth,
    max_calls: Annotated[int | None, limit_option("max_calls")] = _DEFAULTS.max_calls,
    max_tokens: Annotated[int | None, limit_option("max_tokens")] = _DEFAULTS.max_tokens,
    max_cost: Annotated[float | None, limit_option("max_cost")] = _DEFAULTS.max_cost,
    timeout: Annotated[float | None, limit_option("max_seconds")] = _DEFAULTS.max_seconds,
    concurrency: Annotated[int, limit_option("max_concurrency")] = _DEFAULTS.max_concurrency,
    approve: ApproveOption = None,
    quiet: QuietOption = False,
) -> None:
    """Hold a conversation over the FILEs: each question finds what the earlier ones worked out.

    A line is a question; limits count for each. /exit or Ctrl-D ends the conversation, Ctrl-C ends a question.
    """
    from rlm_adapters.cli.chat import Chat, hold  # noqa: PLC0415 - not needed for `rlm --help`

    with failures_reported():
        hold(
            Chat(
                paths=tuple(files or ()),
                models=Models(model=model, sub_model=sub_model, base_url=base_url, api_key=api_key),
                limits=Limits(
                    max_iterations=max_iterations,
                    max_depth=max_depth,
                    max_calls=max_calls,
                    max_tokens=max_tokens,
                    max_cost=max_cost,
                    max_seconds=timeout,
                    max_concurrency=concurrency,
                ),
                approve=approve,
                show=not quiet,
            )
        )


@app.command(
    "map",
    epilog="Exit status: 0 all rows answered, 1 a model or the machine failed and the job stopped, 2 bad input, "
    "3 some rows failed or the budget of the job ended it, 130 interrupted. A second start goes on.",
)
def map_command(
    question: Annotated[
        str,
        typer.Argument(
            metavar="QUESTION", help="Asked of each row; {column} stands for a value of it.", show_default=False
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
            help="Gets a line of JSON for each row; - : standard output.",
            show_default=False,
        ),
    ],
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="The context; several: a dict of them. Default: all columns not in QUESTION.",
            show_default=False,
        ),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="COLUMN", help="Names a row. Default: its line and a hash of it.", show_default=False
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
        int | None, typer.Option(help="Model calls that begin in any 60 seconds, of all rows together.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="US dollars of the whole job, earlier starts included.")
    ] = None,
    max_calls: Annotated[int | None, typer.Option(help="Model calls of the whole job, of every kind.")] = None,
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
    limit: Annotated[int | None, typer.Option(help="Read only so many rows of DATA.")] = None,
    ordered: Annotated[bool, typer.Option("--ordered", help="Write the answers in the order of the rows.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask the rows again that failed in an earlier start.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")] = False,
) -> None:
    """Ask QUESTION of each row of DATA, and write each answer into OUT as soon as it is there.

    Start it again to go on: rows that are answered are not asked again.
    """
    from rlm_adapters.cli.map import Table, Told, exit_code, map_table, summary  # noqa: PLC0415 - not for `rlm --help`

    models = Models(model=model, sub_model=sub_model, base_url=base_url, api_key=api_key)
    told = Told(show=not quiet)
    code, failed = ExitCode.FAILED, ""
    try:
        models.check()
        table = Table(
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
        code = exit_code(map_table(table, told))
    except (KeyboardInterrupt, asyncio.CancelledError):
        code, failed = ExitCode.INTERRUPTED, "interrupted; a second start goes on"
    except (InputError, MissingExtraError) as error:
        code, failed = ExitCode.BAD_INPUT, str(error)
    except RLMError as error:
        failed = str(error)
    if told.last is not None and not quiet:
        for line in summary(told.last, output):
            typer.echo(f"rlm: {line}", err=True)
    if failed:
        typer.echo(f"rlm: {safe(failed)}", err=True)
    raise typer.Exit(code)


@app.command(epilog="Exit status: 0 all is well, 1 a run would fail, 130 interrupted.")
def doctor(
    *,
    model: ModelOption = "",
    sub_model: SubModelOption = None,
    base_url: BaseUrlOption = None,
    api_key: ApiKeyOption = None,
) -> None:
    """Check the packages, the sandbox, and the models with their keys and addresses; say what to do.

    Each model is asked one short question.
    """
    from rlm_adapters.cli.doctor import examine  # noqa: PLC0415 - not needed for `rlm --help`

    async def show() -> bool:
        well = True
        async for check in examine(Models(model=model, sub_model=sub_model, base_url=base_url, api_key=api_key)):
            typer.echo(safe(f"{check.state:<8}{check.name}: {check.detail}"))
            if check.remedy:
                typer.echo(safe(f"{'':<8}  {check.remedy}"))
            well = well and check.state != "problem"
        return well

    try:
        well = asyncio.run(show())
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise typer.Exit(ExitCode.ANSWERED if well else ExitCode.FAILED)


add_commands(app)
evaluation.add_commands(app)


# What the arguments mean


def _checked(question: str) -> str:
    if not question.strip():
        raise InputError("the question is empty: give it as the first argument")
    return question


def _default_paths(stdin: TextIO | None) -> tuple[str, ...]:
    """Standard input where it is a pipe or a file, as other commands do."""
    if stdin is None or stdin.isatty():
        raise InputError("no input: name at least one FILE or directory, or pipe the text in")
    return (STDIN,)
