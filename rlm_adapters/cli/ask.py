"""``rlm ask``: one question, with views and a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from rlm_adapters.cli.approval import Approving, Terminal
from rlm_adapters.cli.engine import Models, answer, end_on_sigterm, load_inputs
from rlm_adapters.cli.options import Parallel
from rlm_adapters.errors import InputError
from rlm_adapters.events import Event, EventHandler
from rlm_adapters.models.limits import Limits
from rlm_adapters.traces.writer import TraceWriter, begin_anew
from rlm_adapters.views.console import ConsoleView
from rlm_adapters.views.text import safe

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The checked arguments of the command."""

    text: str
    paths: tuple[str, ...]
    models: Models
    limits: Limits
    prices: Mapping[str, tuple[float, float]]
    output_type: Any
    prompt: Path | None
    approve: Approving | None = None
    parallel: Parallel = Parallel.AHEAD


@dataclass(slots=True)
class Used:
    """The usage of the run, for the report of an interrupted run."""

    usage: Mapping[str, Any] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        """Add an event."""
        key = "usage" if event.type == "run_finished" and not event.depth else "used"
        self.usage = event.data.get(key) or self.usage


def ask(question: Question, *, trace: Path | None, show: bool, verbose: bool, tell: EventHandler) -> Mapping[str, Any]:
    """Answer a question, with its views. SIGTERM and Ctrl-C close everything.

    Args:
        question: the question.
        trace: file of the trace; None: no trace.
        show: show the trajectory on standard error.
        verbose: show more of it.
        tell: called with every event.

    Returns:
        The result of the graph.
    """
    errors = Console(stderr=True)
    with ExitStack() as stack:
        listeners: list[EventHandler] = [tell]
        view = stack.enter_context(ConsoleView(errors, show_answer=False, verbose=verbose)) if show else None
        if view is not None:
            listeners.append(view.handle)
        terminal = None
        if question.approve is not None:
            terminal = stack.enter_context(Terminal(errors, before=view.close if view is not None else lambda: None))
        writer = None if trace is None else _trace_writer(trace)

        def tell_all(event: Event) -> None:
            for listener in listeners:
                listener(event)

        def note(text: str) -> None:
            if show:
                errors.print(Text(f"note: {safe(text)}", style="yellow"))

        question.models.load()
        return asyncio.run(_answer(question, tell_all, note, writer, terminal))


async def _answer(
    question: Question,
    tell: EventHandler,
    note: Callable[[str], None],
    writer: TraceWriter | None,
    terminal: Terminal | None,
) -> Mapping[str, Any]:
    # LangGraph is not needed for `rlm --help`
    from langgraph.checkpoint.memory import InMemorySaver  # noqa: PLC0415

    from rlm_adapters import create_rlm_graph  # noqa: PLC0415

    end_on_sigterm()
    async with AsyncExitStack() as stack:
        graph = create_rlm_graph(
            *await question.models.open(stack),
            limits=question.limits,
            prices=question.prices,
            output_type=question.output_type,
            prompt=question.prompt,
            on_event=tell,
            parallel=question.parallel.value,
            approve=None if question.approve is None else question.approve.value,
            checkpointer=None if question.approve is None else InMemorySaver(),
            trace=writer,
        )
        stack.callback(graph.close)
        given = {"query": question.text, **await load_inputs(question.paths, note)}
        thread: RunnableConfig | None = None if terminal is None else {"configurable": {"thread_id": "ask"}}
        return await answer(graph, given, thread, terminal)


def _trace_writer(path: Path) -> TraceWriter:
    """The writer of the trace. An existing file of this name is overwritten."""
    try:
        begin_anew(path)
    except OSError as error:
        raise InputError(f"--trace {path}: {error.strerror}; give a file that can be written") from error
    return TraceWriter(path)
