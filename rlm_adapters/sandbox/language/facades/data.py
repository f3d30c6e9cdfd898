"""Containers, classes and types."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.classes import ABC_META, BaseStandIn, OpaqueType
from rlm_adapters.sandbox.language.facade import pick, public_names
from rlm_adapters.sandbox.language.facades.copying import Copier
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.language.hostclass import checked_class
from rlm_adapters.sandbox.language.names import Access, classify_attribute, is_field_name

Counter: Final = checked_class(collections.Counter)
ChainMap: Final = checked_class(collections.ChainMap)
_ABCS: Final = """Awaitable Coroutine AsyncIterable AsyncIterator AsyncGenerator Hashable Iterable Iterator Generator
    Reversible Sized Container Callable Collection Set MutableSet Mapping MutableMapping MappingView KeysView
    ItemsView ValuesView Sequence MutableSequence ByteString"""


def check_field_names(names: Iterable[object], kind: str) -> None:
    """Refuse field names that the standard library would put into generated code or read without a guard.

    Raises:
        ValueError: one of the names is not a plain identifier.
    """
    for name in names:
        if not is_field_name(name):
            raise ValueError(f"{kind} field names must be plain identifiers here, not {name!r}")


def _split_names(names: Any) -> list[Any]:
    """The field names, as exact ``str`` objects."""
    if isinstance(names, str):
        return str.__str__(names).replace(",", " ").split()
    return [str.__str__(name) if isinstance(name, str) else name for name in names]


def _collections(environment: Environment) -> Mapping[str, object]:
    classes = environment.classes
    classes.allow(Counter, base=True, shown_for=collections.Counter)
    classes.allow(ChainMap, shown_for=collections.ChainMap)
    for cls in (collections.defaultdict, collections.OrderedDict, collections.deque):
        classes.allow(cls, base=True, plain=True)

    def namedtuple(
        typename: str, field_names: Any, *, rename: bool = False, defaults: Any = None, module: Any = None
    ) -> type:
        """A class of tuples with named fields."""
        del module
        names = _split_names(field_names)
        if not rename:
            check_field_names(names, "namedtuple")
        make: Any = collections.namedtuple  # noqa: PYI024 - this is namedtuple
        options = {"rename": bool(rename), "defaults": defaults, "module": "__main__"}
        return classes.adopt(make(str.__str__(str(typename)), names, **options))

    return {
        "Counter": Counter,
        "ChainMap": ChainMap,
        "defaultdict": collections.defaultdict,
        "OrderedDict": collections.OrderedDict,
        "deque": collections.deque,
        "namedtuple": namedtuple,
        "abc": environment.import_module("collections.abc"),
        **environment.run_guest("collections"),
    }


def _collections_abc(environment: Environment) -> Mapping[str, object]:
    names = pick("collections.abc", _ABCS)
    for cls in names.values():
        environment.classes.allow(cls, base=True)
    return names


def _dataclasses(environment: Environment) -> Mapping[str, object]:
    classes, guards = environment.classes, environment.guards

    def dataclass(cls: Any = None, /, **options: Any) -> Any:
        """Add the methods that follow from the annotated fields."""
        if cls is None:
            return lambda cls: dataclass(cls, **options)
        if not classes.is_own_class(cls):
            raise TypeError("dataclass() takes a class defined in a cell here")
        has_plain_bases = all(base in classes.own or base is object for base in cls.__mro__)
        for base in cls.__mro__:
            names = list(inspect.get_annotations(base))
            if has_plain_bases:
                # Without a standard library base, every name can only be a field.
                names = [name for name in names if classify_attribute(name) is not Access.GUARDED or name[0] == "_"]
            check_field_names(names, "dataclass")
        return classes.adopt(dataclasses.dataclass(cls, **options))

    def field_values(instance: Any) -> list[tuple[str, Any]]:
        if isinstance(instance, type) or not dataclasses.is_dataclass(instance):
            raise TypeError("asdict() should be called on dataclass instances")
        return [(f.name, guards.getattr(instance, f.name)) for f in dataclasses.fields(instance)]

    def asdict(instance: Any, *, dict_factory: Callable[..., Any] = dict) -> Any:
        """The fields as a dictionary, nested dataclasses too."""
        return dict_factory([(name, convert(value, asdict, dict_factory)) for name, value in field_values(instance)])

    def astuple(instance: Any, *, tuple_factory: Callable[..., Any] = tuple) -> Any:
        """The fields as a tuple, nested dataclasses too."""
        return tuple_factory([convert(value, astuple, tuple_factory) for _, value in field_values(instance)])

    def convert(value: Any, form: Callable[..., Any], factory: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            keyword = "dict_factory" if form is asdict else "tuple_factory"
            return form(value, **{keyword: factory})
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(convert(item, form, factory) for item in value)
        if type(value) is dict:
            return {k: convert(v, form, factory) for k, v in value.items()}
        return value

    def replace(instance: Any, /, **changes: Any) -> Any:
        """A copy of the instance with some fields changed."""
        field_values(instance)
        for f in dataclasses.fields(instance):
            if f.init and f.name not in changes:
                changes[f.name] = guards.getattr(instance, f.name)
        return type(instance)(**changes)

    return {
        **pick("dataclasses", "field fields is_dataclass FrozenInstanceError KW_ONLY MISSING InitVar Field"),
        "dataclass": dataclass,
        "asdict": asdict,
        "astuple": astuple,
        "replace": replace,
    }


def _enum(environment: Environment) -> Mapping[str, object]:
    classes = environment.classes

    class CellEnumType(enum.EnumType):
        """Checks the names given to ``Enum("Name", names)``, which would otherwise become any attribute of a class."""

        def __call__(cls, value: Any, names: Any = None, *args: Any, **options: Any) -> Any:
            if names is None or cls._member_map_:
                return super().__call__(value, *([] if names is None else [names]), *args, **options)
            members = _snapshot(names)
            check_field_names([name for name, _ in members] if members else _split_names(names), "Enum")
            kept: dict[str, Any] = {key: options[key] for key in ("start", "boundary") if key in options}
            if options.get("type") is not None:
                kept["type"] = classes.check_base(options["type"])
            made = super().__call__(str(value), members or _split_names(names), module="__main__", **kept)
            return classes.adopt(made)

    made: dict[str, Any] = {}
    for name in ("Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"):
        real = getattr(enum, name)
        made[name] = CellEnumType(name, (real,), CellEnumType.__prepare__(name, (real,)))
        classes.allow(made[name], base=True)

    def unique(cls: Any) -> Any:
        """Refuse an Enum that has one value twice."""
        if not classes.is_own_class(cls):
            raise TypeError("unique() takes an Enum defined in a cell here")
        return enum.unique(cls)

    return {**made, "auto": enum.auto, "unique": unique}


def _snapshot(names: Any) -> list[tuple[str, Any]]:
    """The given pairs of names and values, read once; an empty list if only names were given."""
    if isinstance(names, dict):
        return [(key, value) for key, value in dict.items(names)]
    if isinstance(names, str):
        return []
    items = list(names)
    return [(item[0], item[1]) for item in items] if items and all(type(i) in (tuple, list) for i in items) else []


_TYPING: Final = """Any Optional Union List Dict Tuple Set FrozenSet Callable Iterable Iterator Generator Sequence
    MutableSequence Mapping MutableMapping Literal LiteralString TypeVar TypeVarTuple ParamSpec Generic Final ClassVar
    cast Protocol DefaultDict OrderedDict Counter ChainMap Deque Type Pattern Match NoReturn Never Annotated Hashable
    Sized Collection Container Reversible AbstractSet MutableSet KeysView ValuesView ItemsView TypeAlias TypeGuard
    Self Concatenate Required NotRequired Unpack Text AnyStr SupportsInt SupportsFloat SupportsIndex SupportsAbs
    SupportsRound Awaitable Coroutine AsyncIterable AsyncIterator AsyncGenerator NewType TYPE_CHECKING IO TextIO
    BinaryIO"""


def _typing(environment: Environment) -> Mapping[str, object]:
    classes = environment.classes

    def named_tuple(typename: str, fields: Iterable[Any] = (), /, **kwargs: Any) -> type:
        """``NamedTuple("P", [("x", int)])``."""
        pairs = [tuple(pair) for pair in fields] or list(kwargs.items())
        check_field_names([pair[0] for pair in pairs], "NamedTuple")
        make: Any = typing.NamedTuple
        return classes.adopt(make(str(typename), pairs))

    def typed_dict(typename: str, fields: Mapping[str, Any] | None = None, /, *, total: bool = True) -> Any:
        """``TypedDict("T", {"x": int})``."""
        pairs = dict(fields or {})
        check_field_names(pairs, "TypedDict")
        make: Any = typing.TypedDict
        return make(str(typename), pairs, total=total)

    def runtime_checkable(cls: Any) -> Any:
        """Let ``isinstance`` take a protocol."""
        if not classes.is_own_class(cls):
            raise TypeError("runtime_checkable() takes a Protocol defined in a cell here")
        return typing.runtime_checkable(cls)

    def get_origin(tp: Any) -> Any:
        """The generic class of an alias: ``list`` for ``list[int]``."""
        origin = typing.get_origin(tp)
        return classes.type if origin is type else origin

    def unchanged(function: Any) -> Any:
        """Mark a definition for type checkers, which there are none of here."""
        return function

    return {
        **pick("typing", _TYPING),
        # The aliases in typing give access to the unchecked classes.
        "Counter": Counter,
        "ChainMap": ChainMap,
        "NamedTuple": BaseStandIn("typing.NamedTuple", typing.NamedTuple, named_tuple),
        "TypedDict": BaseStandIn("typing.TypedDict", typing.TypedDict, typed_dict),
        "get_args": typing.get_args,
        "get_origin": get_origin,
        "runtime_checkable": runtime_checkable,
        "overload": unchanged,
        "final": unchanged,
        "override": unchanged,
        "no_type_check": unchanged,
    }


def _abc(environment: Environment) -> Mapping[str, object]:
    guards = environment.guards

    def abstractmethod(method: Any) -> Any:
        """Mark a method that subclasses must define."""
        if guards.is_own_function(method) or type(method) in (property, classmethod, staticmethod):
            return abc.abstractmethod(method)
        raise TypeError("abstractmethod() takes a function defined in a cell here")

    environment.classes.allow(abc.ABC, base=True, plain=True)
    return {"ABC": abc.ABC, "ABCMeta": ABC_META, "abstractmethod": abstractmethod}


def _types(environment: Environment) -> Mapping[str, object]:
    type_of = environment.classes.type_of
    return {
        **environment.run_guest("types"),
        "NoneType": types.NoneType,
        "FunctionType": type_of(lambda: None),
        "LambdaType": type_of(lambda: None),
        "GeneratorType": type_of(_ for _ in ()),
        "BuiltinFunctionType": type_of(len),
        "MethodType": OpaqueType(types.MethodType),
    }


def _copy(environment: Environment) -> Mapping[str, object]:
    copier = Copier(environment.classes)

    def copy(value: Any) -> Any:
        """A shallow copy."""
        return copier.copy(value)

    def deepcopy(value: Any, memo: Any = None) -> Any:
        """A deep copy."""
        del memo
        return copier.deepcopy(value)

    return {"copy": copy, "deepcopy": deepcopy}


MODULES: Final[dict[str, Builder]] = {
    "collections": _collections,
    "collections.abc": _collections_abc,
    "dataclasses": _dataclasses,
    "enum": _enum,
    "typing": _typing,
    "typing_extensions": _typing,
    "abc": _abc,
    "types": _types,
    "copy": _copy,
    "heapq": lambda _: pick("heapq", "heappush heappop heapify heappushpop heapreplace merge nlargest nsmallest"),
    "bisect": lambda _: pick("bisect", "bisect bisect_left bisect_right insort insort_left insort_right"),
    "itertools": lambda _: public_names("itertools"),
    "__future__": lambda _: {"annotations": None},
}
