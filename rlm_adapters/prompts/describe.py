"""Describe values to the root LM by type, length, head and tail, and cut long output in the middle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_adapters.prompts.trajectory import InputInfo

_HEAD, _TAIL = 300, 120  # characters of a text that the first prompt shows
_ITEMS = 3  # items of a list that it shows


def describe_input(name: str, value: Any) -> InputInfo:
    """Describe an input value."""
    return InputInfo(name, type_name(value), _size(value), preview(value))


def type_name(value: Any) -> str:
    """Type of a JSON value with the type of its items: ``list[str]``, ``dict[str, int]``."""
    if isinstance(value, list | tuple):
        kinds = {type(item).__name__ for item in value[:200]}
        return f"list[{kinds.pop()}]" if len(kinds) == 1 else "list"
    if isinstance(value, Mapping):
        kinds = {type(item).__name__ for item in list(value.values())[:200]}
        return f"dict[str, {kinds.pop()}]" if len(kinds) == 1 else "dict"
    return type(value).__name__


def preview(value: Any, *, head: int = _HEAD, tail: int = _TAIL) -> str:
    """Head and tail of a value, as Python prints them."""
    if isinstance(value, str | bytes):
        if len(value) <= head + tail:
            return repr(value)
        return f"{value[:head]!r} ... {value[-tail:]!r}"
    if isinstance(value, Sequence):
        shown = [preview(item, head=100, tail=40) for item in value[:_ITEMS]]
        return "[" + ", ".join(shown) + (", ...]" if len(value) > _ITEMS else "]")
    if isinstance(value, Mapping):
        shown = [f"{key!r}: {preview(item, head=60, tail=20)}" for key, item in list(value.items())[:_ITEMS]]
        return "{" + ", ".join(shown) + (", ...}" if len(value) > _ITEMS else "}")
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= head + tail else f"{text[:head]} ... {text[-tail:]}"


def _size(value: Any) -> int | None:
    return len(value) if isinstance(value, str | bytes | Sequence | Mapping) else None


def input_line(info: InputInfo) -> str:
    """An input as one bullet of the first prompt."""
    unit = {"str": "characters", "bytes": "bytes"}.get(info.type, "items")
    size = "" if info.size is None else f", {info.size:,} {unit}"
    return f"- `{info.name}`: {info.type}{size}\n  {info.preview}"


def cut_middle(text: str, limit: int) -> str:
    """Keep head and tail of a long text, and say how much is left out."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    gone = len(text) - limit
    note = f"... [{gone:,} of {len(text):,} characters not shown; print a slice to see them] ..."
    return f"{text[:head]}\n{note}\n{text[-tail:]}"
