"""Judges what an attack got hold of, from outside of the sandbox and with the real builtins."""

from __future__ import annotations

import builtins
import types
from typing import Any

SECRET = "S3CR3T"
"""Stands in the globals of the functions that cells are given, and in what a successful attack writes by itself."""

_MARKS = (SECRET, "root:x:0", "<built-in method format")
_INSIDES = (
    types.ModuleType,
    types.FrameType,
    types.CodeType,
    types.TracebackType,
    types.CellType,
    types.MappingProxyType,
)
_CLASSES = (*_INSIDES, types.FunctionType, types.MethodType)
_BUILTINS = {
    id(getattr(builtins, name)): name
    for name in [
        "eval",
        "exec",
        "compile",
        "__import__",
        "open",
        "input",
        "breakpoint",
        "getattr",
        "setattr",
        "delattr",
        "vars",
        "globals",
        "locals",
        "dir",
        "BaseException",
        "BaseExceptionGroup",
    ]
}
_MODULES = frozenset(
    {"posix", "sys", "_io", "gc", "_thread", "_imp", "_ctypes", "marshal", "_posixsubprocess", "_socket", "_signal"}
)
_HARMLESS = frozenset(["fspath", "getdefaultencoding", "getrecursionlimit", "getsizeof", "intern"])
_FUNCTIONS = frozenset(
    {("os", "popen"), ("subprocess", "Popen"), ("typing", "get_type_hints"), ("importlib", "import_module")}
)
_MAX_ITEMS = 300


def leak(value: Any, depth: int = 0) -> str | None:
    """Why a cell must not hold ``value``; None: it may."""
    kind = type(value)
    if issubclass(kind, (str, bytes)):
        text = str.__str__(value) if issubclass(kind, str) else bytes(value).decode("latin-1")
        return next((f"text with {mark!r}" for mark in _MARKS if mark in text), None)
    if issubclass(kind, _INSIDES):
        return kind.__name__
    if issubclass(kind, type):
        return _leaking_class(value)
    if id(value) in _BUILTINS:
        return f"the builtin {_BUILTINS[id(value)]}"
    if kind is types.BuiltinFunctionType:
        if value.__module__ in _MODULES and value.__name__ not in _HARMLESS:
            return f"{value.__module__}.{value.__name__}"
        if isinstance(value.__self__, type) and issubclass(value.__self__, type):
            return "a method of a metaclass"
    if kind is types.FunctionType and (value.__module__, value.__name__) in _FUNCTIONS:
        return f"{value.__module__}.{value.__name__}"
    machine = kind.__module__ if isinstance(kind.__module__, str) else ""
    if machine.startswith("rlm_adapters.sandbox.") and kind.__name__ in _MACHINE_CLASSES:
        return f"the sandbox's own {kind.__name__}"
    return _leaking_item(value, kind, depth) if depth < 3 else None


_MACHINE_CLASSES = frozenset(
    [
        "Repl",
        "Classes",
        "Guards",
        "Scheduler",
        "HostFunctions",
        "InputReferences",
        "Finish",
        "Output",
        "SafeFormat",
        "CellSources",
        "Worker",
        "GuestChannel",
        "CpuTimer",
        "Loaded",
        "VirtualClock",
    ]
)


def _leaking_class(cls: type) -> str | None:
    if cls is object:
        return "object"
    if issubclass(cls, type):
        return f"the metaclass {cls.__name__}"
    if cls in _CLASSES:
        return f"the class {cls.__name__}"
    return f"the builtin {cls.__name__}" if id(cls) in _BUILTINS else None


def _leaking_item(value: Any, kind: type, depth: int) -> str | None:
    items: list[Any]
    if issubclass(kind, dict):
        if dict.__contains__(value, "__builtins__"):
            return "the globals of a module"
        items = list(dict.values(value))[:_MAX_ITEMS]
    elif issubclass(kind, list):
        items = list.__getitem__(value, slice(_MAX_ITEMS))
    elif issubclass(kind, tuple):
        items = list(tuple.__getitem__(value, slice(_MAX_ITEMS)))
    elif kind in (set, frozenset):
        items = list(value)[:_MAX_ITEMS]
    else:
        return None
    found = next((why for item in items if (why := leak(item, depth + 1))), None)
    return f"{found} in a {kind.__name__}" if found else None
