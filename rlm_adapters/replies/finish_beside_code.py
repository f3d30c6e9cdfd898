"""Decide whether to trust a finish that the model wrote before it saw the output."""

from __future__ import annotations

import re
from typing import Final

from rlm_adapters.replies.reading import UNSET, TextFinish

_MAX_PLACES: Final = 1_000


def accept_provisional(finish: TextFinish, printed: str) -> bool:
    """Whether a finish in a reply with code may end the run, given all that the REPL has printed so far.

    The model wrote the literal text before it saw the output. So the text is accepted only if the output contains it:
    as separate words (``42`` is not in ``1942``), a very short word only at the end of a line. Call this only after the
    cells succeeded.
    """
    if not finish.provisional:
        return True
    said = [finish.text]
    if finish.literal is not UNSET:
        said.append(repr(finish.literal))
    output = " ".join(printed.split())
    lines = printed.split("\n")
    for candidate in said:
        wanted = " ".join(candidate.split())
        if not wanted:
            continue
        if len(wanted) <= 3 and not any(c.isdigit() for c in wanted):
            if any(re.search(rf"(?:^|[:=]\s*)[\"']?{re.escape(wanted)}[\"']?\.?\s*$", line) for line in lines):
                return True
        elif _stands_alone(wanted, output):
            return True
    return False


def _stands_alone(wanted: str, output: str) -> bool:
    before = re.compile(
        r"(?<!\w)(?<!\d[.,])(?<![-\u2212])" if wanted[0].isdigit() else r"(?<!\w)" if wanted[0].isalnum() else ""
    )
    after = re.compile(r"(?!\w|[.,]\d)" if wanted[-1].isdigit() else r"(?!\w)" if wanted[-1].isalnum() else "")
    at = -1
    for _ in range(_MAX_PLACES):
        at = output.find(wanted, at + 1)
        if at < 0:
            break
        if before.match(output, at) and after.match(output, at + len(wanted)):
            return True
    return False
