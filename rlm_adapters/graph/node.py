"""A graph node whose body is written once for sync and async."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.runtime import get_runtime
from langgraph.types import Command, Send

from rlm_adapters.effects import Steps, adrive, drive
from rlm_adapters.errors import RLMError, SandboxError
from rlm_adapters.graph.context import NodeContext, RLMContext
from rlm_adapters.graph.state import FORM
from rlm_adapters.graph.stored import Stored

Update: TypeAlias = dict[str, Any]
Next: TypeAlias = Callable[[Any, RunnableConfig], "str | list[Send]"]
"""Where to go from a node, by the state as the node leaves it."""
Body: TypeAlias = Callable[[Any, NodeContext, RunnableConfig], "Update | Steps[Update]"]
"""The work of a node: a generator where it must wait, else a plain function."""


class Node(Runnable[Any, "Update | Command[Any]"]):
    """Runs a body: a generator by `rlm_adapters.effects.drive` for ``invoke``, by ``adrive`` for ``ainvoke``.

    Args:
        body: the node's work.
        name: of the node, in traces.
        after: where to go from here; None where an edge says it. A conditional edge would say it as well, but reads the
            whole state again for it, and in the async form does so in a thread: a tenth of the time of an iteration
            (in the async form a fifth). It sees what the node writes as it is: keys with a reducer are none to look at.
    """

    def __init__(self, body: Body, name: str, after: Next | None = None) -> None:
        self._body = body
        self._after = after
        self.name = name

    def invoke(
        self,
        input: Any,  # noqa: A002 - Runnable's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Update | Command[Any]:
        """Run the node in this thread."""
        return self._left(input, drive(self._steps(input, config or {})), config or {})

    async def ainvoke(
        self,
        input: Any,  # noqa: A002 - Runnable's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Update | Command[Any]:
        """Run the node on the event loop."""
        return self._left(input, await adrive(self._steps(input, config or {})), config or {})

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Update]:
        """The body, and then the storing of what it leaves."""
        if self.name != "prepare" and state.get("form") != FORM:
            raise RLMError(
                f"this run was saved by another version of rlm-adapters (form {state.get('form')!r} of the state, this "
                f"version has {FORM}): finish it with that version, or ask again in a new thread"
            )
        node = _context(state.get("run_id") or "")
        work = self._body(state, node, config)
        update = work if isinstance(work, dict) else (yield from work)
        return (yield from node.content.finish(update))

    def _left(self, state: Any, update: Update, config: RunnableConfig) -> Update | Command[Any]:
        if self._after is None:
            return update
        return Command(update=update, goto=self._after({**state, **update}, config))


def _context(run_id: str) -> NodeContext:
    runtime = get_runtime()
    given: Any = runtime.context
    if not isinstance(given, RLMContext) or given.run is None or given.config is None:
        raise SandboxError("an RLM node ran outside of its graph: call the graph that create_rlm_graph returned")
    return NodeContext(
        given.config,
        given.run,
        given.depth,
        given.parent_run_id,
        given.graph,
        runtime.stream_writer,
        given.mine,
        Stored(given.run.store, run_id),
    )
