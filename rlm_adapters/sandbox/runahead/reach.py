"""Find out whether run-ahead can help a cell, because a snapshot takes some milliseconds."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

_NAME: Final = re.compile(r"[^\W\d]\w*")
_REPEATING: Final = frozenset({"for", "while", "def", "lambda", "map"})
_MAX_VISITED: Final = 500


def can_gain(code: str, namespace: Mapping[str, Any], functions: Collection[str]) -> bool:
    """Whether a cell may make more than one independent LM call. In doubt, True.

    Args:
        code: the cell.
        namespace: the variables before the cell.
        functions: names of the functions that are LM calls.
    """
    words = _NAME.findall(code)
    found = [word for word in words if word in functions]
    if found:
        return len(found) > 1 or (not _REPEATING.isdisjoint(words))
    return any(
        reaches_call(namespace[word], namespace, functions) for word in dict.fromkeys(words) if word in namespace
    )


def may_ask(code: str, namespace: Mapping[str, Any], functions: AbstractSet[str]) -> bool:
    """Whether statements of a cell may make an LM call. In doubt, True.

    Args:
        code: the statements.
        namespace: the variables before the cell.
        functions: names of the functions that are LM calls.
    """
    words = dict.fromkeys(_NAME.findall(code))
    if any(word in functions for word in words):
        return True
    return any(reaches_call(namespace[word], namespace, functions) for word in words if word in namespace)


def reaches_call(value: Any, namespace: Mapping[str, Any], functions: Collection[str]) -> bool:
    """Whether a function, class or object of a cell may make an LM call."""
    return any(not set(_names_in(code)).isdisjoint(functions) for code in codes_of(value, namespace))


def codes_of(value: Any, namespace: Mapping[str, Any]) -> Iterator[types.CodeType]:
    """The code of cells that a value can run."""
    for function in functions_of([value], namespace):
        yield function.__code__


def functions_of(
    values: Collection[Any], namespace: Mapping[str, Any], *, follow: bool = True
) -> Iterator[types.FunctionType]:
    """The functions of cells that can be reached from values.

    Args:
        values: start values.
        namespace: the variables of the cells.
        follow: also follow the global functions that they name.
    """
    seen: set[int] = set()
    queue = list(values)
    while queue and len(seen) < _MAX_VISITED:
        value = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        queue += _parts(value)
        if isinstance(value, types.FunctionType) and value.__code__.co_filename.startswith("<cell "):
            yield value
            if follow:
                queue += [namespace[name] for name in _names_in(value.__code__) if name in namespace]


def _parts(value: Any) -> list[Any]:
    """Objects that a value may call, found without running its code."""
    kind = type(value)
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if kind is types.MethodType:
        return [value.__func__, value.__self__]
    if kind in (staticmethod, classmethod):
        return [value.__func__]
    if kind is property:
        return [value.fget, value.fset]
    if isinstance(value, type):
        return list(vars(value).values()) if _is_cells(value) else []
    if kind in (list, tuple, dict) and len(value) <= 50:
        return list(value.values() if kind is dict else value)
    return [kind] if _is_cells(kind) else []


def _is_cells(cls: type) -> bool:
    return cls.__module__ == "__main__"


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def replace_code(
    values: Collection[Any], namespace: Mapping[str, Any], recompile: Callable[[str], types.CodeType | None]
) -> None:
    """Give the functions of earlier cells their rewritten code, in this process.

    Args:
        values: values that are searched for functions.
        namespace: the variables of the cells.
        recompile: returns the rewritten module of a cell by its file name, or None.
    """
    tables: dict[str, dict[tuple[Any, ...], types.CodeType]] = {}
    for function in functions_of(values, namespace, follow=False):
        code = function.__code__
        if code.co_filename not in tables:
            module = recompile(code.co_filename)
            tables[code.co_filename] = {} if module is None else {_key(one): one for one in _inner(module)}
        new = tables[code.co_filename].get(_key(code))
        if new is not None:
            function.__code__ = new


def _key(code: types.CodeType) -> tuple[Any, ...]:
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return code.co_qualname, code.co_firstlineno, arguments, code.co_freevars


def _inner(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _inner(constant)
