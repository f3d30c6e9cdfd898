"""Classes in a cell: which can be subclassed, what ``type(x)`` returns, and which objects belong to the cell.

Everything here is an allowlist. ``type(x)`` returns a class only if the cell could name it anyway: a class that the
cell made, a builtin, or a class that a facade module exports. Any other class is shown as an opaque stand-in. A base
class must be one of those too. Cells never get the metaclass ``type`` or the root class ``object``; stand-ins replace
them.
"""

from __future__ import annotations

import abc
import builtins
import types
import typing
from typing import Any, Final, NoReturn

from rlm_adapters.sandbox.language.names import Access, classify_attribute
from rlm_adapters.sandbox.runtime.control import ControlFlow

_real_type = type
_real_build_class = builtins.__build_class__

BUILTIN_CLASSES: Final = (
    int, float, complex, bool, str, bytes, list, tuple, dict, set, frozenset, range, slice, enumerate, zip, map,
    filter, reversed, property, classmethod, staticmethod, type(None), type(...), type(NotImplemented),
)  # fmt: skip

EXCEPTION_CLASSES: Final = tuple(
    value
    for value in vars(builtins).values()
    if isinstance(value, type)
    and issubclass(value, BaseException)
    and value not in (BaseException, BaseExceptionGroup, ExceptionGroup)
)
"""The exceptions that cells can name. Exception groups are left out: a subclass with its own ``split`` confuses the
interpreter at ``except*`` (CVE-2025-22153)."""

_PLAIN_BASES: Final = frozenset(
    {int, float, complex, str, bytes, list, tuple, dict, set, frozenset, abc.ABC, typing.Generic, typing.Protocol}
    | set(EXCEPTION_CLASSES)
)
"""Bases without attributes that begin with one underscore: in their subclasses ``_x`` always belongs to the cell."""

_BASES: Final = _PLAIN_BASES


class OpaqueType:
    """Stands for a class of which a cell may see only the name."""

    __slots__ = ("_name", "_real")

    def __init__(self, real: type) -> None:
        self._real = real
        self._name = real.__name__

    def __instancecheck__(self, instance: object) -> bool:
        return _real_type(instance) is self._real

    def __repr__(self) -> str:
        return f"<class '{self._name}'>"


class TypeStandIn:
    """What the name ``type`` means in a cell: the class of an object, and an annotation."""

    __slots__ = ("_classes", "_shown")

    def __init__(self, classes: Classes, shown: dict[type, object]) -> None:
        self._classes = classes
        self._shown = shown

    def __call__(self, value: object, /, *more: object, **keywords: object) -> object:
        """``type(value)``."""
        if more or keywords:
            raise TypeError("type() takes 1 argument here; use a class statement to make a class")
        shown = self._shown.get(_real_type(value))
        return shown if shown is not None else self._classes.type_of(value)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, (_real_type, OpaqueType, TypeStandIn))

    def __subclasscheck__(self, cls: object) -> bool:
        return cls is self

    def __getitem__(self, item: object) -> TypeStandIn:
        return self

    def __or__(self, other: object) -> Any:
        return typing.Any

    __ror__ = __or__

    def __repr__(self) -> str:
        return "<class 'type'>"


class _RootMeta(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return True

    def __subclasscheck__(cls, other: object) -> bool:
        return isinstance(other, (type, OpaqueType, TypeStandIn))


class RootStandIn(metaclass=_RootMeta):
    """What the name ``object`` means in a cell: a sentinel maker and the root of the classes."""

    __slots__ = ("__weakref__",)

    def __repr__(self) -> str:
        return "<object object>"


RootStandIn.__name__ = RootStandIn.__qualname__ = "object"
RootStandIn.__module__ = "builtins"


class BaseStandIn:
    """An object that a cell can use as a base class, although it is not a class or the cell must not have the class.

    Args:
        name: how it prints.
        real: the base that replaces it in the class statement.
        call: called when a cell calls it (``NamedTuple("P", [...])``); None: calling it raises an error.
    """

    __slots__ = ("_call", "_name", "_real")

    def __init__(self, name: str, real: Any, call: Any = None) -> None:
        self._name = name
        self._real = real
        self._call = call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make a class with a call, where that is possible."""
        if self._call is None:
            raise TypeError(f"{self._name} can only be used in a class statement here")
        return self._call(*args, **kwargs)

    def __mro_entries__(self, bases: object) -> NoReturn:
        """Refuse to be a base of a class whose statement was not checked."""
        raise TypeError(f"{self._name} can only be used in a class statement here")

    def __repr__(self) -> str:
        return self._name


ABC_META: Final = BaseStandIn("abc.ABCMeta", abc.ABCMeta)
"""The one metaclass that a class statement may name."""


class Classes:
    """The classes of one session."""

    def __init__(self) -> None:
        self.own: set[type] = set()
        """Classes made by cells. Compared by identity: no class in this set has a metaclass that a cell wrote."""
        self.guest: set[type] = set()
        """The classes among them that a guest module made: the instances belong to cells, the classes do not."""
        self.plain: set[type] = set()
        """The classes among them on which every attribute with one underscore belongs to the cell."""
        self.writable: dict[type, frozenset[str]] = {}
        """Attributes of standard library objects that cells may set."""
        self._known: set[type] = {*BUILTIN_CLASSES, *EXCEPTION_CLASSES, RootStandIn}
        self._bases: set[type] = {*_BASES}
        self._plain_bases: set[type] = {*_PLAIN_BASES}
        self._shown: dict[type, object] = {**{cls: cls for cls in self._known}, object: RootStandIn}
        """What ``type(x)`` returns, by the real class."""
        self.type = TypeStandIn(self, self._shown)

    # What facades declare

    def allow(
        self,
        cls: type,
        *,
        base: bool = False,
        plain: bool = False,
        shown_for: type | None = None,
        writable: str = "",
    ) -> None:
        """Let ``type(x)`` return this class.

        Args:
            cls: the class, which a facade exports.
            base: whether cells may subclass it.
            plain: whether it has no attributes with one underscore that cells must not use.
            shown_for: the standard library class that it replaces.
            writable: names of attributes of its instances that cells may set.
        """
        if writable:
            self.writable[cls] = frozenset(writable.split())
        self._known.add(cls)
        self._shown[cls] = cls
        if base:
            self._bases.add(cls)
        if plain:
            self._plain_bases.add(cls)
        if shown_for is not None:
            self._shown[shown_for] = cls

    def adopt(self, cls: type) -> type:
        """Register a class that a facade made for the cell (a named tuple, a dataclass with slots)."""
        self._check_fields(cls)
        self.own.add(cls)
        self._shown[cls] = cls
        if all(base in self.own or base in self._plain_bases or base is object for base in cls.__mro__):
            self.plain.add(cls)
        return cls

    def _check_fields(self, cls: type) -> None:
        """Check that no generated method or pattern reads an attribute of a host class by the name of a field.

        Raises:
            TypeError: a field has the name of a guarded attribute of a base class.
        """
        hosts = [base for base in cls.__mro__ if base not in self.own and base is not cls and base is not object]
        for name in getattr(cls, "__dataclass_fields__", ()):
            if classify_attribute(name) is not Access.PLAIN and any(name in base.__dict__ for base in hosts):
                raise TypeError(f"a class with a field {name!r} cannot inherit from {hosts[0].__name__!r} here")
        patterns = cls.__dict__.get("__match_args__", ())
        if any(classify_attribute(name) is not Access.PLAIN for name in patterns):
            # Python reads them in C, on any object that passes isinstance(), without the guards.
            _real_type.__setattr__(cls, "__match_args__", ())

    # What cells ask

    def type_of(self, value: object) -> object:
        """``type(value)`` as a cell may see it."""
        cls = _real_type(value)
        shown = self._shown.get(cls)
        if shown is None:
            is_class = issubclass(cls, _real_type) or cls is OpaqueType or cls is TypeStandIn
            shown = self._shown[cls] = self.type if is_class else OpaqueType(cls)
        return shown

    def is_own(self, value: object) -> bool:
        """Whether ``value`` is a class that a cell made, or an instance of one."""
        return _real_type(value) in self.own or self.is_own_class(value)

    def is_initializable(self, cls: type) -> bool:
        """Whether ``cls.__init__`` may be called on an existing object."""
        return cls in self.own or cls in _PLAIN_BASES or cls is RootStandIn

    def is_own_class(self, value: object) -> bool:
        """Whether ``value`` is a class that a cell made and may change."""
        return isinstance(value, _real_type) and value in self.own and value not in self.guest

    def build_class(self, body: Any, name: str, /, *bases: object, metaclass: object = None, **keywords: Any) -> type:
        """``__build_class__`` for cells: runs a class statement with checked bases."""
        if metaclass is not None:
            if metaclass is not ABC_META:
                raise TypeError("metaclass= takes only abc.ABCMeta here; use a base class or a class decorator")
            keywords["metaclass"] = abc.ABCMeta
        real_bases = [self.check_base(base) for base in bases if base is not RootStandIn]
        cls: type = _real_build_class(body, name, *real_bases, **keywords)
        for method in ("__exit__", "__aexit__"):
            if method in cls.__dict__:
                _real_type.__setattr__(cls, method, _guard_exit(method, cls.__dict__[method]))
        return self.adopt(cls)

    def check_base(self, base: object) -> object:
        """Return the real base class for ``base``.

        Raises:
            TypeError: cells cannot subclass it.
        """
        if isinstance(base, BaseStandIn):
            return base._real  # noqa: SLF001 - hidden from cells, not from this module
        # An alias such as list[int] passes isinstance(base, type).
        if issubclass(_real_type(base), _real_type) and isinstance(base, _real_type):
            if base in self.own or base in self._bases:
                return base
            raise TypeError(f"the class {base.__name__!r} cannot be subclassed here; hold one in an attribute instead")
        origin = getattr(base, "__origin__", None) if _is_alias(base) else None
        if isinstance(origin, _real_type) and (origin in self.own or origin in self._bases):
            return base
        if origin in (typing.Generic, typing.Protocol):
            return base
        raise TypeError(f"{base!r} cannot be subclassed here")


def _is_alias(base: object) -> bool:
    """Whether this is ``list[int]`` or ``Generic[T]``. Other objects could return anything from ``__mro_entries__``."""
    return _real_type(base) is types.GenericAlias or _real_type(base).__module__ == "typing"


def _guard_exit(name: str, method: object) -> Any:
    """Prevent a cell's context manager from suppressing exceptions that end the cell, and from reading tracebacks."""
    if not isinstance(method, types.FunctionType):
        raise TypeError(f"{name} must be defined with def here")
    if name == "__aexit__":

        async def guarded_async(self: Any, kind: Any, value: Any, _traceback: Any) -> Any:
            if isinstance(value, ControlFlow):
                await method(self, SystemExit, SystemExit("the cell is ending"), None)
                return False
            return await method(self, kind, value, None)

        return guarded_async

    def guarded(self: Any, kind: Any, value: Any, _traceback: Any) -> Any:
        if isinstance(value, ControlFlow):
            method(self, SystemExit, SystemExit("the cell is ending"), None)
            return False
        return method(self, kind, value, None)

    return guarded
