"""Tools of an agent: a call in a cell becomes an entry in ``AIMessage.tool_calls``; a ToolMessage brings the result.

LangGraph's ``interrupt`` suspends the run inside the cell. The ids of the tool calls contain the id of the saved run.
So the messages are enough to find it again, wherever they were stored in the meantime.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_config
from langgraph.types import Interrupt, interrupt

from rlm_adapters.errors import InputError
from rlm_adapters.graph.tools import Tool, described, listed_tools
from rlm_adapters.langchain.variables import python_name
from rlm_adapters.values.answers import InvalidAnswerError, OutputSpec
from rlm_adapters.values.schemas import errors_of

_ID = re.compile(r"rlm_([0-9a-f]{24})_([0-9a-f]{8})")
"""``rlm_<saved run>_<interrupt>``: 37 characters. OpenAI allows at most 40."""

_PARALLEL = (
    "Independent tool calls go out together when they run in threads: "
    "`with ThreadPoolExecutor() as pool: results = list(pool.map(tool, arguments))`."
)


class ToolError(Exception):
    """A tool failed outside the run. Raised in the cell that called it."""


# ------------------------------------------------------------------------------------------------ binding


def openai_tools(tools: Any, *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Tools in OpenAI's form.

    Raises:
        InputError: one of them is not a tool, or runs at the provider, so that cells cannot call it.
    """
    converted = [_openai_tool(tool, strict) for tool in listed_tools(tools)]
    for tool in converted:
        if not isinstance(tool.get("function"), Mapping):
            kind = tool.get("type")
            raise InputError(
                f"tool {kind!r} runs at the provider: bind it to the inner model, "
                f"ChatRLM(model=model.bind_tools([...])) is not possible either; offer it as a function"
            )
    return converted


def _openai_tool(tool: Any, strict: bool | None) -> dict[str, Any]:
    try:
        return convert_to_openai_tool(tool, strict=strict)
    except (ValueError, TypeError, AttributeError) as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise InputError(
            f"tool {tool!r:.200}: give a LangChain tool, a function with type hints, a pydantic class or a JSON schema "
            f"({why})"
        ) from error


def caller_tools(tools: Sequence[Mapping[str, Any]], *, strict: bool = False) -> dict[str, Tool]:
    """Bound tools as functions of the REPL. Calling one suspends the run.

    Raises:
        InputError: two have the same name in Python.
    """
    table: dict[str, Tool] = {}
    for tool in tools:
        function = tool["function"]
        made = _caller_tool(function, strict=strict)
        if made.name in table:
            raise InputError(f"two tools are called {made.name!r} in Python: rename {function['name']!r}")
        table[made.name] = made
    return table


def answering_tools(interrupts: Sequence[Interrupt]) -> dict[str, Tool]:
    """The tools that a suspended run waits for. They are used if the caller no longer offers these tools."""
    names = {one.value["name"] for one in interrupts if is_tool_call(one)}
    tools = [Tool(python_name(name, "tool"), "", None, _suspending(name, (), None)) for name in sorted(names)]
    return {tool.name: tool for tool in tools}


def _caller_tool(function: Mapping[str, Any], *, strict: bool) -> Tool:
    name: str = function["name"]
    schema: Mapping[str, Any] = function.get("parameters") or {}
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = [key for key in properties if key in set(schema.get("required") or ())]
    order = [*required, *(key for key in properties if key not in required)]
    parameters = tuple(key if key in required else f"{key}=" for key in order)
    return Tool(
        name=python_name(name, "tool"),
        doc=described(function.get("description") or "", schema),
        parameters=parameters,
        source=_suspending(name, order, schema if strict else None),
    )


def _suspending(name: str, order: Sequence[str], schema: Mapping[str, Any] | None) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(order, args, strict=False)), **kwargs}
        if schema is not None:
            errors = errors_of(schema, given)
            if errors:
                raise InputError(f"{name}: {errors[0].message}")
        return _result(interrupt({"name": name, "args": given, "position": _position()}))

    return call


def _position() -> int:
    """Index of this call among those that the cell makes together. Threads reach the interrupt in any order."""
    path: Sequence[Any] = get_config()["metadata"].get("langgraph_path") or ()
    return next((step for step in path if isinstance(step, int) and not isinstance(step, bool)), 0)


def _result(answer: Mapping[str, Any]) -> Any:
    if answer["status"] == "error":
        content = answer["content"]
        raise ToolError(content if isinstance(content, str) else str(content))
    return answer["content"]


# ------------------------------------------------------------------------------------------------ tool choice


@dataclass(frozen=True, slots=True)
class ToolCallRequired(OutputSpec):
    """The run must end with a tool call. Any other answer is refused, so that the model makes the call."""

    names: tuple[str, ...] = ()

    def validate(self, value: Any) -> Any:
        """Refuse.

        Raises:
            InvalidAnswerError: always.
        """
        del value
        raise InvalidAnswerError(f"an answer is not wanted here; call {self._which()} in a block")

    def describe(self) -> str:
        """The instruction for the prompt."""
        return f"a call of {self._which()}; SUBMIT is refused here."

    def _which(self) -> str:
        return self.names[0] if len(self.names) == 1 else "one of the tools " + ", ".join(self.names)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """The meaning of ``tool_choice``.

    Attributes:
        tools: the offered tools, in OpenAI's form.
        required: whether one of them must be called.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    required: bool = False

    @classmethod
    def of(cls, tools: Sequence[Mapping[str, Any]], choice: Any) -> ToolChoice:
        """Read ``tool_choice``: None, "auto", "none", "any", "required", a bool, a name, or a provider's dict.

        Raises:
            InputError: it is not the name of a bound tool.
        """
        offered = tuple(tools)
        if isinstance(choice, Mapping):
            function = choice.get("function")
            name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
            choice = name or choice.get("type")
        if choice in (None, False, "auto"):
            return cls(offered)
        if choice == "none":
            return cls()
        if choice in (True, "any", "required"):
            return cls(offered, required=bool(offered))
        named = tuple(tool for tool in offered if tool["function"]["name"] == choice)
        if not named:
            known = ", ".join(tool["function"]["name"] for tool in offered) or "none"
            raise InputError(f"tool_choice={choice!r} is not a bound tool; bound tools: {known}")
        return cls(named, required=True)


def instructions_for(tools: Mapping[str, Tool], *, parallel: bool) -> str:
    """Instructions for the root LM about tools, in addition to their signatures."""
    return _PARALLEL if tools and parallel else ""


# ------------------------------------------------------------------------------------------------ leaving, coming back


def new_thread() -> str:
    """A new id for a run that may be suspended."""
    return secrets.token_hex(12)


def is_tool_call(one: Interrupt) -> bool:
    """Whether an interrupt is a tool call for the caller, and not an interrupt of a tool inside the loop."""
    return isinstance(one.value, Mapping) and one.value.keys() == {"name", "args", "position"}


def tool_calls_of(thread: str, interrupts: Sequence[Interrupt]) -> list[dict[str, Any]]:
    """The tool calls that a suspended run waits for, in the form of a message and in the order of the cell."""
    return [
        {
            "name": one.value["name"],
            "args": one.value["args"],
            "id": f"rlm_{thread}_{one.id[:8]}",
            "type": "tool_call",
        }
        for one in sorted(interrupts, key=lambda one: one.value["position"])
    ]


@dataclass(frozen=True, slots=True)
class Returned:
    """Tool results for a suspended run.

    Attributes:
        thread: id of the run.
        results: results by the start of the interrupt's id.
    """

    thread: str
    results: Mapping[str, Mapping[str, Any]]

    def resume_map(self, interrupts: Sequence[Interrupt]) -> dict[str, Any]:
        """The results by interrupt id, for ``Command(resume=...)``."""
        return {one.id: self.results[one.id[:8]] for one in interrupts if one.id[:8] in self.results}

    def digest(self) -> str:
        """A hash of the results."""
        text = json.dumps(self.results, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def returned(messages: Sequence[BaseMessage]) -> Returned | None:
    """The tool results at the end of the messages, if they belong to a suspended run."""
    tail: list[ToolMessage] = []
    for message in reversed(messages):
        if not isinstance(message, ToolMessage):
            break
        tail.append(message)
    before = messages[len(messages) - len(tail) - 1] if len(messages) > len(tail) else None
    if not tail or not isinstance(before, AIMessage):
        return None
    found = [_ID.fullmatch(message.tool_call_id) for message in tail]
    threads = {match.group(1) for match in found if match}
    if len(threads) != 1 or not all(found):
        return None
    results = {match.group(2): _answer(message) for match, message in zip(found, tail, strict=True) if match}
    return Returned(threads.pop(), results)


def _answer(message: ToolMessage) -> dict[str, Any]:
    content: Any = message.content
    if not isinstance(content, str):
        only_text = all(isinstance(block, str) or block.get("type") == "text" for block in content)
        content = str(message.text) if only_text else [dict(block) for block in message.content_blocks]
    return {"status": message.status, "content": content}
