"""Make the question, the instructions and the variables of a run from chat messages.

The last human message is the question. System messages are instructions. The messages before the question, and those
after it (tool calls of a run that no longer exists), are added to the question. Long texts become variables, so a
conversation of any length and order becomes a short question about big variables.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from rlm_adapters.errors import InputError
from rlm_adapters.langchain.blocks import is_context, text_of_message
from rlm_adapters.langchain.variables import Variables

_LOOKED_AT = frozenset({"image", "image_url", "audio", "input_audio", "video"})
_ROLES = {"human": "User", "ai": "Assistant", "tool": "Tool", "function": "Tool"}


@dataclass(frozen=True, slots=True)
class Conversation:
    """The input of a run.

    Attributes:
        query: the question, with the earlier messages.
        instructions: from the system messages.
        inputs: variables by name, also ``context``.
        files: files of the workspace.
    """

    query: str
    instructions: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    def to_input(self) -> dict[str, Any]:
        """The graph's input."""
        inputs = dict(self.inputs)
        given: dict[str, Any] = {"query": self.query, "instructions": self.instructions}
        if "context" in inputs:
            given["context"] = inputs.pop("context")
        return {**given, "inputs": inputs, "files": dict(self.files)}


def read_conversation(
    messages: Sequence[BaseMessage],
    *,
    threshold: int,
    context: Any = None,
    inputs: Mapping[str, Any] | None = None,
    taken: Collection[str] = (),
) -> Conversation:
    """Split messages into question, instructions and variables.

    Args:
        messages: in any order.
        threshold: a text with this many characters becomes a variable.
        context: given separately; becomes the variable ``context``.
        inputs: variables that are given separately, by name.
        taken: names that variables must not have.

    Raises:
        InputError: there is nothing to answer, or a block cannot be used.
    """
    variables = Variables(taken)
    variables.add_named(inputs or {})
    if context is not None:
        variables.add(context)
    asked = _position_of_question(messages)
    before: list[dict[str, str]] = []
    after: list[dict[str, str]] = []
    instructions: list[str] = []
    question = ""
    for position, message in enumerate(messages):
        text = text_of_message(message, variables, threshold)
        if position == asked:
            question = text
        elif message.type in ("system", "developer"):
            instructions.append(text)
        else:
            (before if position < asked else after).append({"role": _role(message), "content": _told(message, text)})
    if not question.strip():
        if not variables.values and not before and not after:
            raise InputError("the last message has no text: ask a question")
        question = "(The message has no text of its own.)"
    return Conversation(
        query=_query(question, before, after, variables, threshold),
        instructions="\n\n".join(part for part in instructions if part.strip()),
        inputs=variables.values,
        files=variables.files,
    )


def text_size(messages: Sequence[BaseMessage]) -> int:
    """Characters of all messages: text, documents and files as they are sent, without images and similar content."""
    return sum(_size(message.content) for message in messages)


def gives_context(messages: Sequence[BaseMessage]) -> bool:
    """Whether a message has a `context_block`."""
    return any(
        isinstance(block, dict) and block.get("type") == "non_standard" and is_context(block)
        for message in messages
        if isinstance(message.content, list)
        for block in message.content
    )


def _size(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    if isinstance(content, Mapping):
        return 0 if content.get("type") in _LOOKED_AT else sum(_size(value) for value in content.values())
    return sum(_size(item) for item in content) if isinstance(content, list) else 0


def _position_of_question(messages: Sequence[BaseMessage]) -> int:
    """Index of the last human message; else of the last message that is not a system message; else of the last."""
    if not messages:
        raise InputError("no messages: give at least one with a question")
    for kinds in (("human",), ("ai", "tool", "function", "chat")):
        found = [position for position, message in enumerate(messages) if message.type in kinds]
        if found:
            return found[-1]
    return len(messages) - 1


def _role(message: BaseMessage) -> str:
    role = _ROLES.get(message.type) or str(getattr(message, "role", message.type))
    return f"{role} {message.name}" if message.name else role


def _told(message: BaseMessage, text: str) -> str:
    """A message of the history as text."""
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = [
            f"(called the tool {call['name']} with {json.dumps(call['args'], ensure_ascii=False, default=str)})"
            for call in message.tool_calls
        ]
        return "\n".join([text, *calls] if text else calls)
    if isinstance(message, ToolMessage) and message.status == "error":
        return f"(failed) {text}"
    return text


def _query(
    question: str,
    before: list[dict[str, str]],
    after: list[dict[str, str]],
    variables: Variables,
    threshold: int,
) -> str:
    parts = []
    if before:
        parts += ["The conversation so far:", _transcript(before, variables, threshold, "history"), ""]
        parts.append("The message to answer now:")
    parts.append(question)
    if after:
        parts += ["", "What has been done for this message already:"]
        parts.append(_transcript(after, variables, threshold, "steps"))
    return "\n".join(parts)


def _transcript(turns: list[dict[str, str]], variables: Variables, threshold: int, name: str) -> str:
    """The turns as text. Of a long history only the end; all of it is in a variable."""
    lines = [f"{turn['role']}: {turn['content']}" for turn in turns]
    if sum(map(len, lines)) <= threshold:
        return "\n".join(lines)
    variable = variables.add(turns, name)
    shown: list[str] = []
    room = threshold // 4
    for line in reversed(lines):
        room -= len(line)
        if room < 0:
            break
        shown.insert(0, line)
    note = (
        f"[{len(turns)} messages: the variable `{variable}` is the list of them, each {{'role', 'content'}}; "
        f"the last {len(shown)} are:]"
    )
    return "\n".join([note, *shown])
