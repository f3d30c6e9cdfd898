"""Describe to the model what is lost with a cell whose worker was lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rlm_adapters.sandbox.protocol.types import CellError, VariableInfo

_MAX_NAMES: Final = 20
_MAX_CODE: Final = 50_000  # characters of a cell that are searched
# A cell is not parsed in the host, because deep nesting in hostile code has crashed CPython's parser.
_ASSIGNED: Final = re.compile(
    r"^([^\W\d]\w*+(?:[ \t]*+,[ \t]*+[^\W\d]\w*+)*+)[ \t]*+(?:[-+*/%&|^@]|//|\*\*|<<|>>)?=(?!=)", re.MULTILINE
)
_DEFINED: Final = re.compile(r"^(?:async\s+def|def|class)\s+([^\W\d]\w*)", re.MULTILINE)


def with_loss(error: CellError, code: str, variables: Sequence[VariableInfo]) -> CellError:
    """The error of a lost worker, with the text of `describe_loss`."""
    loss = describe_loss(code, variables)
    message = f"{error.message}. {loss}"
    traceback = f"{error.traceback.rstrip()}\n{loss}" if error.traceback else f"{error.type}: {message}"
    return replace(error, message=message, traceback=traceback)


def describe_loss(code: str, variables: Sequence[VariableInfo]) -> str:
    """Sentences that say which changes are lost with this cell, and what is left.

    Args:
        code: the cell.
        variables: the names defined before it.
    """
    lost = bound_names(code)
    kept = [variable.name for variable in variables]
    changes = (
        f"All changes that it made are lost (also to {_listed(lost)})."
        if lost
        else "All changes that it made are lost."
    )
    left = f"Every variable is as it was before this cell: {_listed(kept)}." if kept else "The inputs are untouched."
    return f"{changes} {left}"


def bound_names(code: str) -> list[str]:
    """Names that this cell seems to define, found in its text."""
    code = code[:_MAX_CODE]
    names = [name.strip() for names in _ASSIGNED.findall(code) for name in names.split(",")]
    return list(dict.fromkeys([*names, *_DEFINED.findall(code)]))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
