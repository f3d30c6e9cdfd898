"""Convert LangChain messages to a request of DSPy's LM layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspy import lm15
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from langchain_core.messages.content import ContentBlock

_CONFIG = (
    "temperature", "max_tokens", "top_p", "top_k", "stop", "seed", "frequency_penalty", "presence_penalty",
    "response_format",
)  # fmt: skip


def to_request(model: str, messages: Sequence[BaseMessage], options: Mapping[str, Any]) -> lm15.Request:
    """A request with these messages.

    Args:
        model: name of the model.
        messages: system messages at the beginning become the request's system text.
        options: generation parameters, ``tools`` and ``tool_choice`` in OpenAI's form. Parameters that DSPy does not
            know go into its ``extensions``.
    """
    rest = list(messages)
    system: list[Any] = []
    while len(rest) > 1 and isinstance(rest[0], SystemMessage):
        system += _parts(rest.pop(0))
    known = {name: options[name] for name in _CONFIG if options.get(name) is not None}
    other = {
        name: value
        for name, value in options.items()
        if name not in (*_CONFIG, "tools", "tool_choice") and value is not None
    }
    choice = _choice(options.get("tool_choice"))
    return lm15.Request(
        model=model,
        system=tuple(system) or None,
        messages=tuple(_message(message) for message in rest),
        tools=tuple(_tool(tool) for tool in options.get("tools") or ()),
        config=lm15.Config(**known, tool_choice=choice, extensions=other or None),
    )


def _message(message: BaseMessage) -> lm15.Message:
    if isinstance(message, AIMessage):
        calls = [
            lm15.ToolCallPart(call["id"] or f"call_{number}", call["name"], dict(call["args"]))
            for number, call in enumerate(message.tool_calls)
        ]
        return lm15.Message(role="assistant", parts=(*(_parts(message) if message.text or not calls else ()), *calls))
    if isinstance(message, ToolMessage):
        failed = message.status == "error"
        return lm15.Message.tool(message.tool_call_id, str(message.text) or "(nothing)", is_error=failed)
    role = "developer" if isinstance(message, SystemMessage) else "user"
    return lm15.Message(role=role, parts=tuple(_parts(message)))


def _parts(message: BaseMessage) -> list[Any]:
    blocks = [part for block in message.content_blocks if (part := _part(block)) is not None]
    return blocks or [lm15.TextPart("")]


def _part(block: ContentBlock | Mapping[str, Any]) -> Any:
    """A standard content block; None if it is not content, such as reasoning and tool calls."""
    given: Mapping[str, Any] = dict(block)
    media = {"image": lm15.ImagePart, "audio": lm15.AudioPart, "file": lm15.DocumentPart, "video": lm15.VideoPart}
    kind = given.get("type")
    if kind in media:
        where = {"url": given["url"]} if given.get("url") else {"data": given.get("base64")}
        named = {"media_type": given["mime_type"]} if given.get("mime_type") else {}
        return media[kind](**where, **named)
    if kind in ("text", "text-plain"):
        return lm15.TextPart(str(given.get("text") or ""))
    return None


def _tool(tool: Mapping[str, Any]) -> lm15.FunctionTool:
    function = tool.get("function", tool)
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    return lm15.FunctionTool(function["name"], function.get("description"), dict(parameters))


def _choice(choice: Any) -> lm15.ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str):
        return lm15.ToolChoice(mode=choice)
    return lm15.ToolChoice(mode="required", allowed=(choice["function"]["name"],))
