"""Models that answer prompts, and their replies, in one form for every provider."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from rlm_adapters.models.connections import drop_stale_connections
from rlm_adapters.models.failures import address_of
from rlm_adapters.models.langchain_private import type_of_model
from rlm_adapters.models.listening import stream_options
from rlm_adapters.models.openai_requests import unwalked
from rlm_adapters.models.tokens import estimate_tokens
from rlm_adapters.models.usage import details_of

Prompt: TypeAlias = Sequence[BaseMessage]

NOSTREAM = "nostream"
"""LangGraph's tag for models whose tokens are not in the caller's ``messages`` stream."""

HEARD = "rlm:root"
"""Tag of calls of the root LM whose tokens are in that stream."""

_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "MAX_TOKENS", "model_context_window_exceeded"})
_FILTERED = frozenset({"content_filter", "refusal", "SAFETY", "safety", "PROHIBITED_CONTENT", "guardrail_intervened"})


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A reply of a model of any provider.

    Attributes:
        text: its text, without reasoning.
        finish_reason: ``stop``, ``length``, ``content_filter``, or another reason of the provider.
        refusal: the provider's refusal text; None if it did not refuse.
        input_tokens: count of the provider, else an estimate.
        output_tokens: count of the provider, else an estimate.
        details: kinds of these tokens; see `rlm_adapters.models.usage.DETAILS`.
        tool_calls: name and args of tool calls that the model made although no tool was offered.
        counted: whether the provider reported token counts.
    """

    text: str
    finish_reason: str = "stop"
    refusal: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    details: Mapping[str, int] = field(default_factory=dict)
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    counted: bool = True

    @property
    def cached_tokens(self) -> int:
        """Input tokens that came from the provider's cache."""
        return self.details.get("cache_read_tokens", 0)


class ModelTarget(Protocol):
    """Something that answers a prompt: a LangChain chat model, or a DSPy predictor in the DSPy adapter."""

    @property
    def name(self) -> str:
        """Its name in usage figures."""
        ...

    def estimate(self, prompt: Any) -> int:
        """Upper estimate of the prompt's tokens."""
        ...

    def invoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model. `classify` handles its exceptions."""
        ...

    async def ainvoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Async form of `invoke`."""
        ...


class SubModel(ModelTarget, Protocol):
    """A `ModelTarget` for ``llm_query``: its prompts are messages."""

    def context_window(self) -> int | None:
        """Window of the model in input tokens; None if unknown."""
        ...


class ChatTarget:
    """A LangChain chat model as a `ModelTarget`.

    Args:
        model: any chat model.
        name: its name in usage figures; default: the name of the model.
        options: keyword arguments of every call (``temperature``, ``seed``, ...).
    """

    def __init__(self, model: BaseChatModel, name: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        self.model = model
        self.options = dict(options or {})
        self.name = name or self.options.get("model") or model_name(model)
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None

    @property
    def address(self) -> str | None:
        """The base URL in the model's settings; None: the default address of its provider."""
        return address_of(self.model)

    def estimate(self, prompt: Prompt) -> int:
        """Upper estimate of the prompt's tokens, with 8 for each message."""
        return sum(estimate_tokens(_visible_text(message)) + 8 for message in prompt)

    def invoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model."""
        message = unwalked(self.model).invoke(list(prompt), quiet(config), **self._options(max_tokens, config))
        return self.read(prompt, message)

    async def ainvoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model."""
        self.enter_loop()
        options = self._options(max_tokens, config, is_async=True)
        message = await unwalked(self.model).ainvoke(list(prompt), quiet(config), **options)
        return self.read(prompt, message)

    def enter_loop(self) -> None:
        """Before the first call on another event loop, drop the client's connections of closed event loops."""
        loop = asyncio.get_running_loop()
        if self._loop is None or self._loop() is not loop:
            self._loop = weakref.ref(loop)
            drop_stale_connections(self.model)

    def context_window(self) -> int | None:
        """Window of the model in input tokens, if its LangChain profile has it."""
        profile = getattr(self.model, "profile", None) or {}
        window = profile.get("max_input_tokens") if isinstance(profile, Mapping) else None
        return int(window) if window else None

    def _options(
        self, max_tokens: int | None, config: RunnableConfig | None = None, *, is_async: bool = False
    ) -> dict[str, Any]:
        kind = getattr(self.model, "_llm_type", "")
        key = {"chat-ollama": "num_predict", "chat-google-generative-ai": "max_output_tokens"}.get(kind, "max_tokens")
        options = {key if name == "max_tokens" else name: value for name, value in self.options.items()}
        options |= stream_options(self.model, config or {}, is_async=is_async)
        if max_tokens is None:
            return options
        own = options.get(key) or getattr(self.model, key, None)
        return {**options, key: min(max_tokens, own) if isinstance(own, int) and own > 0 else max_tokens}

    def read(self, prompt: Prompt, message: BaseMessage) -> ModelReply:
        """The model's message as a reply."""
        text = str(message.text)
        usage: Mapping[str, Any] = (message.usage_metadata if isinstance(message, AIMessage) else None) or {}
        meta = message.response_metadata
        reason = str(
            meta.get("finish_reason")
            or meta.get("stop_reason")
            or meta.get("done_reason")
            or meta.get("finishReason")
            or "stop"
        )
        reason = "length" if reason in _CUT_OFF else "content_filter" if reason in _FILTERED else reason
        return ModelReply(
            text=text,
            finish_reason=reason,
            refusal=message.additional_kwargs.get("refusal"),
            input_tokens=usage.get("input_tokens") or self.estimate(prompt),
            output_tokens=usage.get("output_tokens") or (estimate_tokens(text) if text else 0),
            details=details_of(usage),
            tool_calls=tuple(message.tool_calls) if isinstance(message, AIMessage) else (),
            counted=bool(usage),
        )


def model_name(model: BaseChatModel) -> str:
    """The name by which a provider knows the model."""
    for attribute in ("model_name", "model", "model_id", "deployment_name"):
        value = getattr(model, attribute, None)
        if isinstance(value, str) and value:
            return value
    return type_of_model(model)


def as_prompt(prompt: str | Sequence[str | Mapping[str, Any]]) -> Prompt:
    """A cell's prompt (text, or a list of texts and content blocks such as images) as messages."""
    if isinstance(prompt, str):
        return [HumanMessage(prompt)]
    return [HumanMessage([{"type": "text", "text": item} if isinstance(item, str) else dict(item) for item in prompt])]


def _visible_text(message: BaseMessage) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    return "\n".join(block if isinstance(block, str) else str(block.get("text", "")) for block in content)


def quiet(config: RunnableConfig) -> RunnableConfig:
    """The config with the tag that keeps tokens out of the caller's stream, unless it comes from `heard`."""
    tags = config.get("tags") or ()
    return config if NOSTREAM in tags or HEARD in tags else merge_configs(config, {"tags": [NOSTREAM]})


def heard(config: RunnableConfig) -> RunnableConfig:
    """The config of a call whose tokens are in the caller's stream, unless a surrounding config forbids it."""
    return merge_configs(config, {"tags": [HEARD]})
