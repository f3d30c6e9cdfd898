"""The value of a cell's last expression, typed, as a notebook would show it."""

from __future__ import annotations

import ast
from typing import Final

ECHO: Final = "$echo"
"""Key of the dict in which the value is handed out."""

_OPEN: Final = f'FINAL({{"{ECHO}": ('  # the parentheses keep a bare tuple one argument
_CLOSE: Final = ")})"
_FINISHES: Final = frozenset({"SUBMIT", "FINAL", "FINAL_VAR"})


def with_echo(code: str) -> str:
    """The code with its last expression handed to ``FINAL``, which ends the cell there and then as well.

    Code that does not parse, or does not end with an expression, comes back as it is. Only the expression is wrapped,
    where it stands, so lines keep their numbers.
    """
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code  # the sandbox says what is wrong with it
    last = body[-1] if body else None
    if not isinstance(last, ast.Expr) or _finishes(last.value):
        return code
    value = last.value
    lines = code.encode().splitlines(keepends=True)  # positions count UTF-8 bytes
    start = sum(map(len, lines[: value.lineno - 1])) + value.col_offset
    end = sum(map(len, lines[: (value.end_lineno or value.lineno) - 1])) + (value.end_col_offset or 0)
    source = b"".join(lines)
    return (source[:start] + _OPEN.encode() + source[start:end] + _CLOSE.encode() + source[end:]).decode()


def without_echo(traceback: str) -> str:
    """A traceback with its lines of source as they were written."""
    lines = [line.replace(_OPEN, "").removesuffix(_CLOSE) if _OPEN in line else line for line in traceback.splitlines()]
    return "\n".join(lines)


def _finishes(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _FINISHES
