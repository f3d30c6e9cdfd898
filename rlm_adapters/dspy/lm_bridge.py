"""`lm_from_chat_model`: a LangChain chat model as a ``dspy.LM``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import dspy
from dspy import lm15
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from rlm_adapters.errors import InputError
from rlm_adapters.models.failures import classify
from rlm_adapters.models.openai_requests import unwalked
from rlm_adapters.models.targets import ChatTarget, model_name

_ERRORS = {
    "rate_limit": lm15.RateLimitError,
    "timeout": lm15.TimeoutError,
    "server": lm15.ServerError,
    "auth": lm15.AuthError,
    "context_length": lm15.ContextLengthError,
    "network": lm15.TransportError,
    "bad_request": lm15.InvalidRequestError,
}
"""DSPy's errors by the kinds of `rlm_adapters.models.failures.classify`. DSPy decides by class whether to retry."""

_OPTIONS = ("temperature", "max_tokens", "top_p", "seed", "frequency_penalty", "presence_penalty")


def lm_from_chat_model(model: BaseChatModel, name: str | None = None, **options: Any) -> dspy.LM:
    """Make a ``dspy.LM`` from a LangChain chat model, with DSPy's cache, retries, history and usage tracking.

    Args:
        model: any chat model, also a `ChatRLM`.
        name: name in DSPy's history and usage; default: ``langchain/<name of the model>``.
        **options: of ``dspy.LM``: ``temperature``, ``max_tokens``, ``cache``, ``num_retries``, ...

    Raises:
        InputError: ``model`` is not a chat model.
    """
    if not isinstance(model, BaseChatModel):
        raise InputError(f"model={model!r}: give a LangChain chat model")
    engines = {"engine": ChatEngine(model), "async_engine": AsyncChatEngine(model)}
    return dspy.LM(name or f"langchain/{model_name(model)}", **engines, **options)


def dspy_lm(given: Any, what: str) -> Any:
    """Convert an argument to a ``dspy.LM``: it may be an LM, a name, or a LangChain chat model.

    Args:
        given: the argument. None stays None.
        what: name of the argument, for the error.

    Raises:
        InputError: it is none of them.
    """
    if isinstance(given, str):
        if not given.strip():
            raise InputError(f"{what}={given!r}: give a name such as 'openai/gpt-5'")
        return dspy.LM(given)
    if isinstance(given, BaseChatModel):
        return lm_from_chat_model(given)
    if given is not None and (isinstance(given, type) or not callable(given)):
        raise InputError(f"{what}={given!r}: give a dspy.LM, a name such as 'openai/gpt-5', or a LangChain chat model")
    return given


class ChatEngine:
    """DSPy's engine interface for a chat model.

    Args:
        model: answers the requests.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._model = model

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request.

        Raises:
            LM15Error: the model failed; its class tells DSPy whether to retry.
        """
        try:
            message = _with_tools(unwalked(self._model), request).invoke(_messages(request), **_options(request))
        except Exception as error:
            raise _translated(error) from error
        return _response(message, request, self._model)

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        """The answer as events, in one piece."""
        return iter(lm15.response_to_events(self.complete(request)))

    def close(self) -> None:
        """Does nothing: the model belongs to the caller."""


class AsyncChatEngine:
    """Async form of `ChatEngine`.

    Args:
        model: answers the requests.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._model = model

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request.

        Raises:
            LM15Error: the model failed; its class tells DSPy whether to retry.
        """
        try:
            message = await _with_tools(unwalked(self._model), request).ainvoke(_messages(request), **_options(request))
        except Exception as error:
            raise _translated(error) from error
        return _response(message, request, self._model)

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        """The answer as events, in one piece."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Does nothing: the model belongs to the caller."""


def _translated(error: Exception) -> lm15.LM15Error:
    known = classify(error)
    return _ERRORS.get(known.kind, lm15.ProviderError)(str(known))


# ------------------------------------------------------------------------------------------------ requests


def _messages(request: lm15.Request) -> list[BaseMessage]:
    messages: list[BaseMessage] = []
    if request.system is not None:
        messages.append(
            SystemMessage(_content([request.system] if isinstance(request.system, str) else request.system))
        )
    for message in request.messages:
        messages += _message(message)
    return messages


def _message(message: lm15.Message) -> list[BaseMessage]:
    if message.role == "tool":
        return [
            ToolMessage(_content(part.content), tool_call_id=part.id, status="error" if part.is_error else "success")
            for part in message.parts
        ]
    if message.role == "assistant":
        calls = [
            {"id": part.id, "name": part.name, "args": dict(part.input), "type": "tool_call"}
            for part in message.parts_of(lm15.ToolCallPart)
        ]
        visible = [part for part in message.parts if not isinstance(part, lm15.ToolCallPart | lm15.ThinkingPart)]
        return [AIMessage(_content(visible), tool_calls=calls)]
    if message.role == "developer":
        return [SystemMessage(_content(message.parts))]
    return [HumanMessage(_content(message.parts))]


def _content(parts: Sequence[Any]) -> Any:
    """Plain text if there is only text, because all models accept it; else content blocks."""
    blocks = [_block(part) for part in parts]
    if all(block["type"] == "text" for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return blocks


def _block(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, lm15.ImagePart):
        url = part.url or f"data:{part.media_type};base64,{part.data}"
        return {"type": "image_url", "image_url": {"url": url}}
    media = {"audio": lm15.AudioPart, "file": lm15.DocumentPart}
    for kind, of_kind in media.items():
        if isinstance(part, of_kind) and part.data is not None:
            return {"type": kind, "base64": part.data, "mime_type": part.media_type}
    text = getattr(part, "text", None)
    if not isinstance(text, str):
        raise lm15.UnsupportedFeatureError(f"a part of type {type(part).__name__} cannot be given to a chat model")
    return {"type": "text", "text": text}


def _options(request: lm15.Request) -> dict[str, Any]:
    config = request.config
    options = {name: getattr(config, name) for name in _OPTIONS if getattr(config, name) is not None}
    if config.stop:
        options["stop"] = list(config.stop)
    if config.response_format is not None:
        options["response_format"] = dict(config.response_format)
    return {**options, **dict(config.extensions or {})}


def _with_tools(model: BaseChatModel, request: lm15.Request) -> Any:
    if not request.tools:
        return model
    tools = [
        {"name": tool.name, "description": tool.description or "", "parameters": dict(tool.parameters)}
        for tool in request.tools
        if isinstance(tool, lm15.FunctionTool)
    ]
    return model.bind_tools([{"type": "function", "function": tool} for tool in tools])


def _response(message: BaseMessage, request: lm15.Request, model: BaseChatModel) -> lm15.Response:
    reply = ChatTarget(model).read([], message)
    parts: list[Any] = [lm15.TextPart(reply.text)] if reply.text or not reply.tool_calls else []
    parts += [
        lm15.ToolCallPart(call.get("id") or f"call_{number}", call["name"], dict(call["args"]))
        for number, call in enumerate(reply.tool_calls)
    ]
    usage = getattr(message, "usage_metadata", None) or {}
    reason = "tool_call" if reply.tool_calls else reply.finish_reason
    return lm15.Response(
        id=message.id,
        model=request.model,
        message=lm15.Message.assistant(parts),
        finish_reason=reason if reason in ("length", "content_filter", "tool_call") else "stop",
        usage=lm15.Usage(
            input_tokens=usage.get("input_tokens"), output_tokens=usage.get("output_tokens"), **reply.details
        ),
    )
