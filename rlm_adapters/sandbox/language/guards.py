"""The guards: functions that the policy calls at run time where the name alone does not decide.

The rule: an attribute that the standard library may have set is refused unless it is listed. An attribute that the
cell itself has set is allowed.
"""

from __future__ import annotations

import builtins
import datetime as dt
import types
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Protocol, TypeAlias

from rlm_adapters.sandbox.language.classes import Classes, OpaqueType, TypeStandIn
from rlm_adapters.sandbox.language.names import (
    METHODS,
    NAMEDTUPLE_ATTRIBUTES,
    Access,
    classify_attribute,
    is_assignable,
)
from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.formatting import SafeFormat

_getattr = builtins.getattr
_setattr = builtins.setattr
_delattr = builtins.delattr
_hasattr = builtins.hasattr

_BUILTIN_METHODS: Final = (
    types.BuiltinMethodType,
    types.MethodDescriptorType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_SELF_CLASS: Final = super.__dict__["__self_class__"].__get__
_THIS_CLASS: Final = super.__dict__["__thisclass__"].__get__


class Clock(Protocol):
    """Gives the time for ``datetime.now()`` and similar methods."""

    def today(self, cls: type[dt.date]) -> dt.date:
        """``cls.today()``."""

    def now(self, cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
        """``cls.now(tz)``."""

    def utcnow(self, cls: type[dt.datetime]) -> dt.datetime:
        """``cls.utcnow()``."""


class Guards:
    """The guards of one session.

    Args:
        classes: the classes of the session.
        namespace: the globals of the cells; a function with these globals belongs to a cell.
        clock: gives the time for ``datetime.now``.
        trusted_packages: real modules that the user has allowed; cells may set attributes of their objects.
    """

    def __init__(
        self,
        classes: Classes,
        namespace: MutableMapping[str, object],
        clock: Clock,
        trusted_packages: frozenset[str] = frozenset(),
    ) -> None:
        self.classes = classes
        self._namespace = namespace
        self._clock = clock
        self._trusted = trusted_packages
        self.formatting = SafeFormat(self.getattr)
        self._special: dict[str, Callable[[Any, str], Any]] = {
            "__class__": lambda owner, _: classes.type_of(owner),
            "__name__": self._name,
            "__qualname__": self._name,
            "__doc__": lambda owner, name: _text_or_none(_getattr(owner, name)),
            "__module__": self._module,
            "__dict__": lambda owner, _: self.vars(owner),
            "__annotations__": lambda owner, name: dict(_getattr(self._require_own(owner, name), name)),
            "__version__": lambda owner, name: str(_getattr(owner, name)),
            "__members__": lambda owner, name: dict(_getattr(owner, name)),
            "__notes__": lambda owner, name: list(_getattr(owner, name)),
            "__cause__": _chained,
            "__context__": _chained,
            "format": self._format,
            "format_map": self._format,
            "now": self._clock_method,
            "today": self._clock_method,
            "utcnow": self._clock_method,
            "groupindex": _copied_mapping,
            "metadata": _copied_mapping,
        }
        self.private, self.write, self.update_private = _fast_guards(self)
        self.call_format = _fast_format(self)

    # Reading

    def getattr(self, owner: object, name: str, /, *default: object) -> Any:
        """``getattr`` for cells, and the guard for attributes with a special name."""
        if type(name) is not str:
            # A subclass of str could misreport its content.
            raise TypeError(f"attribute name must be string, not {type(name).__name__!r}")
        try:
            return self._read(owner, name)
        except AttributeError:
            if default:
                return default[0]
            raise

    def _read(self, owner: object, name: str) -> Any:
        access = classify_attribute(name)
        if access is Access.PLAIN:
            return _getattr(owner, name)
        if access is Access.PRIVATE:
            return self.private(owner, name)
        if access is Access.REFUSED:
            raise AttributeError(f"the attribute {name!r} is not available here")
        if type(owner) is super:
            return self._read_super(owner, name)
        if name in METHODS:
            return self._method(owner, name)
        special = self._special.get(name)
        if special is not None and name[:2] == "__":
            return special(owner, name)
        if self._is_cells_own(owner, name) or self._is_trusted(owner):
            return _getattr(owner, name)
        if special is not None:
            return special(owner, name)
        if name in NAMEDTUPLE_ATTRIBUTES:
            return self._namedtuple_attribute(owner, name)
        raise AttributeError(f"the attribute {name!r} of {_kind(owner)} is not available here")

    def hasattr(self, owner: object, name: str, /) -> bool:
        """``hasattr`` for cells."""
        try:
            self.getattr(owner, name)
        except AttributeError:
            return False
        return True

    def vars(self, owner: object) -> dict[str, Any]:
        """A copy of the attributes of an object that belongs to the cell."""
        if not self.classes.is_own(owner):
            raise TypeError("vars() argument must be an object of a class defined in a cell")
        attributes: dict[str, Any] = _getattr(owner, "__dict__")
        return {name: value for name, value in attributes.items() if is_assignable(name)}

    def dir(self, owner: object) -> list[str]:
        """``dir`` for cells: the attributes that can be read."""
        return [name for name in builtins.dir(owner) if classify_attribute(name) is not Access.REFUSED]

    # Writing

    def update(self, owner: Any, name: str) -> Any:
        """The guard for ``owner.name += 1`` with a name that is harmless on only some objects."""
        self.write(owner, name)
        if not self._is_cells_own(owner, name):
            raise AttributeError(f"the attribute {name!r} of {_kind(owner)} is not available here")
        return owner

    def setattr(self, owner: Any, name: str, value: object, /) -> None:
        """``setattr`` for cells."""
        _setattr(self.write(owner, _assignable(name)), name, value)

    def delattr(self, owner: Any, name: str, /) -> None:
        """``delattr`` for cells."""
        _delattr(self.write(owner, _assignable(name)), name)

    def super(self, cls: Any, owner: Any) -> Any:
        """``super(cls, owner)`` for cells, for classes that cells made."""
        if not isinstance(cls, type) or cls not in self.classes.own:
            raise TypeError("super() takes a class defined in a cell as its first argument here")
        return builtins.super(cls, owner)

    def is_own_function(self, value: object) -> bool:
        """Whether a cell defined this function."""
        return type(value) is types.FunctionType and value.__globals__ is self._namespace

    # Rules for single attributes

    def _is_cells_own(self, owner: Any, name: str) -> bool:
        """Whether a cell has set ``owner.name``."""
        own = self.classes.own
        if isinstance(owner, type):
            return _defining_class(owner, name) in own
        if type(owner) in own:
            found = _defining_class(type(owner), name)
            return found in own or (found is None and name in _instance_dict(owner))
        return self.is_own_function(owner) and name in owner.__dict__

    def _is_trusted(self, owner: Any) -> bool:
        """Whether this object belongs to a real module that the user has allowed."""
        if not self._trusted:
            return False
        cls = owner if isinstance(owner, type) else type(owner)
        name = owner.__name__ if isinstance(owner, types.ModuleType) else cls.__module__
        return name.split(".")[0] in self._trusted

    def _require_own(self, owner: Any, name: str) -> Any:
        if self.classes.is_own(owner) or self.is_own_function(owner):
            return owner
        raise AttributeError(f"the attribute {name!r} of {_kind(owner)} is not available here")

    def _name(self, owner: Any, name: str) -> str:
        if isinstance(owner, OpaqueType):
            return owner._name  # noqa: SLF001 - hidden from cells, not from this module
        if isinstance(owner, TypeStandIn):
            return "type"
        return str(_getattr(owner, name))

    def _module(self, owner: Any, name: str) -> str:
        if self.classes.is_own(owner) or self.is_own_function(owner):
            return "__main__"
        return str(_getattr(owner, name))

    def _method(self, owner: Any, name: str) -> Any:
        """A special method called by name: ``super().__init__()``, ``Base.__init__(self)``, ``xs.__len__()``."""
        cls = owner if isinstance(owner, type) else type(owner)
        found = _defining_class(cls, name)
        if found in self.classes.own:
            assert found is not None
            return self._checked_method(found, _getattr(owner, name))
        if self._is_trusted(owner):
            return _getattr(owner, name)
        is_builtin = found is not None and found.__module__ == "builtins"
        if name == "__init__":
            # Calling __init__ again on an existing object changes it, for example a property of a class.
            is_builtin = is_builtin and self.classes.is_initializable(cls)
        if is_builtin and not isinstance(found.__dict__[name], types.FunctionType):
            return _getattr(owner, name)
        raise AttributeError(f"the attribute {name!r} of {_kind(owner)} is not available here")

    def _checked_method(self, cls: type, method: Any) -> Any:
        """Return a method of a cell's class. A method that the standard library generated accepts only its instances.

        The ``__init__`` of a dataclass sets attributes of any object that it is called with.
        """
        if type(method) is not types.FunctionType or self.is_own_function(method):
            return method

        def checked(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            if cls not in type(self).__mro__:
                raise TypeError(f"{method.__qualname__}() takes an instance of {cls.__name__!r} as its first argument")
            return method(self, *args, **kwargs)

        return checked

    def _read_super(self, owner: Any, name: str) -> Any:
        """Read an attribute of a ``super()`` object. The class in which it is found decides whether that is allowed."""
        mro: tuple[type, ...] = _SELF_CLASS(owner).__mro__
        rest = mro[mro.index(_THIS_CLASS(owner)) + 1 :]
        found = next((cls for cls in rest if name in cls.__dict__), None)
        if found is None:
            raise AttributeError(f"'super' object has no attribute {name!r}")
        if found in self.classes.own or (name in METHODS and not isinstance(found.__dict__[name], types.FunctionType)):
            return _getattr(owner, name)
        value = _getattr(owner, name)
        if name in METHODS and isinstance(value, types.MethodType):
            return value  # bound to this instance
        if name in ("format", "format_map") and isinstance(value, types.BuiltinMethodType):
            return self._format(str.__str__(value.__self__), name)
        raise AttributeError(f"the attribute {name!r} of 'super' objects is not available here")

    def _format(self, owner: Any, name: str) -> Any:
        function = self.formatting.format if name == "format" else self.formatting.format_map
        if owner is str or (isinstance(owner, type) and str in owner.__mro__):
            return function
        if isinstance(owner, str):
            text = str.__str__(owner)
            return lambda *args, **kwargs: function(text, *args, **kwargs)
        raise AttributeError(f"{_kind(owner)} has no attribute {name!r}")

    def _clock_method(self, owner: Any, name: str) -> Any:
        cls = owner if isinstance(owner, type) else type(owner)
        if issubclass(cls, dt.datetime):
            answer: Callable[..., Any] = _getattr(self._clock, name)
            return lambda *args, **kwargs: answer(cls, *args, **kwargs)
        if issubclass(cls, dt.date) and name == "today":
            return lambda: self._clock.today(cls)
        raise AttributeError(f"{_kind(owner)} has no attribute {name!r}")

    def _namedtuple_attribute(self, owner: Any, name: str) -> Any:
        cls = owner if isinstance(owner, type) else type(owner)
        is_bound = not isinstance(owner, type) or name in ("_fields", "_make", "_field_defaults")
        if tuple in cls.__mro__ and is_bound:
            return _getattr(owner, name)
        raise AttributeError(f"the attribute {name!r} of {_kind(owner)} is not available here")


_Guard: TypeAlias = Callable[[Any, str], Any]


def _fast_guards(guards: Guards) -> tuple[_Guard, _Guard, _Guard]:
    """The guards that loops call often, as closures: for ``obj._x``, ``obj.x = value`` and ``obj._x += value``."""
    own, plain, writable = guards.classes.own, guards.classes.plain, guards.classes.writable

    def private(owner: Any, name: str) -> Any:
        if type(owner) in plain:
            return _getattr(owner, name)
        if type(owner) is super:
            return guards._read_super(owner, name)  # noqa: SLF001
        if guards._is_cells_own(owner, name):  # noqa: SLF001
            return _getattr(owner, name)
        raise AttributeError(f"{_kind(owner)} has no attribute {name!r} that is available here")

    def write(owner: Any, name: str) -> Any:
        cls = type(owner)
        if cls in own:
            return owner
        if guards.is_own_function(owner) or guards.classes.is_own_class(owner):
            return owner
        if name in writable.get(cls, ()) or guards._is_trusted(owner):  # noqa: SLF001
            return owner
        raise TypeError(f"cannot set attribute {name!r} of {_kind(owner)} here: it was not defined in a cell")

    def update_private(owner: Any, name: str) -> Any:
        if type(owner) not in plain:
            write(owner, name)
            private(owner, name)
        return owner

    return private, write, update_private


def _fast_format(guards: Guards) -> Callable[..., Any]:
    """``owner.format(*args, **kwargs)``, as a closure."""
    safe_format = guards.formatting.format

    def call_format(owner: Any, /, *args: Any, **kwargs: Any) -> Any:
        if type(owner) is str:
            if "." not in owner and "[" not in owner:
                return owner.format(*args, **kwargs)  # none of its fields can read an attribute or an item
            return safe_format(owner, *args, **kwargs)
        return guards._read(owner, "format")(*args, **kwargs)  # noqa: SLF001

    return call_format


def _defining_class(cls: type, name: str) -> type | None:
    """The first class in the method resolution order of ``cls`` that has ``name``."""
    return next((base for base in cls.__mro__ if name in base.__dict__), None)


def _instance_dict(owner: object) -> dict[str, Any]:
    try:
        return object.__getattribute__(owner, "__dict__")  # type: ignore[no-any-return]
    except AttributeError:  # __slots__
        return {}


def _assignable(name: object) -> str:
    if type(name) is not str or not is_assignable(name):
        raise AttributeError(f"the attribute {name!r} cannot be set here")
    return name


def _kind(owner: object) -> str:
    if isinstance(owner, type):
        return f"type object {owner.__name__!r}"
    return f"{type(owner).__name__!r} object"


def _text_or_none(value: object) -> str | None:
    return str.__str__(value) if isinstance(value, str) else None


def _copied_mapping(owner: Any, name: str) -> Any:
    """Copy a read-only view: it passes its mapping to the other operand of ``|``."""
    value = _getattr(owner, name)
    return dict(value) if isinstance(value, types.MappingProxyType) else value


def _chained(owner: Any, name: str) -> BaseException | None:
    value = _getattr(owner, name) if isinstance(owner, BaseException) else None
    return None if isinstance(value, ControlFlow) else value
