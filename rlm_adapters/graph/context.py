"""What nodes work with and never save: the configuration of a graph, and the live parts of one run tree."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from langgraph.runtime import Runtime

from rlm_adapters.events import HEAD_CHARS, Event, EventHandler, EventType
from rlm_adapters.graph.cache import PromptCache
from rlm_adapters.graph.early import EarlyCalls
from rlm_adapters.graph.injection import Caller
from rlm_adapters.graph.keys import OWN, Keys
from rlm_adapters.graph.leases import Lease, MultitaskStrategy
from rlm_adapters.graph.sessions import SessionCache
from rlm_adapters.graph.stored import Stored
from rlm_adapters.graph.tools import Tool
from rlm_adapters.models.budget import Ledger
from rlm_adapters.models.calling import ModelCaller, Retry
from rlm_adapters.models.job import current_job
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.shown import head_of, text_of
from rlm_adapters.models.targets import SubModel
from rlm_adapters.models.usage import Usage
from rlm_adapters.prompts import CodeWriter
from rlm_adapters.sandbox import AheadAccount, Executor
from rlm_adapters.sandbox.host.runahead import Parallel
from rlm_adapters.values.answers import OutputSpec
from rlm_adapters.values.content import ContentStore, OwnedStore
from rlm_adapters.values.refs import run_owner

_ROUNDS_AHEAD: Final = 4
_LOG = logging.getLogger("rlm_adapters")


@dataclass(frozen=True, slots=True, kw_only=True)
class RLMConfig:
    """What is fixed when a graph is made; a call may bring its own (`RLMContext.config`)."""

    writer: CodeWriter
    """Writes the cells (the root LM)."""
    sub: SubModel
    """Answers ``llm_query``."""
    sub_is_root: bool = False
    """Whether that is the root LM, since no other was given: it is still, when a call chooses another root LM."""
    models: Mapping[str, SubModel] = field(default_factory=dict)
    """Further models for ``llm_query(model=...)``."""
    tools: Mapping[str, Tool] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    prices: PriceTable = field(default_factory=PriceTable)
    output: OutputSpec = field(default_factory=OutputSpec)
    store: ContentStore
    sandbox: Executor
    sessions: SessionCache
    on_event: EventHandler | None = None
    listeners: tuple[EventHandler, ...] = ()
    """Are told of every event of the whole tree, beside `on_event`: what writes a trace, for example."""
    trajectory: bool = False
    """Give the trajectory with the result."""
    instructions: str = ""
    parallel: Parallel = "ahead"
    """Run LM calls of a cell ahead, or one after the other."""
    cache_prompts: bool = False
    """Answer a prompt that was already asked in this run tree with the answer that it got."""
    warn_tiny_calls: int = 100
    """Tell the root LM how many items fit into one prompt when a cell makes so many short sub-calls; 0: never."""
    max_confirmations: int | None = 3
    """End the run when the root LM has repeated the same answer so often without submitting it; None: never."""
    direct_below: int = 0
    """Inputs of fewer characters are answered by one direct call; 0: never."""
    keys: Keys = OWN
    """The caller's names for the keys of input and output."""
    direct: SubModel | None = None
    """Who answers them; default: the sub-LM."""
    stream_tokens: bool = False
    """Whether tokens of the root LM go into LangGraph's ``messages`` stream."""
    remember: bool = True
    """Whether a thread that is asked again finds what its earlier questions left."""
    multitask_strategy: MultitaskStrategy | None = "reject"
    """What a call does whose thread is being run by another call; None: threads are not kept apart."""
    approve: Any = None
    """What needs approval before it runs (`rlm_adapters.graph.approval.Approve`); None: nothing."""

    def for_child(self, *, approved: bool = False) -> RLMConfig:
        """The configuration of a child run: the same, but its answer is for its parent's cell, of any type.

        Args:
            approved: the rest of the parent's run, the child with it.
        """
        return replace(
            self,
            writer=self.writer.for_child(),
            output=OutputSpec(),
            instructions="",
            direct_below=0,
            on_event=None,
            approve=None if approved else self.approve,
            listeners=(),
        )


class Run:
    """The live parts of one run tree: shared by the outermost run and all its child runs.

    Args:
        config: of the outermost run.
        listeners: called with every event of the tree.
        store: for the content of the tree; default: the configuration's, with an owner of its own whose content whoever
            made this object forgets at the end.
    """

    def __init__(
        self, config: RLMConfig, listeners: tuple[EventHandler, ...] = (), store: OwnedStore | None = None
    ) -> None:
        self.store = store or config.store.of(run_owner())
        limits = config.limits
        self._job = job = current_job()
        self.ledger = Ledger(limits, config.prices, around=None if job is None else job.ledger)
        self.caller = ModelCaller(
            self.ledger,
            Limiter.of(limits) if job is None else job.limiter,
        )
        # Some rounds of what may be in flight: fewer would leave it idle between two waves.
        width = _ROUNDS_AHEAD * limits.max_concurrency
        self.ahead = config.sandbox.ahead_account(width) if config.parallel != "off" else AheadAccount(enabled=False)
        self.answers = PromptCache()
        self.early: Final = EarlyCalls()
        self.scope: Final = object()  # children share the inputs that their parent hands on
        self._listeners: tuple[EventHandler, ...] = ()
        self._heads_only: tuple[EventHandler, ...] = ()
        self.began: Final[dict[tuple[str, str], float]] = {}
        """When what is going on began, by run and id: monotonic seconds."""
        for listener in (config.on_event, *config.listeners, *listeners):
            if listener is not None:
                self.listen(listener)
        self._telling = threading.RLock()
        self._told_finished: set[str] = set()
        self._failing: list[EventHandler] = []
        self._sessions = config.sessions
        self.lease: Lease | None = None
        """Of the thread that this tree runs in; whoever took it gives it back."""
        self._known: set[str] = set()
        self.unfinished: set[str] = set()

    @property
    def wants_texts(self) -> bool:
        """Whether anybody listens who wants whole texts: nobody makes them else."""
        return bool(self._listeners)

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners or self._heads_only)

    def listen(self, listener: EventHandler) -> None:
        """Have a listener told of every event from here on."""
        if getattr(listener, "heads_only", False):
            self._heads_only = (*self._heads_only, listener)
        else:
            self._listeners = (*self._listeners, listener)

    def begin(self) -> None:
        """Have the listeners that write somewhere make sure that they can; blocks.

        Raises:
            InputError: one cannot.
        """
        for listener in (*self._listeners, *self._heads_only):
            if (begin := getattr(listener, "begin", None)) is not None:
                begin()

    def settle(self) -> None:
        """Wait until the listeners that write somewhere have written what they were told; blocks."""
        for listener in (*self._listeners, *self._heads_only):
            if (settle := getattr(listener, "settle", None)) is not None:
                settle()

    def must_settle(self) -> bool:
        """Whether `settle` may take a moment."""
        return any(hasattr(listener, "settle") for listener in (*self._listeners, *self._heads_only))

    def knows(self, run_id: Any) -> bool:
        """Whether a run has taken part in this call already."""
        return isinstance(run_id, str) and run_id in self._known

    def attach(self, run_id: str, usage: Usage | None, seconds: float) -> None:
        """Note that a run takes part; one that comes from a checkpoint brings what it had used before."""
        if run_id in self._known:
            return
        first = not self._known
        self._known.add(run_id)
        self.unfinished.add(run_id)
        if first:
            self.tell_job(run_id)
        if usage:
            self.ledger.book(usage)
        if first and seconds:
            self.ledger.restore_time(seconds)

    def tell_job(self, run_id: str) -> None:
        """Tell the job that this is part of, if there is one, the id of the outermost run."""
        if self._job is not None:
            self._job.runs.append(run_id)

    def session_key(self, run_id: str) -> str:
        """The key of a run's live session: its id is in the state, which a client may edit, the owner is not."""
        return f"{self.store.owner}/{run_id}"

    def finish(self, run_id: str) -> None:
        """End a run: its worker goes."""
        self.unfinished.discard(run_id)
        self.early.end(run_id)
        self._sessions.discard(self.session_key(run_id))

    def close(self) -> None:
        """End all runs that are left (error, cancellation)."""
        for run_id in tuple(self.unfinished):
            self.finish(run_id)
        self.early.close()

    def tell(self, event: Event) -> None:
        """Hand an event to the listeners; one that raises does not end the run.

        ``run_finished`` is the last event of its run: a thread that still works for a run that failed is not heard.
        """
        with self._telling:
            if event.run_id in self._told_finished:
                return
            if event.type == "run_finished":
                self._told_finished.add(event.run_id)
            for listener in self._listeners:
                self._tell(listener, event)
            if self._heads_only:
                short = event.with_heads()
                for listener in self._heads_only:
                    self._tell(listener, short)

    def _tell(self, listener: EventHandler, event: Event) -> None:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - a view's fault is not the run's
            told = listener in self._failing
            self._failing.append(listener)
            # Once a run: it would fail on each event. The traceback is for whoever looks for it.
            level = logging.DEBUG if told else logging.WARNING
            _LOG.log(level, "on_event: %r failed on %s: %s", listener, event.type, _short(error))
            _LOG.debug("on_event: where it failed", exc_info=error)


@dataclass(frozen=True, slots=True)
class RLMContext:
    """Runtime context of a graph run (LangGraph's ``context=``).

    Attributes:
        config: in place of the graph's own.
        run: live parts; None for an outermost run, which gets its own.
        depth: recursion depth.
        parent_run_id: the run whose cell started this one.
        parent_call: id of the call of that run which this one answers.
        streamed: whether somebody may read LangGraph's ``custom`` stream.
        on_event: a listener for this call alone.
        graph: the graph itself, for child runs; filled in by it.
        mine: ids of the runs of this call, without their children's; filled in by the nodes.
        caller: what surrounds the run, for its tools.
    """

    config: RLMConfig | None = None
    run: Run | None = None
    depth: int = 0
    parent_run_id: str | None = None
    parent_call: str | None = None
    streamed: bool = True
    on_event: EventHandler | None = None
    graph: Any = None
    mine: set[str] = field(default_factory=set, compare=False)
    caller: Caller = field(default_factory=Caller, compare=False)


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What one node execution gets: `RLMContext` with nothing missing, and the event writer."""

    config: RLMConfig
    run: Run
    depth: int
    parent_run_id: str | None
    parent_call: str | None
    streamed: bool
    graph: Any
    runtime: Runtime[Any]
    """LangGraph's, of this node."""
    caller: Caller
    mine: set[str]
    content: Stored
    """What the node reads from the content store and writes into it."""

    def attach(self, run_id: str, usage: Usage | None = None, seconds: float | None = None) -> None:
        """Note that a node works for this run; see `Run.attach`."""
        self.mine.add(run_id)
        self.run.attach(run_id, usage, seconds or 0.0)

    def emit(
        self,
        type: EventType,  # noqa: A002 - the event's name for it
        run_id: str,
        iteration: int | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the event's name for it
        parent: str | None = None,
        texts: Mapping[str, Any] | None = None,
        **data: Any,
    ) -> None:
        """Tell what happened, to the listeners and to LangGraph's ``custom`` stream.

        Args:
            type: of event.
            run_id: of the run.
            iteration: if it happened in one.
            id: of what the event is about.
            parent: of what that belongs to.
            texts: prompts, replies and answers, as they are: they become texts, or heads of texts if nobody wants more.
            **data: what else goes with the event.
        """
        whole = self.run.wants_texts
        if not (self.streamed or self.run.is_heard):
            return
        for name, value in (texts or {}).items():
            text = text_of(value) if whole else head_of(value, HEAD_CHARS)
            data[name] = text
            data[f"{name}_chars"] = len(value) if isinstance(value, str) else len(text)
        event = Event(
            type=type,
            run_id=run_id,
            parent_run_id=self.parent_run_id,
            depth=self.depth,
            iteration=iteration,
            id=id,
            parent=parent,
            data=data,
        )
        self.run.tell(event)
        if self.streamed:
            self.runtime.stream_writer((event.with_heads() if whole else event).to_dict())

    def retried(
        self, run_id: str, iteration: int | None = None, *, parent: str | None = None
    ) -> Callable[[Retry], None]:
        """What tells the retries of a call of this run; ``parent`` is the id of the call."""

        def tell(retry: Retry) -> None:
            known = None if parent is None else f"{parent}/retry-{retry.attempt}"
            self.emit("warning", run_id, iteration, id=known, parent=parent, **retry.told())

        return tell

    @property
    def may_call(self) -> bool:
        """Whether cells have sub-calls at this depth."""
        return self.depth < self.config.limits.max_depth

    @property
    def may_recurse(self) -> bool:
        """Whether ``rlm_query`` starts a child RLM at this depth."""
        return self.depth + 1 < self.config.limits.max_depth


def _short(error: Exception) -> str:
    """An exception and where it was raised, in one line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
    return " ".join(f"{type(error).__name__}: {error}".split())[:300] + where
