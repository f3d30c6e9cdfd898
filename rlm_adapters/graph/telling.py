"""Emit the events of a cell's call: its start and its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from langchain_core.runnables import RunnableConfig

from rlm_adapters.events import EventType
from rlm_adapters.graph.calls import LLM_QUERY, SubCall
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.early import EarlyCall
from rlm_adapters.graph.state import RecurseInput, Request

AnsweredBy: TypeAlias = Literal["llm", "child", "tool"]
"""Whether a sub-LM, a child run or a tool answers a call."""


def call_kind(function: str) -> AnsweredBy:
    """What answers a call of this function. Tools cannot have the names of the other functions."""
    if function == LLM_QUERY.name:
        return "llm"
    return "child" if function == "rlm_query" else "tool"


def what_is_asked(kind: AnsweredBy, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The prompt of a call; for a tool all arguments."""
    if kind == "tool":
        return [*args, kwargs] if kwargs else list(args)
    return args[0] if args else kwargs.get("prompt", "")


class ToldCall:
    """Emits the events of one call.

    Args:
        request: of the cell.
        task: the task of the request.
        node: the node that answers it.
        config: of the node.
        early: the early call for this request; None if there is none.
    """

    def __init__(
        self,
        request: Request,
        task: RecurseInput,
        node: NodeContext,
        config: RunnableConfig,
        early: EarlyCall | None = None,
    ) -> None:
        self._request = request
        self._task = task
        self._node = node
        self._early = early
        self._began = early.began if early is not None else (time.time(), time.monotonic())
        self.made = early.made if early is not None else self._new(config)
        self._kind = call_kind(request["function"])

    def started(self, args: Any, kwargs: Any) -> None:
        """Emit the start of the call."""
        asked = what_is_asked(self._kind, args, kwargs)
        flags: dict[str, Any] = {"ahead": True} if self._request["ahead"] else {}
        if self._early is not None:
            flags |= {"early": True, "since": self._began[0]}
        self._emit("call_started", {"prompt": asked}, **flags)

    def not_early(self, config: RunnableConfig) -> None:
        """The call is made now; an early call for it is not used."""
        if self._early is not None:
            self._early, self._began, self.made = None, (time.time(), time.monotonic()), self._new(config)

    def _new(self, config: RunnableConfig) -> SubCall:
        return SubCall(self._request["id"], self._task["run_id"], self._task["iteration"], config)

    def finished(self, answer: Any = None, *, error: str | None = None, dropped: str = "", usage: Any = None) -> None:
        """Emit the end of the call."""
        record, node = self.made.record, self._node
        figures: dict[str, Any] = {"start": self._began[0], **(record.figures() if record.model else {})}
        if self._kind == "child" and usage:
            tokens = {"input": usage.get("input_tokens", 0), "output": usage.get("output_tokens", 0)}
            figures |= {"tokens": {**tokens, "cached": record.cached_tokens}, "cost": usage.get("cost")}
        asked = node.config.cache_prompts and self._request["function"] == "llm_query"
        self._emit(
            "call_finished",
            {"answer": "" if error or dropped else answer},
            total=self._task.get("batch", 1),
            error=error,
            usage=usage or {},
            cached=asked and error is None and not dropped and not usage,
            seconds=self._early.seconds if self._early is not None else time.monotonic() - self._began[1],
            **({"dropped": dropped} if dropped else {}),
            **figures,
        )

    def _emit(self, type: EventType, texts: Mapping[str, Any], **data: Any) -> None:  # noqa: A002 - as in `Event`
        request, task = self._request, self._task
        self._node.emit(
            type,
            task["run_id"],
            task["iteration"],
            id=request["id"],
            parent=f"cell-{request['id'].partition(':')[0]}",
            texts=texts,
            function=request["function"],
            kind=self._kind,
            **data,
        )
