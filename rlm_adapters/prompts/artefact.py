"""Use a prompt file, which ``save`` of an optimised DSPy program wrote, with LangChain models.

The file has the instructions and demos of the predictors ``generate_action`` and ``extract``. DSPy's adapter renders
them, so for the same step the messages are the same as those of the DSPy program, and an optimisation is valid here,
too. Needs the extra ``dspy``, but no DSPy LM.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import dspy
from dspy.primitives.repl_types import REPLHistory
from dspy.utils.exceptions import AdapterParseError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from rlm_adapters.errors import InputError
from rlm_adapters.models.targets import ChatTarget, ModelReply
from rlm_adapters.prompts.fields import FieldsSpec
from rlm_adapters.prompts.render import as_blocks
from rlm_adapters.prompts.rules import our_rules, without_foreign_rules
from rlm_adapters.prompts.steps import Step, action_inputs, describe_variable, history_of, observed, variables_info
from rlm_adapters.prompts.trajectory import InputInfo, Outcome, Trajectory
from rlm_adapters.prompts.writer import ChatCodeWriter
from rlm_adapters.replies import Reading, read_reply
from rlm_adapters.values.answers import to_plain

VERSION: Final = 1
"""Version of the entry ``rlm`` that `describe_signature` writes. Increase it when a key changes its meaning."""

PromptSource: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | PromptArtefact"
_QUESTIONS: Final = ("query", "question", "task", "request", "instruction", "prompt")
_REASONING_CHARS: Final = 2_000  # of a reply without code, kept in the history


def describe_signature(signature: Any, *, max_output_chars: int, sub_call: Any = None) -> dict[str, Any]:
    """The description of the task in a prompt file, in addition to the predictors, in plain JSON.

    Args:
        signature: of the program.
        max_output_chars: characters of each output that the prompt shows.
        sub_call: signature of the predictor for sub-calls, if there is one.
    """
    described = {
        "version": VERSION,
        "inputs": [{"name": name, **_notes(field)} for name, field in signature.input_fields.items()],
        "outputs": [
            {"name": name, "type": _type_text(field.annotation), "schema": _schema(field.annotation)}
            for name, field in signature.output_fields.items()
        ],
        "max_output_chars": max_output_chars,
    }
    if sub_call is not None:
        described["sub_call"] = {
            "input": next(iter(sub_call.input_fields)),
            "output": next(iter(sub_call.output_fields)),
        }
    return described


@dataclass(frozen=True, slots=True)
class Predictor:
    """A predictor of a prompt file."""

    signature: Any
    demos: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PromptArtefact:
    """The content of a prompt file.

    Attributes:
        action: signature of the step.
        action_demos: its demos.
        extract: signature of the last answer.
        extract_demos: its demos.
        inputs: names of the input fields, with their notes.
        outputs: JSON schemas of the output fields.
        max_output_chars: characters of each output that the prompt shows.
        child: the predictors of child runs, if the file has them.
        sub_call: the predictor for sub-calls, if the file has it.
    """

    action: Any
    action_demos: Sequence[Mapping[str, Any]]
    extract: Any
    extract_demos: Sequence[Mapping[str, Any]]
    inputs: Mapping[str, Mapping[str, str]]
    outputs: Mapping[str, Any]
    max_output_chars: int = 10_000
    child: PromptArtefact | None = None
    sub_call: Predictor | None = None

    @classmethod
    def load(cls, source: PromptSource, *, module: str = "") -> PromptArtefact:
        """Read a file that ``rlm.save("optimised.json")`` wrote, of `rlm_adapters.RLM` or ``dspy.RLM``.

        Args:
            source: path of the file, or its parsed content.
            module: in the file of a larger program, the attribute path of the RLM: ``"answerer"``.

        Raises:
            InputError: it is not such a file, or has several RLMs.
        """
        if isinstance(source, PromptArtefact):
            return source
        state = source if isinstance(source, Mapping) else _read(Path(source))
        prefix = _prefix(state, module)
        return cls._of(state, prefix, state.get("rlm") if not prefix else None)

    @classmethod
    def _of(cls, state: Mapping[str, Any], prefix: str, described: Mapping[str, Any] | None) -> Self:
        action_state, extract_state = state[f"{prefix}generate_action"], state[f"{prefix}extract"]
        described = described or _guess(action_state, extract_state)
        if described.get("version", VERSION) != VERSION:
            raise InputError(f"prompt file of version {described['version']!r}: upgrade rlm-adapters to read it")
        try:
            action = _action_signature().load_state(action_state["signature"])
            action = action.with_instructions(without_foreign_rules(action.instructions, our_rules()))
            extract = _extract_signature(described["outputs"]).load_state(extract_state["signature"])
            sub_call = _sub_call(state.get(f"{prefix}sub_call"), described.get("sub_call"))
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"the prompt file does not fit the predictors of an RLM: {error}") from error
        child = f"{prefix}child."
        return cls(
            action,
            action_state["demos"],
            extract,
            extract_state["demos"],
            {entry["name"]: {k: v for k, v in entry.items() if k != "name"} for entry in described["inputs"]},
            {entry["name"]: entry.get("schema") or {} for entry in described["outputs"]},
            described.get("max_output_chars", 10_000),
            cls._of(state, child, None) if f"{child}generate_action" in state else None,
            sub_call,
        )

    def question_field(self) -> str | None:
        """The input with the question: by its name, else the last of several inputs; None if there is none."""
        named = next((name for name in _QUESTIONS if name in self.inputs), None)
        return named or (list(self.inputs)[-1] if len(self.inputs) > 1 else None)

    def variable_names(self) -> dict[str, str]:
        """Names of the graph's ``context`` and ``query`` in the REPL."""
        question = self.question_field()
        others = [name for name in self.inputs if name != question]
        names = {} if question is None else {"query": question}
        if others:
            names["context"] = "context" if "context" in others else others[0]
        return names

    def output(self) -> FieldsSpec:
        """The answer that the prompt asks for."""
        definitions: dict[str, Any] = {}
        properties = {}
        for name, schema in self.outputs.items():
            # A type that is defined only in the program's code is checked by its schema instead.
            if self.extract.output_fields[name].annotation is Any:
                definitions |= schema.get("$defs", {})
                properties[name] = {key: value for key, value in schema.items() if key != "$defs"}
        whole = {"type": "object", "properties": properties, "$defs": definitions} if properties else None
        return FieldsSpec.of_signature(self.extract, tuple(self.outputs), schema=whole, bare=True)


@dataclass(frozen=True, slots=True)
class ArtefactWriter:
    """A LangChain chat model that follows a prompt file.

    Attributes:
        target: the root LM.
        artefact: the prompt.
        adapter: DSPy's adapter, as at the time of the optimisation.
    """

    target: ChatTarget
    artefact: PromptArtefact
    adapter: Any = field(default_factory=dspy.ChatAdapter)

    @property
    def extract_target(self) -> ChatTarget:
        """The same model gives the last answer."""
        return self.target

    @property
    def variable_names(self) -> Mapping[str, str]:
        """The names that the prompt uses."""
        return self.artefact.variable_names()

    def prompt(self, trajectory: Trajectory) -> Any:
        """The messages for the next cell."""
        artefact = self.artefact
        given = action_inputs(trajectory, self._variables(trajectory), self._step, artefact.max_output_chars)
        return self._messages(self._with_extras(artefact.action, trajectory), artefact.action_demos, given)

    def extract_prompt(self, trajectory: Trajectory, reason: str, candidate: str | None) -> Any:  # noqa: ARG002
        """The messages for the last answer."""
        artefact = self.artefact
        history = history_of(trajectory, self._step, artefact.max_output_chars)
        given = {"variables_info": self._variables(trajectory), "repl_history": history}
        return self._messages(artefact.extract, artefact.extract_demos, given)

    def window(self) -> int | None:
        """Window of the model in input tokens, if its profile has it."""
        return self.target.context_window()

    def describe(self, name: str, value: Any) -> InputInfo:
        """An input as dspy.RLM describes it."""
        return describe_variable(name, value)

    def read(self, reply: ModelReply, names: Sequence[str]) -> Reading:
        """The code field. A reply in another form is read like that of any model."""
        fields = self._fields(self.artefact.action, reply.text)
        if fields is not None and reply.finish_reason != "length":
            return _step_of(fields).read()
        return read_reply(
            reply.text,
            names=names,
            finish_reason=reply.finish_reason,
            refusal=reply.refusal,
            tool_calls=reply.tool_calls,
        )

    def as_reply(self, cells: Sequence[str], text: str) -> str:  # noqa: ARG002 - its text about the code may be wrong now
        """Code blocks, which `read` accepts, too."""
        return as_blocks(cells)

    def as_written(self, text: str) -> str:
        """The unchanged text."""
        return text

    def observe(self, outcome: Outcome, trajectory: Trajectory) -> str:  # noqa: ARG002
        """The output in the form of the REPL history."""
        return observed(outcome)

    def read_answer(self, reply: ModelReply) -> Any:
        """The output fields. If there is only one field, a text without fields is the answer."""
        fields = self._fields(self.artefact.extract, reply.text)
        if fields is None:
            return reply.text.strip() or None if len(self.artefact.outputs) == 1 else None
        return {name: to_plain(fields[name]) for name in self.artefact.outputs}

    def for_child(self) -> ArtefactWriter | ChatCodeWriter:
        """A writer with the file's predictors for child runs, else with the default prompt."""
        if self.artefact.child is None:
            return ChatCodeWriter(self.target)
        return ArtefactWriter(self.target, self.artefact.child, self.adapter)

    def with_target(self, target: ChatTarget) -> ArtefactWriter:
        """The same file for another model."""
        return replace(self, target=target)

    # -- parts

    def _variables(self, trajectory: Trajectory) -> list[str]:
        return variables_info(trajectory.inputs, self.artefact.inputs)

    def _with_extras(self, signature: Any, trajectory: Trajectory) -> Any:
        """The signature with parts that the DSPy program did not have: tools, instructions and question of this run."""
        extras = []
        missing = [tool for tool in trajectory.tools if f"`{tool.signature.partition('(')[0]}(" not in str(signature)]
        if missing:
            extras.append("\n".join(["Additional tools:", *(f"- `{tool.signature}`: {tool.doc}" for tool in missing)]))
        if trajectory.instructions:
            extras.append(f"Instructions from the user of this session:\n{trajectory.instructions.strip()}")
        if self.artefact.question_field() is None:
            extras.append(f"Question: {trajectory.query}")
        if not extras:
            return signature
        return signature.with_instructions("\n\n".join([signature.instructions, *extras]))

    def _messages(self, signature: Any, demos: Sequence[Any], given: Mapping[str, Any]) -> list[BaseMessage]:
        return [as_message(one) for one in self.adapter.format(signature, list(demos), dict(given))]

    def _fields(self, signature: Any, text: str) -> dict[str, Any] | None:
        for adapter in (self.adapter, dspy.JSONAdapter()):
            with suppress(AdapterParseError, ValueError, TypeError):
                return dict(adapter.parse(signature, text))
        return None

    def _step(self, text: str) -> Step:
        """The step in an earlier reply."""
        fields = self._fields(self.artefact.action, text)
        if fields is not None:
            return _step_of(fields)
        reading = read_reply(text, names=())
        if reading.code:
            return Step(reading.thought, "\n\n".join(reading.code))
        return Step(text[:_REASONING_CHARS], "")


def _step_of(fields: Mapping[str, Any]) -> Step:
    return Step(str(fields.get("reasoning") or ""), str(fields.get("code") or ""))


def as_message(message: Mapping[str, Any]) -> BaseMessage:
    """A message of DSPy's adapters as a LangChain message."""
    content = message["content"]
    if message["role"] == "system":
        return SystemMessage(content)
    return AIMessage(content) if message["role"] == "assistant" else HumanMessage(content)


# ------------------------------------------------------------------------------------------------ the file


def _read(path: Path) -> Mapping[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"prompt file {str(path)!r:.200}: {error.strerror or error}; give the .json file that an optimised RLM's "
            "save() wrote (for instructions to the root LM, use instructions=...)"
        ) from error
    except ValueError as error:
        raise InputError(f"prompt file {str(path)!r} is not JSON ({error}): save the program as .json") from error
    if not isinstance(state, Mapping):
        raise InputError(f"prompt file {str(path)!r} has a {type(state).__name__}, not a saved DSPy program")
    return state


def _prefix(state: Mapping[str, Any], module: str) -> str:
    """The prefix of the RLM in the file: empty, or ``"answerer."`` in a larger program."""
    found = [key.removesuffix("generate_action") for key in state if key.endswith("generate_action")]
    found = [prefix for prefix in found if "child." not in prefix and f"{prefix}extract" in state]
    wanted = f"{module}." if module else None
    if wanted in found:
        return wanted or ""
    if wanted is None and len(found) == 1:
        return found[0]
    modules = ", ".join(repr(prefix.rstrip(".")) for prefix in found) or "none"
    raise InputError(f"the prompt file holds the RLMs {modules}: name one with PromptArtefact.load(file, module=...)")


def _action_signature() -> Any:
    """The fields of dspy.RLM's action step."""
    signature = dspy.Signature({}, "")
    for name, kind in (("variables_info", str), ("repl_history", REPLHistory), ("iteration", str)):
        signature = signature.append(name, dspy.InputField(), type_=kind)
    for name in ("reasoning", "code"):
        signature = signature.append(name, dspy.OutputField(), type_=str)
    return signature


def _extract_signature(outputs: Sequence[Mapping[str, Any]]) -> Any:
    signature = dspy.Signature({}, "")
    signature = signature.append("variables_info", dspy.InputField(), type_=str)
    signature = signature.append("repl_history", dspy.InputField(), type_=REPLHistory)
    for entry in outputs:
        text = f"x -> {entry['name']}: {entry['type']}" if entry.get("type") else f"x -> {entry['name']}: Any"
        kind = dspy.Signature(text).output_fields[entry["name"]].annotation
        signature = signature.append(entry["name"], dspy.OutputField(), type_=kind)
    return signature


def _sub_call(state: Mapping[str, Any] | None, names: Mapping[str, str] | None) -> Predictor | None:
    """The predictor for sub-calls, with one text input and one text output."""
    if state is None:
        return None
    names = names or {"input": "prompt", "output": "answer"}
    signature = dspy.Signature({}, "").append(names["input"], dspy.InputField(), type_=str)
    signature = signature.append(names["output"], dspy.OutputField(), type_=str)
    return Predictor(signature.load_state(state["signature"]), state["demos"])


def _guess(action: Mapping[str, Any], extract: Mapping[str, Any]) -> dict[str, Any]:
    """The task of a file that dspy.RLM wrote: inputs from its instructions, outputs from the extract step."""
    text = action["signature"]["instructions"]
    named = re.search(r"given the inputs ((?:`\w+`(?:, )?)+)", text)
    inputs = re.findall(r"`(\w+)`", named.group(1)) if named else ["context", "query"]
    prefixes = [entry["prefix"] for entry in extract["signature"]["fields"]][2:]
    outputs = [prefix.strip().removesuffix(":").lower().replace(" ", "_") for prefix in prefixes]
    return {
        "version": VERSION,
        "inputs": [{"name": name} for name in inputs],
        "outputs": [{"name": name, **_guess_type(name, text)} for name in outputs],
    }


def _guess_type(name: str, instructions: str) -> dict[str, Any]:
    """The type of an output field, from dspy.RLM's instructions."""
    line = next((one for one in instructions.splitlines() if one.startswith("- {" + name + "}")), "")
    if single := re.search(r"must be a single (int|float) value", line):
        return {"type": single.group(1)}
    if "must be True or False" in line:
        return {"type": "bool"}
    if options := re.search(r"must exactly match \(no extra characters\) one of: (.+)$", line):
        return {"type": f"Literal[{', '.join(map(repr, options.group(1).split('; ')))}]"}
    if schema := re.search(r"must adhere to the JSON schema: (\{.*\})", line):
        with suppress(ValueError):
            return {"type": "", "schema": json.loads(schema.group(1))}
    return {"type": "str"}


def _notes(info: Any) -> dict[str, str]:
    extra = info.json_schema_extra or {}
    desc = extra.get("desc") or ""
    notes = {"desc": "" if desc.startswith("${") else desc, "constraints": extra.get("constraints") or ""}
    return {key: value for key, value in notes.items() if value}


def _type_text(annotation: Any) -> str:
    """The name of a type in a signature string; empty for a type that is defined only in the program's code."""
    text = getattr(annotation, "__name__", "") if isinstance(annotation, type) else repr(annotation)
    text = repr(annotation) if getattr(annotation, "__args__", None) else text
    text = text.replace("typing.", "").replace("NoneType", "None")
    with suppress(Exception):
        if dspy.Signature(f"x -> y: {text}").output_fields["y"].annotation == annotation:
            return text
    return ""


def _schema(annotation: Any) -> dict[str, Any]:
    try:
        return TypeAdapter(annotation).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError):
        return {}
