"""The moves that a cleaned reply makes: the outermost container, the cells that run, the finish that counts."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from rlm_adapters.replies.bare import bare_code, react_action
from rlm_adapters.replies.blocks import Block, Region, Scan, Scanner
from rlm_adapters.replies.calls import ToolCalls, whole_json
from rlm_adapters.replies.fences import PYTHON_LABELS, Fence
from rlm_adapters.replies.finish import Arguments, Refused
from rlm_adapters.replies.invented import before_dialogue
from rlm_adapters.replies.marks import Mark, Marks
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.prose import is_prose, takes_back
from rlm_adapters.replies.reading import Problem
from rlm_adapters.replies.syntax import Syntax, acts

MAX_CELLS: Final = 500
_MAX_MARKS: Final = 200
_MAX_CUT_READ: Final = 100_000

_TEXT_LABELS: Final = frozenset({"", "text", "txt", "plaintext", "plain", "markdown", "md", "final", "answer"})
_JSON_LABELS: Final = frozenset({"", "json", "json5", "jsonc", "tool_call", "tool_calls", "tool", "function_call"})

_CALL_KEYS: Final = frozenset(
    {"code", "arguments", "parameters", "tool_uses", "tool_calls", "action_input", "tool_input", "function", "python"}
)
_FENCE_LINE: Final = re.compile(r"^[ \t]*(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)
_DSPY_FIELD: Final = re.compile(r"^[ \t]*\[\[[ \t]*##[ \t]*(\w+)[ \t]*##[ \t]*\]\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Moves:
    """What a text holds: cells, the marks of a finish, and why there may be none."""

    cells: tuple[str, ...] = ()
    mark: Mark | None = None
    prose: str = ""
    thought: str = ""
    problem: Problem = "no_code"
    detail: str = ""
    note: str = ""
    refused: Mark | None = None
    """A finish that was taken back, or that followed invented output."""


class MoveFinder:
    """Finds the moves of one reply; ``names`` exist in the REPL."""

    def __init__(self, names: Collection[str], syntax: Syntax, calls: ToolCalls) -> None:
        self._names = names
        self._syntax = syntax
        self._calls = calls

    def find(self, text: str) -> Moves:
        """The outermost container, and what it holds."""
        value = whole_json(text)
        if value is not None and _is_call(value):
            cells = self._calls.of(value)
            if cells:
                return self._runnable(cells)
            problem: Problem = "unknown_tool" if _names_tool(value) else "no_code"
            return Moves(problem=problem)
        field = _code_field(text)
        if field is not None:
            start, begin, end = field
            return self._in_field(text[begin:end].strip("\n "), text[:start])
        return self._in_text(text)

    def _in_field(self, body: str, before: str) -> Moves:
        """The content of DSPy's code field: fences, or code as it stands."""
        prose = _DSPY_FIELD.sub("", before).strip()
        if body.strip() in ("None", "null", "N/A"):
            return Moves(thought=prose)
        fenced = re.search(r"^[ \t]*(?:`{3}|~{3})", body, re.MULTILINE) or body.startswith("<")
        finishes = Marks(body).opens(0) and self._syntax.tree(body) is None
        python = Fence("python", body, closed=True)
        found = self._in_text(body) if fenced or finishes else self._from_python([python])
        return replace(found, thought=prose)

    def _in_text(self, text: str) -> Moves:
        text = _with_fence_opened(before_dialogue(text), self._syntax)
        has_container = re.search(r"^[ \t>*+\d.-]*(?:`{3}|~{3}|<\w)", text, re.MULTILINE) or "```" in text
        if not has_container and not self._calls.opens(text, 0, len(text)):
            action = react_action(text)
            if action is not None:
                return self._from_action(*action, text)
            bare = bare_code(text, self._syntax)
            if bare is not None:
                return Moves((bare[0],), prose=bare[1])
        scan = Scanner(text, self._syntax, self._calls).run()
        return self._from_scan(scan)

    def _from_action(self, name: str, body: str, text: str) -> Moves:
        cells = self._calls.named(name, body)
        prose = text[: text.find(body)] if body else text
        if not cells and not self._syntax.has_statement(body):
            return Moves(prose=prose, problem="unknown_tool")
        return Moves(tuple(cells or [body]), prose=prose)

    def _from_scan(self, scan: Scan) -> Moves:
        fences = [block for block in scan.blocks if isinstance(block, Fence)]
        python = [f for f in fences if f.is_python]
        for block in scan.blocks:
            if isinstance(block, Region) and not block.is_call and "```" in block.text:
                inner = Scanner(block.text, self._syntax, self._calls).run()
                python += [f for f in inner.blocks if isinstance(f, Fence) and f.label in ("", *PYTHON_LABELS)]
        found = self._from_python(python)
        if not found.cells:
            others = self._from_others(scan)
            if others:
                found = self._runnable(others)
        mark, refused = self._finish(scan, in_fences=not found.cells)
        if found.mark is not None and (mark is None or not found.cells):
            mark = mark or found.mark
        if scan.cut and refused is None:
            refused = self._mark_in(scan.cut)
        problem, detail = found.problem, found.detail
        if not found.cells and problem == "no_code":
            problem = self._why_nothing(scan)
        if scan.unclosed_finish and not found.cells and mark is None:
            detail = "Your FINAL( was never closed by `)` at the end of a line."
        return replace(found, mark=mark, prose=scan.prose, problem=problem, detail=detail, refused=refused)

    def _from_python(self, fences: Sequence[Fence]) -> Moves:
        """The blocks with a Python label."""
        cells: list[str] = []
        note = ""
        problem: Problem = "no_code"
        finish: Mark | None = None
        for index, fence in enumerate(fences[:MAX_CELLS]):
            body = fence.body.strip("\n")
            code = mended(body, self._syntax)
            if code is None:
                if (alone := self._only_finish(body)) is not None:
                    finish = alone
                elif not fence.closed and index == len(fences) - 1:
                    problem = "unparsable"
                    note = "The last block was not closed and does not parse, so it was not run."
                elif is_prose(body, self._syntax):
                    problem = "unparsable" if problem == "no_code" else problem
                elif re.match(r"\s*(?:!|%%)", body):
                    problem = "other_language"
                else:
                    cells.append(body)  # its SyntaxError says best what is wrong
                continue
            if self._syntax.has_statement(code):
                cells.append(code)
            elif body.strip() and not code.strip():
                problem = "other_language"
        return Moves(_once(cells), finish, problem=problem, note=note if cells else "")

    def _runnable(self, cells: Sequence[str]) -> Moves:
        """Cells of calls and tags, mended where they must be."""
        return self._from_python([Fence("python", cell, closed=True) for cell in cells])

    def _from_others(self, scan: Scan) -> list[str]:
        """Without a labelled block: calls and tags, JSON with a code key, then unlabelled blocks that act."""
        cells: list[str] = []
        for block in scan.blocks:
            if isinstance(block, Region):
                if not block.is_call:
                    held = self._calls.in_json(block.text) if block.text.lstrip()[:1] in ("{", "[") else []
                    cells += held or [block.text]
                else:
                    cells += self._calls.in_region(block.text)
            elif isinstance(block, Fence) and block.label in _JSON_LABELS and block.body.lstrip()[:1] in ("{", "["):
                cells += self._calls.in_json(block.body.strip())
        if cells:
            return cells
        cells = self._calls.in_json(scan.prose, line_starts_only=True) if "{" in scan.prose else []
        if cells:
            return cells
        for block in scan.blocks:
            if isinstance(block, Fence) and block.label in ("", "code"):
                code = mended(block.body.strip("\n"), self._syntax)
                tree = self._syntax.tree(code) if code is not None else None
                if code is not None and tree is not None and acts(tree):
                    cells.append(code)
        return cells

    def _finish(self, scan: Scan, *, in_fences: bool) -> tuple[Mark | None, Mark | None]:
        """The last usable finish, and one that was taken back."""
        taken_back: Mark | None = None
        chosen: Mark | None = None
        arguments = Arguments(self._names, self._syntax)
        for index in range(len(scan.blocks) - 1, max(-1, len(scan.blocks) - _MAX_MARKS), -1):
            mark = self._mark_of(scan.blocks[index], in_fences=in_fences)
            if mark is None:
                continue
            if chosen is None and taken_back is None and self._is_taken_back(scan, index):
                taken_back = mark
                break
            if chosen is None or isinstance(arguments.read(chosen), Refused):
                usable = not isinstance(arguments.read(mark), Refused)
                chosen = mark if chosen is None or usable else chosen
            else:
                break
        return chosen, taken_back

    def _is_taken_back(self, scan: Scan, index: int) -> bool:
        return any(takes_back(after) for after in scan.after[index:])

    def _mark_of(self, block: Block, *, in_fences: bool) -> Mark | None:
        if isinstance(block, Mark):
            return block
        if in_fences and isinstance(block, Fence) and block.label in _TEXT_LABELS:
            return self._only_finish(block.body)
        return None

    def _only_finish(self, body: str) -> Mark | None:
        """The finish, if a block holds nothing else: no cell can be meant."""
        stripped = body.strip()
        marks = Marks(stripped)
        opening = marks.opens(0)
        mark = marks.read(opening) if opening else None
        return mark if mark is not None and mark.end >= len(stripped) else None

    def _mark_in(self, text: str) -> Mark | None:
        """The last finish in text that was cut away."""
        text = text[:_MAX_CUT_READ]
        marks = Marks(text)
        found: Mark | None = None
        for line in list(re.finditer(r"^.*FINAL", text, re.MULTILINE))[-20:]:
            opening = marks.opens(line.start())
            found = (marks.read(opening) if opening else None) or found
        return found

    def _why_nothing(self, scan: Scan) -> Problem:
        for block in scan.blocks:
            if isinstance(block, Region):
                return "unknown_tool" if block.is_call and self._calls.is_whole(block.text) else "unparsable"
            if isinstance(block, Fence) and block.label not in (*_TEXT_LABELS, *_JSON_LABELS, *PYTHON_LABELS):
                return "other_language"
        return "no_code"


def _once(cells: Sequence[str]) -> tuple[str, ...]:
    """Neighbouring identical blocks once: a model that stutters."""
    kept: list[str] = []
    for cell in cells:
        if not kept or kept[-1].strip() != cell.strip():
            kept.append(cell)
    return tuple(kept)


def _is_call(value: Any) -> bool:
    """A JSON reply that is a move; other data is data."""
    if isinstance(value, list):
        return any(isinstance(item, dict) and _is_call(item) for item in value[:200])
    return isinstance(value, dict) and not _CALL_KEYS.isdisjoint(value)


def _names_tool(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in ("name", "tool", "action"))


def _code_field(text: str) -> tuple[int, int, int] | None:
    """Where DSPy's first code field outside a fence begins, where its content begins, and where that ends."""
    fences = [line.start() for line in _FENCE_LINE.finditer(text)]
    fields = _DSPY_FIELD.finditer(text)
    for field in fields:
        if field[1].lower() == "code" and bisect_left(fences, field.start()) % 2 == 0:
            following = next(fields, None)
            return field.start(), field.end(), following.start() if following else len(text)
    return None


def _with_fence_opened(text: str, syntax: Syntax) -> str:
    """Put back an opening fence that was part of the prompt: the reply begins as code and holds one bare close."""
    marks = list(itertools.islice(_FENCE_LINE.finditer(text), 2))
    if len(marks) != 1 or marks[0]["info"].strip():
        return text
    before = text[: marks[0].start()]
    tree = syntax.tree(before) if before.strip() else None
    return f"{marks[0]['mark']}python\n{text.lstrip(chr(10))}" if tree is not None and acts(tree) else text
