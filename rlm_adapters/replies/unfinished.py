"""Find the complete statements of the first cell in an unfinished reply.

They are only read ahead, never run: `read_reply` decides what the finished reply means. So this reads only the plain
case, a fence with a Python label outside thoughts, and finds nothing in any other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rlm_adapters.replies.clean import normalise_lines
from rlm_adapters.replies.fence_lines import CLOSE, PYTHON_LABELS, label_and_rest, opens, prose_before
from rlm_adapters.replies.syntax import Syntax
from rlm_adapters.replies.turn import Turn

MAX_CHARS: Final = 100_000
"""Length of the longest unfinished reply that is read. It is read again after each statement."""

_NAME: Final = re.compile(r"[^\W\d]\w*")
_MOST_TRIED: Final = 20  # lines: each line of a long string may look like the start of a statement
_CONTINUES: Final = frozenset({"else", "elif", "except", "finally"})
_DEFINES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_QUIET: Final = (*_DEFINES, ast.Import, ast.ImportFrom, ast.Pass)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The statements of a cell that are complete.

    Attributes:
        code: the source of the statements.
        count: number of statements.
        whole: whether the cell ends with them.
    """

    code: str
    count: int
    whole: bool = False


def beginning_of(text: str) -> Beginning | None:
    """The beginning of the first cell of an unfinished reply.

    A simple statement is complete at the end of its line, a compound statement when the next one has begun, and the
    last statement when the fence is closed. The rest of the reply can still show that this is not a cell: it may be a
    thought without an opening mark, or the rest may have a syntax error.

    Args:
        text: the reply so far.

    Returns:
        The statements; None if there is no open fence, or nothing in it is complete.
    """
    found = None if len(text) > MAX_CHARS else _first_fence(Turn.of(normalise_lines(text)).text.split("\n"))
    if found is None:
        return None
    lines, closed = found
    syntax = Syntax()
    code = "\n".join(lines[: len(lines) if closed else _complete(lines, syntax)])
    tree = syntax.tree(code)
    return Beginning(code, len(tree.body), closed) if tree is not None and tree.body else None


def what_is_new(code: str, seen: int) -> str:
    """The statements of a cell after the first ``seen``, with the functions of the cell that they use.

    Empty if they only define or import.
    """
    tree = Syntax().tree(code)
    if tree is None:
        return ""
    parts = [_source(code, one) for one in tree.body[seen:] if not isinstance(one, _QUIET)]
    defined = {one.name: _source(code, one) for one in tree.body if isinstance(one, _DEFINES)}
    defined |= {
        target.id: _source(code, one)
        for one in tree.body
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Lambda)
        for target in one.targets
        if isinstance(target, ast.Name)
    }
    waiting = list(parts)
    while waiting:
        for name in set(_NAME.findall(waiting.pop())) & defined.keys():
            parts.append(defined[name])
            waiting.append(defined.pop(name))
    return "\n".join(parts)


def _source(code: str, statement: ast.stmt) -> str:
    first = min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", ()))])
    return "\n".join(code.split("\n")[first - 1 : statement.end_lineno])


def _first_fence(lines: Sequence[str]) -> tuple[list[str], bool] | None:
    """The lines in the first fence, and whether it is closed; None if it is not a cell."""
    for number, line in enumerate(lines[:-1]):
        opening = opens(line)
        if opening is None:
            continue
        label, rest = label_and_rest(opening["info"].strip())
        if label not in PYTHON_LABELS or rest or (opening["lead"].strip() and not prose_before(opening)):
            return None
        mark = opening["mark"]
        body: list[str] = []
        for inner in lines[number + 1 :]:
            closing = CLOSE.fullmatch(inner)
            if closing is not None and closing[1].startswith(mark):
                return body, True
            body.append(inner)
        return body, False
    return None


def _complete(lines: Sequence[str], syntax: Syntax) -> int:
    """The number of lines of the complete statements; 0 if no statement is complete."""
    tree = syntax.tree("\n".join(lines[:-1]))
    if tree is not None and (not tree.body or not hasattr(tree.body[-1], "body")):
        return len(lines) - 1  # a simple statement ends with its line
    tried = 0
    for number in range(len(lines) - 1, 0, -1):
        word = _NAME.match(lines[number])
        begins = lines[number][:1]
        if not begins or begins in " \t#)]}" or not begins.isprintable():
            continue
        if word is not None and number == len(lines) - 1 and word.end() == len(lines[number]):
            if any(one.startswith(word[0]) for one in _CONTINUES):
                continue  # it may still become a line that continues the statement before
        elif word is not None and word[0] in _CONTINUES:
            continue
        if syntax.tree("\n".join(lines[:number])) is not None:
            return number
        tried += 1
        if tried == _MOST_TRIED:
            break
    return 0
