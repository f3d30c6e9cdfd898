"""Convert a trajectory to the fields of dspy.RLM's predictors.

The inputs are variables_info, repl_history and iteration; the outputs are reasoning and code. The DSPy module calls its
predictors with these fields, and the LangChain adapters render a saved prompt file with them. So both send the same
messages for the same step. Needs the extra ``dspy``; imported only where it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspy.primitives.repl_types import REPLEntry, REPLHistory, REPLVariable
from dspy.utils.exceptions import format_error_for_lm

from rlm_adapters.prompts.describe import cut_middle
from rlm_adapters.prompts.dspy_private import without_fences
from rlm_adapters.prompts.trajectory import InputInfo, Outcome, Trajectory
from rlm_adapters.replies import Reading

NO_OUTPUT = "(no output - did you forget to print?)"
_FOLDED_CODE, _FOLDED_OUTPUT = 600, 300  # characters of a folded step that are kept


@dataclass(frozen=True, slots=True)
class Step:
    """One reply of the action predictor.

    Attributes:
        reasoning: the field ``reasoning``.
        code: the field ``code``, as the model wrote it.
        problem: why the reply could not be parsed; empty if it could.
    """

    reasoning: str
    code: str
    problem: str = ""

    def to_text(self) -> str:
        """The step as text, for the state of the graph."""
        return json.dumps({"reasoning": self.reasoning, "code": self.code, "problem": self.problem})

    @classmethod
    def from_text(cls, text: str) -> Step:
        """Inverse of `to_text`."""
        return cls(**json.loads(text)) if text else cls("", "")

    def bare_code(self) -> str:
        """The code without markdown fences. If the fence is of another language, it is not removed."""
        try:
            return without_fences(self.code)
        except SyntaxError:
            return self.code

    def read(self) -> Reading:
        """The step as a `Reading` for the graph."""
        if self.problem:
            return Reading("repair", repair="unparsable", message=f"[Error] {self.problem}", thought=self.reasoning)
        try:
            code = without_fences(self.code)
        except SyntaxError as error:
            message = f"[Error] {format_error_for_lm(error)}"
            return Reading("repair", repair="other_language", message=message, thought=self.reasoning)
        return Reading("code", code=(code,), thought=self.reasoning)


def action_inputs(
    trajectory: Trajectory, variables: list[str], read_step: Callable[[str], Step], max_output_chars: int
) -> dict[str, Any]:
    """The input fields of the action predictor.

    Args:
        trajectory: the trajectory so far.
        variables: `variables_info` of the run.
        read_step: reads the step from the text of a reply.
        max_output_chars: characters of each output that the model sees.
    """
    return {
        "variables_info": variables,
        "repl_history": history_of(trajectory, read_step, max_output_chars),
        "iteration": f"{trajectory.iteration}/{trajectory.max_iterations}",
    }


def history_of(trajectory: Trajectory, read_step: Callable[[str], Step], max_output_chars: int) -> REPLHistory:
    """The turns as DSPy's REPL history. Folded turns are cut."""
    entries = []
    for number, turn in enumerate(trajectory.turns):
        step = read_step(turn.reply)
        code, output = step.bare_code(), turn.observation
        if number < trajectory.folded:
            code, output = cut_middle(code, _FOLDED_CODE), cut_middle(output, _FOLDED_OUTPUT)
        entries.append(REPLEntry(reasoning=step.reasoning, code=code, output=output))
    return REPLHistory(entries=entries, max_output_chars=max_output_chars)


def observed(outcome: Outcome) -> str:
    """The outcome of a step, in the words of dspy.RLM. Unlike there, the output of a failing cell is kept."""
    parts = []
    for result in outcome.cells:
        if result.stdout.rstrip():
            parts.append(result.stdout.rstrip())
        if result.error is not None:
            parts.append(f"[Error] {result.error}")
    if outcome.note:
        parts.append(outcome.note)
    return "\n".join(parts) or NO_OUTPUT


def describe_variable(name: str, value: Any) -> InputInfo:
    """The description of an input, as in dspy.RLM: its JSON, with head and tail of 500 characters each."""
    variable = REPLVariable.from_value(name, value)
    return InputInfo(name, variable.type_name, variable.total_length, variable.preview)


def variables_info(inputs: tuple[InputInfo, ...], notes: Mapping[str, Mapping[str, str]] = {}) -> list[str]:
    """The field ``variables_info`` for inputs that `describe_variable` has described.

    Args:
        inputs: of the run.
        notes: ``desc`` and ``constraints`` of the signature's field, by name.
    """
    return [
        REPLVariable(
            name=info.name,
            type_name=info.type,
            total_length=info.size or 0,
            preview=info.preview,
            **notes.get(info.name, {}),
        ).format()
        for info in inputs
    ]
