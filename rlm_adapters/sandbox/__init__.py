"""Untrusted Python in a confined, killable process.

    with Sandbox() as sandbox, sandbox.open(variables={"context": text}, functions={"llm_query": ask}) as session:
        done = session.run("print(len(context)); FINAL(llm_query(context[:100]))")
        done.stdout, done.error, done.final

Names are loaded at the first use, because workers import this package, too, and need no code of the host.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_adapters.sandbox.host.executor import Executor, ExecutorSession
    from rlm_adapters.sandbox.host.inputs import FileVariable
    from rlm_adapters.sandbox.host.runahead import AheadAccount
    from rlm_adapters.sandbox.host.sandbox import IsolationReport, Sandbox
    from rlm_adapters.sandbox.host.session import Session
    from rlm_adapters.sandbox.monty import MontySandbox
    from rlm_adapters.sandbox.protocol.journal import journal_from_json, journal_to_json
    from rlm_adapters.sandbox.protocol.types import (
        Answer,
        CellError,
        CellRecord,
        Done,
        Failure,
        Final,
        HostCall,
        HostFunction,
        Isolation,
        LaterInputs,
        Pending,
        SandboxLimits,
        Value,
        VariableInfo,
    )

_TYPES = (
    "Answer",
    "CellError",
    "CellRecord",
    "Done",
    "Failure",
    "Final",
    "HostCall",
    "HostFunction",
    "Isolation",
    "LaterInputs",
    "Pending",
    "SandboxLimits",
    "Value",
    "VariableInfo",
)
_HOMES = {
    "AheadAccount": "host.runahead",
    "Executor": "host.executor",
    "ExecutorSession": "host.executor",
    "FileVariable": "host.inputs",
    "IsolationReport": "host.sandbox",
    "MontySandbox": "monty",
    "Sandbox": "host.sandbox",
    "Session": "host.session",
    "journal_from_json": "protocol.journal",
    "journal_to_json": "protocol.journal",
    **dict.fromkeys(_TYPES, "protocol.types"),
}

__all__ = [
    "AheadAccount",
    "Answer",
    "CellError",
    "CellRecord",
    "Done",
    "Executor",
    "ExecutorSession",
    "Failure",
    "FileVariable",
    "Final",
    "HostCall",
    "HostFunction",
    "Isolation",
    "IsolationReport",
    "LaterInputs",
    "MontySandbox",
    "Pending",
    "Sandbox",
    "SandboxLimits",
    "Session",
    "Value",
    "VariableInfo",
    "journal_from_json",
    "journal_to_json",
]


if not TYPE_CHECKING:  # otherwise a type checker would not report unknown names

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
