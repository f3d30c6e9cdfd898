"""Ask Python's parser about text that may be Python, with a limit on the work."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

MAX_SOURCE: Final = 400_000
"""Length of the longest text that is parsed as one cell, in characters."""
MAX_PARSED: Final = 2_000_000
"""Most characters that are parsed for one reply. This takes two seconds at most."""

_TRIES: Final = 20

BUILTINS: Final = frozenset(dir(builtins))

_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_GLUED_NUMBER: Final = re.compile(r"(?<!\w)(\d\w*?|\d*\.\d\w*?)(?=(?:and|else|for|if|in|is|not|or)\b)", re.ASCII)
_ESCAPES: Final = frozenset("\n\\'\"abfnrtvxNuU01234567")
_COMMENT_OR_QUOTE: Final = re.compile(r"\#[^\n]*+|\"{3}|'{3}|[\"']")
_STRING_BODIES: Final = {  # up to the closing quote, or to where it is missing
    '"""': re.compile(r'[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+', re.DOTALL),
    "'''": re.compile(r"[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+", re.DOTALL),
    '"': re.compile(r'[^"\\\n]*+(?:\\.[^"\\\n]*+)*+', re.DOTALL),
    "'": re.compile(r"[^'\\\n]*+(?:\\.[^'\\\n]*+)*+", re.DOTALL),
}


def quiet(source: str) -> str:
    r"""The same source in a form for which the parser emits no warning about ``"\d"``. Warnings are process-wide.

    An unknown escape gets a second backslash. The value of an ordinary string stays the same, and so does the syntax of
    any other text.
    """
    if "\\" not in source:
        return source
    return _PAIR.sub(lambda m: m[0] if m[1] in _ESCAPES else "\\" + m[0], source)


def undisturbed(parse: Callable[[str], Any], source: str) -> Any:
    """Call a function of Python's parser, again if another thread has disturbed it.

    Before 3.11.8 and 3.12.2, Python counts the depth of a tree for all threads together. So threads that parse at the
    same time get a SystemError from time to time.
    """
    for _ in range(_TRIES):
        try:
            return parse(source)
        except SystemError:
            continue
    return parse(source)


def _spaced(source: str) -> str:
    """The same source with a blank between a number and a keyword: the parser warns about ``1if`` as well."""
    if not _GLUED_NUMBER.search(source):
        return source
    return "".join(_GLUED_NUMBER.sub(r"\1 ", piece) if is_code else piece for piece, is_code in outside_strings(source))


class Syntax:
    """Parses the candidates of one reply, remembers the results, and stops at a limit.

    The parser raises MemoryError for a line of a million parentheses, and RecursionError or ValueError in other cases.
    All of them mean "does not parse".
    """

    def __init__(self) -> None:
        self._left = MAX_PARSED
        self._seen: dict[str, ast.Module | SyntaxError] = {}
        self.mended: dict[str, str | None] = {}
        """The repaired form of each source (see ``mend.mended``)."""

    def affords(self, length: int) -> bool:
        """Whether a source of this length would be parsed. If not, there is no need to build it."""
        return length <= min(self._left, MAX_SOURCE)

    def tree(self, source: str) -> ast.Module | None:
        """The parsed source, or None."""
        result = self._parse(source)
        return result if isinstance(result, ast.Module) else None

    def error(self, source: str) -> SyntaxError | None:
        """Why the source does not parse, or None."""
        result = self._parse(source)
        return result if isinstance(result, SyntaxError) else None

    def has_statement(self, source: str) -> bool:
        """Whether the source parses and is more than comments."""
        tree = self.tree(source)
        return tree is not None and bool(tree.body)

    def incomplete(self, source: str) -> bool:
        """Whether the source ends inside a string or a bracket, so that more text could make it parse."""
        error = self.error(source)
        return (
            error is not None
            and re.search(r"unterminated|never closed|EOF|expected '}'|expecting '}'", error.msg or "") is not None
        )

    def _parse(self, source: str) -> ast.Module | SyntaxError:
        known = self._seen.get(source)
        if known is not None:
            return known
        result: ast.Module | SyntaxError
        if not self.affords(len(source)):
            result = SyntaxError("too long to be read")
        else:
            self._left -= len(source) + 20
            try:
                result = undisturbed(ast.parse, _spaced(quiet(source)))
            except SyntaxError as error:
                result = error
            except (ValueError, RecursionError, MemoryError) as error:
                result = SyntaxError(f"{type(error).__name__}: {error}")
        self._seen[source] = result
        return result


def acts(tree: ast.Module) -> bool:
    """Whether running the code has an effect: a call, an assignment, an import, a definition, a loop.

    ``Name: Bob`` and ``{"label": "x"}`` parse too, but they are data.
    """
    return any(_acts(statement) for statement in tree.body)


def _acts(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=value):
            return any(isinstance(node, ast.Call | ast.Await | ast.NamedExpr) for node in ast.walk(value))
        case ast.AnnAssign(value=None) | ast.Pass() | ast.Break() | ast.Continue() | ast.Global():
            return False
    return True


def bound_names(tree: ast.AST) -> set[str]:
    """Names that exist once the code has run."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.partition(".")[0])
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
    return names


def free_names(tree: ast.AST) -> set[str]:
    """Names that an expression uses but does not define."""
    inside = bound_names(tree) | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return used - inside


def outside_strings(source: str) -> list[tuple[str, bool]]:
    """The pieces of the source, each with True for code, or False for a string literal or comment.

    This works also for text that does not parse.
    """
    pieces: list[tuple[str, bool]] = []
    position = 0
    for start, end in _strings_and_comments(source):
        if start > position:
            pieces.append((source[position:start], True))
        pieces.append((source[start:end], False))
        position = end
    if position < len(source):
        pieces.append((source[position:], True))
    return pieces


def _strings_and_comments(source: str) -> Iterator[tuple[int, int]]:
    """Start and end of each string and comment.

    A string without an end is scanned only once: quotes of the same kind inside it were escaped, so they do not start a
    string. Otherwise a text of such quotes would take quadratic time.
    """
    endless = dict.fromkeys(_STRING_BODIES, -1)
    position = 0
    while found := _COMMENT_OR_QUOTE.search(source, position):
        position = found.end()
        if found[0][0] == "#":
            yield found.span()
            continue
        for quote in dict.fromkeys((found[0], found[0][0])):  # `"""` without an end begins with an empty string
            begin = found.start() + len(quote)
            body = _STRING_BODIES[quote].match(source, begin) if begin > endless[quote] else None
            if body is not None and source.startswith(quote, body.end()):
                position = body.end() + len(quote)
                yield found.start(), position
                break
            endless[quote] = max(endless[quote], body.end() if body is not None else 0)
        else:
            position = found.start() + 1
