"""Fenced blocks: the label and the body of one that opens on a given line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rlm_adapters.replies.clean import INVISIBLE
from rlm_adapters.replies.fence_ends import FenceEnds, OpenBlock
from rlm_adapters.replies.fence_lines import PYTHON_LABELS, label_and_rest, prose_before
from rlm_adapters.replies.syntax import Syntax, acts

_LABEL_LINE: Final = re.compile(r"[ \t]*(?:python3?|py|repl|ipython|tool_code)[ \t]*", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"[\w.-]+=(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)(?:\s|$)|[{(\[]|[\w./-]+\.\w+\s*$")
_MARK_LENGTH: Final = 3


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


class Fences:
    """The fenced blocks of one text, given as its lines."""

    def __init__(self, lines: list[str], syntax: Syntax) -> None:
        self._lines = lines
        self._syntax = syntax
        self._ends = FenceEnds(lines, syntax)

    def read(self, number: int, opening: re.Match[str]) -> tuple[Fence, int]:
        """The fenced block that opens on this line, and the number of the line after it."""
        mark, info = opening["mark"], opening["info"].strip()
        inline = info.rstrip(mark[0])
        if inline.strip() and len(info) - len(inline) >= _MARK_LENGTH:
            return _on_one_line(inline.strip()), number + 1
        label, rest = label_and_rest(info)
        lead = "" if prose_before(opening) else opening["lead"]
        first = self._code_beside(label, rest)
        block = OpenBlock(number, mark, label, lambda end: first + self._body(number + 1, end, lead))
        end = self._ends.find(block)
        label, body = _with_label_inside(label, block.body_to(end.line) + end.tail)
        return Fence(label, body, end.closed), end.following

    def _code_beside(self, label: str, rest: str) -> str:
        """Code after the label, on the line of the opening."""
        if label in PYTHON_LABELS and rest and not _ATTRIBUTE.match(rest):
            tree = self._syntax.tree(rest)
            if tree is not None and acts(tree):
                return rest + "\n"
        return ""

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


def _on_one_line(inline: str) -> Fence:
    """A block that opens and closes on one line."""
    label, rest = label_and_rest(inline)
    return Fence(label, rest, closed=True) if label in PYTHON_LABELS else Fence("", inline, closed=True)


def _with_label_inside(label: str, body: str) -> tuple[str, str]:
    """Label and body of a block whose first line is a Python label."""
    lines = body.split("\n")
    named = next((number for number, line in enumerate(lines) if line.strip()), None)
    if named is None or label not in ("", *PYTHON_LABELS) or not _LABEL_LINE.fullmatch(lines[named]):
        return label, body
    return label or "python", "\n".join(lines[named + 1 :])
