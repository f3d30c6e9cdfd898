"""The wire form of OpenAI's chat completions: bodies, chunks, errors and counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.server.replies import Reply
from tests.server.scripts import Message, text_of

ROLES = {"system", "developer", "user", "assistant", "tool"}
CHARS_PER_TOKEN = 4
CHUNK_CHARS = 24


def tokens(text: str) -> int:
    """Tokens of a text, four characters each, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


def prompt_text(messages: list[Message]) -> str:
    """All text of a prompt, tool calls included."""
    parts = []
    for message in messages:
        parts.append(text_of(message))
        parts += [call["function"]["name"] + call["function"]["arguments"] for call in message.get("tool_calls") or ()]
    return "".join(parts)


def fault_of(body: Any) -> str | None:
    """What is wrong with the body of a request; None: nothing."""
    if not isinstance(body, dict):
        return "We could not parse the JSON body of your request."
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "Invalid 'messages': expected an array with at least one message."
    for position, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ROLES:
            return f"Invalid value: '{role}'. Supported values are: {sorted(ROLES)}. (messages[{position}].role)"
        if message.get("content") is None and not (role == "assistant" and message.get("tool_calls")):
            return f"Invalid value for 'content': expected a string, got null. (messages[{position}])"
        if role == "tool" and not message.get("tool_call_id"):
            return f"Missing required parameter: 'messages[{position}].tool_call_id'."
    if body.get("n", 1) != 1:
        return "This server knows n=1 only."
    return None


def error_body(message: str, *, status: int, code: str | None, param: str | None = None) -> dict[str, Any]:
    kind = {401: "authentication_error", 429: "requests"}.get(status)
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def too_long(limit: int, count: int) -> dict[str, Any]:
    """OpenAI's error for a prompt beyond the model's window."""
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {count} tokens. "
        "Please reduce the length of the messages."
    )
    return error_body(message, status=400, code="context_length_exceeded", param="messages")


def shaped(reply: Reply, body: dict[str, Any]) -> tuple[str | None, str]:
    """The text and the finish reason of a reply, after ``stop`` and ``max_tokens`` of the request."""
    text, reason = reply.text, reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    if not text:
        return (None if reply.tool_calls or reply.text is None else ""), reason
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop, 1)[0]
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit and tokens(text) > limit:
        return text[: limit * CHARS_PER_TOKEN], "length"
    return text, reason


def tool_calls_of(reply: Reply, index: int) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id or f"call_{index}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_text},
        }
        for number, call in enumerate(reply.tool_calls)
    ]


def usage_of(prompt: str, reply: Reply, text: str | None) -> dict[str, Any]:
    answer = (text or "") + (reply.refusal or "") + "".join(c.name + c.arguments_text for c in reply.tool_calls)
    counts = {"prompt_tokens": tokens(prompt), "completion_tokens": tokens(answer) + reply.reasoning_tokens}
    usage: dict[str, Any] = {**counts, "total_tokens": sum(counts.values())}
    if reply.cached_tokens:
        usage["prompt_tokens_details"] = {"cached_tokens": reply.cached_tokens}
    if reply.reasoning_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": reply.reasoning_tokens}
    return usage


def completion(reply: Reply, body: dict[str, Any], prompt: str, index: int) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    text, reason = shaped(reply, body)
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": reply.refusal}
    if reply.tool_calls:
        message["tool_calls"] = tool_calls_of(reply, index)
    return {
        "id": f"chatcmpl-{index}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
        "usage": usage_of(prompt, reply, text),
    }


def chunks(reply: Reply, body: dict[str, Any], prompt: str, index: int) -> Iterator[bytes]:
    """The server-sent events of a streamed answer, ``[DONE]`` included."""
    text, reason = shaped(reply, body)

    def event(delta: dict[str, Any] | None, finish: str | None = None, **fields: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        record = {
            "id": f"chatcmpl-{index}",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": body["model"],
            "choices": choices,
            **fields,
        }
        return b"data: " + json.dumps(record).encode() + b"\n\n"

    yield event({"role": "assistant", "content": "", "refusal": None})
    for start in range(0, len(text or ""), CHUNK_CHARS):
        yield event({"content": (text or "")[start : start + CHUNK_CHARS]})
    if reply.refusal:
        yield event({"refusal": reply.refusal})
    for number, call in enumerate(tool_calls_of(reply, index)):
        arguments = call["function"]["arguments"]
        opening = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
        yield event({"tool_calls": [{"index": number, **opening}]})
        for start in range(0, len(arguments), CHUNK_CHARS):
            piece = arguments[start : start + CHUNK_CHARS]
            yield event({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
    yield event({}, reason)
    if reply.counts_streams and (body.get("stream_options") or {}).get("include_usage"):
        yield event(None, usage=usage_of(prompt, reply, text))
    yield b"data: [DONE]\n\n"
