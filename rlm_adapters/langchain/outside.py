"""Let the LangGraph node around a chat model ask a person the questions of the run inside.

When a person has answered, LangGraph runs the node again and gives it the answers one after the other. So the run
inside is found again by the id of the node's task, and the answers to its earlier questions are skipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.types import Interrupt, interrupt

from rlm_adapters.graph.langgraph_private import TASK_KEY, is_inside
from rlm_adapters.graph.ownership import is_saved


class Outside:
    """The LangGraph node around one call of the chat model.

    Args:
        config: of the node.
        messages: of the call.
    """

    def __init__(self, config: RunnableConfig, messages: Sequence[BaseMessage]) -> None:
        self._config = config
        self._asked = 0
        task = str((config.get("configurable") or {}).get(TASK_KEY))
        said = "\0".join(f"{one.type}:{one.content!r}" for one in messages)
        self.thread = hashlib.sha256(f"{task}\0{said}".encode("utf-8", "replace")).hexdigest()[:24]
        """Id of the run inside. It stays the same when the node runs again."""

    @classmethod
    def of(cls, config: RunnableConfig | None, messages: Sequence[BaseMessage]) -> Outside | None:
        """The node of this config; None if there is no node, or no checkpointer."""
        return cls(config, messages) if config is not None and is_inside(config) and is_saved(config) else None

    def ask(self, interrupts: Sequence[Interrupt], answered: int) -> dict[str, Any]:
        """Ask the person.

        Args:
            interrupts: of the run inside.
            answered: number of interrupts before these.

        Returns:
            The answers by the id of the interrupt.

        Raises:
            GraphInterrupt: the questions are not answered yet.
        """
        while self._asked < answered:
            self._ask(interrupts[0].value)
        return {one.id: self._ask(one.value) for one in interrupts}

    def _ask(self, value: Any) -> Any:
        with set_config_context(self._config) as context:
            answer = context.run(interrupt, value)
        self._asked += 1
        return answer
