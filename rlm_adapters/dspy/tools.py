"""Use dspy.Tool objects as functions of the REPL."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dspy.adapters.types.tool import Tool as DspyTool

from rlm_adapters.dspy.streaming import where_it_can_stream
from rlm_adapters.graph.tools import Tool


def repl_tools(tools: Mapping[str, DspyTool]) -> dict[str, Tool]:
    """The tools by name. A call goes through ``dspy.Tool``, which parses arguments and runs callbacks."""
    return {name: _tool(name, tool) for name, tool in tools.items()}


def _tool(name: str, tool: DspyTool) -> Tool:
    signature = inspect.signature(tool.func)
    doc = next((line.strip() for line in (tool.desc or "").splitlines() if line.strip()), "")
    return Tool(name, doc, _parameters(signature), _caller(tool, signature))


def _caller(tool: DspyTool, signature: inspect.Signature) -> Callable[..., Any]:
    function = tool.func
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004

        async def acall(*args: Any, **kwargs: Any) -> Any:
            return await tool.acall(**_named(signature, args, kwargs))

        return acall

    def call(*args: Any, **kwargs: Any) -> Any:
        given = _named(signature, args, kwargs)
        return where_it_can_stream(lambda: tool(**given))

    return call


def _named(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """All arguments by name, as dspy.Tool needs them."""
    bound = signature.bind(*args, **kwargs).arguments
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            bound.update(bound.pop(parameter.name, {}))
    return dict(bound)


def _parameters(signature: inspect.Signature) -> tuple[str, ...] | None:
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}:
        return None
    return tuple(
        name if parameter.default is parameter.empty else f"{name}=" for name, parameter in signature.parameters.items()
    )
