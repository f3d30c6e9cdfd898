"""The cells of a reply: labelled blocks, else tags and tool calls, else blocks whose code has an effect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from rlm_adapters.replies.blocks import Block, Region, Scan, Scanner
from rlm_adapters.replies.calls import ToolCalls
from rlm_adapters.replies.contents import Contents
from rlm_adapters.replies.fence_lines import JSON_LABELS, PYTHON_LABELS, TEXT_LABELS
from rlm_adapters.replies.fences import Fence
from rlm_adapters.replies.finish_calls import FinishCall, whole_finish
from rlm_adapters.replies.mend import mended
from rlm_adapters.replies.prose import is_prose
from rlm_adapters.replies.reading import Problem
from rlm_adapters.replies.syntax import Syntax, acts

MAX_CELLS: Final = 500

_CUT: Final = "The last block was not closed and does not parse, so it was not run."
_SHELL: Final = re.compile(r"\s*(?:!|%%)")


class _NotRun(Enum):
    """Why a block with a Python label is not a cell."""

    CUT = auto()
    PROSE = auto()
    OTHER_LANGUAGE = auto()


class CellFinder:
    """Finds the cells of one reply."""

    def __init__(self, syntax: Syntax, calls: ToolCalls) -> None:
        self._syntax = syntax
        self._calls = calls

    def in_scan(self, scan: Scan) -> Contents:
        """The cells of a scanned text: those in Python blocks, or else all others."""
        found = self.in_fences(self._python_fences(scan))
        if not found.cells and (others := self._in_others(scan)):
            found = self.runnable(others)
        return found

    def in_fences(self, fences: Sequence[Fence]) -> Contents:
        """The cells of blocks with a Python label."""
        last = len(fences) - 1
        read = [
            self._block(fence.body.strip("\n"), cut=not fence.closed and index == last)
            for index, fence in enumerate(fences[:MAX_CELLS])
        ]
        cells = [one for one in read if isinstance(one, str)]
        finishes = [one for one in read if isinstance(one, FinishCall)]
        skipped = [one for one in read if isinstance(one, _NotRun)]
        return Contents(
            _once(cells),
            finishes[-1] if finishes else None,
            problem=_problem(skipped),
            note=_CUT if cells and _NotRun.CUT in skipped else "",
        )

    def runnable(self, cells: Sequence[str]) -> Contents:
        """Cells of calls and tags, repaired if necessary."""
        return self.in_fences([Fence("python", cell, closed=True) for cell in cells])

    def why_none(self, scan: Scan) -> Problem:
        """The problem of a text without a cell, according to its first block."""
        for block in scan.blocks:
            if isinstance(block, Region):
                return "unknown_tool" if block.is_call and self._calls.is_whole(block.text) else "unparsable"
            if isinstance(block, Fence) and block.label not in (*TEXT_LABELS, *JSON_LABELS, *PYTHON_LABELS):
                return "other_language"
        return "no_code"

    def _python_fences(self, scan: Scan) -> list[Fence]:
        """Blocks with a Python label, then those inside a code tag."""
        fences = [block for block in scan.blocks if isinstance(block, Fence) and block.is_python]
        for block in scan.blocks:
            if isinstance(block, Region) and not block.is_call and "```" in block.text:
                inner = Scanner(block.text, self._syntax, self._calls).run()
                fences += [f for f in inner.blocks if isinstance(f, Fence) and f.label in ("", *PYTHON_LABELS)]
        return fences

    def _block(self, body: str, *, cut: bool) -> str | FinishCall | _NotRun | None:
        """Classify a block with a Python label: a cell, only a finish, or neither; None if it has only comments."""
        code = mended(body, self._syntax)
        if code is not None:
            if self._syntax.has_statement(code):
                return code
            return _NotRun.OTHER_LANGUAGE if body.strip() and not code.strip() else None  # shell commands alone
        if (finish := whole_finish(body)) is not None:
            return finish
        if cut:
            return _NotRun.CUT
        if is_prose(body, self._syntax):
            return _NotRun.PROSE
        if _SHELL.match(body):
            return _NotRun.OTHER_LANGUAGE
        return body  # its SyntaxError tells the model what is wrong

    def _in_others(self, scan: Scan) -> list[str]:
        """Without a labelled block: calls and tags, JSON in the prose, then unlabelled blocks with an effect."""
        cells = [cell for block in scan.blocks for cell in self._called(block)]
        if not cells and "{" in scan.prose:
            cells = self._calls.in_json(scan.prose, line_starts_only=True)
        return cells or [cell for block in scan.blocks if (cell := self._acting(block)) is not None]

    def _called(self, block: Block) -> list[str]:
        """The cells of a tool call, of a code tag, or of a block of JSON."""
        match block:
            case Region(text=text, is_call=True):
                return self._calls.in_region(text)
            case Region(text=text):
                held = self._calls.in_json(text) if _opens_json(text) else []
                return held or [text]
            case Fence(label=label, body=body) if label in JSON_LABELS and _opens_json(body):
                return self._calls.in_json(body.strip())
        return []

    def _acting(self, block: Block) -> str | None:
        """The code of an unlabelled block, if running it has an effect."""
        if not isinstance(block, Fence) or block.label not in ("", "code"):
            return None
        code = mended(block.body.strip("\n"), self._syntax)
        tree = self._syntax.tree(code) if code is not None else None
        return code if tree is not None and acts(tree) else None


def _problem(skipped: Sequence[_NotRun]) -> Problem:
    """The problem of the last block that was not run; prose counts only if nothing else was skipped."""
    telling = [one for one in skipped if one is not _NotRun.PROSE] or skipped
    if not telling:
        return "no_code"
    return "other_language" if telling[-1] is _NotRun.OTHER_LANGUAGE else "unparsable"


def _once(cells: Sequence[str]) -> tuple[str, ...]:
    """Identical neighbouring blocks only once: some models repeat a block."""
    kept: list[str] = []
    for cell in cells:
        if not kept or kept[-1].strip() != cell.strip():
            kept.append(cell)
    return tuple(kept)


def _opens_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")
