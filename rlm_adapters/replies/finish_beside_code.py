"""Whether a finish that was written before its output was seen can be trusted."""

from __future__ import annotations

import re
from typing import Final

from rlm_adapters.replies.reading import UNSET, TextFinish

_MAX_PLACES: Final = 1_000


def accept_provisional(finish: TextFinish, printed: str) -> bool:
    """Whether a finish beside code may end the run, given all that the REPL has printed so far.

    Literal text was written before the output was seen. It is taken when the output says it: as words of their own
    (``42`` is not in ``1942``), a very short word only at the end of a line. Ask only after the cells succeeded.
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
