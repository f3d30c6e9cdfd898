"""A chat model over HTTP with next to no work of its own.

`ChatOpenAI` takes some milliseconds of CPU for each call, on a slow machine as long as a short answer takes to come.
Where the engine is to be measured, and not the client, this one asks: one POST by aiohttp, one `ChatResult`.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

_ROLES = {"human": "user", "ai": "assistant"}


class ThinChatModel(BaseChatModel):
    """Asks an OpenAI-compatible server; async only."""

    model: str
    base_url: str
    session: Any

    @property
    def _llm_type(self) -> str:
        return "thin"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError("async only")

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        said = [{"role": _ROLES.get(message.type, message.type), "content": message.content} for message in messages]
        session: aiohttp.ClientSession = self.session
        body = {"model": self.model, "messages": said}
        async with session.post(f"{self.base_url}/chat/completions", json=body, raise_for_status=True) as response:
            completion = await response.json()
        usage = completion["usage"]
        reply = AIMessage(
            completion["choices"][0]["message"]["content"],
            usage_metadata={
                "input_tokens": usage["prompt_tokens"],
                "output_tokens": usage["completion_tokens"],
                "total_tokens": usage["total_tokens"],
            },
        )
        return ChatResult(generations=[ChatGeneration(message=reply)])
