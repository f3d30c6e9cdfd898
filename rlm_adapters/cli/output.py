"""The output of a command at its end: the answer, the error, and the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Final

import typer
from rich.console import Console
from rich.panel import Panel

from rlm_adapters.errors import InputError, MissingExtraError, RLMError
from rlm_adapters.views.markdown import answer_view
from rlm_adapters.views.text import answer_text, safe


class ExitCode(IntEnum):
    """The exit status of the command."""

    ANSWERED = 0
    FAILED = 1
    """A model or the machine failed; there is no answer."""
    BAD_INPUT = 2
    """No model was called: a file, an option or a model's name is wrong."""
    PARTIAL = 3
    """A limit ended the run, or the root LM never submitted: the answer is the best one so far, or there is none."""
    INTERRUPTED = 130
    """Ctrl-C, or SIGTERM."""


_EXIT_CODES: Final = {
    "submitted": ExitCode.ANSWERED,
    "text": ExitCode.ANSWERED,
    "direct": ExitCode.ANSWERED,
    "error": ExitCode.FAILED,
}
"""Exit codes by finish reason. Any other reason means a partial answer."""


def exit_code_of(finish_reason: str) -> ExitCode:
    """The exit code for a finish reason."""
    return _EXIT_CODES.get(finish_reason, ExitCode.PARTIAL)


def print_answer(text: str) -> None:
    """Print an answer: unchanged into a pipe, or in a frame, as Markdown, with visible control characters."""
    if sys.stdout.isatty():
        Console().print(Panel(answer_view(safe(text)), title="answer", title_align="left", border_style="bold green"))
    else:
        typer.echo(text.encode("utf-8", "replace"))


def failure(error: Exception) -> dict[str, Any]:
    """The result of a run that raised an exception."""
    usage = getattr(error, "usage", {})
    reason = " ".join(str(error).split())
    return {"answer": None, "finish_reason": "error", "error": reason, "usage": usage, "iterations": 0}


@contextmanager
def failures_reported(*, as_json: bool = False) -> Iterator[None]:
    """If the work inside fails, end the command with the error message and its exit code."""
    try:
        yield
    except (InputError, MissingExtraError) as error:
        report(failure(error), ExitCode.BAD_INPUT, as_json=as_json)
        raise typer.Exit(ExitCode.BAD_INPUT) from None
    except RLMError as error:
        report(failure(error), ExitCode.FAILED, as_json=as_json)
        raise typer.Exit(ExitCode.FAILED) from None


def report(result: Mapping[str, Any], code: ExitCode, *, as_json: bool) -> None:
    """Print the answer, or one JSON object, on standard output, and errors on standard error."""
    answer, error = result["answer"], result.get("error")
    if as_json:
        kept = {key: result.get(key) for key in ("answer", "finish_reason", "error", "usage", "iterations")}
        typer.echo(json.dumps(kept, default=str, indent=2))
    elif answer is not None:
        print_answer(answer_text(answer))
    failed = (result.get("usage") or {}).get("failed_calls", 0)
    if failed and code in (ExitCode.ANSWERED, ExitCode.PARTIAL):
        calls = "1 model call" if failed == 1 else f"{failed:,} model calls"
        typer.echo(f"rlm: {calls} failed; the answer may be incomplete", err=True)
    if code is ExitCode.PARTIAL:
        what = "no answer" if answer is None else "partial answer"
        typer.echo(f"rlm: {what}: {safe(str(error or result['finish_reason']))}", err=True)
    elif code is ExitCode.INTERRUPTED:
        typer.echo("interrupted", err=True)
    elif code is not ExitCode.ANSWERED:
        typer.echo(f"rlm: {safe(str(error))}", err=True)
