"""`CodeWriter`: writes the cells. It is a chat model with the default prompt or, in the DSPy adapter, a predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rlm_adapters.models.targets import ChatTarget, ModelReply, ModelTarget
from rlm_adapters.prompts.describe import describe_input
from rlm_adapters.prompts.render import as_blocks, extract_messages, observation, root_messages
from rlm_adapters.prompts.trajectory import InputInfo, Outcome, Trajectory
from rlm_adapters.replies import Reading, read_reply


class CodeWriter(Protocol):
    """Writes the next cell of a trajectory, and the last answer if a limit ends the run."""

    @property
    def target(self) -> ModelTarget:
        """The model for `prompt`. `read` reads its reply."""
        ...

    @property
    def extract_target(self) -> ModelTarget:
        """The model for `extract_prompt`. `read_answer` reads its reply."""
        ...

    @property
    def variable_names(self) -> Mapping[str, str]:
        """Other names in the REPL for ``context`` and ``query``. The query is a variable only if it has a name here."""
        ...

    def prompt(self, trajectory: Trajectory) -> Any:
        """The prompt for the next cell."""
        ...

    def extract_prompt(self, trajectory: Trajectory, reason: str, candidate: str | None) -> Any:
        """The prompt for the last answer; ``candidate`` is the best answer so far."""
        ...

    def window(self) -> int | None:
        """Window of the target in input tokens; None if unknown."""
        ...

    def describe(self, name: str, value: Any) -> InputInfo:
        """The description of an input for the root LM."""
        ...

    def read(self, reply: ModelReply, names: Sequence[str]) -> Reading:
        """What to do with a reply of `target`; ``names`` exist in the REPL."""
        ...

    def as_reply(self, cells: Sequence[str], text: str) -> str:
        """A reply in the form of the target with these cells, which replace the edited cells of the reply ``text``."""
        ...

    def as_written(self, text: str) -> str:
        """The part of a reply's text that the root LM wrote; empty if it is not kept."""
        ...

    def observe(self, outcome: Outcome, trajectory: Trajectory) -> str:
        """The observation of a turn that did not end the run."""
        ...

    def read_answer(self, reply: ModelReply) -> Any:
        """The answer in a reply of `extract_target`; None if there is none."""
        ...

    def for_child(self) -> CodeWriter:
        """The writer of child runs."""
        ...

    def with_target(self, target: ChatTarget) -> CodeWriter:
        """The same prompt for another root LM."""
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

    @property
    def variable_names(self) -> Mapping[str, str]:
        """Empty: the context is named ``context``, and the question is only in the prompt."""
        return {}

    def prompt(self, trajectory: Trajectory) -> Any:
        """The messages for the next cell."""
        return root_messages(trajectory, worked_example=self.worked_example, hints=self.hints)

    def extract_prompt(self, trajectory: Trajectory, reason: str, candidate: str | None) -> Any:
        """The messages for the last answer."""
        return extract_messages(trajectory, reason, candidate)

    def window(self) -> int | None:
        """Window of the model in input tokens, if its profile has it."""
        return self.target.context_window()

    def describe(self, name: str, value: Any) -> InputInfo:
        """Type, size, head and tail."""
        return describe_input(name, value)

    def read(self, reply: ModelReply, names: Sequence[str]) -> Reading:
        """Find code blocks and finishes in the text."""
        return read_reply(
            reply.text,
            names=names,
            finish_reason=reply.finish_reason,
            refusal=reply.refusal,
            tool_calls=reply.tool_calls,
        )

    def as_reply(self, cells: Sequence[str], text: str) -> str:  # noqa: ARG002 - its text about the code may be wrong now
        """Code blocks."""
        return as_blocks(cells)

    def as_written(self, text: str) -> str:
        """The unchanged text."""
        return text

    def observe(self, outcome: Outcome, trajectory: Trajectory) -> str:
        """Outputs, the note, and the status line."""
        return observation(outcome, trajectory)

    def read_answer(self, reply: ModelReply) -> Any:
        """The text, or the finish that it contains."""
        reading = read_reply(reply.text, names=())
        if reading.final is not None and reading.final.kind == "text":
            return reading.final.text
        if reading.code:
            return None  # code instead of an answer: cells cannot run any more
        return reply.text.strip() or None

    def for_child(self) -> ChatCodeWriter:
        """The same model with the same prompt."""
        return self

    def with_target(self, target: ChatTarget) -> ChatCodeWriter:
        """The same prompt for another model."""
        return replace(self, target=target)
