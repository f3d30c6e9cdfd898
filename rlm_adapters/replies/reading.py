"""What a reply means: the data that the reader gives to the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias


class _Unset(Enum):
    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset.UNSET
"""Means that the finish is not a literal; ``None`` would be a value."""

Problem: TypeAlias = Literal[
    "empty",
    "no_code",
    "cut_off",
    "refusal",
    "unparsable",
    "bad_final",
    "unclosed_thought",
    "other_language",
    "unknown_tool",
    "too_long",
]
"""Why a reply cannot be used."""


@dataclass(frozen=True, slots=True)
class TextFinish:
    """A finish that was written as text, outside the code."""

    kind: Literal["text", "var", "expression"]
    text: str
    """The answer, the name of a variable, or the source of an expression over names of the REPL."""
    literal: Any = UNSET
    """The typed value (plain JSON types) when a literal other than a string was given."""
    provisional: bool = False
    """A literal text in a reply with code, whose output the model had not seen: see ``accept_provisional``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What to do with one reply of the root LM.

    ``code``: run the cells. ``final_text``, ``final_var``: the run ends with that answer. ``code_then_final``: run the
    cells; the finish counts only if no cell failed or submitted an answer. ``repair``: send ``message`` back.
    """

    kind: Literal["code", "final_text", "final_var", "code_then_final", "repair"]
    code: tuple[str, ...] = ()
    """Cells in order, for one REPL; stop at the first that fails or submits an answer."""
    final: TextFinish | None = None
    """The finish. Look up a variable or an expression in the REPL. If its names do not exist there, show the model the
    existing names; the name itself is never the answer."""
    repair: Problem | Literal[""] = ""
    """For kind ``repair``: the problem."""
    message: str = ""
    """Text for the model. For kind ``repair``: what to do. With code: which part of the reply was ignored."""
    best_so_far: str | None = None
    """A refused finish that may be right. If a limit ends the run, it is the answer."""
    thought: str = field(default="", repr=False)
    """Reasoning outside the code, for display."""
