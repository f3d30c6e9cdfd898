"""Where to go from a node: edges, which LangGraph follows in a run, and again when somebody edits the state.

A node could say itself where to go (``Command(goto=...)``), and that would cost nothing. But an edit, ``update_state``,
knows edges only, so that an edited run would end. An edge reads its keys of the state from copies of all of them: 0.08
ms, twice in an iteration, which takes 4 ms when the model answers at once. It stays this cheap because it reads a
schema of its own instead of the whole state (0.13 ms), and goes through no thread in the async form (0.26 ms);
``benchmarks/routing.py`` compares.
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
    """A function that says where to go, as a conditional edge.

    Args:
        decide: takes the part of the state that its annotation names, and the config.
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
        """Decide; nothing is waited for."""
        return self._decide(input, config or {})


class AfterExecute(TypedDict, total=False):
    """What `after_execute` reads."""

    pending: list[Request]
    answers: dict[str, AnswerRecord]
    run_id: str
    iterations: int
    variables: dict[str, Packed]
    query: Packed
    queue: list[PackedText]
    approved: bool


def after_execute(state: AfterExecute, config: RunnableConfig) -> list[Send] | str:
    """Where to go from `execute`: to the calls that the cell waits for, to a next cell to be approved, or on.

    Some are answered already when a run was edited that was about to go on with the cell.
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
    """What `after_check` reads."""

    finish_reason: FinishReason
    stop: str | None


def after_check(state: AfterCheck, config: RunnableConfig) -> str:  # noqa: ARG001 - as every such function
    """Where to go from `check_final`."""
    if state.get("finish_reason"):
        return END
    return "extract" if state.get("stop") else "generate_code"


def _tasks(pending: list[Request], *, saved: bool) -> list[list[Request]]:
    """The requests, by the task that answers them.

    A task of its own has its answer saved as soon as it is there, and a name of its own in streams. Without a saver
    the calls to sub-LMs have nothing of this: together they cost a fraction of as many tasks.
    """
    together = [] if saved else [request for request in pending if request["function"] == LLM_QUERY.name]
    alone = [[request] for request in pending if saved or request["function"] != LLM_QUERY.name]
    return [together, *alone] if together else alone
