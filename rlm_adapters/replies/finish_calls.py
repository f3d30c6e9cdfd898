# ruff: noqa: RUF001 - the characters that models write are the subject
"""Find where a finish in text begins and ends.

``FINAL``, ``FINAL_VAR`` and ``SUBMIT`` count at the start of a line, after optional decoration. In the middle of a
sentence the model only talks about them. The argument is often prose, not Python, so its end is searched in several
ways.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from rlm_adapters.replies.clean import INVISIBLE

_OPENING: Final = re.compile(
    rf"[ \t{INVISIBLE}]*(?:[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\ufe0f\U0001f300-\U0001faff]{{1,4}}[ \t]*)?"
    rf"(?:>[ \t]*)*(?:\#{{1,6}}[ \t]+)?(?:[-*+•][ \t]+)?"
    r"(?:[*_]{0,3}(?:final[ \t]+)?answer[*_]{0,3}[ \t]*:[*_]{0,3}[ \t]*)?"
    rf"[*_`~\"“'{INVISIBLE}]{{0,6}}(?P<function>FINAL(?:\\?_VAR)?|SUBMIT)[*_`]{{0,3}}[ \t]*(?P<open>[(（])",
    re.IGNORECASE,
)
_PAREN: Final = re.compile(r"[()（）]")
_NO_WORD: Final = re.compile(r"[^\w()（）\n]")
_ENUMERATOR: Final = re.compile(r"(?<![^\s,;:])(?:\d{1,3}|[A-Za-z]|[ivx]{2,4})[)）]")  # " 1) heat"
_SMILEY: Final = re.compile(r"[:;=]['-]?[()](?!\w)")
_TAIL: Final = re.compile(  # nothing but marks, a comment, or a remark in parentheses up to the end of the line
    r"(?:[^\w()（）\n]*+(?=\n|\Z)|[^\w()（）\n]*?[ \t]#[^\n]*+"
    r"|[^\w()（）\n]*+[(（][^()（）\n]*+[)）][^\w()（）\n]*+(?=\n|\Z))"
)
_OPENS_STRING: Final = re.compile(r"\s*+[rRbBuUfF]{0,2}(\"{3}|'{3}|\"|')")
_STRING: Final = re.compile(
    r"\s*+[rRbBuUfF]{0,2}(?:"
    r'"{3}[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+"{3}|' + r"'{3}[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+'{3}|"
    r'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"|' + r"'[^'\\\n]*+(?:\\.[^'\\\n]*+)*+')",
    re.DOTALL,
)
_AFTER_STRING: Final = re.compile(r"\s*+,?\s*+[)）]")
_MENTION: Final = re.compile(r"\bFINAL\(((?:[^()\n]|\([^()\n]*+\)){1,2000}+)\)")


@dataclass(frozen=True, slots=True)
class FinishCall:
    """A finish in the text."""

    function: str
    """``FINAL``, ``FINAL_VAR`` or ``SUBMIT``."""
    argument: str
    source: str
    """The whole call, with plain parentheses."""
    end: int
    """Offset after the line on which it ends."""


class FinishCalls:
    """Finds the finishes of one text; brackets are matched once for all of them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._strict: dict[int, int] | None = None
        self._lenient: dict[int, int] | None = None
        self._smileys: set[int] = set()
        self._no_string_end: dict[str, int] = {}
        self._last_brackets: dict[int, range] = {}

    def opens(self, line_start: int) -> re.Match[str] | None:
        """The opening of a finish at the start of the line at this offset."""
        found = _OPENING.match(self._text, line_start)
        # IGNORECASE is only for "Final answer:"
        return found if found and found["function"].isupper() else None

    def read(self, opening: re.Match[str]) -> FinishCall | None:
        """The finish that begins here; None if it has no end."""
        begin = opening.end()
        close = self._close(begin - 1)
        if close is None:
            return None
        function = opening["function"].replace("\\", "")
        argument = self._text[begin:close]
        line_end = self._text.find("\n", close)
        return FinishCall(
            function,
            argument,
            f"{function}({argument})",
            len(self._text) if line_end < 0 else line_end + 1,
        )

    def _close(self, open_: int) -> int | None:
        close = self._after_string(open_ + 1)
        if close is not None:
            return close
        if self._strict is None or self._lenient is None:
            self._strict = _matches(self._text)
            self._smileys = {m.end() - 1 for m in _SMILEY.finditer(self._text)}
            enumerators = {m.end() - 1 for m in _ENUMERATOR.finditer(self._text)}
            self._lenient = _matches(self._text, self._smileys | enumerators)
        strict, lenient = self._strict.get(open_), self._lenient.get(open_)
        if strict is not None and strict in self._smileys:
            strict = None
        for close in (strict, lenient):
            if close is not None and self._ends_line(close):
                return close
        if strict is not None and self._closed_too_often(strict):
            return strict
        line_end = self._text.find("\n", open_)
        line = self._text[open_ + 1 : line_end if line_end >= 0 else len(self._text)]
        last = max(line.rfind(")"), line.rfind("）"))
        if last >= 0 and not re.search(r"\w", line[last:]):
            return open_ + 1 + last
        return None

    def _after_string(self, position: int) -> int | None:
        """The bracket after one or several neighbouring string literals."""
        text = self._text
        quote = _OPENS_STRING.match(text, position)
        if quote is None or position >= self._no_string_end.get(quote[1], len(text) + 1):
            return None
        found = _STRING.match(text, position)
        if found is None:
            if len(quote[1]) == 3:
                self._no_string_end[quote[1]] = position
            return None
        while following := _STRING.match(text, found.end()):
            found = following
        after = _AFTER_STRING.match(text, found.end())
        if after is None or not self._ends_line(after.end() - 1):
            return None
        return after.end() - 1

    def _closed_too_often(self, close: int) -> bool:
        """Whether the line ends after this bracket with more closing brackets and nothing else."""
        line_end = self._text.find("\n", close)
        line_end = len(self._text) if line_end < 0 else line_end
        if line_end not in self._last_brackets:
            end = line_end
            while end > 0 and _NO_WORD.match(self._text[end - 1]):
                end -= 1
            start = end
            while start > 0 and self._text[start - 1] in ")）":
                start -= 1
            self._last_brackets[line_end] = range(start, end)
        return close + 1 in self._last_brackets[line_end]

    def _ends_line(self, close: int) -> bool:
        return _TAIL.match(self._text, close + 1) is not None


def whole_finish(text: str) -> FinishCall | None:
    """The finish, if the text has nothing else."""
    stripped = text.strip()
    calls = FinishCalls(stripped)
    opening = calls.opens(0)
    call = calls.read(opening) if opening else None
    return call if call is not None and call.end >= len(stripped) else None


def mentioned(text: str) -> str | None:
    """The argument of the last ``FINAL(...)`` in the middle of a sentence."""
    found = None
    for found in _MENTION.finditer(text):  # noqa: B007 - the last one is wanted
        pass
    return found[1].strip() if found else None


def _follows_function(text: str, bracket: int) -> bool:
    before = text[max(0, bracket - 16) : bracket].rstrip(" \t*_`")
    return before.endswith(("FINAL", "VAR", "SUBMIT"))


def _matches(text: str, skip: Collection[int] = ()) -> dict[int, int]:
    """The closing bracket of each opening one, found in one pass."""
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for bracket in _PAREN.finditer(text):
        at = bracket.start()
        if at in skip and (bracket[0] in "(（" or (stack and _follows_function(text, stack[-1]))):
            continue
        if bracket[0] in "(（":
            stack.append(at)
        elif stack:
            pairs[stack.pop()] = at
    return pairs
