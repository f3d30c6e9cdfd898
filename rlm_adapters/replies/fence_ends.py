"""Find where a fenced block ends.

Prompts in code contain fences, models forget to close a fence or put the close on the last line of code, and a reply
may be cut. So a block ends at the first place where its body parses as Python.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rlm_adapters.replies.fence_lines import CLOSE, GLUED_CLOSE, OPENING, PYTHON_LABELS, opens_python
from rlm_adapters.replies.finish_calls import FinishCalls
from rlm_adapters.replies.invented_turns import OUTPUT_LINE, ROLE_LINE
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.prose import is_prose
from rlm_adapters.replies.syntax import Syntax

_TOO_LONG: Final = ")"
"""Used instead of a body that is too long to be parsed. It does not parse, like a body that ends too early."""
_MAX_CLOSES: Final = 24
_MAX_MENDED_CLOSES: Final = 4
_MAX_LOOKED_AT: Final = 400
_MAX_EXTENSIONS: Final = 600
_EVERY_LINE: Final = 50  # a check of every line counts as this number of extensions
_MAX_PROSE_PARAGRAPHS: Final = 4


@dataclass(frozen=True, slots=True)
class OpenBlock:
    """A block whose end is searched for."""

    number: int
    """The line of its opening."""
    mark: str
    label: str
    body_to: Callable[[int], str]
    """Its body, if it ends before this line."""

    @property
    def may_be_python(self) -> bool:
        """Whether the parser can decide where it ends."""
        return self.label in ("", *PYTHON_LABELS)


@dataclass(frozen=True, slots=True)
class End:
    """A possible end of a block."""

    line: int
    """The first line that is not part of the body."""
    following: int
    """The line on which the text continues."""
    closed: bool = False
    tail: str = ""
    """The last line of the body, if the close is on the same line."""


class FenceEnds:
    """The ends of the fenced blocks of one text, given as its lines."""

    def __init__(self, lines: list[str], syntax: Syntax) -> None:
        self._lines = lines
        self._syntax = syntax
        self._closes: list[int] = []
        self._fallbacks: list[int] = []
        """Lines at which a block without a close may end: a close after code, another opening, an invented turn."""
        for number, line in enumerate(lines):
            if "`" not in line and "~~~" not in line:
                if ROLE_LINE.match(line) or OUTPUT_LINE.match(line):
                    self._fallbacks.append(number)
            elif CLOSE.fullmatch(line):
                self._closes.append(number)
            elif GLUED_CLOSE.fullmatch(line) or OPENING.fullmatch(line):
                self._fallbacks.append(number)
        self._starts = list(itertools.accumulate((len(line) + 1 for line in lines), initial=0))
        self._extensions = _MAX_EXTENSIONS
        """How many ends may still be tried. This limits the work for one text."""

    def find(self, block: OpenBlock) -> End:
        """The end of a block: the first at which it parses, else the most likely one."""
        closes = self._closes_of(block)
        at_close = [End(line, line + 1, closed=True) for line in closes]
        limit = closes[0] if closes else len(self._lines)
        if not block.may_be_python:
            return self._unjudged_end(block, at_close, limit)
        end = self._close_that_parses(block, at_close) or self._unmarked_end_that_parses(block, closes)
        if end is not None:
            return end
        broken = self._broken_off_at(block, limit)
        end = self._forgotten_close_that_parses(block, closes, broken) or self._close_that_mends(block, at_close)
        if end is not None:
            return end
        if broken is not None:
            return End(broken, broken)
        return at_close[0] if closes else End(self._before_prose(block), len(self._lines))

    # -- one rule each

    def _unjudged_end(self, block: OpenBlock, at_close: Sequence[End], limit: int) -> End:
        """The end of a block in another language: the next Python block, its close, or the end of the text."""
        opener = self._next_python_opener(block.number, limit)
        if opener is not None:
            return End(opener, opener)
        return at_close[0] if at_close else End(len(self._lines), len(self._lines))

    def _close_that_parses(self, block: OpenBlock, at_close: Sequence[End]) -> End | None:
        """The first close at which the body parses."""
        for tried, end in enumerate(at_close):
            if tried and not self._may_go_on(block, at_close[tried - 1].line):
                return None
            if self._syntax.tree(self._body(block, end.line)) is not None:
                return end
        return None

    def _unmarked_end_that_parses(self, block: OpenBlock, closes: Sequence[int]) -> End | None:
        """The first end without a separate close at which the body is code."""
        for end in self._unmarked_ends(block, closes):
            if self._syntax.has_statement(self._body(block, end.line) + end.tail):
                return end
        return None

    def _forgotten_close_that_parses(self, block: OpenBlock, closes: Sequence[int], broken: int | None) -> End | None:
        """For a block that is not closed, or is broken off before its close: the first end of another kind."""
        if self._extensions <= 0 or (closes and broken is None):
            return None
        for end in self._forgotten_closes(block, len(self._lines) if broken is None else broken):
            if self._syntax.has_statement(self._body(block, end.line)):
                return end
        return None

    def _close_that_mends(self, block: OpenBlock, at_close: Sequence[End]) -> End | None:
        """The first close at which the body can be repaired."""
        for tried, end in enumerate(at_close[:_MAX_MENDED_CLOSES]):
            if self._extensions <= 0 or (tried and not self._may_go_on(block, at_close[tried - 1].line)):
                return None
            self._extensions -= 1
            if mended(self._body(block, end.line).strip("\n"), self._syntax) is not None:
                return end
        return None

    def _broken_off_at(self, block: OpenBlock, limit: int) -> int | None:
        """Where the model left a block that parses at no end: another block opens, or an invented turn begins."""
        opener = self._next_python_opener(block.number, limit)
        for end in self._fallbacks_after(block.number):
            if end >= (limit if opener is None else opener):
                break
            if ROLE_LINE.match(self._lines[end]) and not self._lines[end - 1].strip():
                return end
        return opener

    def _before_prose(self, block: OpenBlock) -> int:
        """The end of a block without a close: before the prose at the end, if the body parses then."""
        end = len(self._lines)
        for _ in range(_MAX_PROSE_PARAGRAPHS):
            if self._extensions <= 0 or self._syntax.tree(self._body(block, end)) is not None:
                break
            self._extensions -= 1
            start, stop = self._paragraph_before(end, block.number + 1)
            if not is_prose("\n".join(self._lines[start:stop]), self._syntax):
                return len(self._lines)
            end = start
        return end if self._syntax.tree(self._body(block, end)) is not None else len(self._lines)

    # -- the ends that are tried

    def _closes_of(self, block: OpenBlock) -> list[int]:
        """Lines on which the block may close: the mark alone, at least as long."""
        closes: list[int] = []
        at = bisect_right(self._closes, block.number)
        for candidate in self._closes[at : at + _MAX_LOOKED_AT]:
            close = CLOSE.fullmatch(self._lines[candidate])
            if close and close[1].startswith(block.mark):
                closes.append(candidate)
                if len(closes) == _MAX_CLOSES:
                    break
        return closes

    def _unmarked_ends(self, block: OpenBlock, closes: Sequence[int]) -> Iterator[End]:
        """Ends without a separate close: a close after code, the next opening, an invented turn."""
        if self._extensions <= 0:
            return
        in_string = bool(closes) and self._syntax.incomplete(self._body(block, closes[0]))
        limit = closes[0] if closes and not in_string else len(self._lines)
        for line in self._fallbacks_after(block.number):
            if line >= limit:
                return
            self._extensions -= 1
            text = self._lines[line]
            if GLUED_CLOSE.fullmatch(text) and not OPENING.fullmatch(text):
                yield End(line, line + 1, closed=True, tail="\n" + text.rstrip(" \t").rstrip("`").rstrip(" \t"))
            else:
                yield End(line, line)

    def _forgotten_closes(self, block: OpenBlock, limit: int) -> Iterator[End]:
        """For a block without a close: a shorter close, or a finish that is not Python."""
        if self._syntax.tree(self._body(block, limit)) is not None:
            return
        self._extensions -= _EVERY_LINE
        at = bisect_right(self._closes, block.number)
        for line in self._closes[at : at + _MAX_MENDED_CLOSES]:
            if line < limit:
                yield End(line, line + 1, closed=True)
        finishes = (line for line in range(block.number + 1, limit) if FinishCalls(self._lines[line]).opens(0))
        for line in itertools.islice(finishes, _MAX_MENDED_CLOSES):
            yield End(line, line)

    # -- parts

    def _body(self, block: OpenBlock, end: int) -> str:
        """The body up to a line, if the parser would accept a text of this length."""
        affordable = self._syntax.affords(self._starts[end] - self._starts[block.number + 1])
        return block.body_to(end) if affordable else _TOO_LONG

    def _may_go_on(self, block: OpenBlock, end: int) -> bool:
        """Whether a later close can help: only if the body ends inside a string or a bracket."""
        if self._extensions <= 0 or not self._syntax.incomplete(self._body(block, end)):
            return False
        self._extensions -= 1
        return True

    def _paragraph_before(self, end: int, first: int) -> tuple[int, int]:
        """The first line of the last paragraph before a line, and the line after the paragraph."""
        start = end
        while start > first and not self._lines[start - 1].strip():
            start -= 1
        stop = start
        while start > first and self._lines[start - 1].strip():
            start -= 1
        return start, stop

    def _next_python_opener(self, number: int, limit: int) -> int | None:
        for at in range(bisect_left(self._fallbacks, number + 1), len(self._fallbacks)):
            end = self._fallbacks[at]
            if end >= limit:
                return None
            if opens_python(self._lines[end]):
                return end
        return None

    def _fallbacks_after(self, number: int) -> list[int]:
        """The next lines at which the block that opens on this line may end without a close."""
        at = bisect_left(self._fallbacks, number + 1)
        return self._fallbacks[at : at + _MAX_CLOSES]
