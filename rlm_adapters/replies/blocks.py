"""One pass over the lines: what opens first owns its text.

So FINAL in a fence is never a finish, and a fence in FINAL(...) is never a cell. The pass ends at the first output or
turn that the model invented after a block.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, TypeAlias

from rlm_adapters.replies.calls import ToolCalls
from rlm_adapters.replies.fences import Fence, Fences
from rlm_adapters.replies.invented import OUTPUT_LABELS, is_invented
from rlm_adapters.replies.marks import Mark, Marks
from rlm_adapters.replies.syntax import Syntax, acts

_TAG: Final = re.compile(
    r"[ \t]*<(?P<name>code|python|py|python3|execute|repl|ipython|tool_code|python_code|execute_python|execute_code"
    r"|code_interpreter|run_python|run|cell|action)(?:[ \t][^>\n]*)?>",
    re.IGNORECASE,
)
_MAX_CLOSES: Final = 24


@dataclass(frozen=True, slots=True)
class Region:
    """Text owned by a tag or by tool call tokens."""

    text: str
    """For a code tag the body, for tool calls the whole with its marks."""
    is_call: bool


Block: TypeAlias = Fence | Region | Mark


@dataclass(frozen=True, slots=True)
class Scan:
    """A text taken apart."""

    blocks: tuple[Block, ...]
    after: tuple[str, ...]
    """The prose that follows each block."""
    prose: str
    unclosed_finish: bool
    """A finish opened and never closed."""
    cut: str
    """What was ignored from the first invented output or turn on."""


class Scanner:
    """The pass over one text."""

    def __init__(self, text: str, syntax: Syntax, calls: ToolCalls) -> None:
        self._text = text
        self._syntax = syntax
        self._calls = calls
        self._marks = Marks(text)
        self._lines = text.split("\n")
        self._fences = Fences(self._lines, syntax)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._never_closed: set[str] = set()

    def run(self) -> Scan:
        """Take the text apart."""
        blocks: list[Block] = []
        prose: list[list[str]] = [[]]
        unclosed_finish = False
        ran = finished = False
        position = 0
        cut = ""
        while position < len(self._text):
            number = bisect_right(self._starts, position) - 1
            line = self._text[position : self._starts[number + 1] - 1]
            at_start = position == self._starts[number]
            block: Block | None = None
            if (ran or finished) and is_invented(line, after_code=ran):
                cut = self._text[position:]
                break
            if at_start and (fence := self._fences.opens(line)):
                prose[-1].append(self._fences.prose_before(fence))
                block, following = self._fences.read(number, fence)
                if ran and block.label in OUTPUT_LABELS:
                    cut = self._text[position:]
                    break
                ran = ran or self._runs(block)
                position = self._starts[following] if following < len(self._starts) else len(self._text) + 1
            elif opening := self._marks.opens(position):
                mark = self._marks.read(opening)
                if mark is None:
                    unclosed_finish = True
                else:
                    block, finished, position = mark, True, mark.end
            elif (at_start and "<" in line) and (tag := _TAG.match(line)):
                region = self._tag(number, tag)
                if region is not None:
                    block, following = region
                    ran = True
                    position = self._starts[following]
            if block is None and (opening := self._calls.opens(self._text, position, position + len(line))):
                prose[-1].append(self._text[position : opening.start()])
                body_end, position = self._calls.end_of(self._text, opening)
                block, ran = Region(self._text[opening.start() : body_end], is_call=True), True
            if block is None:
                prose[-1].append(line)
                position += len(line) + 1
            else:
                blocks.append(block)
                prose.append([])
        texts = ["\n".join(part) for part in prose]
        return Scan(
            tuple(blocks),
            tuple(texts[1:]),
            "\n\n".join(t.strip() for t in texts if t.strip()),
            unclosed_finish,
            cut,
        )

    def _runs(self, fence: Fence) -> bool:
        """Whether what follows may claim to be its output."""
        tree = self._syntax.tree(fence.body) if not fence.label else None
        return fence.is_python or (tree is not None and acts(tree))

    def _tag(self, number: int, opening: re.Match[str]) -> tuple[Region, int] | None:
        """A code tag on lines of its own, and the line on which the text goes on."""
        name = opening["name"].lower()
        if name in self._never_closed:
            return None
        close = f"</{name}>"
        first: tuple[Region, int] | None = None
        head = self._lines[number][opening.end() :]
        tries = 0
        for end in range(number, len(self._lines)):
            line = head if end == number else self._lines[end]
            if "</" not in line or not (line := line.rstrip(" \t")).lower().endswith(close):
                continue
            last = line[: -len(close)].rstrip(" \t")
            body = last if end == number else "\n".join([head, *self._lines[number + 1 : end], last])
            body = re.sub(r"^\s*<!\[CDATA\[\n?|\n?\]\]>\s*$", "", body)
            region = Region(body.strip("\n"), is_call=False)
            first = first or (region, end + 1)
            if "```" in body or self._syntax.tree(region.text) is not None:
                return region, end + 1
            tries += 1
            if tries == _MAX_CLOSES:
                break
        if first is None:
            self._never_closed.add(name)
            body = "\n".join(self._lines[number + 1 :]).strip("\n")
            if not head.strip() and self._syntax.has_statement(body):
                return Region(body, is_call=False), len(self._lines)
        return first
