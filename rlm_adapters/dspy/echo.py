"""Return the value of a cell's last expression, with its type, as a notebook does."""

from __future__ import annotations

import ast
from typing import Final

from rlm_adapters.replies.syntax import undisturbed

ECHO: Final = "$echo"
"""Key of the dict with the value."""

_OPEN: Final = f'FINAL({{"{ECHO}": ('  # the parentheses keep a bare tuple one argument
_CLOSE: Final = ")})"
_FINISHES: Final = frozenset({"SUBMIT", "FINAL", "FINAL_VAR"})


def with_echo(code: str) -> str:
    """The code with its last expression passed to ``FINAL``, which also ends the cell.

    Code that does not parse, or does not end with an expression, is not changed. Only the expression is wrapped, so
    lines keep their numbers.
    """
    try:
        body = undisturbed(ast.parse, code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code  # the sandbox reports the error
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
    """A traceback with the original source lines."""
    lines = [line.replace(_OPEN, "").removesuffix(_CLOSE) if _OPEN in line else line for line in traceback.splitlines()]
    return "\n".join(lines)


def _finishes(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _FINISHES
