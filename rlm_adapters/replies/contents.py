"""The content of a reply: its cells and its finish, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_adapters.replies.finish_calls import FinishCall
from rlm_adapters.replies.reading import Problem


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found in a reply, before it is decided whether cells and finish both count."""

    cells: tuple[str, ...] = ()
    finish: FinishCall | None = None
    """The finish that counts."""
    prose: str = ""
    thought: str = ""
    problem: Problem = "no_code"
    """Why there are no cells, if there are none."""
    detail: str = ""
    """Message to the model about the problem."""
    note: str = ""
    """Message to the model if there are cells: which part of the reply was not run."""
    refused: FinishCall | None = None
    """A finish that was taken back, or that followed invented output."""
