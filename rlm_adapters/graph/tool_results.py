"""Read what a tool returned: the value for the cell, and changes of the state of the graph around the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import ToolMessage, convert_to_messages
from langgraph.types import Command

from rlm_adapters.errors import RLMError
from rlm_adapters.values.answers import to_plain

MESSAGES = "messages"
"""Key of the messages in the state, as in LangGraph's ``ToolNode``."""


class ToolFailedError(RLMError):
    """A tool returned a failure instead of raising an exception."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool call.

    Attributes:
        value: value for the cell, in plain JSON types.
        updates: changes of the state around the run, by key (``Command(update=...)``).
    """

    value: Any
    updates: dict[str, Any] = field(default_factory=dict)


def read_result(result: Any, call_id: str) -> ToolResult:
    """Read what a tool returned.

    Args:
        result: of the tool: a value, a ToolMessage, a Command, or a list of these two.
        call_id: of the call; the ToolMessage with this id is the result.

    Raises:
        ToolFailedError: the tool reports a failure.
        RLMError: it returned a command that is not possible inside the loop.
    """
    parts = result if isinstance(result, list) and _is_told(result) else [result]
    if not _is_told(parts):
        return ToolResult(to_plain(result))
    told: list[Any] = []
    updates: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Command):
            messages, update = _read_command(part, call_id)
            told += messages
            updates = merge_updates(updates, update)
        else:
            told.append(part)
    return ToolResult(_told(told), updates)


def merge_updates(left: dict[str, Any], right: dict[str, Any] | None) -> dict[str, Any]:
    """Merge the updates of several tools: lists and dicts are joined, else the last value counts; None starts again."""
    if right is None:
        return {}
    merged = dict(left)
    for key, value in right.items():
        old = merged.get(key)
        if isinstance(old, list) and isinstance(value, list):
            merged[key] = [*old, *value]
        elif isinstance(old, dict) and isinstance(value, dict):
            merged[key] = {**old, **value}
        else:
            merged[key] = value
    return merged


def _is_told(parts: Sequence[Any]) -> bool:
    return bool(parts) and all(isinstance(part, ToolMessage | Command) for part in parts)


def _read_command(command: Command[Any], call_id: str) -> tuple[list[ToolMessage], dict[str, Any]]:
    """The results in a Command, and its other updates."""
    if command.goto:
        raise RLMError(f"a tool returned Command(goto={command.goto!r}): inside the loop there is no node to go to")
    update: Any = command.update or {}
    if not isinstance(update, Mapping):
        update = {MESSAGES: update}
    update = dict(update)
    own: list[ToolMessage] = []
    if update.get(MESSAGES):
        given = update[MESSAGES]
        messages = convert_to_messages(given if isinstance(given, list) else [given])
        own = [one for one in messages if isinstance(one, ToolMessage) and one.tool_call_id == call_id]
        update[MESSAGES] = [
            one for one in messages if one not in own
        ]  # the graph around the run has no call with this id
        if not update[MESSAGES]:
            del update[MESSAGES]
    return own, update


def _told(messages: Sequence[ToolMessage]) -> Any:
    if not messages:
        return None
    last = messages[-1]
    value = _text_of_blocks(last.content)
    if last.status == "error":
        raise ToolFailedError(str(value))
    return value


def _text_of_blocks(content: Any) -> Any:
    """The text of content that has only text. Images and similar content stay blocks."""
    if isinstance(content, list) and content and all(_is_text(block) for block in content):
        return "\n".join(block if isinstance(block, str) else block["text"] for block in content)
    return content


def _is_text(block: Any) -> bool:
    return isinstance(block, str) or (
        isinstance(block, Mapping) and block.get("type") == "text" and isinstance(block.get("text"), str)
    )
