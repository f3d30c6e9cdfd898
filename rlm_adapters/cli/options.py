"""Reading the values of command-line options that are more than a number or a name."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import GenericAlias
from typing import Any

from rlm_adapters.errors import InputError

_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict}
_PARAMETERS = {"list": 1, "dict": 2}


def parse_output_type(text: str) -> Any:
    """Read ``--output-type``: a type such as ``list[str]``, or a JSON schema as text or as the name of a .json file.

    Raises:
        InputError: it is none of these.
    """
    text = text.strip()
    if text.startswith("{") or text.endswith(".json"):
        try:
            return json.loads(text if text.startswith("{") else Path(text).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"--output-type {text}: {error.strerror}; give a file with a JSON schema") from error
        except ValueError as error:
            raise InputError(f"--output-type {text[:80]}: not JSON ({error})") from error
    try:
        return _type_of(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        raise InputError(
            f"--output-type {text!r} is not known: give int, float, bool, str, list[...], dict[str, ...], "
            "or a JSON schema as text or .json file"
        ) from None


def _type_of(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _TYPES:
        return _TYPES[node.id]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in _PARAMETERS:
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if len(items) == _PARAMETERS[node.value.id]:
            return GenericAlias(_TYPES[node.value.id], tuple(_type_of(item) for item in items))
    raise ValueError


def parse_price(text: str) -> tuple[str, tuple[float, float]]:
    """Read ``--price MODEL=IN,OUT``: a model and its prices in dollars per million tokens.

    Raises:
        InputError: it is not of this form.
    """
    name, _, prices = text.rpartition("=")
    try:
        given, made = (float(price) for price in prices.split(","))
    except ValueError:
        given = made = -1.0
    if not name or not (given >= 0 and made >= 0):
        raise InputError(f"--price {text!r}: give MODEL=IN,OUT in dollars per million tokens, as gpt-5=1.25,10")
    return name, (given, made)
