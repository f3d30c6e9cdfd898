"""`ChatDSPy`: a ``dspy.LM`` as a LangChain chat model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from dspy.lm15 import TextPart
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from rlm_adapters.dspy.requests import to_request
from rlm_adapters.models.usage import DETAILS, usage_metadata

_TOKENS: Final = ("input_tokens", "output_tokens")
_INHERITED: Final = frozenset({"temperature", "max_tokens", "top_p", "stop", "seed"})


class ChatDSPy(BaseChatModel):
    """A LangChain chat model that calls a DSPy LM. It supports text, content blocks and tool calls.

    Cache, retries and history are those of the LM.
    """

    lm: Any
    """A ``dspy.LM``."""

    @property
    def _llm_type(self) -> str:
        return "dspy"

    @property
    def model_name(self) -> str:
        """Name of the LM's model."""
        return str(getattr(self.lm, "model", None) or type(self.lm).__name__)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name, **{k: str(v) for k, v in getattr(self.lm, "kwargs", {}).items()}}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the LM has callbacks of its own
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(self.lm(self._request(messages, stop, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - the LM has callbacks of its own
        **kwargs: Any,
    ) -> ChatResult:
        return self._result(await self.lm.acall(self._request(messages, stop, kwargs)))

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the LM."""
        if tool_choice is not None:
            known = ("auto", "none", "required")
            choice = {"any": "required"}.get(tool_choice, tool_choice)
            named = {"type": "function", "function": {"name": choice}}
            kwargs["tool_choice"] = choice if choice in known else named
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]) -> Any:
        # The options of the LM do not apply to a complete request.
        own = {key: value for key, value in getattr(self.lm, "kwargs", {}).items() if key in _INHERITED}
        return to_request(self.model_name, messages, {**own, **options, **({"stop": stop} if stop else {})})

    def _result(self, response: Any) -> ChatResult:
        calls = [
            {"id": part.id, "name": part.name, "args": dict(part.input), "type": "tool_call"}
            for part in response.tool_calls
        ]
        texts = [part.text for part in response.message.parts_of(TextPart)]
        spent = {key: count for key in (*_TOKENS, *DETAILS) if (count := getattr(response.usage, key, None))}
        message = AIMessage(
            "".join(texts),
            id=response.id,
            tool_calls=calls,
            usage_metadata=usage_metadata(spent),
            response_metadata={"model_name": self.model_name, "finish_reason": response.finish_reason},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])
