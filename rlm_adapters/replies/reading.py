"""What a reply means: the data that the reader hands to the graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias


class _Unset(Enum):
    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset.UNSET
"""The finish is no literal; ``None`` would be a value."""

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
"""Why a reply cannot be acted on."""


@dataclass(frozen=True, slots=True)
class TextFinish:
    """A finish that was written as text, outside the code."""

    kind: Literal["text", "var", "expression"]
    text: str
    """The answer, the name of a variable, or the source of an expression over names of the REPL."""
    literal: Any = UNSET
    """The typed value (plain JSON types) when a literal other than a string was given."""
    provisional: bool = False
    """Literal text beside code whose output the model had not seen: see ``accept_provisional``."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How one reply of the root LM is to be acted on.

    ``code``: run the cells. ``final_text``, ``final_var``: the run ends with that answer. ``code_then_final``: run the
    cells; the finish counts only if none failed and none finished by itself. ``repair``: send ``message`` back.
    """

    kind: Literal["code", "final_text", "final_var", "code_then_final", "repair"]
    code: tuple[str, ...] = ()
    """Cells in order, for one REPL; stop at the first that fails or finishes."""
    final: TextFinish | None = None
    """A variable or an expression is looked up in the REPL, which alone knows whether its names exist: when they do
    not, show the model the names that do, and never answer with the name."""
    repair: Problem | Literal[""] = ""
    """For kind ``repair``: the problem."""
    message: str = ""
    """Addressed to the model. For kind ``repair`` it says what to do; beside code, what of the reply was ignored."""
    best_so_far: str | None = None
    """What was refused as a finish but may be right: to be returned, labelled, if the limits end the run."""
    thought: str = field(default="", repr=False)
    """Reasoning outside the code, for display."""
