"""``str.format`` without its back door: ``"{0.__globals__}".format(f)`` reads attributes past every guard."""

from __future__ import annotations

import _string  # type: ignore[import-not-found,unused-ignore]
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

GetAttribute: TypeAlias = Callable[[object, str], Any]

_walks: Final = re.compile(r"\{[^{}:!.\[]*[.\[]").search
"""Finds a replacement field that reads an attribute or an item."""


class SafeFormat:
    """Formats like ``str.format``, reading attributes through a guard.

    The C version, which is 10 times faster, does the work whenever no field reads an attribute or an item.
    """

    def __init__(self, get_attribute: GetAttribute) -> None:
        self._formatter = _GuardedFormatter(get_attribute)

    def format(self, template: str, /, *args: Any, **kwargs: Any) -> str:
        """``template.format(*args, **kwargs)``."""
        text = exact_str(template, "format")
        if not _walks(text):
            return text.format(*args, **kwargs)
        return self._formatter.vformat(text, args, kwargs)

    def format_map(self, template: str, mapping: Mapping[str, Any], /) -> str:
        """``template.format_map(mapping)``."""
        text = exact_str(template, "format_map")
        if not _walks(text):
            return text.format_map(mapping)
        return self._formatter.vformat(text, (), mapping)


class _GuardedFormatter(string.Formatter):
    def __init__(self, get_attribute: GetAttribute) -> None:
        self._get_attribute = get_attribute

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first, rest = _string.formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            value = self._get_attribute(value, key) if is_attribute else value[key]
        return value, first


def exact_str(text: object, method: str) -> str:
    """The text as an exact ``str``: a subclass could answer differently each time it is asked."""
    if type(text) is str:
        return text
    if not isinstance(text, str):
        raise TypeError(f"descriptor {method!r} requires a 'str' object but received a {type(text).__name__!r}")
    return str.__str__(text)
