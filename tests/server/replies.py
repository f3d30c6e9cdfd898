"""What a scripted model answers, the ways in which it can fail included."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of the assistant; ``arguments`` may be text, to send JSON that is broken."""

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str | None = None

    @property
    def arguments_text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(dict(self.arguments))


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a scripted model."""

    text: str | None = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    """None: ``tool_calls`` when there are some, else ``stop`` (or ``length`` when max_tokens cut the text)."""
    refusal: str | None = None
    reasoning_tokens: int = 0
    """Tokens of the answer that were thought and are not shown."""
    latency: float | None = None
    """Seconds until the first byte; None: the latency of the model, or of the server."""
    chunk_latency: float = 0.0
    """Seconds between two chunks of a streamed answer."""
    tokens_per_second: float | None = None
    """How fast it is written, at four characters a token: streamed so, or sent when all of it would be there."""
    waits_at: str = ""
    """A streamed answer stops behind the first occurrence of this text, until ``waits_for`` gives true (at most 60 s)."""
    waits_for: Callable[[], bool] | None = None
    status: int = 200
    """From 400 on ``text`` is the message of an OpenAI error body with the code ``error_code``."""
    error_code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cached_tokens: int = 0
    """Of the prompt's tokens, those that were in the provider's cache."""
    counts_streams: bool = True
    """False: a streamed answer tells no usage, though it was asked for."""
    raw_body: str | None = None
    """Sent in place of the body, as it is."""
    fault: Literal["hang", "drop"] | None = None
    """``hang``: never answer. ``drop``: close the connection (of a streamed answer: after half of its chunks)."""


def server_error(message: str = "The server had an error while processing your request", status: int = 500) -> Reply:
    return Reply(message, status=status, error_code="server_error")


def rate_limited(retry_after: float | None = None) -> Reply:
    """HTTP 429, with the header Retry-After (seconds) when one is given."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Reply("Rate limit reached", status=429, error_code="rate_limit_exceeded", headers=headers)


def never_answers() -> Reply:
    return Reply(fault="hang")


def drops_connection(text: str = "") -> Reply:
    """Close the connection without an answer; a streamed answer breaks off in the middle of ``text``."""
    return Reply(text, fault="drop")


def invalid_json() -> Reply:
    """HTTP 200 with a body that breaks off, as proxies send it."""
    return Reply(raw_body='{"id": "chatcmpl-1", "choices": [{"message": {"content": "hal')


def content_filtered(text: str = "") -> Reply:
    return Reply(text, finish_reason="content_filter")


def refused(text: str = "I'm sorry, I can't help with that.") -> Reply:
    """A refusal in the field that OpenAI has for it."""
    return Reply(None, refusal=text)


def cut_off(text: str) -> Reply:
    """A reply that reached the model's output limit."""
    return Reply(text, finish_reason="length")
