"""Lines that open or close a fenced block, and the label of a block."""

from __future__ import annotations

import re
from typing import Final

from rlm_adapters.replies.clean import INVISIBLE

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
TEXT_LABELS: Final = frozenset({"", "text", "txt", "plaintext", "plain", "markdown", "md", "final", "answer"})
JSON_LABELS: Final = frozenset({"", "json", "json5", "jsonc", "tool_call", "tool_calls", "tool", "function_call"})
OUTPUT_LABELS: Final = frozenset(
    {"output", "outputs", "stdout", "console", "result", "results", "observation", "out", "tool_output", "tool_outputs"}
)
"""Labels of fences that contain an output, according to the model."""

OPENING: Final = re.compile(
    rf"(?P<lead>[ \t{INVISIBLE}]*+(?:>[ \t]?)*+[ \t]*+(?:(?:[-*+•]|\d{{1,3}}[.)])[ \t]++)?)"
    r"(?P<mark>`{3,}+|~{3,}+)(?P<info>[^\n]*+)"
)
_GLUED_OPENING: Final = re.compile(
    r"(?P<lead>[^\n`]*[^\n`\s])[ \t]*(?P<mark>`{3,})(?P<info>[ \t]*(?:python|py|i?python3|repl|tool_code))[ \t]*",
    re.IGNORECASE,
)
CLOSE: Final = re.compile(rf"[ \t>{INVISIBLE}]*(`{{3,}}|~{{3,}})[ \t{INVISIBLE}]*")
GLUED_CLOSE: Final = re.compile(r"[^\n]*[^\n`\s][ \t]*`{3,}[ \t]*")


def opens(line: str) -> re.Match[str] | None:
    """The opening of a block; its group ``lead`` is the text before the mark."""
    return OPENING.fullmatch(line) or _GLUED_OPENING.fullmatch(line)


def prose_before(opening: re.Match[str]) -> str:
    """The prose on the line of the opening."""
    return opening["lead"] if opening.re is _GLUED_OPENING else ""


def opens_python(line: str) -> bool:
    """Whether a line opens a block with a Python label."""
    opening = OPENING.fullmatch(line)
    return opening is not None and label_and_rest(opening["info"].strip())[0] in PYTHON_LABELS


def label_and_rest(info: str) -> tuple[str, str]:
    """Label and the rest of an info string: ``{.python}``, ``Python3``, ``python title="x"``, ``repl id=3``."""
    if re.match(r"[\w./-]+\.py(?:\s|$)", info):
        return "python", ""
    found = re.match(r"[{.\s]*([A-Za-z_][\w+#-]*)((?:\d|\.\d)*)\}?[:,;]?\s*(.*)", info, re.DOTALL)
    if found is None:
        return "", info
    label = found[1].lower()
    version = re.compile(r"\d*").match(label[::-1])
    return label[: len(label) - (version.end() if version else 0)], found[3]
