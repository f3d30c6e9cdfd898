"""Safe versions of standard library classes that are written in Python.

``Counter.copy`` is a plain function. Called with a class as ``self``, it returns the metaclass (``self.__class__``).
So a cell gets a subclass in which every public function checks that ``self`` is an instance.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

_T = TypeVar("_T", bound=type)


def checked_class(real: _T, *, hide: Iterable[str] = ()) -> _T:
    """Make a subclass of ``real`` whose functions accept only instances of ``real`` as ``self``.

    Instances of ``real`` itself count as instances of the subclass: arithmetic on ``Counter`` or ``Fraction`` makes
    them.

    Args:
        real: a class of the standard library.
        hide: public attributes that cells must not reach.
    """
    real_meta = type(real)

    # Use the method resolution order, not the metaclass: an ABC asks its subclasses, which would call this again.
    def subclasscheck(cls: type, other: Any) -> bool:
        return (real if cls is edition else cls) in type.__dict__["__mro__"].__get__(other)

    def instancecheck(cls: type, instance: object) -> bool:
        return subclasscheck(cls, type(instance))

    checks = {"__instancecheck__": instancecheck, "__subclasscheck__": subclasscheck}
    meta: Any = type(real_meta.__name__, (real_meta,), checks)
    namespace = _checked_namespace(real)
    namespace.update({name: property(_hidden) for name in hide})
    namespace["__doc__"] = real.__doc__
    namespace["__module__"] = real.__module__
    if "__dict__" not in dir(real):
        namespace["__slots__"] = ()
    edition: Any = types.new_class(real.__name__, (real,), {"metaclass": meta}, lambda ns: ns.update(namespace))
    edition.__qualname__ = real.__qualname__
    return cast("_T", edition)


def _checked_namespace(real: type) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    for cls in real.__mro__[:-1]:
        for name, attribute in vars(cls).items():
            if name[:1] == "_" or name in namespace:
                continue
            checked = _checked(real, attribute)
            if checked is not None:
                namespace[name] = checked
    return namespace


def _checked(real: type, attribute: object) -> Any:
    """The checked version of a function, property or class method written in Python; None for anything else."""
    if isinstance(attribute, types.FunctionType):
        return _check_self(real, attribute)
    if type(attribute) is property and isinstance(attribute.fget, types.FunctionType):
        return property(_check_self(real, attribute.fget), _setter(real, attribute.fset), doc=attribute.__doc__)
    if isinstance(attribute, classmethod) and isinstance(attribute.__func__, types.FunctionType):
        return classmethod(attribute.__func__)
    return None


def _setter(real: type, function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    return _check_self(real, function) if function is not None else None


def _check_self(real: type, function: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if real not in type(self).__mro__:
            raise TypeError(f"{function.__qualname__}() takes an instance of {real.__name__!r} as its first argument")
        return function(self, *args, **kwargs)

    checked.__name__, checked.__qualname__ = function.__name__, function.__qualname__
    checked.__doc__ = function.__doc__
    return checked


def _hidden(_self: object) -> Any:
    raise AttributeError("this attribute is not available here")
