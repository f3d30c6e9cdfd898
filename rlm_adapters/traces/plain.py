"""Trajectories as plain dicts, and back."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Final

from rlm_adapters.traces.content import Text
from rlm_adapters.traces.tree import Call, Cell, Iteration, Note, Run
from rlm_adapters.traces.values import mappings, plain

FORM: Final = 1
"""Version of the dicts, at their top."""

_MOST_DEEP: Final = 50
"""Most levels of child runs that are read; a foreign dict may have more."""

_CHILDREN: Final[dict[str, type[Any]]] = {
    "iterations": Iteration,
    "cells": Cell,
    "calls": Call,
    "warnings": Note,
}


def to_plain_dict(node: Any) -> dict[str, Any]:
    """A part of a trajectory as a dict of plain JSON, without fields that have their default value."""
    found: dict[str, Any] = {}
    for one in fields(node):
        value = getattr(node, one.name)
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if value is None or value == default:
            continue
        if one.name in _CHILDREN:
            found[one.name] = [to_plain_dict(part) for part in value]
        elif isinstance(value, Run):
            found[one.name] = to_plain_dict(value)
        else:
            found[one.name] = value.read() if isinstance(value, Text) else plain(value)
    return found


def from_plain_dict(kind: type[Any], given: Any, run: type[Run], depth: int = 0) -> Any:
    """The reverse of `to_plain_dict`.

    Args:
        kind: class of the part.
        given: the dict; wrong values in it are left out.
        run: class of child runs.
        depth: number of child runs around it.
    """
    known = given if isinstance(given, dict) else {}
    found: dict[str, Any] = {}
    for one in fields(kind):
        value = known.get(one.name)
        if value is None:
            continue
        if one.name in _CHILDREN:
            parts = value if isinstance(value, list) else []
            found[one.name] = [from_plain_dict(_CHILDREN[one.name], part, run, depth) for part in parts]
        elif one.name == "child":
            found[one.name] = from_plain_dict(run, value, run, depth + 1) if depth < _MOST_DEEP else None
        elif one.name == "messages":
            found[one.name] = mappings(value)
        elif one.name == "number":
            found[one.name] = value if isinstance(value, int) else None
        else:
            found[one.name] = one.metadata["read"](value)
    return kind(**found)
