"""Convert values of a cell to exact JSON types (and bytes) before they leave the worker.

Reading a subclass of ``str`` or ``dict`` in the usual way runs code of the cell. Here they are read once, with the
methods of the base class, within the CPU time of the cell.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import deque
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final

from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.failures import FailedAnswer

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_DEPTH: Final = 100
_MAX_ITEMS: Final = 5_000_000
"""Most values in one message. Lists that share their items can have many more values than objects."""
_MAX_DIGITS: Final = 4_000
"""Python reads integers of up to 4,300 digits from JSON."""
_MAX_BITS: Final = int(_MAX_DIGITS * math.log2(10))
_VIEWS: Final[tuple[Any, ...]] = (deque, range, type({}.keys()), type({}.values()), type({}.items()))


def exact_text(text: str) -> str:
    """An exact ``str`` without lone surrogates, which UTF-8 does not have."""
    text = str.__str__(text)
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def to_json(value: Any) -> Any:
    """Convert an answer, or an argument of a call, to exact JSON types. Exact bytes are allowed, too.

    Sets, dict views, ranges, generators and other iterators become lists, mappings and dataclasses become dicts, and a
    value with its own ``__str__`` (a date, a path, an exception) becomes its text.

    Raises:
        TypeError: ``value`` is not data: a function, a class, an open file, a coroutine.
        ValueError: ``value`` is nested too deeply, or too large.
    """
    return _Converter().convert(value, 0)


class _Converter:
    """Converts one value, and counts the results."""

    def __init__(self) -> None:
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
            raise _too_many()
        if isinstance(value, dict):
            return {self._key(key): self.convert(item, depth + 1) for key, item in dict.items(value)}
        if isinstance(value, list):
            return [self.convert(item, depth + 1) for item in list.__iter__(value)]
        if isinstance(value, tuple):
            return [self.convert(item, depth + 1) for item in tuple.__iter__(value)]
        if isinstance(value, (bytes, bytearray)):
            return bytes.join(b"", [value])
        if callable(getattr(value, "tolist", None)):  # numbers and arrays of NumPy
            return self.convert(value.tolist(), depth + 1)
        if isinstance(value, FailedAnswer):
            value.refuse()  # it cannot be an argument or an answer: raise the failure
        return self._anything(value, depth)

    def _integer(self, value: int) -> int:
        value = int.__pos__(value)
        if value.bit_length() > _MAX_BITS:
            raise ValueError(f"integers of more than {_MAX_DIGITS:,} digits cannot be sent; send a text instead")
        return value

    def _float(self, value: float) -> float | str:
        value = float.__pos__(value)
        # JSON has no nan and inf.
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
        if isinstance(key, (tuple, frozenset)) or _has_own_text(key):
            return exact_text(text_of(key))
        raise TypeError(_not_data(key))

    def _anything(self, value: Any, depth: int) -> Any:
        if isinstance(value, (set, frozenset)):
            read: Any = (set if isinstance(value, set) else frozenset).__iter__
            items = [self.convert(item, depth + 1) for item in read(value)]
            return sorted(items, key=lambda item: (type(item).__name__, str(item)))
        if isinstance(value, Mapping):
            return self.convert(dict(value), depth + 1)
        if isinstance(value, Enum):
            return self.convert(value.value, depth + 1)
        if isinstance(value, type):
            raise TypeError(_not_data(value))
        if isinstance(value, _VIEWS) or (isinstance(value, Iterator) and not hasattr(value, "read")):
            return [self.convert(item, depth + 1) for item in self._bounded(value)]
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self.convert(fields, depth + 1)
        if _has_own_text(value):
            return exact_text(text_of(value))
        raise TypeError(_not_data(value))

    def _bounded(self, values: Iterable[Any]) -> Iterator[Any]:
        """The items of an iterator, which may be endless."""
        for value in values:
            if self._items >= _MAX_ITEMS:
                raise _too_many()
            yield value


def _too_many() -> ValueError:
    return ValueError(f"the value has more than {_MAX_ITEMS:,} items")


def _has_own_text(value: object) -> bool:
    """Whether ``str(value)`` describes the value, and is not only its address."""
    return isinstance(value, complex) or type(value).__str__ is not object.__str__


def _not_data(value: object) -> str:
    """Why a value cannot be sent, and what to do."""
    if isinstance(value, type) or callable(value):
        way = "call it and hand over what it gives"
    elif isinstance(value, Awaitable):
        way = "await it first"
    elif hasattr(value, "read"):
        way = "read it first, with its read()"
    else:
        way = "hand over a text made with str(), a list made with list(), or a dict of its fields"
    return f"a value of type {type(value).__name__!r} is not data and cannot be handed over: {way}"


def text_of(value: object) -> str:
    """``str(value)``, or a note if a ``__str__`` of the cell fails."""
    try:
        return str(value)
    except ControlFlow:
        raise
    except BaseException as error:  # noqa: BLE001 - code of the cell can raise anything
        return f"<unprintable {type(value).__name__} object: {type(error).__name__}>"
