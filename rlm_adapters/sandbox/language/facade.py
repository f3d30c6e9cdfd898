"""Modules as cells see them: a fixed set of names, never the real module.

From a real module, one or two attributes lead to ``sys`` or ``open`` (``statistics.sys``, ``csv.io.open``).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, NoReturn


class Facade:
    """A read-only stand-in for a module.

    It has no ``__name__``: with it, ``from m import n`` would fall back to ``sys.modules["m.n"]``.
    """

    __slots__ = ("__dict__", "_facade_name")

    def __init__(self, name: str, members: Mapping[str, object]) -> None:
        object.__setattr__(self, "_facade_name", name)
        object.__getattribute__(self, "__dict__").update(members)

    def __getattr__(self, attribute: str) -> NoReturn:
        name = object.__getattribute__(self, "_facade_name")
        raise AttributeError(f"module {name!r} has no attribute {attribute!r} here") from None

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise TypeError("modules cannot be changed here")

    def __delattr__(self, attribute: str) -> NoReturn:
        raise TypeError("modules cannot be changed here")

    def __dir__(self) -> Iterable[str]:
        return sorted(object.__getattribute__(self, "__dict__"))

    def __repr__(self) -> str:
        return f"<sandbox module {object.__getattribute__(self, '_facade_name')!r}>"


def name_of(facade: Facade) -> str:
    """The name of the module."""
    name: str = object.__getattribute__(facade, "_facade_name")
    return name


def names_in(facade: Facade) -> set[str]:
    """The names that the module has."""
    return set(object.__getattribute__(facade, "__dict__"))


def pick(module: str, names: str) -> dict[str, Any]:
    """Return the listed names of a real module, except those that this version of Python lacks."""
    real = importlib.import_module(module)
    return {name: getattr(real, name) for name in names.split() if hasattr(real, name)}


def public_names(module: str) -> dict[str, Any]:
    """Return all public names of a module written in C, which gives no access to other modules."""
    real = importlib.import_module(module)
    assert not hasattr(real, "__file__") or not str(real.__file__).endswith(".py")
    return {
        name: value
        for name, value in vars(real).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
