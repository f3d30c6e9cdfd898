"""Live parts that a module shares with its copies."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, Literal, cast

from langgraph.types import Checkpointer

from rlm_adapters.events import EventHandler
from rlm_adapters.graph.build import compile_graph
from rlm_adapters.graph.choices import SandboxChoice, check_listener, check_sandbox
from rlm_adapters.graph.compiled import RLMGraph
from rlm_adapters.graph.context import RLMConfig
from rlm_adapters.graph.sessions import SessionCache
from rlm_adapters.sandbox import Executor, MontySandbox, Sandbox
from rlm_adapters.values.content import ContentStore


@cache
def default_sandbox() -> Sandbox:
    """The default sandbox of this process. Its sessions share only the zygote."""
    return Sandbox()


@cache
def _default_monty() -> MontySandbox:
    return MontySandbox()


@cache
def _graph() -> RLMGraph:
    """The compiled state machine. It has no configuration; every call gives one in its context."""
    return compile_graph(cast("RLMConfig", None))


class Runtime:
    """Sandbox, store, checkpointer, listeners and the compiled graph.

    Optimizers copy a module hundreds of times. The copies share this object, and the graph gets the predictors through
    its runtime context: a graph that refers to one module would always call the original. A pickled module does not
    include this object. Where it is loaded it gets a default one, with a sandbox of the same kind.

    Args:
        sandbox: None or ``"monty"``: a sandbox of this kind that all modules of the process share.
        store: None: a private store of this process.
        checkpointer: a LangGraph checkpointer.
        on_event: called with every event of every run.
        listeners: called with every event, too.
        trajectory: add the trajectory to the prediction.
    """

    def __init__(
        self,
        sandbox: SandboxChoice | None = None,
        store: ContentStore | None = None,
        checkpointer: Checkpointer = None,
        on_event: EventHandler | None = None,
        *,
        listeners: tuple[EventHandler, ...] = (),
        trajectory: bool = False,
    ) -> None:
        check_sandbox(sandbox)
        self._sandbox = sandbox
        self._store = store
        self.checkpointer = checkpointer
        self.on_event = check_listener(on_event)
        self.listeners = listeners
        self.trajectory = trajectory
        self.sessions = SessionCache()
        self._graph: RLMGraph | None = None
        self._lock = threading.Lock()

    def parts_of_this_process(self) -> tuple[str, ...]:
        """Names of what a pickled module leaves behind."""
        parts = {
            "sandbox": self._sandbox is not None and not isinstance(self._sandbox, str),
            "store": self._store is not None,
            "checkpointer": self.checkpointer is not None,
            "on_event": self.on_event is not None,
            "trace": bool(self.listeners),
        }
        return tuple(name for name, given in parts.items() if given)

    @property
    def sandbox(self) -> Executor:
        """The executor that opens sessions."""
        if isinstance(self._sandbox, str):
            return _default_monty()
        return self._sandbox or default_sandbox()

    @property
    def store(self) -> ContentStore:
        """The store for the content of the calls: the caller's store, or a private one."""
        with self._lock:
            if self._store is None:
                self._store = ContentStore()
            return self._store

    @property
    def graph(self) -> RLMGraph:
        """The compiled graph, with the checkpointer of this module."""
        with self._lock:
            if self._graph is None:
                shared = _graph()
                self._graph = shared if self.checkpointer is None else shared.copy({"checkpointer": self.checkpointer})
            return self._graph

    def __deepcopy__(self, memo: dict[int, Any]) -> Runtime:
        return self

    def __copy__(self) -> Runtime:
        return self

    def __reduce__(self) -> tuple[type[Runtime], tuple[Literal["monty"] | None]]:
        return Runtime, (self._sandbox if isinstance(self._sandbox, str) else None,)
