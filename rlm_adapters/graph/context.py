"""Objects that nodes use but do not save: the configuration of a graph, and the live parts of one call tree."""

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
    """The configuration of a graph. A call can replace it (`RLMContext.config`)."""

    writer: CodeWriter
    """Writes the cells (the root LM)."""
    sub: SubModel
    """Answers ``llm_query``."""
    sub_is_root: bool = False
    """Whether ``sub`` is the root LM because no other model was given. Stays true if a call sets another root LM."""
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
    """Called with every event of the whole tree, in addition to `on_event`. For example, a trace writer."""
    trajectory: bool = False
    """Whether the result has the trajectory."""
    instructions: str = ""
    parallel: Parallel = "ahead"
    """Whether LM calls of a cell are run ahead, or one after the other."""
    cache_prompts: bool = False
    """Whether a prompt that was asked before in this call tree gets the earlier answer."""
    warn_tiny_calls: int = 100
    """If a cell makes this many short sub-calls, tell the root LM how many items fit into one prompt; 0: never."""
    max_confirmations: int | None = 3
    """End the run if the root LM has repeated an answer this many times without submitting it; None: never."""
    direct_below: int = 0
    """Inputs of fewer characters are answered by one direct call; 0: never."""
    keys: Keys = OWN
    """The caller's names for the keys of input and output."""
    direct: SubModel | None = None
    """The model for direct calls; default: the sub-LM."""
    stream_tokens: bool = False
    """Whether tokens of the root LM go into LangGraph's ``messages`` stream."""
    remember: bool = True
    """Whether a further question in a thread finds the variables of the earlier ones."""
    multitask_strategy: MultitaskStrategy | None = "reject"
    """What a call does if another call is running its thread; None: no check."""
    approve: Any = None
    """What needs approval before it runs (`rlm_adapters.graph.approval.Approve`); None: nothing."""

    def for_child(self, *, approved: bool = False) -> RLMConfig:
        """The configuration of a child run: the same, but its answer can have any type.

        Args:
            approved: whether the rest of the parent's run is approved, with its child runs.
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
    """The live parts of one call tree, shared by the outermost run and all its child runs.

    Args:
        config: of the outermost run.
        listeners: called with every event of the tree.
        store: for the content of the tree; default: the store of the configuration with a new owner. The code that made
            this object deletes its content at the end.
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
        # Several times the number of calls in flight, so that it is not idle between two waves.
        width = _ROUNDS_AHEAD * limits.max_concurrency
        self.ahead = config.sandbox.ahead_account(width) if config.parallel != "off" else AheadAccount(enabled=False)
        self.answers = PromptCache()
        self.early: Final = EarlyCalls()
        self.scope: Final = object()  # children share the inputs that their parent passes on
        self._listeners: tuple[EventHandler, ...] = ()
        self._heads_only: tuple[EventHandler, ...] = ()
        self.began: Final[dict[tuple[str, str], float]] = {}
        """Start of each current activity, by run and id, in monotonic seconds."""
        for listener in (config.on_event, *config.listeners, *listeners):
            if listener is not None:
                self.listen(listener)
        self._telling = threading.RLock()
        self._told_finished: set[str] = set()
        self._failing: list[EventHandler] = []
        self._sessions = config.sessions
        self.lease: Lease | None = None
        """Lease of the thread of this tree. The code that took it releases it."""
        self._known: set[str] = set()
        self.unfinished: set[str] = set()

    @property
    def wants_texts(self) -> bool:
        """Whether a listener needs whole texts. If not, no texts are made."""
        return bool(self._listeners)

    @property
    def is_heard(self) -> bool:
        """Whether there are listeners."""
        return bool(self._listeners or self._heads_only)

    def listen(self, listener: EventHandler) -> None:
        """Add a listener for all later events."""
        if getattr(listener, "heads_only", False):
            self._heads_only = (*self._heads_only, listener)
        else:
            self._listeners = (*self._listeners, listener)

    def begin(self) -> None:
        """Let listeners that write check that they can write. Blocks.

        Raises:
            InputError: one of them cannot write.
        """
        for listener in (*self._listeners, *self._heads_only):
            if (begin := getattr(listener, "begin", None)) is not None:
                begin()

    def settle(self) -> None:
        """Wait until listeners that write have written all events. Blocks."""
        for listener in (*self._listeners, *self._heads_only):
            if (settle := getattr(listener, "settle", None)) is not None:
                settle()

    def must_settle(self) -> bool:
        """Whether `settle` may block."""
        return any(hasattr(listener, "settle") for listener in (*self._listeners, *self._heads_only))

    def knows(self, run_id: Any) -> bool:
        """Whether a run is already known in this call."""
        return isinstance(run_id, str) and run_id in self._known

    def attach(self, run_id: str, usage: Usage | None, seconds: float) -> None:
        """Add a run. A run from a checkpoint also gives its earlier usage."""
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
        """Tell the job, if there is one, the id of the outermost run."""
        if self._job is not None:
            self._job.runs.append(run_id)

    def session_key(self, run_id: str) -> str:
        """The key of a run's live session. It includes the owner, because a client can edit the run id in the state."""
        return f"{self.store.owner}/{run_id}"

    def finish(self, run_id: str) -> None:
        """End a run and its worker."""
        self.unfinished.discard(run_id)
        self.early.end(run_id)
        self._sessions.discard(self.session_key(run_id))

    def close(self) -> None:
        """End all remaining runs, after an error or a cancellation."""
        for run_id in tuple(self.unfinished):
            self.finish(run_id)
        self.early.close()

    def tell(self, event: Event) -> None:
        """Pass an event to the listeners. If one raises, the run continues.

        ``run_finished`` is the last event of its run: later events of threads that still work for it are dropped.
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
            # Warn only once in a run, because it would fail for each event. The traceback is logged for debugging.
            level = logging.DEBUG if told else logging.WARNING
            _LOG.log(level, "on_event: %r failed on %s: %s", listener, event.type, _short(error))
            _LOG.debug("on_event: where it failed", exc_info=error)


@dataclass(frozen=True, slots=True)
class RLMContext:
    """Runtime context of a graph run (LangGraph's ``context=``).

    Attributes:
        config: replaces the configuration of the graph.
        run: live parts; None for an outermost run, which gets new ones.
        depth: recursion depth.
        parent_run_id: the run whose cell started this run.
        parent_call: id of the call that this run answers.
        streamed: whether somebody may read LangGraph's ``custom`` stream.
        on_event: a listener for this call only.
        graph: the graph, for child runs; set by the graph.
        mine: ids of the runs of this call, without child runs; set by the nodes.
        caller: information about the caller, for tools.
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
    """The context of one node execution: a complete `RLMContext`, and the event writer."""

    config: RLMConfig
    run: Run
    depth: int
    parent_run_id: str | None
    parent_call: str | None
    streamed: bool
    graph: Any
    runtime: Runtime[Any]
    """LangGraph's runtime of this node."""
    caller: Caller
    mine: set[str]
    content: Stored
    """Reads from the content store and writes into it."""

    def attach(self, run_id: str, usage: Usage | None = None, seconds: float | None = None) -> None:
        """Add the run of this node; see `Run.attach`."""
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
        """Send an event to the listeners and to LangGraph's ``custom`` stream.

        Args:
            type: type of the event.
            run_id: id of the run.
            iteration: iteration of the event, if any.
            id: id of the subject of the event.
            parent: id of the parent of the subject.
            texts: prompts, replies and answers. Only their heads are kept, unless a listener needs whole texts.
            **data: further data of the event.
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
        """A function that emits the retries of a call of this run; ``parent`` is the id of the call."""

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
