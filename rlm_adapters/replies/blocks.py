"""Split a text into blocks, in one pass over its lines. Text inside a block belongs to that block.

So FINAL in a fence is never a finish, and a fence in FINAL(...) is never a cell. The pass ends at the first output or
turn that the model invented after a block.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TypeAlias

from rlm_adapters.replies.calls import ToolCalls
from rlm_adapters.replies.code_tags import CodeTags
from rlm_adapters.replies.fence_lines import OUTPUT_LABELS, opens, prose_before
from rlm_adapters.replies.fences import Fence, Fences
from rlm_adapters.replies.finish_calls import FinishCall, FinishCalls
from rlm_adapters.replies.invented_turns import is_invented
from rlm_adapters.replies.syntax import Syntax, acts


@dataclass(frozen=True, slots=True)
class Region:
    """Text inside a tag or tool call tokens."""

    text: str
    """For a code tag the body; for tool calls all of it, with its marks."""
    is_call: bool


Block: TypeAlias = Fence | Region | FinishCall


@dataclass(frozen=True, slots=True)
class Scan:
    """The parts of a text."""

    blocks: tuple[Block, ...]
    after: tuple[str, ...]
    """The prose after each block."""
    prose: str
    unclosed_finish: bool
    """Whether a finish is opened but not closed."""
    cut: str
    """The ignored text: everything from the first invented output or turn on."""


@dataclass(frozen=True, slots=True)
class _Line:
    """The rest of a line, from the current position."""

    text: str
    number: int
    start: int
    is_whole: bool
    """Whether the position is the first character of the line."""

    @property
    def following(self) -> int:
        """Where the next line begins."""
        return self.start + len(self.text) + 1


class Scanner:
    """The pass over one text."""

    def __init__(self, text: str, syntax: Syntax, calls: ToolCalls) -> None:
        self._text = text
        self._syntax = syntax
        self._calls = calls
        self._finish_calls = FinishCalls(text)
        self._lines = text.split("\n")
        self._fences = Fences(self._lines, syntax)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._code_tags = CodeTags(self._lines, syntax)
        self._blocks: list[Block] = []
        self._prose: list[list[str]] = [[]]
        """The prose before the first block, and after each block."""
        self._ran = self._finished = False
        """Whether a block was read that may have an output, and whether a finish was read."""
        self._unclosed_finish = False
        self._cut = ""

    def run(self) -> Scan:
        """Split the text. Call this only once."""
        position = 0
        while position < len(self._text):
            position = self._step(self._line_at(position))
        texts = ["\n".join(part) for part in self._prose]
        return Scan(
            tuple(self._blocks),
            tuple(texts[1:]),
            "\n\n".join(t.strip() for t in texts if t.strip()),
            self._unclosed_finish,
            self._cut,
        )

    def _line_at(self, position: int) -> _Line:
        number = bisect_right(self._starts, position) - 1
        text = self._text[position : self._starts[number + 1] - 1]
        return _Line(text, number, position, is_whole=position == self._starts[number])

    def _step(self, line: _Line) -> int:
        """Read what begins on the line, or else prose. Returns where the text continues."""
        if (self._ran or self._finished) and is_invented(line.text, after_code=self._ran):
            return self._cut_from(line.start)
        for read in (self._fence, self._finish, self._tag, self._call):
            end = read(line)
            if end is not None:
                return end
        self._prose[-1].append(line.text)
        return line.following

    def _add(self, block: Block) -> None:
        self._blocks.append(block)
        self._prose.append([])

    def _cut_from(self, position: int) -> int:
        """Ignore the text from here on. Returns the end of the text."""
        self._cut = self._text[position:]
        return len(self._text)

    # -- what may begin on a line: each adds a block and returns where the text continues, or None

    def _fence(self, line: _Line) -> int | None:
        """A fenced block. A block that is labelled as an output ends the pass."""
        opening = opens(line.text) if line.is_whole else None
        if opening is None:
            return None
        self._prose[-1].append(prose_before(opening))
        block, following = self._fences.read(line.number, opening)
        if self._ran and block.label in OUTPUT_LABELS:
            return self._cut_from(line.start)
        self._ran = self._ran or self._runs(block)
        self._add(block)
        return self._starts[following]

    def _finish(self, line: _Line) -> int | None:
        """A finish that is written as text."""
        opening = self._finish_calls.opens(line.start)
        if opening is None:
            return None
        call = self._finish_calls.read(opening)
        if call is None:
            self._unclosed_finish = True
            return None
        self._finished = True
        self._add(call)
        return call.end

    def _tag(self, line: _Line) -> int | None:
        """A code tag on separate lines."""
        opening = self._code_tags.opens(line.text) if line.is_whole else None
        found = self._code_tags.read(line.number, opening) if opening else None
        if found is None:
            return None
        body, following = found
        self._ran = True
        self._add(Region(body, is_call=False))
        return self._starts[following]

    def _call(self, line: _Line) -> int | None:
        """A tool call, with prose before it."""
        opening = self._calls.opens(self._text, line.start, line.start + len(line.text))
        if opening is None:
            return None
        self._prose[-1].append(self._text[line.start : opening.start()])
        body_end, end = self._calls.end_of(self._text, opening)
        self._ran = True
        self._add(Region(self._text[opening.start() : body_end], is_call=True))
        return end

    # -- parts

    def _runs(self, fence: Fence) -> bool:
        """Whether the text after the fence may be an invented output of it."""
        tree = self._syntax.tree(fence.body) if not fence.label else None
        return fence.is_python or (tree is not None and acts(tree))
