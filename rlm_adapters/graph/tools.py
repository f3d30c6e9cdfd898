"""Use the user's tools as functions of the REPL."""

from __future__ import annotations

import asyncio
import inspect
import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import Tool as SingleInputTool
from langchain_core.tools import tool as as_tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from rlm_adapters.effects import Steps, Wait, run_coroutine
from rlm_adapters.errors import InputError
from rlm_adapters.graph.injection import Injected, ToolCall, has_injected, inject, injected_arguments
from rlm_adapters.graph.tool_results import ToolResult, read_result
from rlm_adapters.prompts import FunctionInfo
from rlm_adapters.sandbox import HostFunction
from rlm_adapters.values.answers import describe_schema

RESERVED = frozenset({
    "FINAL", "FINAL_VAR", "SHOW_VARS", "SUBMIT", "SubCallError", "answer", "llm_query", "llm_query_batched", "open",
    "print", "rlm_query", "rlm_query_batched",
})  # fmt: skip
"""Names that the REPL defines."""


def check_name(name: str, what: str) -> None:
    """Refuse a name that a cell cannot use, or that the REPL defines.

    Raises:
        InputError: the name is used by the REPL, or is not an identifier.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise InputError(f"{what} name {name!r} is not usable as a Python name in the REPL: rename it")
    if name in RESERVED:
        raise InputError(f"{what} name {name!r} is a name that the REPL defines: rename the {what}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that cells can call.

    Attributes:
        name: name in the REPL.
        doc: what it does, and the types of its arguments, in one line.
        parameters: names in order, with ``=`` after optional ones; None: any arguments.
        source: the LangChain tool or callable.
        injected: arguments that LangGraph injects. Cells do not see them.
        internal: whether it is part of this package. Then LangGraph's runtime gives it the run, not the caller.
    """

    name: str
    doc: str
    parameters: tuple[str, ...] | None
    source: BaseTool | Callable[..., Any]
    injected: Mapping[str, Injected] = field(default_factory=dict)
    internal: bool = False

    @classmethod
    def of(cls, source: Any) -> Tool:
        """Wrap a LangChain tool or a plain callable, sync or async.

        Raises:
            InputError: it is neither, or its name cannot be used.
        """
        if isinstance(source, Tool):
            return source
        if not isinstance(source, BaseTool) and inspect.isfunction(source) and has_injected(source):
            source = _as_tool(source)
        if isinstance(source, BaseTool):
            tool = _of_langchain(source)
        elif callable(source):
            name = getattr(source, "__name__", type(source).__name__)
            if name == "<lambda>":
                raise InputError("a lambda has no name that cells could call: write it as def, or use @tool")
            tool = cls(name, _documented(source), _parameters(source), source)
        else:
            raise InputError(f"tool {source!r}: give a LangChain tool or a function")
        check_name(tool.name, "tool")
        return tool

    def info(self) -> FunctionInfo:
        """Its description for the prompt."""
        names = (
            "..."
            if self.parameters is None
            else ", ".join(one + ".." if one[-1] == "=" else one for one in self.parameters)
        )
        return FunctionInfo(f"{self.name}({names})", self.doc or "a tool of this session.")

    def host_function(self) -> HostFunction:
        """Its description for the sandbox."""
        return HostFunction(name=self.name, effects=True, parameters=self.parameters, doc=self.doc)

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any], call: ToolCall) -> Steps[ToolResult]:
        """Run the tool.

        Returns:
            Its result in plain JSON types. The caller must turn an exception of the tool into a failure.

        Raises:
            InputError: the arguments are not those that were offered to cells. A tool may have others, which its
                author fills in (LangChain's ``InjectedToolArg``), and a cell must not.
        """
        names = [name.rstrip("=") for name in self.parameters or ()]
        if self.parameters is not None and (len(args) > len(names) or not kwargs.keys() <= set(names[len(args) :])):
            raise InputError(f"{self.name}() takes {', '.join(names) or 'no arguments'}: give each of them once")
        if not isinstance(self.source, BaseTool):
            result = yield _calling(self.source, args, kwargs, call.config)
            return read_result(result, call.id)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        result = yield _running(self.source, inject(self.injected, given, call), self.injected, call)
        return read_result(result, call.id)


def listed_tools(tools: Any) -> list[Any]:
    """The tools of the argument ``tools``: a list, a single tool, or None.

    Raises:
        InputError: it is none of them.
    """
    if tools is None:
        return []
    if isinstance(tools, BaseTool | Tool) or (callable(tools) and not isinstance(tools, Iterable)):
        return [tools]
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Iterable):
        raise InputError(f"tools={tools!r:.200}: give a list of LangChain tools and functions")
    return list(tools)


def tool_table(tools: Iterable[Any] | Callable[..., Any] | None) -> dict[str, Tool]:
    """Tools by name.

    Raises:
        InputError: two have the same name, or one cannot be used.
    """
    table: dict[str, Tool] = {}
    for source in listed_tools(tools):
        tool = Tool.of(source)
        if tool.name in table:
            raise InputError(f"two tools are called {tool.name!r}: rename one")
        table[tool.name] = tool
    return table


def described(description: str, schema: Mapping[str, Any]) -> str:
    """A tool's description and its arguments, in one line.

    Args:
        description: of the tool.
        schema: JSON schema of the arguments.
    """
    words = " ".join(description.split())
    properties: Mapping[str, Any] = schema.get("properties") or {}
    arguments = "; ".join(f"{name}: {describe_schema(one, schema)}{_note(one)}" for name, one in properties.items())
    return f"{words} Arguments: {arguments}".strip() if arguments else words


def _note(schema: Any) -> str:
    note = schema.get("description") if isinstance(schema, Mapping) else None
    return f" ({' '.join(str(note).split())})" if note else ""


# ------------------------------------------------------------------------------------------------ LangChain tools


def _of_langchain(source: BaseTool) -> Tool:
    injected = injected_arguments(source)
    schema: Mapping[str, Any] = convert_to_openai_tool(source)["function"].get("parameters") or {}
    required = set(schema.get("required") or ())
    names = [name for name in schema.get("properties") or {} if name not in injected]
    parameters = tuple(name if name in required else f"{name}=" for name in names)
    return Tool(source.name, described(source.description, schema), parameters, source, injected)


def _as_tool(function: Callable[..., Any]) -> BaseTool:
    """A LangChain tool from a plain function with injected arguments."""
    if not inspect.getdoc(function):
        raise InputError(f"tool {function.__name__!r} has no docstring: add one that says what it does")
    made: BaseTool = as_tool(function)
    return made


def _running(source: BaseTool, given: dict[str, Any], injected: Mapping[str, Injected], call: ToolCall) -> Wait:
    """Run a LangChain tool.

    Called as by a model, a tool returns a ToolMessage with text. This form is used for tools that need the id of the
    call, and for tools that return content for a message, such as MCP tools: only the message shows their failures.
    """
    as_message = source.response_format == "content_and_artifact" or any(
        one.kind == "call_id" for one in injected.values()
    )
    whole: Any = {"name": source.name, "args": given, "id": call.id, "type": "tool_call"} if as_message else given

    def run() -> Any:
        if _is_async_only(source):
            return run_coroutine(lambda: source.ainvoke(whole, call.config))
        return source.invoke(whole, call.config)

    return Wait(run, lambda: source.ainvoke(whole, call.config))


def _is_async_only(source: BaseTool) -> bool:
    """Whether a tool needs an event loop, such as MCP tools."""
    if isinstance(source, StructuredTool | SingleInputTool):
        return source.func is None and source.coroutine is not None
    return False


# ------------------------------------------------------------------------------------------------ plain functions


def _calling(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], config: RunnableConfig
) -> Wait:
    """Call a plain function so that `get_config`, `get_store` and similar functions return the caller's objects."""

    def call() -> Any:
        with set_config_context(config) as context:
            return context.run(lambda: function(*args, **kwargs))

    async def acall() -> Any:
        with set_config_context(config) as context:
            return await asyncio.get_running_loop().create_task(function(*args, **kwargs), context=context)

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        return Wait(lambda: run_coroutine(acall), acall)
    return Wait(call, lambda: asyncio.to_thread(call))


def _documented(function: Callable[..., Any]) -> str:
    """Description and arguments of a plain function, from its docstring and annotations."""
    properties: dict[str, Any] = {}
    try:
        hints = get_type_hints(function) if inspect.isroutine(function) else {}
        for name in inspect.signature(function).parameters:
            if name in hints:
                properties[name] = TypeAdapter(hints[name]).json_schema()
    except (NameError, TypeError, ValueError, PydanticSchemaGenerationError, PydanticUserError):
        properties = {}
    return described(inspect.getdoc(function) or "", {"properties": properties})


def _parameters(function: Callable[..., Any]) -> tuple[str, ...] | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.KEYWORD_ONLY) for one in parameters):
        return None
    return tuple(one.name if one.default is one.empty else f"{one.name}=" for one in parameters)
