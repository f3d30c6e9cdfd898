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
from rlm_adapters.cli import evaluation, mapping
from rlm_adapters.cli.engine import Models
from rlm_adapters.cli.options import (
    ApiKeyOption,
    ApproveOption,
    BaseUrlOption,
    ModelOption,
    OutputTypeOption,
    Parallel,
    ParallelOption,
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
    pretty_exceptions_enable=False,  # its tracebacks show local variables, also API keys
)


def main() -> None:
    """Run the command line."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns about every defect that it has repaired
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
    parallel: ParallelOption = Parallel.AHEAD,
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
    """Answer QUESTION about the FILEs. They can have any length.

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
            parallel=parallel,
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
    parallel: ParallelOption = Parallel.AHEAD,
    approve: ApproveOption = None,
    quiet: QuietOption = False,
) -> None:
    """Ask several questions about the FILEs. Each question can use the variables of the earlier ones.

    A line is a question; limits are per question. /exit or Ctrl-D ends the conversation, Ctrl-C ends a question.
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
                parallel=parallel,
                show=not quiet,
            )
        )


mapping.add_commands(app)


@app.command(epilog="Exit status: 0 no problem, 1 a run would fail, 130 interrupted.")
def doctor(
    *,
    model: ModelOption = "",
    sub_model: SubModelOption = None,
    base_url: BaseUrlOption = None,
    api_key: ApiKeyOption = None,
) -> None:
    """Check the packages, the sandbox, and the models with their keys and addresses, and say how to fix problems.

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
    """Standard input if it is a pipe or a file, as in other commands."""
    if stdin is None or stdin.isatty():
        raise InputError("no input: name at least one FILE or directory, or pipe the text in")
    return (STDIN,)
