"""Inject what LangGraph injects into tools (state, store, runtime, call id) into tools that run inside the loop.

A cell gives only the arguments that the model knows. If it gives a value for an injected argument, it is dropped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolArg, InjectedToolCallId
from langgraph.prebuilt import InjectedState, InjectedStore, ToolRuntime
from langgraph.runtime import Runtime
from pydantic import BaseModel

from rlm_adapters.errors import InputError
from rlm_adapters.graph.langgraph_private import own_keys, with_runtime
from rlm_adapters.models.langchain_private import body_of_tool

Kind: TypeAlias = Literal["state", "store", "runtime", "call_id", "other"]


@dataclass(frozen=True, slots=True)
class Injected:
    """An argument of a tool that the model does not see.

    Attributes:
        kind: what is injected; ``other``: something that only the caller could give.
        field: field of the state; None: the whole state.
        optional: whether the tool has a default for it.
    """

    kind: Kind
    field: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a run. Tools can see it, cells cannot.

    Attributes:
        state: the input of the run. In a node of a larger graph: the state of that graph.
        context: LangGraph's ``context=`` of the caller.
        config: config of the call, if the run has a separate one (`ChatRLM`).
        runtime: runtime of the calling node, if the run has a separate one.
    """

    state: Any = None
    context: Any = None
    config: RunnableConfig | None = None
    runtime: Runtime[Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The information about a call that a tool can see.

    Attributes:
        id: id of the call, the same in a replay.
        config: config for the tool, with the caller's tags, metadata and ``configurable``.
        runtime: runtime with the caller's context, store and stream writer.
        state: state of the caller.
    """

    id: str
    config: RunnableConfig
    runtime: Runtime[Any]
    state: Any

    @classmethod
    def made_by(
        cls, caller: Caller, call_id: str, *, config: RunnableConfig, runtime: Runtime[Any], state: Any
    ) -> ToolCall:
        """The call of a tool in a node.

        Args:
            caller: of the run.
            call_id: of the cell's call.
            config: of the node.
            runtime: of the node.
            state: of the caller.
        """
        around = caller.runtime or runtime
        seen = runtime.override(
            context=caller.context,
            store=around.store or runtime.store,
            stream_writer=around.stream_writer,
            server_info=around.server_info,
        )
        told = with_runtime(config, seen)
        if caller.config is not None:
            told = {
                **told,
                "tags": [*(caller.config.get("tags") or ()), *(told.get("tags") or ())],
                "metadata": {**(caller.config.get("metadata") or {}), **(told.get("metadata") or {})},
                "configurable": {**own_keys(caller.config), **told["configurable"]},
            }
        return cls(call_id, told, seen, state)


def injected_arguments(tool: BaseTool) -> dict[str, Injected]:
    """The arguments of a tool that are injected, by name."""
    schema: Any = tool.get_input_schema()
    fields = schema.model_fields if isinstance(schema, type) and issubclass(schema, BaseModel) else {}
    hints = dict(_hints(body_of_tool(tool)))
    found: dict[str, Injected] = {}
    for name in {**hints, **fields}:
        field = fields.get(name)
        parts = [*_parts(hints.get(name)), *([] if field is None else [*_parts(field.annotation), *field.metadata])]
        one = _injected(name, parts, optional=field is not None and not field.is_required())
        if one is not None:
            found[name] = one
    return found


def inject(injected: Mapping[str, Injected], given: Mapping[str, Any], call: ToolCall) -> dict[str, Any]:
    """The arguments for a tool.

    Raises:
        InputError: a value to inject does not exist.
    """
    arguments = {name: value for name, value in given.items() if name not in injected}
    for name, one in injected.items():
        if one.kind == "runtime":
            arguments[name] = _tool_runtime(call)
        elif one.kind == "store":
            if call.runtime.store is None:
                raise InputError(
                    f"argument {name!r} of a tool is LangGraph's store, and there is none: put the RLM into a graph "
                    "that was compiled with one, or set it on its own (graph.store = InMemoryStore())"
                )
            arguments[name] = call.runtime.store
        elif one.kind == "state":
            found, value = _from_state(call.state, one.field)
            if found:
                arguments[name] = value
            elif not one.optional:
                raise InputError(f"argument {name!r} of a tool is {one.field!r} of the state, which has no such key")
    return arguments


def has_injected(function: Callable[..., Any]) -> bool:
    """Whether a plain function has injected arguments. Then it is called like a tool."""
    return any(
        _injected(name, list(_parts(hint)), optional=False) is not None or hint is RunnableConfig
        for name, hint in _hints(function)
    )


# ------------------------------------------------------------------------------------------------ parts


def _injected(name: str, parts: list[Any], *, optional: bool) -> Injected | None:
    for part in parts:
        if isinstance(part, InjectedState):
            return Injected("state", part.field or None, optional)
        if _is(part, ToolRuntime):
            return Injected("runtime")
        if _is(part, InjectedState):
            return Injected("state", None, optional)
        if _is(part, InjectedStore):
            return Injected("store")
        if _is(part, InjectedToolCallId):
            return Injected("call_id")
    if name == "runtime":  # LangGraph injects it by its name
        return Injected("runtime")
    return Injected("other") if any(_is(part, InjectedToolArg) for part in parts) else None


def _is(part: Any, kind: type) -> bool:
    origin = get_origin(part) or part
    return isinstance(part, kind) or (isinstance(origin, type) and issubclass(origin, kind))


def _parts(hint: Any) -> Iterator[Any]:
    """An annotation, and its parts."""
    if hint is None:
        return
    yield hint
    for part in get_args(hint):
        yield from _parts(part) if get_args(part) else (part,)


def _hints(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    try:
        hints = get_type_hints(function, include_extras=True)
        names = inspect.signature(function).parameters
    except (NameError, TypeError, ValueError):
        return []
    return [(name, hints.get(name)) for name in names]


def _tool_runtime(call: ToolCall) -> ToolRuntime[Any, Any]:
    runtime = call.runtime
    return ToolRuntime(
        state=call.state,
        context=runtime.context,
        config=call.config,
        stream_writer=runtime.stream_writer,
        tool_call_id=call.id,
        store=runtime.store,
        execution_info=runtime.execution_info,
        server_info=runtime.server_info,
    )


def _from_state(state: Any, field: str | None) -> tuple[bool, Any]:
    if field is None:
        return True, state
    if isinstance(state, Mapping):
        return field in state, state.get(field)
    return hasattr(state, field), getattr(state, field, None)
