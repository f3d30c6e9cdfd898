"""`Node`: a graph node with one body for sync and async."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.runtime import get_runtime

from rlm_adapters.effects import Steps, adrive, drive, off_loop
from rlm_adapters.errors import RLMError, SandboxError
from rlm_adapters.graph.context import NodeContext, RLMContext
from rlm_adapters.graph.shapes import check_state, check_task
from rlm_adapters.graph.state import FORM, is_later, is_readable
from rlm_adapters.graph.stored import Stored

Update: TypeAlias = dict[str, Any]
Body: TypeAlias = Callable[[Any, NodeContext, RunnableConfig], "Update | Steps[Update]"]
"""The work of a node: a generator if it must wait, else a plain function."""


class Node(Runnable[Any, Update]):
    """Runs a body. For a generator, ``invoke`` uses `rlm_adapters.effects.drive` and ``ainvoke`` uses ``adrive``.

    Args:
        body: the node's work.
        name: name of the node in traces.
    """

    def __init__(self, body: Body, name: str) -> None:
        self._body = body
        self.name = name

    def invoke(
        self,
        input: Any,  # noqa: A002 - Runnable's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Update:
        """Run the node in this thread."""
        return drive(self._steps(input, config or {}))

    async def ainvoke(
        self,
        input: Any,  # noqa: A002 - Runnable's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Update:
        """Run the node on the event loop."""
        return await adrive(self._steps(input, config or {}))

    def _steps(self, state: Any, config: RunnableConfig) -> Steps[Update]:
        """Run the body, and then store its results."""
        # After an earlier form, a new question starts anew. A later form is not empty: it is refused.
        if not is_readable(state) and (self.name != "prepare" or is_later(state)):
            raise RLMError(
                f"this run was saved by another version of rlm-adapters (form {state.get('form')!r} of the state, this "
                f"version has {FORM}): finish it with that version, or ask again in a new thread"
            )
        if self.name == "recurse":
            check_task(state)
        node = _context(str(state.get("run_id") or ""))
        lease = node.run.lease
        if lease is not None and lease.due():
            yield off_loop(lease.check)
        if self.name not in ("prepare", "recurse") and not node.run.knows(state.get("run_id")):
            check_state(state)
        work = self._body(state, node, config)
        update = work if isinstance(work, dict) else (yield from work)
        if self.name != "recurse" and state.get("form") != FORM:
            update = {"form": FORM, **update}  # earlier versions of this package cannot read it from here on
        return (yield from node.content.finish(update))


def _context(run_id: str) -> NodeContext:
    runtime = get_runtime()
    given: Any = runtime.context
    if not isinstance(given, RLMContext) or given.run is None or given.config is None:
        raise SandboxError("an RLM node ran outside its graph: call the graph that create_rlm_graph returned")
    return NodeContext(
        given.config,
        given.run,
        given.depth,
        given.parent_run_id,
        given.parent_call,
        given.streamed,
        given.graph,
        runtime,
        given.caller,
        given.mine,
        Stored(given.run.store, run_id),
    )
