"""Convert between the caller's state and the input and output of a graph.

The names in the graph's own state never change. A graph that is a node of a larger graph gets the whole state of that
graph, which can be a dict, a pydantic model or a dataclass, and reads the keys that it knows.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, convert_to_messages
from pydantic import BaseModel

from rlm_adapters.errors import InputError
from rlm_adapters.graph.state import RLMInput, RLMOutput
from rlm_adapters.models.usage import usage_metadata

KeyNames: TypeAlias = Mapping[str, "str | list[str]"]
"""The caller's names by the graph's names. A list around the name of the answer adds the answer to a list."""

MESSAGES: Final = "messages"
INPUTS: Final = tuple(key for key in RLMInput.__annotations__ if key != "described")
OUTPUTS: Final = tuple(RLMOutput.__annotations__)


@dataclass(frozen=True, slots=True)
class Keys:
    """The caller's names for the keys of input and output.

    Attributes:
        names: the caller's names by the graph's names. Missing names are the same.
        listed: whether the answer is added to a list.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    listed: bool = False

    @classmethod
    def of(cls, given: KeyNames | None) -> Keys:
        """Make it from the argument ``inputs=``.

        Raises:
            InputError: a key is unknown, a name is not a text, or two keys have the same name.
        """
        if not isinstance(given or {}, Mapping):
            raise InputError(f"inputs={given!r:.80}: give a dict such as {{'query': 'question', 'answer': 'report'}}")
        names: dict[str, str] = {}
        listed = False
        for key, name in (given or {}).items():
            if key not in (*INPUTS, *OUTPUTS):
                raise InputError(
                    f"inputs: the graph has no key {key!r}: it takes {', '.join(INPUTS)} and gives {', '.join(OUTPUTS)}"
                )
            if key == "answer" and isinstance(name, list | tuple) and len(name) == 1:
                name, listed = name[0], True  # noqa: PLW2901 - what is left of it
            if not isinstance(name, str) or not name:
                raise InputError(f"inputs: {key!r}: {name!r:.80} is not a name of a key: give text")
            names[key] = name
        keys = cls(names, listed)
        for side in (INPUTS, OUTPUTS):
            keys._check_apart(side)
        return keys

    def name(self, key: str) -> str:
        """The caller's name for a key of the graph."""
        return self.names.get(key, key)

    def taken(self) -> frozenset[str]:
        """All names in a larger graph's state that belong to this graph."""
        return frozenset(map(self.name, (*INPUTS, *OUTPUTS)))

    def read(self, given: Any) -> tuple[dict[str, Any], list[Any]]:
        """The graph's input from a dict, pydantic model or dataclass, and the keys that the graph does not know.

        Raises:
            InputError: it has another type, or its messages have no question.
        """
        state = _as_mapping(given)
        if state is None:
            names = " and ".join(repr(self.name(key)) for key in ("query", "context"))
            raise InputError(
                f"the graph takes a dict with {names}, or a pydantic model or dataclass, not {type(given).__name__}"
            )
        read = {key: state[self.name(key)] for key in INPUTS if self.name(key) in state}
        if self.name("query") == MESSAGES:
            read |= self._from_messages(read)
        known = {self.name(key) for key in INPUTS}
        return read, [key for key in state if key not in known]

    def write(self, output: Mapping[str, Any], around: Any) -> dict[str, Any]:
        """The output with the caller's names.

        Args:
            output: of the graph.
            around: the state of the larger graph. If its key for the answer has a list or messages, the answer becomes
                a list or a message.
        """
        written = {self.name(key): value for key, value in output.items()}
        if "answer" in output and output.get("finish_reason"):
            name = self.name("answer")
            written[name] = self._answer(output, (_as_mapping(around) or {}).get(name))
        return written

    @property
    def plain(self) -> bool:
        """Whether no name is changed."""
        return not self.names

    # -- parts

    def _check_apart(self, side: tuple[str, ...]) -> None:
        seen: dict[str, str] = {}
        for key in side:
            other = seen.setdefault(self.name(key), key)
            if other != key and not (self.name(key) == MESSAGES and {other, key} == {"query", "context"}):
                raise InputError(
                    f"inputs: {other!r} and {key!r} would both be {self.name(key)!r}: give one of them another name"
                )

    def _from_messages(self, read: Mapping[str, Any]) -> dict[str, Any]:
        """The question of a conversation, and its other messages as a variable."""
        messages = _messages_of(read.get("query"))
        last = next((place for place in reversed(range(len(messages))) if messages[place].type == "human"), None)
        if last is None:
            raise InputError(f"{MESSAGES!r} has no human message: the last one is the question")
        question: BaseMessage = messages[last]
        own = {"query": str(question.text)}
        if self.name("context") == MESSAGES:
            return {**own, "context": messages}
        rest = [*messages[:last], *([] if isinstance(question.content, str) else [question]), *messages[last + 1 :]]
        inputs = read.get("inputs") or {}
        if not rest or not isinstance(inputs, Mapping):
            return own
        return {**own, "inputs": {MESSAGES: rest, **inputs}}

    def _answer(self, output: Mapping[str, Any], there: Any) -> Any:
        answer = output["answer"]
        if self.name("answer") == MESSAGES or _has_messages(there):
            return [_as_message(output)]
        if self.listed or (isinstance(there, list | tuple) and not isinstance(answer, list)):
            return [answer]
        return answer


OWN: Final = Keys()
"""The unchanged names."""


def rename_values(part: Any, mode: Any, *, subgraphs: bool, version: str, write: Any) -> Any:
    """Rename the values in a part of a stream, if they are values of the graph itself.

    Args:
        part: of the stream.
        mode: the requested ``stream_mode``; None: LangGraph's default.
        subgraphs: whether subgraphs are streamed.
        version: version of the stream's form.
        write: renames values.
    """
    if version == "v2":
        ours = part["type"] == "values" and not part["ns"]
        return {**part, "data": write(part["data"])} if ours and isinstance(part["data"], Mapping) else part
    *place, payload = part if subgraphs or isinstance(mode, list) else (part,)
    if isinstance(mode, list):
        mode = place.pop()
    if mode != "values" or (subgraphs and place[0]):
        return part
    if not isinstance(payload, Mapping):  # only a single key is streamed
        return part
    return (*part[:-1], write(payload)) if isinstance(part, tuple) else write(payload)


def _as_mapping(state: Any) -> dict[Any, Any] | None:
    """A state as a dict (a shallow copy); None if it has another type."""
    if isinstance(state, Mapping):
        return dict(state)
    if isinstance(state, BaseModel):
        return {key: getattr(state, key) for key in (*type(state).model_fields, *(state.model_extra or ()))}
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return {one.name: getattr(state, one.name) for one in dataclasses.fields(state) if hasattr(state, one.name)}
    return None


def _messages_of(given: Any) -> list[BaseMessage]:
    try:
        return convert_to_messages(given if isinstance(given, list | tuple) else [given])
    except (ValueError, NotImplementedError, TypeError, KeyError) as error:
        raise InputError(f"{MESSAGES!r} of type {type(given).__name__}: give a list of messages ({error})") from error


def _has_messages(there: Any) -> bool:
    return isinstance(there, list | tuple) and bool(there) and all(isinstance(one, BaseMessage) for one in there)


def _as_message(output: Mapping[str, Any]) -> AIMessage:
    """The answer as a message of a conversation."""
    answer, usage = output["answer"], output.get("usage") or {}
    if answer is None:
        text = f"There is no answer: {output.get('error') or output['finish_reason']}"
    else:
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    metadata = {"finish_reason": output["finish_reason"]}
    return AIMessage(text, usage_metadata=usage_metadata(usage), response_metadata=metadata)
