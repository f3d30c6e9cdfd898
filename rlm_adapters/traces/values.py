"""Convert values of a trace to the expected types. The trace may come from an untrusted source."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rlm_adapters.traces.content import Text


def text_or_none(value: Any, chars: Any = None) -> Text | None:
    """A text, or the JSON of any other value. None stays None.

    Args:
        value: any value.
        chars: length of the whole text, if the value is its head.
    """
    if value is None or isinstance(value, Text):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    whole = chars if isinstance(chars, int) and not isinstance(chars, bool) else 0
    return Text(text, max(whole, len(text)))


def text(value: Any, chars: Any = None) -> Text:
    """A text; empty if the value is None."""
    return text_or_none(value, chars) or Text.of("")


def string(value: Any) -> str:
    """A short text; empty if the value is not a text."""
    return str(value) if isinstance(value, str | Text) else ""


def string_or_none(value: Any) -> str | None:
    """A short text, or None."""
    return str(value) if isinstance(value, str | Text) else None


def number_or_none(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def integer(value: Any) -> int:
    """A count; 0 if the value is not an integer."""
    number = number_or_none(value)
    return max(0, int(number)) if number is not None else 0


def flag(value: Any) -> bool:
    """Whether the value is true."""
    return value is True


def mapping(value: Any) -> dict[str, Any]:
    """A dict of plain JSON; empty if the value is not a dict."""
    return {str(key): plain(part) for key, part in value.items()} if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[dict[str, Any]]:
    """A list of dicts; other items are left out."""
    return [mapping(one) for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def strings(value: Any) -> list[str]:
    """A list of short texts; other items are left out."""
    return [str(one) for one in value if isinstance(one, str | Text)] if isinstance(value, list | tuple) else []


def plain(value: Any) -> Any:
    """A value without `Text` objects."""
    if isinstance(value, Text):
        return value.read()
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value
