"""Convert prompts and answers to texts for events and traces."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

_ROLES: Final = {"human": "user", "ai": "assistant"}


def text_of(value: Any) -> str:
    """A prompt, arguments or an answer as text. A content block without text becomes its type and size."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, str) or _is_block(part) for part in value):
        return "\n".join(part if isinstance(part, str) else _block(part) for part in value)
    try:
        return json.dumps(value, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):  # keys that JSON does not have, or a value that contains itself
        return reprlib.repr(value)


def head_of(value: Any, chars: int) -> str:
    """About the beginning of `text_of`, without converting all of a big value."""
    if isinstance(value, str):
        return value[:chars]
    return reprlib.repr(value)[:chars]


def messages_of(target: Any, prompt: Any) -> list[dict[str, str]]:
    """A prompt as a list of {role, text}.

    Args:
        target: the model. If its prompts are not messages, it has a method ``messages_of``.
        prompt: in the form of the model.
    """
    own = getattr(target, "messages_of", None)
    if own is not None:
        return [{"role": role, "text": text} for role, text in own(prompt)]
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        return [
            {"role": _ROLES.get(message.type, message.type), "text": text_of(message.content)}
            if isinstance(message, BaseMessage)
            else {"role": "user", "text": text_of(message)}
            for message in prompt
        ]
    return [{"role": "user", "text": text_of(prompt)}]


def _is_block(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("type"), str)


def _block(part: Mapping[str, Any]) -> str:
    if isinstance(part.get("text"), str):
        return str(part["text"])
    size = sum(len(value) for value in part.values() if isinstance(value, str))
    return f"[{part['type']}, {size:,} characters]"
