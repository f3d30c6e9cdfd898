"""Make one call of the chat model: run the graph with messages, or continue a suspended run."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, PendingWrite
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command, Interrupt, StateSnapshot

from rlm_adapters.effects import Steps, Wait, off_loop
from rlm_adapters.errors import InputError, NoAnswerError, RLMError
from rlm_adapters.graph import RLMConfig, RLMContext, RLMGraph
from rlm_adapters.graph.context import Run
from rlm_adapters.graph.injection import Caller
from rlm_adapters.graph.langgraph_private import INTERRUPT_WRITE, RESUME_WRITE
from rlm_adapters.graph.ownership import content_of
from rlm_adapters.graph.stored import refs_in
from rlm_adapters.langchain.answer import Outcome
from rlm_adapters.langchain.conversation import read_conversation
from rlm_adapters.langchain.outside import Outside
from rlm_adapters.langchain.progress import Progress
from rlm_adapters.langchain.suspended import OURS, SuspendedRuns, Waiting, thread_name
from rlm_adapters.langchain.tools import Returned, answering_tools, is_tool_call, new_thread, returned, tool_calls_of
from rlm_adapters.models.budget import Ledger
from rlm_adapters.models.usage import Usage, subtract_usage
from rlm_adapters.values.content import ContentStore, OwnedStore
from rlm_adapters.values.refs import ContentRef

_LOG = logging.getLogger("rlm_adapters")
_RETURNED = "rlm_returned"
"""Key in a checkpoint's metadata: a hash of the tool results with which the run was last resumed."""
_ANSWERED = "rlm_answered"
"""Key in a checkpoint's metadata: number of questions to a person that were answered before."""
_TOLD = "rlm_told"
"""Key in a checkpoint's metadata: the usage that was reported in earlier turns, as JSON."""
_HAVE_ANSWER = frozenset({"submitted", "text", "direct"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The arguments of one run.

    Attributes:
        messages: the conversation.
        config: of the graph, for this call.
        threshold: a text with this many characters becomes a variable.
        context: explicit context.
        inputs: explicit variables.
        suspendable: whether the cells have tools of an agent.
        parallel: whether one message may have several tool calls.
        earlier: ledger of earlier attempts of this call.
        callbacks: for the graph's run.
        listen: makes the listener of a call tree, which has this ledger.
        caller: information about the caller for tools inside the loop.
        outside: the node that asks a person for approval; None: nobody can be asked.
    """

    messages: Sequence[BaseMessage]
    config: RLMConfig
    threshold: int
    callbacks: BaseCallbackManager | None
    listen: Callable[[Ledger], Progress]
    context: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    suspendable: bool = False
    parallel: bool = True
    earlier: Ledger | None = None
    caller: Caller = field(default_factory=Caller)
    outside: Outside | None = None


class Runs:
    """The compiled graph of a chat model and the runs that wait for tools.

    Args:
        graph: of the chat model. Each call can change its configuration.
        saver: where suspended runs are saved; None: in the memory of this process.
        seconds: how long they are kept.
        count: most runs that are kept.
    """

    def __init__(self, graph: RLMGraph, *, saver: BaseCheckpointSaver[str] | None, seconds: float, count: int) -> None:
        self.graph = graph
        self.suspended = SuspendedRuns(
            saver or InMemorySaver(),
            seconds=seconds,
            count=count,
            end_worker=graph.rlm.sessions.discard,
            end_content=graph.rlm.store.delete_thread,
        )
        self._saving: RLMGraph = self.graph.copy({"checkpointer": self.suspended.saver})

    def ask(self, ask: Ask) -> Steps[Outcome]:
        """Start a run, or continue the run whose tool results are in the messages.

        Raises:
            NoAnswerError: the run ended without an answer.
            ModelCallError: a model call failed for good.
            InputError: the messages cannot be used.
        """
        try:
            return (yield from self._ask(ask))
        except NotImplementedError as error:
            saver = type(self.suspended.saver).__name__
            raise InputError(
                f"checkpointer={saver} cannot be used in this form: invoke() takes a sync saver such as PostgresSaver, "
                f"ainvoke() an async one such as AsyncPostgresSaver, and MemorySaver serves both"
            ) from error

    def _ask(self, ask: Ask) -> Steps[Outcome]:
        yield from self.suspended.sweep()
        back = returned(ask.messages)
        if back is not None:
            outcome = yield from self._go_on(ask, back)
            if outcome is not None:
                return outcome
        taken = tuple(ask.config.tools)
        given = yield off_loop(
            lambda: read_conversation(
                ask.messages, threshold=ask.threshold, context=ask.context, inputs=ask.inputs, taken=taken
            ).to_input()
        )
        outside = ask.outside
        if not ask.suspendable and outside is None:
            return (yield from self._run(ask, given))
        thread = new_thread() if outside is None else outside.thread
        yield from self.suspended.take(thread)
        if outside is not None and (saved := (yield from self._begun(thread))) is not None:
            if saved.ended:
                return (yield from self._ended(ask, thread, saved))
            return (yield from self._turn(ask, None, thread, saved.told, answered=saved.answered))
        return (yield from self._turn(ask, given, thread, first=True))

    def close(self) -> None:
        """End the workers."""
        self.graph.close()

    # -- parts

    def _begun(self, thread: str) -> Steps[_Saved | None]:
        """The run that an earlier execution of the same node started; None if there is none."""
        try:
            state = yield from self._state(thread)
            saved = (yield from self._saved(state)) if state.values else None
            return saved and replace(saved, answered=saved.answered + len(saved.passed))
        except BaseException:
            self.suspended.put_back(thread)
            raise

    def _go_on(self, ask: Ask, back: Returned) -> Steps[Outcome | None]:
        """Continue the run that waits for the results; None if it does not exist any more."""
        known = yield from self.suspended.take(back.thread)
        waiting = known or Waiting(0.0)
        try:
            state = yield from self._state(back.thread)
            if not state.values or (known is None and self.suspended.has_expired(state.created_at)):
                yield from self.suspended.forget(back.thread)  # reading creates an entry in some checkpointers
                return None
            saved = yield from self._saved(state)
        except BaseException:
            self.suspended.put_back(back.thread, waiting.runs, waiting.returned)
            raise
        results = back.resume_map(saved.interrupts) if saved is not None else {}
        if saved is None or not (results or saved.has(back) or back.digest() == waiting.returned):
            self.suspended.put_back(back.thread, waiting.runs, waiting.returned)
            return None
        if saved.ended:
            return (yield from self._ended(ask, back.thread, saved))
        # The run has these results already: the request was repeated, because its answer was lost or the run failed
        # after the resume. So continue from the last save, and ask again for what the run waits for.
        given: Command[Any] | None = Command(resume=results) if results else None
        tools = {**answering_tools(saved.interrupts), **ask.config.tools}
        ask = replace(ask, config=replace(ask.config, tools=tools))
        told = saved.told if saved.returned == back.digest() else saved.usage
        answered = saved.answered if saved.returned == back.digest() else 0
        return (yield from self._turn(ask, given, back.thread, told, digest=back.digest(), answered=answered))

    def _state(self, thread: str) -> Steps[StateSnapshot]:
        config, graph = _config(thread, None), self._saving
        state: StateSnapshot = yield Wait(lambda: graph.get_state(config), lambda: graph.aget_state(config))
        return state

    def _saved(self, state: StateSnapshot) -> Steps[_Saved | None]:
        """The saved run; None if its content is in another store."""
        missing = yield off_loop(lambda: _missing_content(state.values, self.graph.rlm.store))
        if missing is not None:
            _LOG.warning("a suspended run cannot continue here: %s", missing)
            return None
        metadata: Mapping[str, Any] = state.metadata or {}
        writes = (yield from self._pending(state)) if state.tasks and not state.next else ()
        return _Saved(
            tuple(state.interrupts),
            state.values.get("usage") or {},
            metadata.get(_RETURNED),
            json.loads(metadata.get(_TOLD) or "{}"),
            metadata.get(_ANSWERED) or 0,
            ended=not state.tasks,  # `next` is also empty if the last tasks have written but no checkpoint followed
            passed=tuple(one for _, channel, value in writes if channel == INTERRUPT_WRITE for one in value),
            resumed=tuple(one for _, channel, value in writes if channel == RESUME_WRITE for one in value),
        )

    def _pending(self, state: StateSnapshot) -> Steps[Sequence[PendingWrite]]:
        """The writes of the tasks of the last checkpoint."""
        saver = self.suspended.saver
        found: CheckpointTuple | None = yield Wait(
            lambda: saver.get_tuple(state.config), lambda: saver.aget_tuple(state.config)
        )
        return found.pending_writes or () if found is not None else ()

    def _ended(self, ask: Ask, thread: str, saved: _Saved) -> Steps[Outcome]:
        """The result of a finished run whose caller did not get it, and repeated the request."""
        run = _ListenedRun(ask)
        run.lease = self.suspended.lease(thread)
        config = _config(thread, ask.callbacks)
        try:
            result = yield from self._result(self._saving, None, config, run)
        finally:
            yield from self.suspended.forget(thread)
        return _outcome(result, subtract_usage(saved.usage, saved.told), run.progress.run_id)

    def _turn(
        self,
        ask: Ask,
        given: Any,
        thread: str,
        before: Usage | None = None,
        *,
        digest: str = "",
        first: bool = False,
        answered: int = 0,
    ) -> Steps[Outcome]:
        """Run in a saved thread until it ends, or waits for tools or a person."""
        config = _config(thread, ask.callbacks)
        run = _ListenedRun(ask, content_of(ask.config.store, self.suspended.saver, config))
        run.lease = self.suspended.lease(thread)
        try:
            while True:
                config["metadata"] = {
                    OURS: True,
                    _RETURNED: digest,
                    _ANSWERED: answered,
                    _TOLD: json.dumps(before or {}),
                }
                result = yield from self._result(self._saving, given, config, run)
                questions = [one for one in result.get("__interrupt__") or () if not is_tool_call(one)]
                if not questions or ask.outside is None:
                    break
                given = Command(resume=ask.outside.ask(questions, answered))
                answered += len(questions)
            if interrupts := result.get("__interrupt__"):
                self.suspended.put_back(thread, map(run.session_key, run.unfinished), digest)
                calls = tool_calls_of(thread, interrupts)
                return Outcome(
                    tool_calls=tuple(calls if ask.parallel else calls[:1]),
                    finish_reason="tool_calls",
                    usage=subtract_usage(run.ledger.used, before or {}),
                    iterations=result.get("iterations") or 0,
                    run_id=run.progress.run_id,
                )
        except GraphBubbleUp:
            self.suspended.put_back(thread, map(run.session_key, run.unfinished), digest)
            raise
        except BaseException:
            # After the first turn the caller has the ids of tool calls and can continue the run; before, nobody can.
            self.suspended.put_back(thread, returned=digest, given_up=first)
            raise
        yield from self.suspended.forget(thread)
        return _outcome(result, subtract_usage(run.ledger.used, before or {}), run.progress.run_id)

    def _run(self, ask: Ask, given: Any) -> Steps[Outcome]:
        """Run to the end without saving."""
        run = _ListenedRun(ask)
        try:
            result = yield from self._result(self.graph, given, _config(None, ask.callbacks), run)
        finally:
            yield Wait(run.store.forget, run.store.aforget)
        return _outcome(result, run.ledger.used, run.progress.run_id)

    def _result(
        self, graph: RLMGraph, given: Any, config: RunnableConfig, run: _ListenedRun
    ) -> Steps[Mapping[str, Any]]:
        context = RLMContext(config=run.config, run=run, caller=run.asked_by)
        try:
            result: Mapping[str, Any] = yield Wait(
                lambda: graph.invoke(given, config, context=context),
                lambda: graph.ainvoke(given, config, context=context),
            )
            if run.outside is None:
                _refuse_foreign(result.get("__interrupt__") or ())
        except BaseException:
            run.close()
            raise
        yield from run.progress.finish()
        return result


class Runtime:
    """The live parts of a chat model. They are made at the first call and shared by its copies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[Hashable, Runs] = {}

    def known(self, key: Hashable) -> Runs | None:
        """The runs that `runs` has made before. Never blocks."""
        return self._runs.get(key)

    def runs(self, key: Hashable, make: Callable[[], Runs]) -> Runs:
        """The graph and its suspended runs.

        Args:
            key: what they depend on. A copy with another store, sandbox or checkpointer has other ones.
            make: makes them.
        """
        with self._lock:
            if key not in self._runs:
                self._runs[key] = make()
            return self._runs[key]

    def close(self) -> None:
        """End the workers. The next call starts new ones."""
        with self._lock:
            closing, self._runs = self._runs, {}
        for runs in closing.values():
            runs.close()

    def __deepcopy__(self, memo: Any) -> Runtime:
        return self

    def __reduce__(self) -> tuple[type[Runtime], tuple[()]]:
        return Runtime, ()


@dataclass(frozen=True, slots=True)
class _Saved:
    """A saved run.

    Attributes:
        interrupts: what it waits for.
        usage: usage of all its turns.
        returned: hash of the results with which its last turn began.
        told: usage that was reported in earlier turns.
        answered: number of questions to a person that were answered before its last turn.
        ended: whether it has ended.
        passed: what it waited for, if the answers are saved but no checkpoint with them.
        resumed: these answers; none if a child run waited.
    """

    interrupts: tuple[Interrupt, ...]
    usage: Usage
    returned: str | None
    told: Usage
    answered: int
    ended: bool
    passed: tuple[Interrupt, ...] = ()
    resumed: tuple[Any, ...] = ()

    def has(self, back: Returned) -> bool:
        """Whether these are the last results that it got."""
        if back.digest() == self.returned:
            return True
        results = back.resume_map(self.passed).values()
        return bool(results) and (not self.resumed or all(one in self.resumed for one in results))


class _ListenedRun(Run):
    """A run that reports its progress to the caller."""

    def __init__(self, ask: Ask, store: OwnedStore | None = None) -> None:
        super().__init__(ask.config, store=store)
        self.config = ask.config
        self.asked_by = ask.caller
        self.outside = ask.outside
        if ask.earlier is not None:
            self.ledger.book(ask.earlier.used)
            self.ledger.restore_time(ask.earlier.seconds)
        self.progress = ask.listen(self.ledger)
        self.listen(self.progress)


def _outcome(result: Mapping[str, Any], usage: Usage, run_id: str) -> Outcome:
    reason: str = result["finish_reason"]
    if result["answer"] is None and (reason not in _HAVE_ANSWER or result["error"]):
        raise NoAnswerError(
            f"the run ended without an answer ({reason}): {result['error'] or 'no reason is known'}",
            finish_reason=reason,
            usage=usage,
        )
    return Outcome(
        answer=result["answer"],
        finish_reason=reason,
        usage=usage,
        iterations=result["iterations"],
        run_id=run_id,
        error=result["error"],
        updates=result.get("updates") or {},
    )


def _config(thread: str | None, callbacks: BaseCallbackManager | None) -> RunnableConfig:
    config: RunnableConfig = {"callbacks": callbacks, "run_name": "rlm"}
    if thread is not None:
        config["configurable"] = {"thread_id": thread_name(thread)}
    return config


def _refuse_foreign(interrupts: Sequence[Interrupt]) -> None:
    foreign = next((one for one in interrupts if not is_tool_call(one)), None)
    if foreign is not None:
        raise InputError(
            f"the run called interrupt({foreign.value!r:.200}), which cannot be answered here: offer a tool that asks "
            "with bind_tools, call a model with approve= in a node of a graph that has a checkpointer, or use "
            "create_rlm_graph, which can be resumed"
        )


def _missing_content(value: Mapping[str, Any], store: ContentStore) -> str | None:
    """The content of a saved state that is missing in the store; None if nothing is missing."""
    try:
        parts = {key: part for key, part in value.items() if key != "described"}  # the only other bytes
        for packed in refs_in(parts):
            store.check(ContentRef.from_state(packed))
    except RLMError as error:
        return str(error)
    return None
