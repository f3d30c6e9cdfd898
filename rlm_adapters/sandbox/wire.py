"""Turning what a cell hands out into exact JSON types (and bytes), before it leaves the worker.

Subclasses of ``str`` or ``dict`` run code of the cell when they are read the usual way; here they are read by the
methods of the base class, once, within the CPU time of the cell.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import fractions
import re
import uuid
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SCALARS: Final = (bool, int, float)
_MAX_DEPTH: Final = 200
_AS_TEXT: Final = (
    datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction, uuid.UUID, complex,
)  # fmt: skip


def exact_text(text: str) -> str:
    """An exact ``str`` without lone surrogates, which no UTF-8 channel takes."""
    text = str.__str__(text)
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def to_json(value: Any, *, lenient: bool = False, _depth: int = 0) -> Any:
    """Convert ``value`` to exact JSON types; exact bytes pass.

    Args:
        value: what the cell hands over.
        lenient: turn what has no JSON form into its text, as for a submitted answer. Otherwise it is an error,
            as for an argument of a call.

    Raises:
        TypeError: ``value`` has no JSON form, or is nested too deeply.
    """
    if value is None or type(value) in _SCALARS:
        return value
    if isinstance(value, str):
        return exact_text(value)
    if _depth > _MAX_DEPTH:
        raise TypeError(f"the value is nested more than {_MAX_DEPTH} levels deep")
    depth = _depth + 1
    if isinstance(value, dict):
        return {_key(k, lenient=lenient): to_json(v, lenient=lenient, _depth=depth) for k, v in dict.items(value)}
    if isinstance(value, (list, tuple)):
        items = list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)
        return [to_json(item, lenient=lenient, _depth=depth) for item in items]
    if isinstance(value, (bytes, bytearray)):
        return bytes(value) if type(value) is bytes else bytes.join(b"", [value])
    for base in _SCALARS:
        if isinstance(value, base):
            return base.__pos__(value) if base is not bool else value
    if not lenient:
        raise TypeError(f"a value of type {type(value).__name__!r} cannot be sent; convert it with str() or json.dumps()")
    return _lenient(value, depth)


def _lenient(value: Any, depth: int) -> Any:
    if isinstance(value, (set, frozenset)):
        items = [to_json(item, lenient=True, _depth=depth) for item in value]
        return sorted(items, key=lambda item: (type(item).__name__, str(item)))
    if isinstance(value, (deque, range, Mapping)) or type(value).__name__ in ("dict_keys", "dict_values", "dict_items"):
        plain = dict(value) if isinstance(value, Mapping) else list(value)
        return to_json(plain, lenient=True, _depth=depth)
    if isinstance(value, Enum):
        return to_json(value.value, lenient=True, _depth=depth)
    if isinstance(value, _AS_TEXT):
        return exact_text(str(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return to_json(fields, lenient=True, _depth=depth)
    return exact_text(text_of(value))


def _key(key: Any, *, lenient: bool) -> str:
    """A key of an object, converted as ``json.dumps`` does."""
    if isinstance(key, str):
        return exact_text(key)
    if key is None or key is True or key is False:
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int):
        return int.__repr__(key)
    if isinstance(key, float):
        return float.__repr__(key)
    if lenient:
        return exact_text(text_of(key))
    raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")


def text_of(value: object) -> str:
    """``str(value)``, or a note if the cell's own ``__str__`` fails."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - code of the cell can raise anything
        return f"<unprintable {type(value).__name__} object: {type(error).__name__}>"
