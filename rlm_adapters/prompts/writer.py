"""Who writes the cells: a chat model with our prompt, or (in the DSPy adapter) a predictor."""

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
    """Writes the next cell of a trajectory, and the last answer when limits end it."""

    @property
    def target(self) -> ModelTarget:
        """Answers `prompt`; its reply is read by `read`."""
        ...

    @property
    def extract_target(self) -> ModelTarget:
        """Answers `extract_prompt`; its reply is read by `read_answer`."""
        ...

    @property
    def variable_names(self) -> Mapping[str, str]:
        """Other names in the REPL for ``context`` and ``query``; the query is a variable only when it is named here."""
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

    def describe(self, name: str, value: Any) -> InputInfo:
        """How an input is described to the root LM."""
        ...

    def read(self, reply: ModelReply, names: Sequence[str]) -> Reading:
        """How a reply of `target` is to be acted on; ``names`` are those that exist in the REPL."""
        ...

    def as_reply(self, cells: Sequence[str], text: str) -> str:
        """A reply with these cells, in the form that the target writes: somebody edited those of the reply ``text``."""
        ...

    def as_written(self, text: str) -> str:
        """What the root LM wrote, of a reply's text; empty when it is not kept."""
        ...

    def observe(self, outcome: Outcome, trajectory: Trajectory) -> str:
        """What the root LM is told of a turn that did not end the run."""
        ...

    def read_answer(self, reply: ModelReply) -> Any:
        """The answer in a reply of `extract_target`; None if there is none."""
        ...

    def for_child(self) -> CodeWriter:
        """Who writes the cells of child runs."""
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
        """The context is called ``context``, and the question stands in the prompt only."""
        return {}

    def prompt(self, trajectory: Trajectory) -> Any:
        """The messages for the next cell."""
        return root_messages(trajectory, worked_example=self.worked_example, hints=self.hints)

    def extract_prompt(self, trajectory: Trajectory, reason: str, candidate: str | None) -> Any:
        """The messages for the last answer."""
        return extract_messages(trajectory, reason, candidate)

    def window(self) -> int | None:
        """Input tokens of the model, where its profile tells."""
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

    def as_reply(self, cells: Sequence[str], text: str) -> str:  # noqa: ARG002 - what it says of its code may be wrong now
        """Code blocks."""
        return as_blocks(cells)

    def as_written(self, text: str) -> str:
        """The text itself."""
        return text

    def observe(self, outcome: Outcome, trajectory: Trajectory) -> str:
        """Outputs, the note, and where the run stands."""
        return observation(outcome, trajectory)

    def read_answer(self, reply: ModelReply) -> Any:
        """The text, or the finish that it contains."""
        reading = read_reply(reply.text, names=())
        if reading.final is not None and reading.final.kind == "text":
            return reading.final.text
        if reading.code:
            return None  # code instead of an answer: nothing runs any more
        return reply.text.strip() or None

    def for_child(self) -> ChatCodeWriter:
        """The same model with the same prompt."""
        return self

    def with_target(self, target: ChatTarget) -> ChatCodeWriter:
        """The same prompt for another model."""
        return replace(self, target=target)
