"""``copy`` as cells have it. Python's own calls ``__reduce_ex__`` and sets attributes without checking their names."""

from __future__ import annotations

import collections
from typing import Any, Final

from rlm_adapters.sandbox.language.classes import Classes

_CONTAINERS: Final[tuple[tuple[type, Any, Any], ...]] = (
    (dict, dict.items, dict.update),
    (list, list.__iter__, list.extend),
    (set, set.__iter__, set.update),
)
"""How to read and fill the containers that a class written in a cell can inherit from."""


class Copier:
    """Copies containers, and objects of classes that cells have made.

    Any other object is immutable or cannot be copied, and is returned unchanged.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes

    def copy(self, value: Any) -> Any:
        """A shallow copy."""
        cls = type(value)
        if cls in (list, dict, set) or isinstance(value, (collections.deque, collections.OrderedDict)):
            return value.copy()
        if cls not in self._classes.own:
            return value.copy() if isinstance(value, (dict, list, set)) else value
        if hasattr(cls, "__copy__"):
            return value.__copy__()
        return self._rebuild(value, self._items(value), self._state(value))

    def deepcopy(self, value: Any, _memo: dict[int, Any] | None = None) -> Any:
        """A deep copy; an object that occurs twice is copied once."""
        memo: dict[int, Any] = {} if _memo is None else _memo
        if id(value) in memo:
            return memo[id(value)]
        cls = type(value)
        if cls is tuple:
            return tuple(self.deepcopy(item, memo) for item in value)
        if cls is frozenset:
            return frozenset(self.deepcopy(item, memo) for item in value)
        if cls is list:
            items: list[Any] = []
            memo[id(value)] = items
            items.extend(self.deepcopy(item, memo) for item in value)
            return items
        if cls is dict:
            pairs: dict[Any, Any] = {}
            memo[id(value)] = pairs
            pairs.update({self.deepcopy(k, memo): self.deepcopy(v, memo) for k, v in value.items()})
            return pairs
        if cls is set:
            return {self.deepcopy(item, memo) for item in value}
        return self._deepcopy_object(value, memo)

    def _deepcopy_object(self, value: Any, memo: dict[int, Any]) -> Any:
        cls = type(value)
        if cls not in self._classes.own:
            if isinstance(value, dict):
                copied = value.copy()
                memo[id(value)] = copied
                copied.update({k: self.deepcopy(v, memo) for k, v in dict.items(value)})
                return copied
            if isinstance(value, collections.deque):
                return type(value)((self.deepcopy(item, memo) for item in value), value.maxlen)
            return value
        if hasattr(cls, "__deepcopy__"):
            return value.__deepcopy__({})
        copied = memo[id(value)] = self._rebuild(value, None, {})
        if copied is not value:
            for name, item in self._state(value).items():
                object.__setattr__(copied, name, self.deepcopy(item, memo))
            self._fill(copied, self.deepcopy(self._items(value), memo))
        return copied

    def _state(self, value: Any) -> dict[str, Any]:
        """The attributes of an object, from its ``__dict__`` or from the slots that its classes declare."""
        state: dict[str, Any] = {}
        for cls in type(value).__mro__:
            if cls in self._classes.own:
                for name in cls.__dict__.get("__slots__", ()):
                    if name in cls.__dict__ and _has_slot(value, name):
                        state[name] = object.__getattribute__(value, name)
        if hasattr(value, "__dict__"):
            state.update(object.__getattribute__(value, "__dict__"))
        return state

    def _items(self, value: Any) -> Any:
        """The content of an instance of a container subclass."""
        for base, read, _ in _CONTAINERS:
            if isinstance(value, base):
                return list(read(value))
        return None

    def _rebuild(self, value: Any, items: Any, state: dict[str, Any]) -> Any:
        cls = type(value)
        base: Any = next((b for b in cls.__mro__ if b not in self._classes.own), object)
        if base in (int, float, str, bytes, tuple, frozenset, complex) or issubclass(cls, BaseException):
            return value
        if any(b not in self._classes.own and b not in (object, dict, list, set) for b in cls.__mro__):
            raise TypeError(f"cannot copy {cls.__name__!r} objects here: build a new one")
        copied = base.__new__(cls)
        for name, item in state.items():
            object.__setattr__(copied, name, item)
        self._fill(copied, items)
        return copied

    def _fill(self, copied: Any, items: Any) -> None:
        if items is not None:
            for base, _, fill in _CONTAINERS:
                if isinstance(copied, base):
                    fill(copied, items)


def _has_slot(value: Any, name: str) -> bool:
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True
