"""One call of the chat model: a run of the graph from messages to an outcome, or a suspended one that goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Interrupt

from rlm_adapters.budget import Usage
from rlm_adapters.chat.answer import Outcome, subtract_usage
from rlm_adapters.chat.conversation import read_conversation
from rlm_adapters.chat.progress import Progress
from rlm_adapters.chat.suspended import SuspendedRuns, thread_name
from rlm_adapters.chat.tools import Returned, new_thread, returned, tool_calls_of
from rlm_adapters.effects import Steps, Wait
from rlm_adapters.errors import NoAnswerError
from rlm_adapters.graph import RLMConfig, RLMContext, RLMGraph
from rlm_adapters.graph.context import Run

_HAVE_ANSWER = frozenset({"submitted", "text", "direct"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a run is asked.

    Attributes:
        messages: the conversation.
        config: of the graph, for this call.
        threshold: characters from which a text becomes a variable.
        context: explicit context.
        inputs: explicit variables.
        suspendable: whether the cells have tools of an agent.
        parallel: whether several tool calls may leave together.
        callbacks: for the graph's run.
        listen: makes the listener of a run tree.
    """

    messages: Sequence[BaseMessage]
    config: RLMConfig
    threshold: int
    callbacks: BaseCallbackManager | None
    listen: Callable[[Run], Progress]
    context: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    suspendable: bool = False
    parallel: bool = True


class Runs:
    """The compiled graph of a chat model and the runs that wait for tools.

    Args:
        graph: of the chat model; calls bring their own variations of its configuration.
        saver: where suspended runs are saved; None: in this process's memory.
        seconds: how long they are kept.
        count: how many are kept.
    """

    def __init__(self, graph: RLMGraph, *, saver: BaseCheckpointSaver[str] | None, seconds: float, count: int) -> None:
        self.graph = graph
        self.suspended = SuspendedRuns(saver or InMemorySaver(), seconds=seconds, count=count)
        self._saving: RLMGraph = self.graph.copy({"checkpointer": self.suspended.saver})

    def ask(self, ask: Ask) -> Steps[Outcome]:
        """Run, or go on with the run whose tools have answered.

        Raises:
            NoAnswerError: the run ended without an answer.
            ModelCallError: a model call failed for good.
            InputError: the messages cannot be used.
        """
        yield from self.suspended.sweep()
        back = returned(ask.messages)
        if back is not None:
            saved = yield from self._saved(back.thread)
            if saved is not None:
                return (yield from self._go_on(ask, back, saved))
        taken = tuple(ask.config.tools)
        given = yield _off_loop(
            lambda: read_conversation(
                ask.messages, threshold=ask.threshold, context=ask.context, inputs=ask.inputs, taken=taken
            ).to_input()
        )
        thread = new_thread() if ask.suspendable else None
        return (yield from self._run(ask, given, thread, {}))

    def close(self) -> None:
        """End the workers."""
        self.graph.close()

    # -- parts

    def _saved(self, thread: str) -> Steps[_Saved | None]:
        """The saved run of that id; None when it has ended, expired, or was saved elsewhere."""
        config = _config(thread, None)
        graph = self._saving
        state = yield Wait(lambda: graph.get_state(config), lambda: graph.aget_state(config))
        if not state.next:
            yield from self.suspended.forget(thread)  # reading leaves a trace in some savers
            return None
        return _Saved(tuple(state.interrupts), state.values.get("usage") or {})

    def _go_on(self, ask: Ask, back: Returned, saved: _Saved) -> Steps[Outcome]:
        # Without a waiting call the run failed after an earlier resume: it goes on from where it was saved.
        results = back.resume_map(saved.interrupts)
        given: Command[Any] | None = Command(resume=results) if results else None
        return (yield from self._run(ask, given, back.thread, saved.usage))

    def _run(self, ask: Ask, given: Any, thread: str | None, before: Usage) -> Steps[Outcome]:
        graph = self.graph if thread is None else self._saving
        run = _ListenedRun(ask.config, ask.listen)
        context = RLMContext(config=ask.config, run=run)
        config = _config(thread, ask.callbacks)
        try:
            result = yield Wait(
                lambda: graph.invoke(given, config, context=context),
                lambda: graph.ainvoke(given, config, context=context),
            )
        except BaseException:
            run.close()
            raise
        yield from run.progress.finish()
        usage = subtract_usage(run.ledger.used, before)
        interrupts: Sequence[Interrupt] = result.get("__interrupt__") or ()
        if thread is not None and interrupts:
            self.suspended.note(thread)
            calls = tool_calls_of(thread, interrupts)
            return Outcome(
                tool_calls=tuple(calls if ask.parallel else calls[:1]),
                finish_reason="tool_calls",
                usage=usage,
                iterations=result.get("iterations") or 0,
                run_id=run.progress.run_id,
            )
        if thread is not None:
            yield from self.suspended.forget(thread)
        return _outcome(result, usage, run.progress.run_id)


class Runtime:
    """The live parts of a chat model, made at its first call and shared by its copies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: Runs | None = None

    def runs(self, make: Callable[[], Runs]) -> Runs:
        """The graph and its suspended runs."""
        with self._lock:
            if self._runs is None:
                self._runs = make()
            return self._runs

    def close(self) -> None:
        """End the workers; the next call makes new ones."""
        with self._lock:
            runs, self._runs = self._runs, None
        if runs is not None:
            runs.close()

    def __deepcopy__(self, memo: Any) -> Runtime:
        return self

    def __reduce__(self) -> tuple[type[Runtime], tuple[()]]:
        return Runtime, ()


@dataclass(frozen=True, slots=True)
class _Saved:
    interrupts: tuple[Interrupt, ...]
    usage: Usage


class _ListenedRun(Run):
    """A run tree whose progress is told to the caller."""

    def __init__(self, config: RLMConfig, listen: Callable[[Run], Progress]) -> None:
        super().__init__(config)
        self.progress = listen(self)
        self._listeners = (*self._listeners, self.progress)


def _outcome(result: Mapping[str, Any], usage: Usage, run_id: str) -> Outcome:
    reason: str = result["finish_reason"]
    if result["answer"] is None and (reason not in _HAVE_ANSWER or result["error"]):
        raise NoAnswerError(
            f"the run ended without an answer ({reason}): {result['error'] or 'no reason is known'}",
            finish_reason=reason,
        )
    return Outcome(
        answer=result["answer"],
        finish_reason=reason,
        usage=usage,
        iterations=result["iterations"],
        run_id=run_id,
        error=result["error"],
    )


def _config(thread: str | None, callbacks: BaseCallbackManager | None) -> RunnableConfig:
    config: RunnableConfig = {"callbacks": callbacks, "run_name": "rlm"}
    if thread is not None:
        config["configurable"] = {"thread_id": thread_name(thread)}
    return config


def _off_loop(work: Callable[[], Any]) -> Wait:
    """Work that may take long (a PDF, a huge message), off the event loop."""
    import asyncio  # noqa: PLC0415 - only in the async form

    return Wait(work, lambda: asyncio.to_thread(work))
