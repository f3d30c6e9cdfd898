# ruff: noqa: RUF001 - the characters that models write are the subject
"""Outputs and turns that the model invented; the text after one is not used."""

from __future__ import annotations

import ast
import itertools
import re
from typing import Final

from rlm_adapters.replies.syntax import undisturbed

ROLE_LINE: Final = re.compile(
    r"^(?:[ \t>#*_]*+(?:user|human|assistant|system|tool|observation|tool[ _]response|ai)[ \t]*+[*_]*+[ \t]*+:[*_]*+"
    r"(?=\s|$)|[ \t]*+\#{1,4}+[ \t]*+(?:user|human|instruction|observation|system)[ \t]*+$"
    r"|[ \t]*+<(?:tool_response|tool_result|observation|function_results|user|human)>)",
    re.IGNORECASE | re.MULTILINE,
)
OUTPUT_LINE: Final = re.compile(
    r"[ \t>#*_\[]*+(?:(?:the|repl|execution|console|program|code|python|printed|cell|terminal|simulated)[ \t]++){0,2}"
    r"(?:outputs?|observation|stdout|printed|out[ \t]?\[\d+\])[ \t\]]*+(?:\([^)\n]*+\))?[*_]*+[ \t]*+:[*_]*+"
    r"|[ \t]*+<(?:output|result|results|stdout|repl_output|execution_output|execution_result|interpreter)>"
    r"|[ \t]*+\[\[[ \t]*+\#\#[ \t]*+(?:output|repl_output|observation|stdout)",
    re.IGNORECASE,
)
_RESULT_LINE: Final = re.compile(
    r"[ \t>#*_]*+(?:(?:execution|the|repl|code)[ \t]++)?results?[*_]*+[ \t]*+:[*_]*+(?P<rest>[^\n]*+)", re.IGNORECASE
)
_MAX_ROLES: Final = 200


def is_invented(line: str, *, after_code: bool) -> bool:
    """Whether this line starts an invented turn or, after code, an invented output."""
    if ROLE_LINE.match(line):
        return True
    if not after_code:
        return False
    if OUTPUT_LINE.match(line):
        return True
    result = _RESULT_LINE.match(line)
    return result is not None and _is_value(result["rest"].strip(" \t*_"))


def before_dialogue(text: str) -> str:
    """Cut an invented conversation: a paragraph of the user and one of the assistant, with no block between them."""
    roles = list(itertools.islice(ROLE_LINE.finditer(text), _MAX_ROLES))
    for user, answer in itertools.pairwise(roles):
        if not re.search("user|human", user[0], re.IGNORECASE) or not re.search(
            "assistant|ai", answer[0], re.IGNORECASE
        ):
            continue
        before = text[: user.start()]
        alone = not before.strip() or before.endswith("\n\n")
        if alone and before.count("```") % 2 == 0 and "```" not in text[user.end() : answer.start()]:
            return before
    return text


def _is_value(text: str) -> bool:
    """Whether the text can follow an output label: nothing, a literal or a quotation."""
    if not text or text[0] in "\"'“‘`":
        return True
    try:
        undisturbed(ast.literal_eval, text[:10_000])
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return bool(re.fullmatch(r"[\d.,%$€ ]+", text))
    return True
