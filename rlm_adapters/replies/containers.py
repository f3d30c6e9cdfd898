"""The outermost form of a cleaned reply: a JSON call, DSPy's code field, an action, bare code, or text."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from rlm_adapters.replies.bare import bare_code, react_action
from rlm_adapters.replies.blocks import Scan, Scanner
from rlm_adapters.replies.calls import ToolCalls, whole_json
from rlm_adapters.replies.cells import CellFinder
from rlm_adapters.replies.contents import Contents
from rlm_adapters.replies.fences import Fence
from rlm_adapters.replies.finish_calls import FinishCalls
from rlm_adapters.replies.invented_turns import before_dialogue
from rlm_adapters.replies.last_finish import LastFinish
from rlm_adapters.replies.syntax import Syntax, acts

_CALL_KEYS: Final = frozenset(
    {"code", "arguments", "parameters", "tool_uses", "tool_calls", "action_input", "tool_input", "function", "python"}
)
_FENCE_LINE: Final = re.compile(r"^[ \t]*(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)
_CONTAINER: Final = re.compile(r"^[ \t>*+\d.-]*(?:`{3}|~{3}|<\w)", re.MULTILINE)
_DSPY_FIELD: Final = re.compile(r"^[ \t]*\[\[[ \t]*##[ \t]*(\w+)[ \t]*##[ \t]*\]\]", re.MULTILINE)
_UNCLOSED: Final = "Your FINAL( was never closed by `)` at the end of a line."


class ContainerReader:
    """Reads the outermost form of one reply; ``names`` exist in the REPL."""

    def __init__(self, names: Collection[str], syntax: Syntax, calls: ToolCalls) -> None:
        self._syntax = syntax
        self._calls = calls
        self._cells = CellFinder(syntax, calls)
        self._last_finish = LastFinish(names, syntax)

    def read(self, text: str) -> Contents:
        """Read the reply."""
        value = whole_json(text)
        if value is not None and _is_call(value):
            return self._in_call(value)
        field = _code_field(text)
        if field is not None:
            start, begin, end = field
            return self._in_field(text[begin:end].strip("\n "), text[:start])
        return self._in_text(text)

    def _in_call(self, value: Any) -> Contents:
        """A reply that is one tool call in JSON."""
        cells = self._calls.of(value)
        if cells:
            return self._cells.runnable(cells)
        return Contents(problem="unknown_tool" if _names_tool(value) else "no_code")

    def _in_field(self, body: str, before: str) -> Contents:
        """The content of DSPy's code field: fences, or plain code."""
        prose = _DSPY_FIELD.sub("", before).strip()
        if body.strip() in ("None", "null", "N/A"):
            return Contents(thought=prose)
        fenced = re.search(r"^[ \t]*(?:`{3}|~{3})", body, re.MULTILINE) or body.startswith("<")
        finishes = FinishCalls(body).opens(0) and self._syntax.tree(body) is None
        python = Fence("python", body, closed=True)
        found = self._in_text(body) if fenced or finishes else self._cells.in_fences([python])
        return replace(found, thought=prose)

    def _in_text(self, text: str) -> Contents:
        """Blocks, tags and finishes in prose; without any of them an action, or bare code."""
        text = _with_fence_opened(before_dialogue(text), self._syntax)
        has_container = _CONTAINER.search(text) or "```" in text
        if not has_container and not self._calls.opens(text, 0, len(text)):
            action = react_action(text)
            if action is not None:
                return self._in_action(*action, text)
            bare = bare_code(text, self._syntax)
            if bare is not None:
                return Contents((bare[0],), prose=bare[1])
        return self._in_scan(Scanner(text, self._syntax, self._calls).run())

    def _in_action(self, name: str, body: str, text: str) -> Contents:
        """A ReAct action: the cells of its input."""
        cells = self._calls.named(name, body)
        prose = text[: text.find(body)] if body else text
        if not cells and not self._syntax.has_statement(body):
            return Contents(prose=prose, problem="unknown_tool")
        return Contents(tuple(cells or [body]), prose=prose)

    def _in_scan(self, scan: Scan) -> Contents:
        """The cells of a scanned text, its finish, or the reason why it has neither."""
        found = self._cells.in_scan(scan)
        finish, refused = self._last_finish.of(scan, in_fences=not found.cells)
        finish = finish or found.finish
        nothing = not found.cells
        return replace(
            found,
            finish=finish,
            refused=refused,
            prose=scan.prose,
            problem=self._cells.why_none(scan) if nothing and found.problem == "no_code" else found.problem,
            detail=_UNCLOSED if nothing and finish is None and scan.unclosed_finish else "",
        )


def _is_call(value: Any) -> bool:
    """Whether a JSON reply is a call; any other JSON is data."""
    if isinstance(value, list):
        return any(isinstance(item, dict) and _is_call(item) for item in value[:200])
    return isinstance(value, dict) and not _CALL_KEYS.isdisjoint(value)


def _names_tool(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in ("name", "tool", "action"))


def _code_field(text: str) -> tuple[int, int, int] | None:
    """DSPy's first code field outside a fence: its start, and start and end of its content."""
    fences = [line.start() for line in _FENCE_LINE.finditer(text)]
    fields = _DSPY_FIELD.finditer(text)
    for field in fields:
        if field[1].lower() == "code" and bisect_left(fences, field.start()) % 2 == 0:
            following = next(fields, None)
            return field.start(), field.end(), following.start() if following else len(text)
    return None


def _with_fence_opened(text: str, syntax: Syntax) -> str:
    """Add the opening fence if it was part of the prompt: then the reply begins with code and has only a close."""
    marks = list(itertools.islice(_FENCE_LINE.finditer(text), 2))
    if len(marks) != 1 or marks[0]["info"].strip():
        return text
    before = text[: marks[0].start()]
    tree = syntax.tree(before) if before.strip() else None
    return f"{marks[0]['mark']}python\n{text.lstrip(chr(10))}" if tree is not None and acts(tree) else text
