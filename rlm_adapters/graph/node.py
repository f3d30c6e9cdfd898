"""A graph node whose body is written once for sync and async."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.runtime import get_runtime

from rlm_adapters.effects import Steps, adrive, drive
from rlm_adapters.errors import SandboxError
from rlm_adapters.graph.context import NodeContext, RLMContext

Update: TypeAlias = dict[str, Any]
Body: TypeAlias = Callable[[Any, NodeContext, RunnableConfig], "Update | Steps[Update]"]
"""The work of a node: a generator where it must wait, else a plain function."""


class Node(Runnable[Any, Update]):
    """Runs a body: a generator by `rlm_adapters.effects.drive` for ``invoke``, by ``adrive`` for ``ainvoke``.

    Args:
        body: the node's work.
        name: of the node, in traces.
    """

    def __init__(self, body: Body, name: str) -> None:
        self._body = body
        self.name = name

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Update:  # noqa: A002 - Runnable's name
        """Run the node in this thread."""
        work = self._body(input, _context(), config or {})
        return work if isinstance(work, dict) else drive(work)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> Update:  # noqa: A002
        """Run the node on the event loop."""
        work = self._body(input, _context(), config or {})
        return work if isinstance(work, dict) else await adrive(work)


def _context() -> NodeContext:
    runtime = get_runtime()
    given: Any = runtime.context
    if not isinstance(given, RLMContext) or given.run is None or given.config is None:
        raise SandboxError("an RLM node ran outside of its graph: call the graph that create_rlm_graph returned")
    return NodeContext(
        given.config, given.run, given.depth, given.parent_run_id, given.graph, runtime.stream_writer, given.mine
    )
