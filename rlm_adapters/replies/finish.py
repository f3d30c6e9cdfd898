# ruff: noqa: RUF001 - the characters that models write are the subject
"""Read the argument of a finish: text, a typed value, a variable, an expression, or nothing usable."""

from __future__ import annotations

import ast
import json
import keyword
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from rlm_adapters.replies.finish_calls import FinishCall
from rlm_adapters.replies.reading import UNSET, TextFinish
from rlm_adapters.replies.syntax import BUILTINS, Syntax, free_names, quiet, undisturbed

FUNCTIONS: Final = frozenset(
    {
        "llm_query",
        "llm_query_batched",
        "rlm_query",
        "rlm_query_batched",
        "SHOW_VARS",
        "SUBMIT",
        "FINAL",
        "FINAL_VAR",
        "print",
    }
)
"""Functions of the REPL itself."""

_PLACEHOLDER: Final = re.compile(
    r"\W*(?:(?:insert|put|write|give|the|your|my|actual|final|complete|full)[\s_]+)*"
    r"(?:answers?|response|results?|text|value|output|content|TODO|TBD)(?:[\s_]+(?:goes|text|here|string))*\W*",
    re.IGNORECASE,
)
_VARIABLE_PLACEHOLDER: Final = re.compile(r"<[^<>\n]*>|\.\.\.|…")
_NAMED_VARIABLE: Final = re.compile(r"(?:name|var|variable|variable_name|var_name)\s*=\s*(?!=)")
_SNAKE: Final = re.compile(r"_*[a-z][a-z0-9]*(?:_+[a-z0-9]+)+_*")
_INNER_FINAL_VAR: Final = re.compile(r"FINAL_VAR\(\s*+[\"'“‘]?\s*+([^\W\d]\w*+)\s*+[\"'”’]?\s*+\)")
_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`", "„": "“", "「": "」"}
_MAX_BITS: Final = 14_000  # of an integer: about 4,200 digits, the most that Python converts to text
_ANSWER_KEYWORDS: Final = frozenset({"answer", "value", "result", "text", "final_answer", "output", "response"})


@dataclass(frozen=True, slots=True)
class Refused:
    """A finish that cannot be used."""

    reason: str
    """Completes the sentence "Your finish ..."."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A finish that is a call for the REPL, which runs it as a cell."""

    code: str


class Arguments:
    """Reads arguments, given the names that exist in the REPL."""

    def __init__(self, names: Collection[str], syntax: Syntax) -> None:
        self._names = frozenset(names) | {"context"}
        self._syntax = syntax

    def read(self, call: FinishCall) -> TextFinish | Refused | Cell:
        """What the finish means."""
        if call.function == "FINAL_VAR":
            return self._variable(call.argument.strip())
        if call.function == "SUBMIT":
            cell = self._submit(call)
            if cell is not None:
                return cell
        return self._final(call.argument)

    def _submit(self, call: FinishCall) -> Cell | None:
        tree = self._syntax.tree(call.source)
        if tree is None or len(tree.body) != 1:
            return None
        node = tree.body[0].value if isinstance(tree.body[0], ast.Expr) else None
        if not isinstance(node, ast.Call) or not (node.args or node.keywords):
            return None
        known = free_names(node) <= self._names | FUNCTIONS | BUILTINS
        return Cell(call.source) if known or node.keywords or len(node.args) > 1 else None

    def _final(self, argument: str) -> TextFinish | Refused:
        source = argument.strip()
        if not source or re.fullmatch(r"\.\.\.|…|None|null|nil", source):
            return Refused("holds no answer")
        value = _string_value(source)
        if value is not None:
            return self._quoted(value)
        if inner := _INNER_FINAL_VAR.fullmatch(source):
            return TextFinish("var", inner[1])
        source = _unwrapped(source)
        if source in ("True", "False", "true", "false"):
            return TextFinish("text", source, source.lower() == "true")
        if _is_name(source):
            return self._bare_name(source)
        if re.fullmatch(r"<[^<>\n]*>", source) or _PLACEHOLDER.fullmatch(source):
            return Refused("holds a placeholder")
        literal = _literal(source)
        if literal is not UNSET:
            return TextFinish("text", source, literal)
        keyword_value = self._keyword_value(source)
        if keyword_value is not None:
            return self._final(keyword_value)
        unknown = self._unknown_in_expression(source)
        if unknown is None:
            return TextFinish("text", source)
        if not unknown:
            return TextFinish("expression", source)
        return Refused(f"uses {_listed(unknown)}, which does not exist in the REPL")

    def _quoted(self, value: str) -> TextFinish | Refused:
        stripped = value.strip()
        if not stripped or stripped in ("...", "…"):
            return Refused("holds no answer")
        if inner := _INNER_FINAL_VAR.fullmatch(stripped):
            return TextFinish("var", inner[1])
        asks = re.search(r"\b(?:your|here|insert)\b", stripped, re.IGNORECASE)
        if asks and (_PLACEHOLDER.fullmatch(stripped) or re.fullmatch(r"<[^<>\n]*>", stripped)):
            return Refused("holds a placeholder")
        return TextFinish("text", value)

    def _bare_name(self, name: str) -> TextFinish | Refused:
        if name in self._names:
            return TextFinish("var", name)
        if name in FUNCTIONS or _SNAKE.fullmatch(name):
            return Refused(f"names {name}, which is no variable of the REPL")
        if _PLACEHOLDER.fullmatch(name):
            return Refused("holds a placeholder")
        return TextFinish("text", name)

    def _variable(self, source: str) -> TextFinish | Refused:
        if not source or _VARIABLE_PLACEHOLDER.fullmatch(source):
            return Refused("names no variable")
        named = _NAMED_VARIABLE.match(source)
        bare = _unquoted(source[named.end() :] if named else source)
        if _is_name(bare):
            return TextFinish("var", bare)
        if inner := _INNER_FINAL_VAR.fullmatch(bare):
            return TextFinish("var", inner[1])
        unknown = self._unknown_in_expression(bare)
        if unknown is not None and not unknown:
            return TextFinish("expression", bare)
        value = _string_value(source)
        if value is not None or bare != source:
            return self._quoted(value if value is not None else bare)
        if unknown:
            return Refused(f"uses {_listed(unknown)}, which does not exist in the REPL")
        return self._final(source)

    def _unknown_in_expression(self, source: str) -> set[str] | None:
        """The names that an expression needs but the REPL does not have. Empty: it can run. None: it is not code.

        Code must have at least one name: ``1837-1901`` is a span of years, not -64.
        """
        tree = self._syntax.tree(f"({source}\n)")
        expression = tree.body[0] if tree is not None and len(tree.body) == 1 else None
        if not isinstance(expression, ast.Expr):
            return None
        used = free_names(expression)
        own = used & (self._names | FUNCTIONS)
        unknown = used - self._names - FUNCTIONS - BUILTINS
        calls = {
            node.func.id
            for node in ast.walk(expression)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if not unknown and (own or calls & BUILTINS):
            return set()
        return unknown if unknown and _is_surely_code(expression, unknown, calls) else None

    def _keyword_value(self, source: str) -> str | None:
        """The value of ``answer="Paris"``."""
        tree = self._syntax.tree(f"f({source}\n)")
        call = tree.body[0].value if tree and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) else None
        match call:
            case ast.Call(args=[], keywords=[ast.keyword(arg=str(name), value=_)]) if name in _ANSWER_KEYWORDS:
                return source.partition("=")[2].strip().rstrip(",")
        return None


def _is_surely_code(expression: ast.Expr, unknown: set[str], calls: set[str]) -> bool:
    """``f"{total} in all"`` and ``results["n"]`` are always code; ``f(x)`` and ``A + B`` may be answers."""
    if calls & BUILTINS or any(_SNAKE.fullmatch(name) for name in unknown):
        return True
    for node in ast.walk(expression):
        match node:
            case ast.FormattedValue() | ast.ListComp() | ast.DictComp() | ast.SetComp() | ast.GeneratorExp():
                return True
            case ast.Call(func=ast.Attribute()) | ast.Subscript(slice=ast.Constant(value=str())):
                return True
    return False


def _is_name(source: str) -> bool:
    return source.isidentifier() and not keyword.iskeyword(source)


def _string_value(source: str) -> str | None:
    """The value of a string literal (also one that is joined from several), or None."""
    if source[:1] not in "\"'rRuU" or source[-1:] not in "\"'":
        return None
    raw = re.match(r"[rR]", source) is not None
    try:
        value = undisturbed(ast.literal_eval, f"({source if raw else quiet(source)}\n)")
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None
    return value if isinstance(value, str) else None


def _literal(source: str) -> Any:
    """The typed value of a literal in plain JSON types, or UNSET."""
    if source[0] not in "[{(-+.0123456789":
        return UNSET
    try:
        value = undisturbed(ast.literal_eval, quiet(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        if source[0] not in "[{":
            return UNSET
        try:
            value = json.loads(source)
        except (ValueError, RecursionError):
            return UNSET
    if isinstance(value, tuple) and source[0] != "(":
        return UNSET  # "1,234" is a number, "1, 2, 3" an enumeration
    try:
        return _plain(value)
    except (TypeError, RecursionError):
        return UNSET


def _plain(value: Any) -> Any:
    match value:
        case int() if value.bit_length() > _MAX_BITS:
            raise TypeError("an integer that Python does not print")
        case float() if not math.isfinite(value):
            raise TypeError("no number of JSON")
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case set():
            return sorted((_plain(item) for item in value), key=repr)
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _plain(item) for key, item in value.items()}
    raise TypeError(type(value).__name__)


def _unquoted(source: str) -> str:
    closing = _QUOTES.get(source[:1])
    if closing and len(source) > 1 and source.endswith(closing):
        return source[1:-1].strip()
    return source


def _unwrapped(source: str) -> str:
    """The text without the quote marks around all of it, unless they can be part of it.

    ``"He said "yes" and left"`` has such marks. ``"Foo" is by "Bar"`` has not: the second mark closes the first.
    """
    closing = _QUOTES.get(source[:1])
    if not closing or len(source) < 3 or not source.endswith(closing):
        return source
    inner = source[1:-1]
    marks = [i for i, c in enumerate(inner) if c in (source[0], closing)]
    if marks:
        before, after = inner[: marks[0]][-1:], inner[marks[0] + 1 :][:1]
        closes = not (before.isspace() or before in "([{" or (before.isalnum() and after.isalnum()))
        if before == "" or closes:
            return source
    return inner.strip()


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)[:5])
