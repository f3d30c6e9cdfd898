"""Describe variables to the model without printing them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from rlm_adapters.sandbox.protocol.types import VariableInfo

_SIZED: Final[tuple[Any, ...]] = (str, bytes, bytearray, list, tuple, dict, set, frozenset, deque, range)
_MAX_NAMES: Final = 200


def describe_variables(variables: Mapping[str, Any]) -> tuple[VariableInfo, ...]:
    """Names, types and sizes, in the order in which the names were defined."""
    infos = [VariableInfo(name, _type_name(value), _size(value)) for name, value in variables.items()]
    return tuple(infos[-_MAX_NAMES:])


def show_variables(variables: Mapping[str, Any]) -> str:
    """The same as text, one line for each."""
    infos = describe_variables(variables)
    if not infos:
        return "no variables yet"
    return "\n".join(
        f"{info.name}: {info.type}" + (f" ({info.size:,} {_unit(info.type)})" if info.size is not None else "")
        for info in infos
    )


def _type_name(value: object) -> str:
    return "module" if type(value).__name__ == "Facade" else type(value).__name__


def _size(value: Any) -> int | None:
    """``len(value)`` with the method of the builtin class, because a ``__len__`` of a cell must not run here."""
    for base in _SIZED:
        if isinstance(value, base):
            size: int = base.__len__(value)
            return size
    return None


def _unit(type_name: str) -> str:
    return {"str": "characters", "bytes": "bytes", "bytearray": "bytes"}.get(type_name, "items")
