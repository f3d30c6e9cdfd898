"""Messages to the model when its reply cannot be used: short and exact, with the next step."""

from __future__ import annotations

from typing import Final

from rlm_adapters.replies.reading import Problem

_HOW: Final = (
    "Reply with one Python cell in a ```repl block; to finish, call SUBMIT(answer) in it (a variable or a literal)."
)

_MESSAGES: Final[dict[Problem, str]] = {
    "empty": "Your reply was empty. " + _HOW,
    "no_code": "Your reply had no code to run and no finish. " + _HOW,
    "cut_off": (
        "Your reply was cut off at the output limit, so nothing of it was run. Write a shorter cell, or put a long "
        "answer into a variable and finish with SUBMIT(variable_name)."
    ),
    "refusal": (
        "Your reply declined the task. The inputs were given by the user for this question. If you can answer, go on: "
        + _HOW
    ),
    "unparsable": "The block was not Python, so nothing was run. " + _HOW,
    "bad_final": "Your finish could not be taken. " + _HOW,
    "unclosed_thought": "Your reply ended inside a thought: nothing was said outside it. Think briefly. " + _HOW,
    "other_language": (
        "The REPL runs Python only: there is no shell and no other language, and the input is in `context`. " + _HOW
    ),
    "unknown_tool": "That tool does not exist here; functions are called from Python code. " + _HOW,
    "too_long": "Your reply was too long to be read. " + _HOW,
}


def repair_message(problem: Problem, detail: str = "") -> str:
    """The message for a problem. It starts with ``detail``, which names what was found."""
    if not detail:
        return _MESSAGES[problem]
    return f"{detail} {_HOW}"
