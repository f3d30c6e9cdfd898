"""The placeholder for an unknown answer, and operations that propagate it.

A value that is computed from an unknown answer is unknown. Only if Python must decide (a branch, a loop, a hash),
`Observed` is raised. Then the rewritten cell skips the statement (see `rewrite`).
"""

from __future__ import annotations

import builtins
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, Self

from rlm_adapters.sandbox.language.facade import Facade
from rlm_adapters.sandbox.runtime.control import ControlFlow

_SEARCH_DEPTH: Final = 4
_SEARCH_ITEMS: Final = 2_000
_LONGEST_SEARCHED: Final = 4 << 20
"""Longest text that is searched for the mark, in characters. A longer result probably has no answers in it."""

MUTATORS: Final = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "move_to_end", "pop", "popitem", "popleft", "put", "remove", "reverse", "rotate",
    "setdefault", "sort", "subtract", "symmetric_difference_update", "update", "write", "writelines",
})  # fmt: skip
"""Methods that change their object. If one fails because of an unknown, its object becomes unknown."""

_IMMUTABLE: Final = (str, bytes, int, float, complex, bool, tuple, frozenset, type(None), range, type, Facade)
_FUNCTIONS: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)


class Observed(ControlFlow):
    """Python must decide with an unknown answer. No ``except`` of a cell catches it."""


class Unknown:
    """An unknown answer, or a value that is computed from one.

    ``isinstance(value, str)`` is true, but it is not a ``str``: C code that needs text refuses it, and this is noticed.
    """

    __slots__ = ()
    mark = "\ue000unknown\ue001"
    """Its form in a text. Each child sets a random mark, so that no prompt contains it by accident."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return str

    def __str__(self) -> str:
        return Unknown.mark

    __repr__ = __str__

    def __format__(self, _spec: str) -> str:
        return Unknown.mark

    def __getattr__(self, name: str) -> Unknown:
        if name.startswith("__"):
            raise AttributeError(name)
        return UNKNOWN

    def __setattr__(self, _name: str, _value: object) -> None:
        """Change nothing."""

    def __setitem__(self, _key: object, _value: object) -> None:
        """Change nothing."""

    def __delitem__(self, _key: object) -> None:
        """Change nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Suppress no exception."""

    def __call__(self, *_args: object, **_kwargs: object) -> Unknown:  # noqa: D102 - it means what Python says
        return UNKNOWN


UNKNOWN: Final = Unknown()


def _pass_on(*_: object) -> Unknown:
    return UNKNOWN


def _observe(*_: object) -> NoReturn:
    raise Observed


_PASSED_ON: Final = (
    *("add", "radd", "iadd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "floordiv", "rfloordiv", "mod"),
    *("rmod", "pow", "rpow", "or", "ror", "and", "rand", "xor", "rxor", "neg", "pos", "invert", "abs", "round"),
    *("getitem", "eq", "ne", "lt", "le", "gt", "ge"),
)
_OBSERVED: Final = ("bool", "len", "iter", "next", "contains", "hash", "int", "float", "complex", "index")

for _name in _PASSED_ON:
    setattr(Unknown, f"__{_name}__", _pass_on)
for _name in _OBSERVED:
    setattr(Unknown, f"__{_name}__", _observe)


def is_unknown(value: object) -> bool:
    """Whether this is the placeholder, or a text that contains it."""
    kind = type(value)
    if kind is Unknown:
        return True
    if kind is str:
        text: str = value  # type: ignore[assignment]
        return len(text) <= _LONGEST_SEARCHED and Unknown.mark in text
    return False


def holds_unknown(value: object) -> bool:
    """Whether a value contains an unknown. Containers are searched up to a limit."""
    left = [_SEARCH_ITEMS]

    def look(value: object, depth: int) -> bool:
        left[0] -= 1
        if is_unknown(value):
            return True
        if depth == 0 or left[0] < 0:
            return False
        kind = type(value)
        if issubclass(kind, dict):
            both: Any = value
            return any(look(one, depth - 1) for one in dict.values(both)) or any(look(k, 0) for k in dict.keys(both))
        if issubclass(kind, (list, tuple, set, frozenset)):
            items: Any = value
            return any(look(one, depth - 1) for one in kind.__iter__(items))
        return any(look(one, depth - 1) for one in _attributes(value).values())

    return look(value, _SEARCH_DEPTH)


def _attributes(value: object) -> dict[str, Any]:
    if isinstance(value, (type, Facade, *_FUNCTIONS)):
        return {}
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


class Operations:
    """The hooks of the rewritten cell, by name.

    Args:
        forget: makes a global name of the cells unknown.
    """

    def __init__(self, forget: Callable[[str], None]) -> None:
        self._forget = forget
        self._kept: list[Any] = []
        self._comprehensions: dict[int, list[bool]] = {}

    def names(self) -> dict[str, Any]:
        """Names to add to the builtins of the cells."""
        return {
            "_Observed_": Observed,
            "_UNK_": UNKNOWN,
            "_call_": call,
            "_item_": self.item,
            "_slice_": slice,
            "_text_": self.text,
            "_mod_": self.mod,
            "_in_": self.contains,
            "_not_in_": self.contains_not,
            "_not_": self.negate,
            "_and_": self.stop_and,
            "_or_": self.stop_or,
            "_if_": self.undecided,
            "_kept_": self._kept.pop,
            "_begin_": self.begin,
            "_end_": self.end,
            "_truth_": self.truth,
            "_iter_": self.iterable,
            "_set_": self.set,
            "_dict_": self.dict,
            "_try_": self.attempt,
            "_spoil_": spoil,
            "_forget_": self._forget,
        }

    # Expressions

    def item(self, owner: Any, key: Any) -> Any:
        """``owner[key]``."""
        try:
            return owner[key]
        except Observed:
            return UNKNOWN

    def text(self, text: str) -> Any:
        """An f-string."""
        return UNKNOWN if is_unknown(text) else text

    def mod(self, left: Any, right: Any) -> Any:
        """``left % right``."""
        try:
            return self.text(left % right)
        except Observed:
            return UNKNOWN
        except TypeError:
            if holds_unknown(right):
                return UNKNOWN
            raise

    def contains(self, item: Any, container: Any) -> Any:
        """``item in container``."""
        if is_unknown(item) or type(container) is Unknown:
            return UNKNOWN
        try:
            return item in container
        except Observed:
            return UNKNOWN

    def contains_not(self, item: Any, container: Any) -> Any:
        """``item not in container``."""
        return self.negate(self.contains(item, container))

    def negate(self, value: Any) -> Any:
        """``not value``."""
        try:
            return not value
        except Observed:
            return UNKNOWN

    def stop_and(self, value: Any) -> bool:
        """For ``value and rest``: whether ``value`` is the result. The value is kept."""
        return not self._decided(value, keep_if=False)

    def stop_or(self, value: Any) -> bool:
        """For ``value or rest``: whether ``value`` is the result. The value is kept."""
        return not self._decided(value, keep_if=True)

    def _decided(self, value: Any, *, keep_if: bool) -> bool:
        try:
            if bool(value) is not keep_if:
                return True
        except Observed:
            value = UNKNOWN
        self._kept.append(value)
        return False

    def undecided(self, test: Any) -> bool:
        """For ``a if test else b``: whether the truth of ``test`` is unknown. If not, it is kept."""
        try:
            self._kept.append(bool(test))
        except Observed:
            return True
        return False

    def attempt(self, work: Callable[[], Any]) -> Any:
        """The body of a lambda."""
        try:
            return work()
        except Observed:
            return UNKNOWN

    # Comprehensions: if a filter or an iterable is unknown, the whole result is unknown

    def _open(self) -> list[bool]:
        return self._comprehensions.setdefault(threading.get_ident(), [])

    def begin(self) -> int:
        """Start a comprehension."""
        frames = self._open()
        frames.append(False)
        return len(frames)

    def end(self, depth: int, result: Any) -> Any:
        """End a comprehension with this result."""
        frames = self._open()
        lost = any(frames[depth - 1 :])
        del frames[depth - 1 :]
        return UNKNOWN if lost else result

    def truth(self, value: Any) -> bool:
        """The truth of its filter."""
        try:
            return bool(value)
        except Observed:
            frames = self._open()
            if not frames:
                raise
            frames[-1] = True
            return False

    def iterable(self, value: Any) -> Any:
        """Its iterable."""
        frames = self._open()
        if type(value) is Unknown and frames:
            frames[-1] = True
            return ()
        return value

    def set(self, items: Any) -> Any:
        """A set comprehension, from a list of items."""
        return call(set, items)

    def dict(self, items: Any) -> Any:
        """A dict comprehension, from a list of pairs."""
        return call(dict, items)


def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """``function(*args, **kwargs)``; the result is unknown if an unknown argument makes it fail."""
    try:
        result = function(*args, **kwargs)
    except Observed:
        if _changes_its_object(function):
            raise
        return UNKNOWN
    except Exception:
        owner = getattr(function, "__self__", None)
        if not (
            holds_unknown(args) or (kwargs and holds_unknown(kwargs)) or (owner is not None and holds_unknown(owner))
        ):
            raise
        if _changes_its_object(function):
            raise Observed from None
        return UNKNOWN
    return UNKNOWN if type(result) is str and is_unknown(result) else result


def _changes_its_object(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    return not isinstance(owner, _IMMUTABLE) and getattr(function, "__name__", "") in MUTATORS


def spoil(value: Any) -> Any:
    """Make an object unknown that a skipped statement would have changed, if possible in place.

    Returns:
        The new value of its name.
    """
    if isinstance(value, (Facade, type, *_FUNCTIONS)):
        return value
    try:
        if isinstance(value, list):
            value[:] = [UNKNOWN]
        elif isinstance(value, dict):
            for key in value:
                value[key] = UNKNOWN
        elif attributes := _attributes(value):
            for name in attributes:
                attributes[name] = UNKNOWN
    except Exception:  # noqa: BLE001, S110 - a class of the cell's own; then only the name is lost
        pass
    return UNKNOWN


# Builtins that would stop at the first unknown, in a form that uses all items. The result is the same.


def eager_filter(function: Any, items: Iterable[Any]) -> Any:
    """``filter``."""
    passed, lost = [], False
    for item in items:
        verdict = item if function is None else call(function, item)
        try:
            if verdict:
                passed.append(item)
        except Observed:
            lost = True
    return UNKNOWN if lost else builtins.iter(passed)


def _eager_extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def extreme(*args: Any, key: Any = None, **options: Any) -> Any:
        if key is None:
            return choose(*args, **options)
        items = list(args[0]) if len(args) == 1 else list(args)
        keys = [call(key, item) for item in items]
        if any(is_unknown(one) for one in keys):
            raise Observed
        best = iter(keys)
        # The keys are computed in the same order as in the real function: once for each item.
        return choose(items, key=lambda _item: next(best), **options)

    return extreme


EAGER: Final[Mapping[str, Any]] = {
    "filter": eager_filter,
    "max": _eager_extreme(max),
    "min": _eager_extreme(min),
}
