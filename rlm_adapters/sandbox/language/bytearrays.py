"""``bytearray`` as cells have it.

CPython's own ``bytearray`` calls ``__index__`` of an argument while it holds a pointer into its buffer. A class written
in a cell can free the buffer in that call (python/cpython#91153 and similar), and then read and write all memory in
twelve lines. So every method here takes only arguments of exact builtin types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rlm_adapters.sandbox.language.names import words

_EXACT: Final = frozenset({int, bool, str, bytes, type(None), float})


def _exact(value: Any) -> Any:
    """Return the argument if no code of a cell can run when C code reads it."""
    kind = type(value)
    if kind in _EXACT or kind is ByteArray or kind is bytearray:
        return value
    if kind is slice:
        return slice(_exact(value.start), _exact(value.stop), _exact(value.step))
    if kind is tuple:
        return tuple(_exact(item) for item in value)
    if hasattr(kind, "__iter__") and not isinstance(value, (str, bytes, bytearray)):
        return [_exact(item) for item in value]
    raise TypeError(f"bytearray does not take {kind.__name__!r} objects here; convert with int() or bytes()")


def _exactly(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, bytearray):
            raise TypeError("expected a bytearray")
        return _checked(method(self, *[_exact(a) for a in args], **{name: _exact(a) for name, a in kwargs.items()}))

    call.__name__ = method.__name__
    return call


def _checked(result: Any) -> Any:
    """Return the result, with every plain ``bytearray`` in it converted to this class."""
    if type(result) is bytearray:
        return ByteArray(result)
    if type(result) in (list, tuple):
        return type(result)(_checked(item) for item in result)
    return result


_SAFE: Final = words(
    """__class__ __new__ __getattribute__ __setattr__ __delattr__ __dir__ __hash__ __doc__ __init_subclass__
    __subclasshook__ __buffer__ __release_buffer__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ __len__ __reduce__
    __reduce_ex__ __sizeof__ __str__ __repr__ __iter__ fromhex maketrans"""
)
ByteArray: Final[type[bytearray]] = type(
    "bytearray",
    (bytearray,),
    {
        "__slots__": (),
        "__module__": "builtins",
        **{
            name: _exactly(getattr(bytearray, name))
            for name in dir(bytearray)
            if callable(getattr(bytearray, name)) and name not in _SAFE
        },
    },
)
