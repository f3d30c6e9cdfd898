"""Which of several finishes counts: the last one, unless the model took it back or it has no answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from rlm_adapters.replies.blocks import Block, Scan
from rlm_adapters.replies.fence_lines import TEXT_LABELS
from rlm_adapters.replies.fences import Fence
from rlm_adapters.replies.finish import Arguments, Refused
from rlm_adapters.replies.finish_calls import FinishCall, FinishCalls, whole_finish
from rlm_adapters.replies.prose import takes_back
from rlm_adapters.replies.syntax import Syntax

_MAX_BLOCKS: Final = 200
_MAX_CUT_READ: Final = 100_000
_MAX_CUT_LINES: Final = 20


class LastFinish:
    """Finds the finish of one reply; ``names`` exist in the REPL."""

    def __init__(self, names: Collection[str], syntax: Syntax) -> None:
        self._arguments = Arguments(names, syntax)

    def of(self, scan: Scan, *, in_fences: bool) -> tuple[FinishCall | None, FinishCall | None]:
        """The finish that counts, and one that does not count but may be right.

        Args:
            scan: the scanned text.
            in_fences: whether a block that is labelled as text may consist of a finish.
        """
        found = _from_the_end(scan, in_fences=in_fences)
        index, last = next(found, (0, None))
        if last is None:
            return None, _last_in(scan.cut)
        if any(takes_back(after) for after in scan.after[index:]):
            return None, last
        return self._usable(last, found), _last_in(scan.cut)

    def _usable(self, last: FinishCall, earlier: Iterator[tuple[int, FinishCall]]) -> FinishCall:
        """The last finish that has an answer; if none has one, the last finish."""
        if not isinstance(self._arguments.read(last), Refused):
            return last
        usable = (one for _, one in earlier if not isinstance(self._arguments.read(one), Refused))
        return next(usable, last)


def _from_the_end(scan: Scan, *, in_fences: bool) -> Iterator[tuple[int, FinishCall]]:
    """The finishes, the last one first, each with the index of its block."""
    for index in range(len(scan.blocks) - 1, max(-1, len(scan.blocks) - _MAX_BLOCKS), -1):
        finish = _finish_of(scan.blocks[index], in_fences=in_fences)
        if finish is not None:
            yield index, finish


def _finish_of(block: Block, *, in_fences: bool) -> FinishCall | None:
    if isinstance(block, FinishCall):
        return block
    if in_fences and isinstance(block, Fence) and block.label in TEXT_LABELS:
        return whole_finish(block.body)
    return None


def _last_in(cut: str) -> FinishCall | None:
    """The last finish in text that was cut away."""
    text = cut[:_MAX_CUT_READ]
    calls = FinishCalls(text)
    found: FinishCall | None = None
    for line in list(re.finditer(r"^.*FINAL", text, re.MULTILINE))[-_MAX_CUT_LINES:]:
        opening = calls.opens(line.start())
        found = (calls.read(opening) if opening else None) or found
    return found
