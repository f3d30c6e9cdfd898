"""The command ``rlm``.

``rlm ask QUESTION FILE...`` writes the answer to standard output and the trajectory to standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from rlm_adapters import __version__
from rlm_adapters.cli.approval import Approving, Terminal
from rlm_adapters.cli.options import (
    ApiKeyOption,
    ApproveOption,
    BaseUrlOption,
    ModelOption,
    QuietOption,
    SubModelOption,
    VerboseOption,
    limit_option,
    parse_output_type,
    parse_price,
)
from rlm_adapters.cli.output import print_answer
from rlm_adapters.cli.traces import add_commands
from rlm_adapters.errors import InputError, MissingExtraError, RLMError
from rlm_adapters.events import Event, EventHandler
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.providers import open_chat_model, split_name
from rlm_adapters.traces.writer import TraceWriter, begin_anew
from rlm_adapters.values.inputs import STDIN, load_paths
from rlm_adapters.values.urls import URL, is_url
from rlm_adapters.views.console import ConsoleView, answer_text, safe

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


class ExitCode(IntEnum):
    """What the exit status of the command means."""

    ANSWERED = 0
    FAILED = 1
    """A model or the machine failed; there is no answer."""
    BAD_INPUT = 2
    """Nothing was asked: a file, an option or a model's name is unusable."""
    PARTIAL = 3
    """A limit ended the run, or the root LM never submitted: the answer is the best one so far, or there is none."""
    INTERRUPTED = 130
    """Ctrl-C, or SIGTERM."""


_EXIT_CODES = {
    "submitted": ExitCode.ANSWERED,
    "text": ExitCode.ANSWERED,
    "direct": ExitCode.ANSWERED,
    "error": ExitCode.FAILED,
}
"""By finish reason; any other gives a partial answer."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What was asked for, options checked."""

    question: str
    paths: tuple[str, ...]
    model: str
    sub_model: str | None
    base_url: str | None
    api_key: str | None = field(repr=False)
    limits: Limits
    prices: Mapping[str, tuple[float, float]]
    output_type: Any
    prompt: Path | None
    approve: Approving | None = None


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
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=IN,OUT", help="Dollars per million tokens, for --max-cost.", show_default=False),
    ] = None,
    timeout: Annotated[float | None, limit_option("max_seconds")] = _DEFAULTS.max_seconds,
    concurrency: Annotated[int, limit_option("max_concurrency")] = _DEFAULTS.max_concurrency,
    output_type: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="int, float, bool, str, list[...] or dict[...], or a JSON schema (text or file)."
        ),
    ] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompt file that an optimised DSPy RLM saved.", show_default=False),
    ] = None,
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
    used = _Used()
    try:
        job = _Job(
            question=_checked(question, "the question", "give it as the first argument"),
            paths=tuple(files or _default_paths(sys.stdin)),
            model=_checked(model, "the model", "give --model provider:name, or set RLM_MODEL"),
            sub_model=sub_model,
            base_url=base_url,
            api_key=api_key,
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
        result = _run(job, trace=trace, show=not quiet, verbose=verbose, tell=used.note)
        code = _EXIT_CODES.get(result["finish_reason"], ExitCode.PARTIAL)
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupted = {"answer": None, "finish_reason": "interrupted", "error": "interrupted", "usage": used.usage}
        _report(interrupted, ExitCode.INTERRUPTED, as_json=as_json)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (InputError, MissingExtraError) as error:
        code, result = ExitCode.BAD_INPUT, _failure(error)
    except RLMError as error:
        code, result = ExitCode.FAILED, _failure(error)
    _report(result, code, as_json=as_json)
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
    from rlm_adapters.cli.chat import Chat, checked, hold  # noqa: PLC0415 - not needed for `rlm --help`

    try:
        checked(tuple(files or ()), model)
        hold(
            Chat(
                paths=tuple(files or ()),
                model=model,
                sub_model=sub_model,
                base_url=base_url,
                api_key=api_key,
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
    except (InputError, MissingExtraError) as error:
        _report(_failure(error), ExitCode.BAD_INPUT, as_json=False)
        raise typer.Exit(ExitCode.BAD_INPUT) from None
    except RLMError as error:
        _report(_failure(error), ExitCode.FAILED, as_json=False)
        raise typer.Exit(ExitCode.FAILED) from None


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
    from rlm_adapters.cli.doctor import Models, examine  # noqa: PLC0415 - not needed for `rlm --help`

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


# What the arguments mean


def _checked(value: str, name: str, remedy: str) -> str:
    if not value.strip():
        raise InputError(f"{name} is empty: {remedy}")
    return value


def _default_paths(stdin: TextIO | None) -> tuple[str, ...]:
    """Standard input where it is a pipe or a file, as other commands do."""
    if stdin is None or stdin.isatty():
        raise InputError("no input: name at least one FILE or directory, or pipe the text in")
    return (STDIN,)


# Running


@dataclass(slots=True)
class _Used:
    """What the run has used, for a report of one that was interrupted."""

    usage: Mapping[str, Any] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        key = "usage" if event.type == "run_finished" and not event.depth else "used"
        self.usage = event.data.get(key) or self.usage


def _run(job: _Job, *, trace: Path | None, show: bool, verbose: bool, tell: EventHandler) -> Mapping[str, Any]:
    """Run a job with its views; from SIGTERM and Ctrl-C on all is closed."""
    errors = Console(stderr=True)
    with ExitStack() as stack:
        listeners: list[EventHandler] = [tell]
        view = stack.enter_context(ConsoleView(errors, show_answer=False, verbose=verbose)) if show else None
        if view is not None:
            listeners.append(view.handle)
        terminal = None
        if job.approve is not None:
            terminal = stack.enter_context(Terminal(errors, before=view.close if view is not None else lambda: None))
        writer = None if trace is None else _trace_writer(trace)

        def tell_all(event: Event) -> None:
            for listener in listeners:
                listener(event)

        def note(text: str) -> None:
            if show:
                errors.print(Text(f"note: {safe(text)}", style="yellow"))

        _load_engine(job)
        return asyncio.run(_answer(job, tell_all, note, writer, terminal))


def _load_engine(job: _Job) -> None:
    """Import what the run needs: seconds in which Ctrl-C ends the command, as no event loop holds it back yet."""
    import_module("rlm_adapters.graph")
    for name in filter(None, (job.model, job.sub_model)):
        provider, _ = split_name(name, openai_compatible=job.base_url is not None)
        with suppress(ImportError):  # opening the model says what to install
            import_module(f"langchain_{provider}")


async def _answer(
    job: _Job,
    tell: EventHandler,
    note: Callable[[str], None],
    writer: TraceWriter | None,
    terminal: Terminal | None,
) -> Mapping[str, Any]:
    # LangGraph is not needed for `rlm --help`
    from langgraph.checkpoint.memory import InMemorySaver  # noqa: PLC0415
    from langgraph.types import Command  # noqa: PLC0415

    from rlm_adapters import create_rlm_graph  # noqa: PLC0415

    with suppress(NotImplementedError):  # not on Windows
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with AsyncExitStack() as stack:
        server = {"base_url": job.base_url, "api_key": job.api_key}
        model = await stack.enter_async_context(open_chat_model(job.model, **server))
        sub_model = None
        if job.sub_model is not None:
            sub_model = await stack.enter_async_context(open_chat_model(job.sub_model, **server))
        graph = create_rlm_graph(
            model,
            sub_model,
            limits=job.limits,
            prices=job.prices,
            output_type=job.output_type,
            prompt=job.prompt,
            on_event=tell,
            approve=None if job.approve is None else job.approve.value,
            checkpointer=None if job.approve is None else InMemorySaver(),
            trace=writer,
        )
        stack.callback(graph.close)
        inputs = await asyncio.to_thread(load_paths, [URL(path) if is_url(path) else path for path in job.paths])
        for text in inputs.notes:
            note(text)
        given: Any = {"query": job.question, "context": inputs.context, "files": dict(inputs.files)}
        thread: RunnableConfig | None = None if terminal is None else {"configurable": {"thread_id": "ask"}}
        result: Mapping[str, Any] = await graph.ainvoke(given, thread)
        while terminal is not None and (waiting := result.get("__interrupt__")):
            answers = {one.id: await terminal.ask(one.value) for one in waiting}
            result = await graph.ainvoke(Command(resume=answers), thread)
        return result


def _trace_writer(path: Path) -> TraceWriter:
    """What writes the trace; a file of this name that is there is written anew."""
    try:
        begin_anew(path)
    except OSError as error:
        raise InputError(f"--trace {path}: {error.strerror}; give a file that can be written") from error
    return TraceWriter(path)


# Reporting


def _failure(error: Exception) -> dict[str, Any]:
    usage = getattr(error, "usage", {})
    reason = " ".join(str(error).split())
    return {"answer": None, "finish_reason": "error", "error": reason, "usage": usage, "iterations": 0}


def _report(result: Mapping[str, Any], code: ExitCode, *, as_json: bool) -> None:
    """The answer, or one JSON object, on standard output; what went wrong on standard error."""
    answer, error = result["answer"], result.get("error")
    if as_json:
        kept = {key: result.get(key) for key in ("answer", "finish_reason", "error", "usage", "iterations")}
        typer.echo(json.dumps(kept, default=str, indent=2))
    elif answer is not None:
        print_answer(answer_text(answer))
    failed = (result.get("usage") or {}).get("failed_calls", 0)
    if failed and code in (ExitCode.ANSWERED, ExitCode.PARTIAL):
        calls = "1 model call" if failed == 1 else f"{failed:,} model calls"
        typer.echo(f"rlm: {calls} failed; the answer may lack what they were asked for", err=True)
    if code is ExitCode.PARTIAL:
        what = "no answer" if answer is None else "partial answer"
        typer.echo(f"rlm: {what}: {safe(str(error or result['finish_reason']))}", err=True)
    elif code is ExitCode.INTERRUPTED:
        typer.echo("interrupted", err=True)
    elif code is not ExitCode.ANSWERED:
        typer.echo(f"rlm: {safe(str(error))}", err=True)
