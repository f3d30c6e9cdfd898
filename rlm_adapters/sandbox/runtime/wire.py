"""Turning what a cell hands out into exact JSON types (and bytes), before it leaves the worker.

Subclasses of ``str`` or ``dict`` run code of the cell when they are read the usual way; here they are read by the
methods of the base class, once, within the CPU time of the cell.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import fractions
import math
import re
import uuid
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.failures import FailedAnswer

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_DEPTH: Final = 100
_MAX_ITEMS: Final = 5_000_000
"""Values in one message. Lists that share their items can name far more than there are."""
_MAX_DIGITS: Final = 4_000
"""Python reads integers of up to 4,300 digits from JSON."""
_MAX_BITS: Final = int(_MAX_DIGITS * math.log2(10))
_AS_TEXT: Final = (
    dt.date, dt.time, dt.timedelta, decimal.Decimal, fractions.Fraction, uuid.UUID, complex,
)  # fmt: skip
_VIEWS: Final[tuple[Any, ...]] = (deque, range, type({}.keys()), type({}.values()), type({}.items()))


def exact_text(text: str) -> str:
    """An exact ``str`` without lone surrogates, which no UTF-8 channel takes."""
    text = str.__str__(text)
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def to_json(value: Any, *, lenient: bool = False) -> Any:
    """Convert ``value`` to exact JSON types; exact bytes pass.

    Args:
        value: what the cell hands over.
        lenient: turn what has no JSON form into its text, as for a submitted answer. Otherwise it is an error,
            as for an argument of a call.

    Raises:
        TypeError: ``value`` has no JSON form.
        ValueError: ``value`` is nested too deeply, or too large.
    """
    return _Converter(lenient=lenient).convert(value, 0)


class _Converter:
    """Converts one value; counts what it has made of it."""

    def __init__(self, *, lenient: bool) -> None:
        self._lenient = lenient
        self._items = 0

    def convert(self, value: Any, depth: int) -> Any:
        self._items += 1
        if value is None or type(value) is bool:
            return value
        if isinstance(value, str):
            return exact_text(value)
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            return self._float(value)
        if depth > _MAX_DEPTH:
            raise ValueError(f"the value is nested more than {_MAX_DEPTH} levels deep")
        more = len(value) if type(value) in (list, tuple, dict, set, deque, range) else 0
        if self._items + more > _MAX_ITEMS:
            raise ValueError(f"the value has more than {_MAX_ITEMS:,} items")
        if isinstance(value, dict):
            return {self._key(key): self.convert(item, depth + 1) for key, item in dict.items(value)}
        if isinstance(value, list):
            return [self.convert(item, depth + 1) for item in list.__iter__(value)]
        if isinstance(value, tuple):
            return [self.convert(item, depth + 1) for item in tuple.__iter__(value)]
        if isinstance(value, (bytes, bytearray)):
            return bytes.join(b"", [value])
        if callable(getattr(value, "tolist", None)):  # numbers and arrays of numpy
            return self.convert(value.tolist(), depth + 1)
        if isinstance(value, FailedAnswer):
            value.refuse()  # neither an argument nor an answer: whoever hands it on must hear of the failure
        if not self._lenient:
            raise TypeError(
                f"a value of type {type(value).__name__!r} cannot be sent; convert it with str() or json.dumps()"
            )
        return self._anything(value, depth)

    def _integer(self, value: int) -> int:
        value = int.__pos__(value)
        if value.bit_length() > _MAX_BITS:
            raise ValueError(f"integers of more than {_MAX_DIGITS:,} digits cannot be sent; send a text instead")
        return value

    def _float(self, value: float) -> float | str:
        value = float.__pos__(value)
        # JSON has no form for nan and inf.
        return value if math.isfinite(value) else float.__repr__(value)

    def _key(self, key: Any) -> str:
        """A key of an object, converted as ``json.dumps`` does."""
        if isinstance(key, str):
            return exact_text(key)
        if key is None or key is True or key is False:
            return {None: "null", True: "true", False: "false"}[key]
        if isinstance(key, int):
            return int.__repr__(self._integer(key))
        if isinstance(key, float):
            return float.__repr__(key)
        if self._lenient:
            return exact_text(text_of(key))
        raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")

    def _anything(self, value: Any, depth: int) -> Any:
        if isinstance(value, (set, frozenset)):
            read: Any = (set if isinstance(value, set) else frozenset).__iter__
            items = [self.convert(item, depth + 1) for item in read(value)]
            return sorted(items, key=lambda item: (type(item).__name__, str(item)))
        if isinstance(value, _VIEWS):
            return [self.convert(item, depth + 1) for item in value]
        if isinstance(value, Mapping):
            return self.convert(dict(value), depth + 1)
        if isinstance(value, Enum):
            return self.convert(value.value, depth + 1)
        if isinstance(value, _AS_TEXT):
            return exact_text(str(value))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self.convert(fields, depth + 1)
        return exact_text(text_of(value))


def text_of(value: object) -> str:
    """``str(value)``, or a note if the cell's own ``__str__`` fails."""
    try:
        return str(value)
    except ControlFlow:
        raise
    except BaseException as error:  # noqa: BLE001 - code of the cell can raise anything
        return f"<unprintable {type(value).__name__} object: {type(error).__name__}>"
