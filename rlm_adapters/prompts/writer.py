"""Who writes the cells: a chat model with our prompt, or (in the DSPy adapter) a predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from rlm_adapters.models import ChatTarget, ModelTarget
from rlm_adapters.prompts.render import extract_messages, root_messages
from rlm_adapters.prompts.trajectory import Trajectory


class CodeWriter(Protocol):
    """Writes the next cell of a trajectory, and the last answer when limits end it."""

    @property
    def target(self) -> ModelTarget:
        """Answers `prompt`; the reply's text is read by `rlm_adapters.replies`."""
        ...

    @property
    def extract_target(self) -> ModelTarget:
        """Answers `extract_prompt`; the reply's text is the answer."""
        ...

    def prompt(self, trajectory: Trajectory) -> Any:
        """What the target is asked for the next cell."""
        ...

    def extract_prompt(self, trajectory: Trajectory, reason: str, candidate: str | None) -> Any:
        """What it is asked for the last answer; ``candidate`` is an answer noted on the way."""
        ...

    def window(self) -> int | None:
        """Input tokens that the target takes; None if unknown."""
        ...


@dataclass(frozen=True, slots=True)
class ChatCodeWriter:
    """A LangChain chat model that follows the default prompt.

    Attributes:
        target: the root LM.
        worked_example: show a solved task in the system prompt.
        hints: further advice for the system prompt.
    """

    target: ChatTarget
    worked_example: bool = False
    hints: str = ""

    @property
    def extract_target(self) -> ChatTarget:
        """The same model gives the last answer."""
        return self.target

    def prompt(self, trajectory: Trajectory) -> Any:
        """The messages for the next cell."""
        return root_messages(trajectory, worked_example=self.worked_example, hints=self.hints)

    def extract_prompt(self, trajectory: Trajectory, reason: str, candidate: str | None) -> Any:
        """The messages for the last answer."""
        return extract_messages(trajectory, reason, candidate)

    def window(self) -> int | None:
        """Input tokens of the model, where its profile tells."""
        return self.target.context_window()
