# ruff: noqa: RUF001 - the characters that models write are the subject
"""One pass over the lines: what opens first owns its text.

So FINAL in a fence is never a finish, and a fence in FINAL(...) is never a cell. The pass ends at the first output or
turn that the model invented after a block.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from rlm_adapters.replies.calls import ToolCalls
from rlm_adapters.replies.clean import INVISIBLE
from rlm_adapters.replies.marks import Mark, Marks
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
_OUTPUT_LABELS: Final = frozenset(
    {"output", "outputs", "stdout", "console", "result", "results", "observation", "out", "tool_output", "tool_outputs"}
)

_FENCE: Final = re.compile(
    rf"(?P<lead>[ \t{INVISIBLE}]*(?:>[ \t]?)*[ \t]*(?:(?:[-*+•]|\d{{1,3}}[.)])[ \t]+)?)"
    r"(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)"
)
_GLUED_OPEN: Final = re.compile(
    r"(?P<lead>[^\n`]*[^\n`\s])[ \t]*(?P<mark>`{3,})(?P<info>[ \t]*(?:python|py|i?python3|repl|tool_code))[ \t]*",
    re.IGNORECASE,
)
_CLOSE: Final = re.compile(rf"[ \t>{INVISIBLE}]*(`{{3,}}|~{{3,}})[ \t{INVISIBLE}]*")
_GLUED_CLOSE: Final = re.compile(r"[^\n]*[^\n`\s][ \t]*`{3,}[ \t]*")
_TAG: Final = re.compile(
    r"[ \t]*<(?P<name>code|python|py|python3|execute|repl|ipython|tool_code|python_code|execute_python|execute_code"
    r"|code_interpreter|run_python|run|cell|action)(?:[ \t][^>\n]*)?>",
    re.IGNORECASE,
)
_LABEL_LINE: Final = re.compile(r"[ \t]*(?:python3?|py|repl|ipython|tool_code)[ \t]*", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"[\w.-]+=(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)(?:\s|$)|[{(\[]|[\w./-]+\.\w+\s*$")

ROLE_LINE: Final = re.compile(
    r"^(?:[ \t>#*_]*(?:user|human|assistant|system|tool|observation|tool[ _]response|ai)[ \t]*[*_]*[ \t]*:[*_]*(?=\s|$)"
    r"|[ \t]*\#{1,4}[ \t]*(?:user|human|instruction|observation|system)[ \t]*$"
    r"|[ \t]*<(?:tool_response|tool_result|observation|function_results|user|human)>)",
    re.IGNORECASE | re.MULTILINE,
)
_OUTPUT_LINE: Final = re.compile(
    r"[ \t>#*_\[]*(?:(?:the|repl|execution|console|program|code|python|printed|cell|terminal|simulated)[ \t]+){0,2}"
    r"(?:outputs?|observation|stdout|printed|out[ \t]?\[\d+\])[ \t\]]*(?:\([^)\n]*\))?[*_]*[ \t]*:[*_]*"
    r"|[ \t]*<(?:output|result|results|stdout|repl_output|execution_output|execution_result|interpreter)>"
    r"|[ \t]*\[\[[ \t]*\#\#[ \t]*(?:output|repl_output|observation|stdout)",
    re.IGNORECASE,
)
_RESULT_LINE: Final = re.compile(
    r"[ \t>#*_]*(?:(?:execution|the|repl|code)[ \t]+)?results?[*_]*[ \t]*:[*_]*(?P<rest>[^\n]*)", re.IGNORECASE
)

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
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._closes: list[int] = []
        self._fallbacks: list[int] = []
        for number, line in enumerate(self._lines):
            if "`" not in line and "~~~" not in line:
                if ROLE_LINE.match(line) or _OUTPUT_LINE.match(line):
                    self._fallbacks.append(number)
            elif _CLOSE.fullmatch(line):
                self._closes.append(number)
            elif _GLUED_CLOSE.fullmatch(line) or _FENCE.fullmatch(line):
                self._fallbacks.append(number)
        self._extensions = _MAX_EXTENSIONS
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
            if (ran or finished) and self._is_invented(line, ran=ran):
                cut = self._text[position:]
                break
            if at_start and (fence := _FENCE.fullmatch(line) or _GLUED_OPEN.fullmatch(line)):
                if fence.re is _GLUED_OPEN:
                    prose[-1].append(fence["lead"])
                block, following = self._fence(number, fence)
                if ran and isinstance(block, Fence) and block.label in _OUTPUT_LABELS:
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

    def _is_invented(self, line: str, *, ran: bool) -> bool:
        if ROLE_LINE.match(line):
            return True
        if not ran:
            return False
        if _OUTPUT_LINE.match(line):
            return True
        result = _RESULT_LINE.match(line)
        return result is not None and _is_value(result["rest"].strip(" \t*_"))

    def _runs(self, block: Block) -> bool:
        if not isinstance(block, Fence):
            return True
        if block.is_python:
            return True
        tree = self._syntax.tree(block.body) if not block.label else None
        return tree is not None and acts(tree)

    def _fence(self, number: int, opening: re.Match[str]) -> tuple[Fence, int]:
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
        end, following, closed = self._end_of(number, mark, lead, label, first)
        body = first + self._body(number + 1, end, lead)
        if following == end and closed and end < len(self._lines):  # glued to the last line of code
            body = body + "\n" + re.sub(r"[ \t]*`{3,}[ \t]*$", "", self._lines[end])
            following = end + 1
        named = next((i for i, text in enumerate(body.split("\n")) if text.strip()), None)
        if named is not None and _LABEL_LINE.fullmatch(body.split("\n")[named]) and label in ("", *PYTHON_LABELS):
            body = "\n".join(body.split("\n")[named + 1 :])
            label = label or "python"
        return Fence(label, body, closed), following

    def _end_of(self, number: int, mark: str, lead: str, label: str, first: str) -> tuple[int, int, bool]:
        """The line behind the body, the line to go on with, and whether the fence was closed.

        Prompts contain fences: of several closes the first at which the body parses is taken.
        """
        tries_python = label in PYTHON_LABELS or label == ""
        closes: list[int] = []
        at = bisect_right(self._closes, number)
        for candidate in self._closes[at : at + _MAX_LOOKED_AT]:
            close = _CLOSE.fullmatch(self._lines[candidate])
            if close and close[1].startswith(mark):
                closes.append(candidate)
                if len(closes) == (_MAX_CLOSES if tries_python else 1):
                    break
        if not tries_python:
            opener = self._next_python_opener(number, closes[0] if closes else len(self._lines))
            if opener is not None:
                return opener, opener, False
            return (closes[0], closes[0] + 1, True) if closes else (len(self._lines), len(self._lines), False)

        def body_to(end: int) -> str:
            return first + self._body(number + 1, end, lead)

        def fits(body: str) -> bool:
            return self._syntax.tree(body) is not None

        for tried, close_line in enumerate(closes):
            if tried and (self._extensions <= 0 or not self._syntax.incomplete(body_to(closes[tried - 1]))):
                break
            self._extensions -= 1 if tried else 0
            if fits(body_to(close_line)):
                return close_line, close_line + 1, True
        if self._extensions > 0:
            in_string = bool(closes) and self._syntax.incomplete(body_to(closes[0]))
            limit = closes[0] if closes and not in_string else len(self._lines)
            at = bisect_left(self._fallbacks, number + 1)
            for end in self._fallbacks[at : at + _MAX_CLOSES]:
                if end >= limit:
                    break
                self._extensions -= 1
                line = self._lines[end]
                if _GLUED_CLOSE.fullmatch(line) and not _FENCE.fullmatch(line):
                    body = body_to(end) + "\n" + re.sub(r"[ \t]*`{3,}[ \t]*$", "", line)
                    if fits(body):
                        return end, end, True
                    continue
                if self._syntax.has_statement(body_to(end)):
                    return end, end, False
        if not closes and self._extensions > 0:
            forgotten = self._forgotten_close(number, body_to)
            if forgotten is not None:
                return forgotten
        for tried, close_line in enumerate(closes[:_MAX_MENDED_CLOSES]):
            if self._extensions <= 0 or (tried and not self._syntax.incomplete(body_to(closes[tried - 1]))):
                break
            self._extensions -= 1
            if mended(body_to(close_line).strip("\n"), self._syntax) is not None:
                return close_line, close_line + 1, True
        limit = closes[0] if closes else len(self._lines)
        broken = self._broken_off_at(number, limit)
        if broken is not None:
            return broken, broken, False
        if closes:
            return limit, limit + 1, True
        return self._before_prose(number, body_to), limit, False

    def _forgotten_close(self, number: int, body_to: Callable[[int], str]) -> tuple[int, int, bool] | None:
        """For a block without a close: a shorter one, or a finish that is no Python, when the body parses up to it."""
        if self._syntax.tree(body_to(len(self._lines))) is not None:
            return None
        at = bisect_right(self._closes, number)
        shorter = [(line, line + 1, True) for line in self._closes[at : at + _MAX_MENDED_CLOSES]]
        finishes = [
            (line, line, False)
            for line in range(number + 1, len(self._lines))
            if self._lines[line].startswith("FINAL") and self._marks.opens(self._starts[line])
        ]
        for end, following, closed in shorter + finishes[:_MAX_MENDED_CLOSES]:
            self._extensions -= 1
            if self._syntax.has_statement(body_to(end)):
                return end, following, closed
        self._extensions -= 50  # looked at every line
        return None

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

    def _tag(self, number: int, opening: re.Match[str]) -> tuple[Region, int] | None:
        """A code tag on lines of its own, and the line on which the text goes on."""
        name = opening["name"].lower()
        if name in self._never_closed:
            return None
        close = re.compile(rf"(?P<body>[^\n]*?)[ \t]*</{re.escape(opening['name'])}>[ \t]*", re.IGNORECASE)
        first: tuple[Region, int] | None = None
        head = self._lines[number][opening.end() :]
        tries = 0
        for end in range(number, len(self._lines)):
            line = head if end == number else self._lines[end]
            if "</" not in line or not (found := close.fullmatch(line)):
                continue
            body = found["body"] if end == number else "\n".join([head, *self._lines[number + 1 : end], found["body"]])
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


def _label_and_rest(info: str) -> tuple[str, str]:
    """Label and the rest of an info string: ``{.python}``, ``Python3``, ``python title="x"``, ``repl id=3``."""
    if re.match(r"[\w./-]+\.py(?:\s|$)", info):
        return "python", ""
    found = re.match(r"[{.\s]*([A-Za-z_][\w+#-]*)((?:\d|\.\d)*)\}?[:,;]?\s*(.*)", info, re.DOTALL)
    if found is None:
        return "", info
    label = re.sub(r"\d+$", "", found[1].lower())
    return label, found[3]


def _is_value(text: str) -> bool:
    """Nothing, a literal or a quotation: what an output label is followed by."""
    if not text or text[0] in "\"'“‘`":
        return True
    try:
        ast.literal_eval(text[:10_000])
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return bool(re.fullmatch(r"[\d.,%$€ ]+", text))
    return True
