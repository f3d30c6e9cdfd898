"""The options of one call of the chat model, from bound and given keyword arguments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig, ensure_config
from pydantic import BaseModel

from rlm_adapters.errors import InputError
from rlm_adapters.langchain.schema import AnswerSchema, answer_schema
from rlm_adapters.values.frames import plain_table

CONTEXT_KEYS = ("__rlm_context", "rlm_context")
"""Keys of a Runnable's ``configurable`` for the context. LangSmith copies strings of ``configurable`` into every trace,
except if the name starts with two underscores."""

RUN_MANAGER = "_rlm_run_manager"
"""Passes the run manager from ``stream`` to ``_stream``, because LangChain does not."""

CALLER = "_rlm_caller"
"""Passes the config of ``invoke`` and similar methods to `_generate`, because LangChain passes only its callbacks."""

_LIVE = frozenset({RUN_MANAGER, CALLER})

_OURS = frozenset({
    "context", "inputs", "tools", "repl_tools", "tool_choice", "parallel_tool_calls", "strict", "response_format",
    "answer_as", "timeout", "max_retries", "stream", "stream_usage", RUN_MANAGER, CALLER,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Options of one call.

    Attributes:
        context: explicit context.
        inputs: explicit variables.
        tools: tools of an agent, in OpenAI's form.
        repl_tools: tools that run inside the loop.
        tool_choice: as the caller gave it.
        parallel: the caller's ``parallel_tool_calls``.
        strict: check the arguments of tool calls against their schema.
        schema: schema of the answer.
        stop: stop sequences of the answer.
        timeout: seconds for one call of an inner model.
        max_retries: retries of one call of an inner model.
        model_options: other options for the calls of the inner models.
        caller: config of the caller.
    """

    context: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()
    repl_tools: Sequence[Any] = ()
    tool_choice: Any = None
    parallel: bool | None = None
    strict: bool = False
    schema: AnswerSchema | None = None
    stop: Sequence[str] = ()
    timeout: float | None = None
    max_retries: int | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    caller: RunnableConfig = field(default_factory=ensure_config)

    @classmethod
    def read(cls, kwargs: Mapping[str, Any], *, stop: Sequence[str] | None, defaults: Mapping[str, Any]) -> CallOptions:
        """Read keyword arguments. Unknown ones are passed to the inner models.

        Args:
            kwargs: of the call.
            stop: of the call.
            defaults: ``stop``, ``timeout``, ``max_retries`` and options of the inner models from the fields of the
                chat model; None leaves one out.

        Raises:
            InputError: one of them cannot be used.
        """
        own = {key: value for key, value in defaults.items() if value is not None}
        own |= {key: value for key, value in kwargs.items() if value is not None}
        response_format = own.get("response_format")
        stops = stop if stop is not None else own.pop("stop", None)
        own.pop("stop", None)
        tools = own.get("tools") or ()
        if any(not isinstance(tool, Mapping) or "function" not in tool for tool in tools):
            raise InputError("tools=... takes tools in OpenAI's form: use bind_tools(), which converts any tool")
        return cls(
            context=own.get("context"),
            inputs=own.get("inputs") or {},
            tools=tools,
            repl_tools=own.get("repl_tools") or (),
            tool_choice=own.get("tool_choice"),
            parallel=own.get("parallel_tool_calls"),
            strict=bool(own.get("strict")),
            schema=None
            if response_format is None
            else answer_schema(response_format, as_tool=own.get("answer_as") == "tool"),
            stop=[stops] if isinstance(stops, str) else list(stops or ()),
            timeout=own.get("timeout"),
            max_retries=own.get("max_retries"),
            model_options={key: value for key, value in own.items() if key not in _OURS},
            caller=own.get(CALLER) or ensure_config(),
        )


def with_config(config: RunnableConfig | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments, with the config and the context that it gives."""
    known = ensure_config(config)
    configurable = known.get("configurable") or {}
    given = next((configurable[key] for key in CONTEXT_KEYS if configurable.get(key) is not None), None)
    context = {} if given is None or "context" in kwargs else {"context": given}
    return {**kwargs, CALLER: known, **context}


def with_inputs(own: Mapping[str, Any], given: Any) -> Any:
    """The variables of a call: those of the chat model, updated with those of the call."""
    return {**own, **given} if isinstance(given, Mapping) else own if given is None else given


def described(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a trace: the size of big values, without live objects."""
    return {
        key: _size_of(value) if key in ("context", "inputs") else value
        for key, value in kwargs.items()
        if key not in _LIVE
    }


def hashed(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a cache key. Equal arguments give equal texts; large values are hashed."""
    return {
        key: _digest(value) if key in ("context", "inputs", "response_format") else value
        for key, value in kwargs.items()
        if key not in _LIVE
    }


def _size_of(value: Any) -> str:
    size = f", {len(value):,}" if hasattr(value, "__len__") else ""
    return f"<{type(value).__name__}{size}>"


def _digest(value: Any) -> str:
    if isinstance(value, type) and issubclass(value, BaseModel):
        value = value.model_json_schema()
    if isinstance(value, str):
        data = value.encode("utf-8", "replace")
    elif isinstance(value, bytes):
        data = value
    else:
        data = json.dumps(value, sort_keys=True, default=_whole).encode("utf-8", "replace")
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _whole(value: Any) -> Any:
    """The whole value of a type that JSON does not have: the ``repr`` of a large table shows only its ends."""
    table = plain_table(value)
    return repr(value) if table is None else table[0]
