# ruff: noqa: RUF001 - the characters that models write are the subject
"""Repair code that does not parse: damage by encoding or by habits of a model, never a change of meaning.

Each repair is tried alone, then all of them one after the other. The first result that parses is used. Code that
parses is not changed, so data in strings is safe.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import Final

from rlm_adapters.replies.clean import INVISIBLE
from rlm_adapters.replies.syntax import Syntax, outside_strings

_PROMPT: Final = re.compile(r"[ \t]*(?:>>>|\.\.\.|In \[\d*\]:|\.{3,}:)(?: |$)")
_FIRST_PROMPT: Final = re.compile(r"\s*(?:>>> |In \[\d*\]:)")
_CONTINUED: Final = re.compile(r"[ \t]*(?:\.\.\.|\.{3,}:)(?: |$)")
_MAGIC: Final = re.compile(r"[ \t]*(?:!|%{1,2}(?=[A-Za-z])|\?\w|\$ (?=\w))|[\w.]+\?{1,2}[ \t]*$")
_ENTITY: Final = re.compile(r"&(?:lt|gt|amp|quot|apos|nbsp|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_COMPARED: Final = re.compile(r"&(?:lt|gt|amp|quot|apos|#39|#x27|#34);")
_LINE_NUMBER: Final = re.compile(r"[ \t]*(\d+)(?:[ \t]*[|:.]|(?=[ \t]|$))[ \t]?")
_MAX_JOINS: Final = 60

_WIDE: Final = {
    **{0xFF01 + i: chr(0x21 + i) for i in range(94)},  # full-width forms of ASCII
    **dict.fromkeys([0xA0, 0x3000, 0x202F, 0x205F, *range(0x2000, 0x200B)], " "),
    **dict.fromkeys(map(ord, INVISIBLE)),
    ord("，"): ",",
    ord("。"): ".",
    ord("、"): ",",
    ord("【"): "[",
    ord("】"): "]",
    ord("−"): "-",
    ord("–"): "-",
    ord("…"): "...",
    ord("≤"): "<=",
    ord("≥"): ">=",
    ord("≠"): "!=",
    ord("×"): "*",
}
_DOUBLE_QUOTES: Final = dict.fromkeys(map(ord, "“”„‟＂«»"), '"')
_QUOTES: Final = {**_DOUBLE_QUOTES, **dict.fromkeys(map(ord, "‘’‚‛＇"), "'")}


def mended(source: str, syntax: Syntax) -> str | None:
    """The source if it parses, else a repaired source that parses; None if no repair helps."""
    if source not in syntax.mended:
        syntax.mended[source] = _mended(source, syntax)
    return syntax.mended[source]


def _mended(source: str, syntax: Syntax) -> str | None:
    if syntax.tree(source) is not None:
        unescaped = _entities_outside_strings(source) if _COMPARED.search(source) else source
        # `n &lt; 3` parses, as `n & lt; 3`
        return unescaped if unescaped != source and syntax.tree(unescaped) is not None else source
    if not syntax.affords(len(source)):
        return None
    for mend in _MENDS:
        attempt = mend(source)
        if attempt != source and syntax.tree(attempt) is not None:
            return attempt
    attempt = source
    for mend in _MENDS:
        changed = mend(attempt)
        if changed != attempt and syntax.tree(changed) is not None:
            return changed
        attempt = changed
    return _joined_strings(source, syntax) or _joined_strings(attempt, syntax)


def _dedented(source: str) -> str:
    lines = source.split("\n")
    first = next((line for line in lines if line.strip()), "")
    margin = first[: len(first) - len(first.lstrip())]
    if not margin:
        return source
    return "\n".join(line.removeprefix(margin) for line in lines)


def _without_prompts(source: str) -> str:
    """The input lines of an interactive session; the model invented the outputs."""
    if not _FIRST_PROMPT.match(source):
        return source
    kept: list[str] = []
    in_code = False
    for line in source.split("\n"):
        prompt = _PROMPT.match(line)
        if prompt:
            kept.append(line[prompt.end() :])
            in_code = True
        elif not line.strip():
            if in_code:
                kept.append("")
        else:
            in_code = False
    return "\n".join(kept).strip("\n")


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%") and not re.match(r"\s*%%(?:time|timeit|capture|python3?)\b", source):
        return source  # a cell in another language
    return "\n".join(line for line in source.split("\n") if not _MAGIC.match(line)).strip("\n")


def _tabs_as_spaces(source: str) -> str:
    return "\n".join(
        line[: len(line) - len(line.lstrip(" \t"))].replace("\t", "    ") + line.lstrip(" \t")
        for line in source.split("\n")
    )


def _plain_characters(source: str) -> str:
    return _translated(source, _WIDE)


def _plain_double_quotes(source: str) -> str:
    return _translated(source, _DOUBLE_QUOTES)


def _plain_quotes(source: str) -> str:
    return _translated(source, _QUOTES)


def _translated(source: str, table: Mapping[int, str | None]) -> str:
    if source.isascii():  # none of the tables has an ASCII character
        return source
    return _outside_strings(source, lambda code: code.translate(table))


def _entities_outside_strings(source: str) -> str:
    if not _ENTITY.search(source):
        return source
    return _outside_strings(source, lambda code: _ENTITY.sub(lambda m: html.unescape(m[0]), code))


def _entities_everywhere(source: str) -> str:
    """For code in which everything was escaped, also the quote marks."""
    return html.unescape(source) if _ENTITY.search(source) else source


def _without_plus_column(source: str) -> str:
    lines = [line for line in source.split("\n") if not re.match(r"@@ |\+\+\+ |--- ", line)]
    if not any(lines) or not all(line.startswith("+") for line in lines if line.strip()):
        return source
    return "\n".join(line[1:] for line in lines)


def _without_line_numbers(source: str) -> str:
    lines = [line for line in source.split("\n") if line.strip()]
    numbers = [_LINE_NUMBER.match(line) for line in lines]
    if len(lines) < 2 or any(m is None or len(m[1]) > 9 or int(m[1]) != i for i, m in enumerate(numbers, start=1)):
        return source
    return "\n".join(line[m.end() :] for line, m in zip(lines, numbers, strict=True) if m)


def _decoded_newlines(source: str) -> str:
    r"""Code on one line whose newlines are still ``\n``: JSON that was encoded once too many."""
    if "\n" in source.strip() or "\\n" not in source:
        return source
    if any(r"\n" in piece for piece, is_code in outside_strings(source) if is_code):
        return _outside_strings(source, lambda code: code.replace("\\n", "\n").replace("\\t", "\t"))
    return source


def _joined_strings(source: str, syntax: Syntax) -> str | None:
    r"""Put back ``\n`` for a newline inside a one-line string: JSON that was encoded once too little."""
    lines = source.split("\n")
    for _ in range(_MAX_JOINS):
        attempt = "\n".join(lines)
        error = syntax.error(attempt)
        if error is None:
            return attempt
        line = error.lineno or 0
        if "unterminated" not in error.msg or "triple" in error.msg or not 0 < line < len(lines):
            return None
        lines[line - 1 : line + 1] = [lines[line - 1] + "\\n" + lines[line]]
    return None


def _outside_strings(source: str, change: Callable[[str], str]) -> str:
    return "".join(change(piece) if is_code else piece for piece, is_code in outside_strings(source))


_MENDS: Final[tuple[Callable[[str], str], ...]] = (
    _dedented,
    _without_prompts,
    _without_magics,
    _tabs_as_spaces,
    _plain_characters,
    _plain_double_quotes,
    _plain_quotes,
    _entities_outside_strings,
    _entities_everywhere,
    _without_plus_column,
    _without_line_numbers,
    _decoded_newlines,
)
