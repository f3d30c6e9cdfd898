"""The edges of the graph. LangGraph follows them in a run, and again when somebody edits the state.

A node could choose the next node itself (``Command(goto=...)``), without any cost. But ``update_state`` follows only
edges, so an edited run would end. An edge reads copies of its keys of the state. This takes 0.08 ms, twice in an
iteration, which takes 4 ms if the model answers at once. Two things keep it cheap: it reads a small schema instead of
the whole state (0.13 ms), and it uses no thread in the async form (0.26 ms). ``benchmarks/routing.py`` compares these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, get_type_hints

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END
from langgraph.types import Send
from typing_extensions import TypedDict

from rlm_adapters.graph.calls import LLM_QUERY
from rlm_adapters.graph.ownership import is_saved
from rlm_adapters.graph.state import FORM, AnswerRecord, FinishReason, PackedText, Request
from rlm_adapters.values.refs import Packed

Next: TypeAlias = "str | list[Send]"


class Route(Runnable[Any, Next]):
    """A function that returns the next node, as a conditional edge.

    Args:
        decide: gets the part of the state that its annotation names, and the config.
    """

    def __init__(self, decide: Callable[[Any, RunnableConfig], Next]) -> None:
        self._decide = decide
        self.name = decide.__name__
        self.__annotations__ = get_type_hints(decide)  # LangGraph reads the schema of an edge from there

    def __call__(self, state: Any, config: RunnableConfig) -> Next:
        """Decide."""
        return self._decide(state, config)

    def invoke(
        self,
        input: Any,  # noqa: A002 - Runnable's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Next:
        """Decide."""
        return self._decide(input, config or {})

    async def ainvoke(
        self,
        input: Any,  # noqa: A002 - Runnable's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> Next:
        """Decide, without waiting."""
        return self._decide(input, config or {})


class AfterExecute(TypedDict, total=False):
    """The keys that `after_execute` reads."""

    pending: list[Request]
    answers: dict[str, AnswerRecord]
    run_id: str
    iterations: int
    variables: dict[str, Packed]
    query: Packed
    queue: list[PackedText]
    approved: bool


def after_execute(state: AfterExecute, config: RunnableConfig) -> list[Send] | str:
    """The next node after `execute`: the calls that the cell waits for, a cell that needs approval, or the check.

    If a run was edited just before it continued a cell, some calls are already answered.
    """
    if not state.get("pending"):
        return "execute" if state.get("queue") else "check_final"
    answers = state.get("answers") or {}
    pending = [request for request in state["pending"] if request["id"] not in answers]
    if not pending:
        return "execute"
    return [
        Send(
            "recurse",
            {
                "form": FORM,
                "requests": requests,
                "run_id": state["run_id"],
                "iteration": state["iterations"],
                "variables": state["variables"],
                "query": state["query"],
                "batch": len(pending),
                "approved": state.get("approved") or False,
            },
        )
        for requests in _tasks(pending, saved=is_saved(config))
    ]


class AfterCheck(TypedDict, total=False):
    """The keys that `after_check` reads."""

    finish_reason: FinishReason
    stop: str | None


def after_check(state: AfterCheck, config: RunnableConfig) -> str:  # noqa: ARG001 - as every such function
    """The next node after `check_final`."""
    if state.get("finish_reason"):
        return END
    return "extract" if state.get("stop") else "generate_code"


def _tasks(pending: list[Request], *, saved: bool) -> list[list[Request]]:
    """The requests, grouped by task.

    The answer of a separate task is saved at once, and has its own name in streams. Without a checkpointer, calls to
    sub-LMs do not need this, and one task for all of them costs a fraction of separate tasks.
    """
    together = [] if saved else [request for request in pending if request["function"] == LLM_QUERY.name]
    alone = [[request] for request in pending if saved or request["function"] != LLM_QUERY.name]
    return [together, *alone] if together else alone
