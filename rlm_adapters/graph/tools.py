"""The user's tools as functions of the REPL."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool

from rlm_adapters.effects import Steps, Wait, run_coroutine
from rlm_adapters.errors import InputError
from rlm_adapters.prompts import FunctionInfo
from rlm_adapters.sandbox import HostFunction
from rlm_adapters.values.answers import to_plain

RESERVED = frozenset({
    "FINAL", "FINAL_VAR", "SHOW_VARS", "SUBMIT", "SubCallError", "answer", "llm_query", "llm_query_batched", "open",
    "print", "rlm_query", "rlm_query_batched",
})  # fmt: skip
"""Names that the REPL gives itself."""


def check_name(name: str, what: str) -> None:
    """Refuse a name that a cell could not use, or that the REPL gives itself.

    Raises:
        InputError: the name clashes or is no identifier.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise InputError(f"{what} name {name!r} is not usable as a Python name in the REPL: rename it")
    if name in RESERVED:
        raise InputError(f"{what} name {name!r} is a name that the REPL gives itself: rename the {what}")


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that cells may call.

    Attributes:
        name: in the REPL.
        doc: one line.
        parameters: names in order, ``=`` behind optional ones; None takes any.
        source: the LangChain tool or callable behind it.
    """

    name: str
    doc: str
    parameters: tuple[str, ...] | None
    source: BaseTool | Callable[..., Any]

    @classmethod
    def of(cls, source: Any) -> Tool:
        """Wrap a LangChain tool or a plain callable, sync or async.

        Raises:
            InputError: it is neither, or has no usable name.
        """
        if isinstance(source, Tool):
            return source
        if isinstance(source, BaseTool):
            schema = source.get_input_jsonschema() if source.args_schema is not None else {}
            required = set(schema.get("required", ()))
            names = tuple(name if name in required else f"{name}=" for name in source.args)
            tool = cls(source.name, _first_line(source.description), names, source)
        elif callable(source):
            name = getattr(source, "__name__", type(source).__name__)
            if name == "<lambda>":
                raise InputError("a lambda has no name for the cells to call it by: write it as def, or use @tool")
            tool = cls(name, _first_line(inspect.getdoc(source) or ""), _parameters(source), source)
        else:
            raise InputError(f"tool {source!r}: give a LangChain tool or a function")
        check_name(tool.name, "tool")
        return tool

    def info(self) -> FunctionInfo:
        """How the prompt names it."""
        names = (
            "..."
            if self.parameters is None
            else ", ".join(one + ".." if one[-1] == "=" else one for one in self.parameters)
        )
        return FunctionInfo(f"{self.name}({names})", self.doc or "a tool of this session.")

    def host_function(self) -> HostFunction:
        """How the sandbox offers it."""
        return HostFunction(name=self.name, effects=True, parameters=self.parameters, doc=self.doc)

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any], config: RunnableConfig) -> Steps[Any]:
        """Run the tool.

        Returns:
            Its result as plain JSON types. What it raises is the caller's to turn into a failure.

        Raises:
            InputError: the arguments are not those that it was offered with: a tool may have others, which its author
                fills in (LangChain's ``InjectedToolArg``), and a cell must not.
        """
        source = self.source
        names = [name.rstrip("=") for name in self.parameters or ()]
        if self.parameters is not None and (len(args) > len(names) or not kwargs.keys() <= set(names[len(args) :])):
            raise InputError(f"{self.name}() takes {', '.join(names) or 'no arguments'}: give each of them once")
        if isinstance(source, BaseTool):
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            result = yield Wait(lambda: source.invoke(given, config), lambda: source.ainvoke(given, config))
        elif inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(getattr(source, "__call__", None)):  # noqa: B004
            function: Callable[..., Any] = source
            result = yield Wait(
                lambda: run_coroutine(lambda: function(*args, **kwargs)), lambda: function(*args, **kwargs)
            )
        else:
            plain: Callable[..., Any] = source
            result = yield Wait(lambda: plain(*args, **kwargs), lambda: _in_thread(plain, args, kwargs))
        return to_plain(result)


def listed_tools(tools: Any) -> list[Any]:
    """The tools that a user gives: a list of them, a single one, or None.

    Raises:
        InputError: it is none of these.
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
        InputError: two have the same name, or one is unusable.
    """
    table: dict[str, Tool] = {}
    for source in listed_tools(tools):
        tool = Tool.of(source)
        if tool.name in table:
            raise InputError(f"two tools are called {tool.name!r}: rename one")
        table[tool.name] = tool
    return table


async def _in_thread(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    import asyncio  # noqa: PLC0415 - only in the async form

    return await asyncio.to_thread(function, *args, **kwargs)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _parameters(function: Callable[..., Any]) -> tuple[str, ...] | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.KEYWORD_ONLY) for one in parameters):
        return None
    return tuple(one.name if one.default is one.empty else f"{one.name}=" for one in parameters)
