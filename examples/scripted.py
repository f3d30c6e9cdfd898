"""Chat models with prepared replies, so that examples run without a key or a network.

Only the models are replaced. The engine, the sandbox, the cells and their output are real.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult


class ScriptedChatModel(BaseChatModel):
    """Answers with ``reply(messages)``."""

    name: str = "scripted"
    reply: Callable[[Sequence[BaseMessage]], str]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        text = self.reply(messages)
        counts = (sum(len(message.text) for message in messages) // 4, len(text) // 4)
        message = AIMessage(
            text,
            usage_metadata={"input_tokens": counts[0], "output_tokens": counts[1], "total_tokens": sum(counts)},
            response_metadata={"model_name": self.name, "finish_reason": "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def by_turn(*replies: str) -> Callable[[Sequence[BaseMessage]], str]:
    """The reply of the turn that is asked for: the number of the model's own messages so far."""

    def reply(messages: Sequence[BaseMessage]) -> str:
        turn = sum(message.type == "ai" for message in messages)
        return replies[min(turn, len(replies) - 1)]

    return reply
