"""Read types of answers from names such as ``list[str]``. The names are never evaluated."""

from __future__ import annotations

import ast
from types import GenericAlias
from typing import Any, Final

from rlm_adapters.replies.syntax import undisturbed

_TYPES: Final = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict}
_PARAMETERS: Final = {"list": 1, "dict": 2}


def _expression(text: str) -> ast.Expression:
    return ast.parse(text, mode="eval")


def type_named(text: str) -> Any:
    """The type with this name: int, float, bool, str, list, dict, and these with parameters.

    Raises:
        ValueError: it is not one of these.
    """
    try:
        return _type_of(undisturbed(_expression, text.strip()).body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(text) from error


def _type_of(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _TYPES:
        return _TYPES[node.id]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in _PARAMETERS:
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(items) == _PARAMETERS[node.value.id]:
            return GenericAlias(_TYPES[node.value.id], tuple(_type_of(item) for item in items))
    raise ValueError
