"""Fenced blocks: where one opens, what its label says, and, the hard part, where it ends.

Prompts in code contain fences, models forget to close theirs or glue the close to the last line, and a reply may be
cut. Python is the judge: the first end at which the body parses is taken.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from rlm_adapters.replies.clean import INVISIBLE
from rlm_adapters.replies.invented import OUTPUT_LINE, ROLE_LINE
from rlm_adapters.replies.marks import Marks
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.prose import is_prose
from rlm_adapters.replies.syntax import Syntax, acts

PYTHON_LABELS: Final = frozenset(
    {
        "python",
        "py",
        "repl",
        "ipython",
        "pycon",
        "tool_code",
        "python-repl",
        "python-console",
        "pyrepl",
        "jupyter",
        "python_repl",
    }
)

_FENCE: Final = re.compile(
    rf"(?P<lead>[ \t{INVISIBLE}]*+(?:>[ \t]?)*+[ \t]*+(?:(?:[-*+•]|\d{{1,3}}[.)])[ \t]++)?)"
    r"(?P<mark>`{3,}+|~{3,}+)(?P<info>[^\n]*+)"
)
_GLUED_OPEN: Final = re.compile(
    r"(?P<lead>[^\n`]*[^\n`\s])[ \t]*(?P<mark>`{3,})(?P<info>[ \t]*(?:python|py|i?python3|repl|tool_code))[ \t]*",
    re.IGNORECASE,
)
_CLOSE: Final = re.compile(rf"[ \t>{INVISIBLE}]*(`{{3,}}|~{{3,}})[ \t{INVISIBLE}]*")
_GLUED_CLOSE: Final = re.compile(r"[^\n]*[^\n`\s][ \t]*`{3,}[ \t]*")
_LABEL_LINE: Final = re.compile(r"[ \t]*(?:python3?|py|repl|ipython|tool_code)[ \t]*", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"[\w.-]+=(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)(?:\s|$)|[{(\[]|[\w./-]+\.\w+\s*$")

_TOO_LONG: Final = ")"
"""Stands for a body that would not be parsed anyway: like every body that ends too early, it does not parse."""
_MAX_CLOSES: Final = 24
_MAX_MENDED_CLOSES: Final = 4
_MAX_LOOKED_AT: Final = 400
_MAX_EXTENSIONS: Final = 600
_MAX_PROSE_PARAGRAPHS: Final = 4


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block."""

    label: str
    """First word of the info string, lower case, without version; "" for none."""
    body: str
    closed: bool

    @property
    def is_python(self) -> bool:
        """Whether its label says Python."""
        return self.label in PYTHON_LABELS


@dataclass(frozen=True, slots=True)
class _End:
    """One way in which a block may end."""

    line: int
    """The first line that is not part of the body."""
    following: int
    """The line on which the text goes on."""
    closed: bool = False
    tail: str = ""
    """The last line of the body, when the close is glued to it."""


class Fences:
    """The fenced blocks of one text, given as its lines."""

    def __init__(self, lines: list[str], syntax: Syntax) -> None:
        self._lines = lines
        self._syntax = syntax
        self._closes: list[int] = []
        self._fallbacks: list[int] = []
        for number, line in enumerate(lines):
            if "`" not in line and "~~~" not in line:
                if ROLE_LINE.match(line) or OUTPUT_LINE.match(line):
                    self._fallbacks.append(number)
            elif _CLOSE.fullmatch(line):
                self._closes.append(number)
            elif _GLUED_CLOSE.fullmatch(line) or _FENCE.fullmatch(line):
                self._fallbacks.append(number)
        self._starts = list(itertools.accumulate((len(line) + 1 for line in lines), initial=0))
        self._extensions = _MAX_EXTENSIONS

    @staticmethod
    def opens(line: str) -> re.Match[str] | None:
        """The opening of a block; its group ``lead`` holds what stands before the mark."""
        return _FENCE.fullmatch(line) or _GLUED_OPEN.fullmatch(line)

    @staticmethod
    def prose_before(opening: re.Match[str]) -> str:
        """The prose on the line of the opening."""
        return opening["lead"] if opening.re is _GLUED_OPEN else ""

    def read(self, number: int, opening: re.Match[str]) -> tuple[Fence, int]:
        """The fenced block that opens on this line, and the line on which the text goes on."""
        mark, info = opening["mark"], opening["info"].strip()
        inline = info.rstrip(mark[0])
        if inline.strip() and len(info) - len(inline) >= 3:
            label, rest = _label_and_rest(inline.strip())
            if label not in PYTHON_LABELS:
                return Fence("", inline.strip(), closed=True), number + 1
            return Fence(label, rest, closed=True), number + 1
        label, rest = _label_and_rest(info)
        lead = opening["lead"] if opening.re is _FENCE else ""
        first = ""
        if label in PYTHON_LABELS and rest and not _ATTRIBUTE.match(rest):
            tree = self._syntax.tree(rest)
            if tree is not None and acts(tree):
                first = rest + "\n"

        def body_to(end: int) -> str:
            return first + self._body(number + 1, end, lead)

        def tried_to(end: int) -> str:
            affordable = self._syntax.affords(self._starts[end] - self._starts[number + 1])
            return body_to(end) if affordable else _TOO_LONG

        end = self._end_of(number, mark, label, tried_to)
        body = body_to(end.line) + end.tail
        named = next((i for i, text in enumerate(body.split("\n")) if text.strip()), None)
        if named is not None and _LABEL_LINE.fullmatch(body.split("\n")[named]) and label in ("", *PYTHON_LABELS):
            body = "\n".join(body.split("\n")[named + 1 :])
            label = label or "python"
        return Fence(label, body, end.closed), end.following

    def _end_of(self, number: int, mark: str, label: str, body_to: Callable[[int], str]) -> _End:
        closes = self._closes_of(number, mark)
        at_close = [_End(line, line + 1, closed=True) for line in closes]
        at_the_end = _End(len(self._lines), len(self._lines))
        limit = closes[0] if closes else len(self._lines)
        if label not in ("", *PYTHON_LABELS):
            opener = self._next_python_opener(number, limit)
            return _End(opener, opener) if opener is not None else [*at_close, at_the_end][0]

        for tried, end in enumerate(at_close):
            if tried and not self._may_go_on(body_to(at_close[tried - 1].line)):
                break
            if self._syntax.tree(body_to(end.line)) is not None:
                return end
        for end in self._unmarked_ends(number, closes, body_to):
            if self._syntax.has_statement(body_to(end.line) + end.tail):
                return end
        broken = self._broken_off_at(number, limit)
        if (not closes or broken is not None) and self._extensions > 0:
            for end in self._forgotten_closes(number, limit if broken is None else broken, body_to):
                if self._syntax.has_statement(body_to(end.line)):
                    return end
        for tried, end in enumerate(at_close[:_MAX_MENDED_CLOSES]):
            if self._extensions <= 0 or (tried and not self._may_go_on(body_to(at_close[tried - 1].line))):
                break
            self._extensions -= 1
            if mended(body_to(end.line).strip("\n"), self._syntax) is not None:
                return end
        if broken is not None:
            return _End(broken, broken)
        return at_close[0] if closes else _End(self._before_prose(number, body_to), len(self._lines))

    def _closes_of(self, number: int, mark: str) -> list[int]:
        """Lines on which the block may close: the mark alone, at least as long."""
        closes: list[int] = []
        at = bisect_right(self._closes, number)
        for candidate in self._closes[at : at + _MAX_LOOKED_AT]:
            close = _CLOSE.fullmatch(self._lines[candidate])
            if close and close[1].startswith(mark):
                closes.append(candidate)
                if len(closes) == _MAX_CLOSES:
                    break
        return closes

    def _may_go_on(self, body: str) -> bool:
        """Whether a later close is worth a try: the body ends inside a string or a bracket."""
        if self._extensions <= 0 or not self._syntax.incomplete(body):
            return False
        self._extensions -= 1
        return True

    def _unmarked_ends(self, number: int, closes: list[int], body_to: Callable[[int], str]) -> Iterator[_End]:
        """Ends without a close of their own: one glued to code, the next opening, another voice."""
        if self._extensions <= 0:
            return
        in_string = bool(closes) and self._syntax.incomplete(body_to(closes[0]))
        limit = closes[0] if closes and not in_string else len(self._lines)
        at = bisect_left(self._fallbacks, number + 1)
        for line in self._fallbacks[at : at + _MAX_CLOSES]:
            if line >= limit:
                return
            self._extensions -= 1
            text = self._lines[line]
            if _GLUED_CLOSE.fullmatch(text) and not _FENCE.fullmatch(text):
                yield _End(line, line + 1, closed=True, tail="\n" + text.rstrip(" \t").rstrip("`").rstrip(" \t"))
            else:
                yield _End(line, line)

    def _forgotten_closes(self, number: int, limit: int, body_to: Callable[[int], str]) -> Iterator[_End]:
        """For a block without a close: a shorter one, or a finish that is no Python."""
        if self._syntax.tree(body_to(limit)) is not None:
            return
        self._extensions -= 50  # looks at every line
        at = bisect_right(self._closes, number)
        for line in self._closes[at : at + _MAX_MENDED_CLOSES]:
            if line < limit:
                yield _End(line, line + 1, closed=True)
        finishes = (line for line in range(number + 1, limit) if Marks(self._lines[line]).opens(0))
        for line in itertools.islice(finishes, _MAX_MENDED_CLOSES):
            yield _End(line, line)

    def _broken_off_at(self, number: int, limit: int) -> int | None:
        """Where a block that parses at no end was left: another one opens in it, or somebody else speaks."""
        opener = self._next_python_opener(number, limit)
        at = bisect_left(self._fallbacks, number + 1)
        for end in self._fallbacks[at : at + _MAX_CLOSES]:
            if end >= (limit if opener is None else opener):
                break
            if ROLE_LINE.match(self._lines[end]) and not self._lines[end - 1].strip():
                return end
        return opener

    def _before_prose(self, number: int, body_to: Callable[[int], str]) -> int:
        """The end of a block that never closes: before English paragraphs at the end, if it parses then."""
        end = len(self._lines)
        for _ in range(_MAX_PROSE_PARAGRAPHS):
            if self._extensions <= 0 or self._syntax.tree(body_to(end)) is not None:
                break
            self._extensions -= 1
            start = end
            while start > number + 1 and not self._lines[start - 1].strip():
                start -= 1
            stop = start
            while start > number + 1 and self._lines[start - 1].strip():
                start -= 1
            if not is_prose("\n".join(self._lines[start:stop]), self._syntax):
                return len(self._lines)
            end = start
        return end if self._syntax.tree(body_to(end)) is not None else len(self._lines)

    def _next_python_opener(self, number: int, limit: int) -> int | None:
        for at in range(bisect_left(self._fallbacks, number + 1), len(self._fallbacks)):
            end = self._fallbacks[at]
            if end >= limit:
                return None
            opening = _FENCE.fullmatch(self._lines[end])
            if opening and _label_and_rest(opening["info"].strip())[0] in PYTHON_LABELS:
                return end
        return None

    def _body(self, start: int, end: int, lead: str) -> str:
        """The lines without the fence's own indent and quote marks."""
        lines = self._lines[start:end]
        depth = lead.count(">")
        if depth:
            lines = [re.sub(rf"^(?:[ \t]*>[ \t]?){{1,{depth}}}", "", line) for line in lines]
            lead = lead.rpartition(">")[2].removeprefix(" ")
        indent = len(lead.expandtabs(4).translate(dict.fromkeys(map(ord, INVISIBLE))))
        if indent:
            lines = [
                re.sub(rf"^ {{1,{indent}}}", "", line.expandtabs(4) if line[:1] == "\t" else line) for line in lines
            ]
        return "\n".join(lines)


def _label_and_rest(info: str) -> tuple[str, str]:
    """Label and the rest of an info string: ``{.python}``, ``Python3``, ``python title="x"``, ``repl id=3``."""
    if re.match(r"[\w./-]+\.py(?:\s|$)", info):
        return "python", ""
    found = re.match(r"[{.\s]*([A-Za-z_][\w+#-]*)((?:\d|\.\d)*)\}?[:,;]?\s*(.*)", info, re.DOTALL)
    if found is None:
        return "", info
    label = found[1].lower()
    version = re.compile(r"\d*").match(label[::-1])
    return label[: len(label) - (version.end() if version else 0)], found[3]
