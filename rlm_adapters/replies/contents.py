"""What a reply holds: its cells and its finish, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass

from rlm_adapters.replies.finish_calls import FinishCall
from rlm_adapters.replies.reading import Problem


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found in a reply, before cells and finish are weighed against each other."""

    cells: tuple[str, ...] = ()
    finish: FinishCall | None = None
    """The finish that counts."""
    prose: str = ""
    thought: str = ""
    problem: Problem = "no_code"
    """Why there are no cells, when there are none."""
    detail: str = ""
    """What to tell the model of the problem."""
    note: str = ""
    """What to tell the model beside its cells: what of the reply was not run."""
    refused: FinishCall | None = None
    """A finish that was taken back, or that followed invented output."""
