"""Use the action and extract predictors as the root LM of the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rlm_adapters.dspy.predictors import ActionTarget, PredictorTarget
from rlm_adapters.dspy.sub_agents import STAND_IN, names_dspy
from rlm_adapters.errors import InputError
from rlm_adapters.models.targets import ChatTarget, ModelReply
from rlm_adapters.prompts import CodeWriter, InputInfo, Outcome, Trajectory
from rlm_adapters.prompts.steps import Step, action_inputs, describe_variable, history_of, observed, variables_info
from rlm_adapters.replies import Reading


@dataclass(frozen=True, slots=True)
class PredictorWriter:
    """A `CodeWriter` made of two predictors.

    Attributes:
        target: the action predictor.
        extract_target: the extract predictor.
        max_output_chars: characters of each output that the model sees.
        variables: ``variables_info`` of the inputs; None: describe those of the trajectory.
        variable_names: see `CodeWriter`.
        child: writes the cells of child runs; None: this writer.
        bare_answer: the answer is the value of the only output field, not a dict of fields.
        sub_agents: whether cells can ``import dspy``.
    """

    target: ActionTarget
    extract_target: PredictorTarget
    max_output_chars: int
    variables: Sequence[str] | None = None
    variable_names: Mapping[str, str] = field(default_factory=dict)
    child: PredictorWriter | None = None
    bare_answer: bool = False
    sub_agents: bool = False

    def prompt(self, trajectory: Trajectory) -> Any:
        """The fields of the action predictor."""
        return action_inputs(trajectory, self._variables(trajectory), Step.from_text, self.max_output_chars)

    def extract_prompt(self, trajectory: Trajectory, reason: str, candidate: str | None) -> Any:  # noqa: ARG002
        """The fields of the extract predictor. The history already has a refused submission."""
        return {
            "variables_info": self._variables(trajectory),
            "repl_history": history_of(trajectory, Step.from_text, self.max_output_chars),
        }

    def window(self) -> int | None:
        """None: DSPy does not know it. The LM refuses a prompt that is too long."""
        return None

    def describe(self, name: str, value: Any) -> InputInfo:
        """The description of an input, as in dspy.RLM."""
        return describe_variable(name, value)

    def read(self, reply: ModelReply, names: Sequence[str]) -> Reading:
        """The code field is the cell. The first one that uses ``dspy`` comes after a cell that defines it."""
        reading = Step.from_text(reply.text).read()
        if self.sub_agents and "dspy" not in names and any(map(names_dspy, reading.code)):
            return replace(reading, code=(STAND_IN, *reading.code))
        return reading

    def as_reply(self, cells: Sequence[str], text: str) -> str:
        """A step with this code and the original reasoning."""
        return replace(Step.from_text(text), code="\n\n".join(cells), problem="").to_text()

    def as_written(self, text: str) -> str:
        """The fields of a reply. Empty if it has none: then the repair message shows the beginning of the reply."""
        step = Step.from_text(text)
        return "\n\n".join(part for part in (step.reasoning, step.code) if part)

    def observe(self, outcome: Outcome, trajectory: Trajectory) -> str:  # noqa: ARG002
        """The output in the form of the REPL history."""
        return observed(outcome)

    def read_answer(self, reply: ModelReply) -> Any:
        """The output fields; None if the reply could not be parsed."""
        fields = json.loads(reply.text)
        if not fields:
            return None
        return next(iter(fields.values())) if self.bare_answer else fields

    def for_child(self) -> PredictorWriter:
        """The writer of child runs."""
        return self.child or self

    def with_target(self, target: ChatTarget) -> CodeWriter:
        """Refused, because the predictors use DSPy's LM.

        Raises:
            InputError: always.
        """
        raise InputError(f"model={target.name!r}: the root LM is DSPy's; choose it with dspy.context(lm=...)")

    def _variables(self, trajectory: Trajectory) -> list[str]:
        return variables_info(trajectory.inputs) if self.variables is None else list(self.variables)
