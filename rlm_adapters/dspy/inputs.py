"""Convert input values of a signature for the sandbox of this package."""

from __future__ import annotations

import base64
import logging
import os
import re
from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Final

import dspy
from dspy.primitives.code_interpreter import CodeExecutionError
from dspy.primitives.repl_types import REPLVariable
from dspy.primitives.sandbox_serializable import SandboxSerializable
from pydantic import BaseModel

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox import CellRecord, Done, Executor
from rlm_adapters.sandbox.host.executor import ExecutorSession
from rlm_adapters.sandbox.protocol.journal import output_hash
from rlm_adapters.values.answers import to_plain
from rlm_adapters.values.frames import plain_scalar, plain_table
from rlm_adapters.values.inputs import is_document, load_paths
from rlm_adapters.values.plain import path_hint, plain_input
from rlm_adapters.values.urls import URL

_LOG = logging.getLogger("rlm_adapters")
_TABLE_PACKAGES: Final = re.compile(r"^\s*(?:import|from)\s+(?:pandas|polars|pyarrow|numpy)\b", re.MULTILINE)
_SCALARS = frozenset({str, int, float, bool, type(None)})


def plain_inputs(given: Mapping[str, Any], *, ours: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The inputs with tables, messages, Documents and files converted to plain values.

    Args:
        given: inputs by name.
        ours: whether the cells run in the sandbox of this package. It has no pandas, so a `SandboxSerializable` that
            contains a table, and would rebuild it with pandas, becomes the table's records.

    Returns:
        The inputs, and notes for the root LM about their original form, by name.

    Raises:
        InputError: a file cannot be read.
    """
    plain: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, SandboxSerializable):
            held = _held_table(value) if ours and _TABLE_PACKAGES.search(value.sandbox_setup()) else None
            plain[name], notes[name] = held or (value, "")
        elif isinstance(value, os.PathLike | URL):
            plain[name], notes[name] = plain_input(load_paths([value], allow_empty=True).context, name)
        elif isinstance(value, dspy.Type | BaseModel) and not is_document(value):
            plain[name] = value  # DSPy describes its types and models better
        else:
            if hint := path_hint(name, value):
                _LOG.warning("%s", hint)
            plain[name], notes[name] = plain_input(value, name)
    return plain, notes


def _held_table(value: SandboxSerializable) -> tuple[Any, str] | None:
    """The only table among an object's attributes."""
    tables = [table for table in map(plain_table, vars(value).values()) if table is not None]
    return tables[0] if len(tables) == 1 else None


def with_note(variable: REPLVariable, note: str) -> REPLVariable:
    """A variable whose description ends with a note."""
    if not note:
        return variable
    return variable.model_copy(update={"desc": f"{variable.desc}\n{note}" if variable.desc else note})


def to_repl(name: str, value: Any) -> Any:
    """A value for the cells: JSON types and bytes.

    Pydantic models and dataclasses become dicts. An image becomes a content block, which a cell can use in a prompt:
    ``llm_query(["What is on it?", image])``.

    Raises:
        InputError: the value cannot be converted.
    """
    if value is None or isinstance(value, str | bool | int | float | bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, dspy.Type):
        formatted = value.format()
        return formatted[0] if isinstance(formatted, list) and len(formatted) == 1 else formatted
    if isinstance(value, Mapping):
        return {str(key): to_repl(name, item) for key, item in value.items()}
    if type(value) is list and _SCALARS.issuperset(map(type, value)):
        return value  # do not copy millions of rows
    if isinstance(value, list | tuple | set | frozenset):
        return [to_repl(name, item) for item in value]
    inner = plain_table(value)
    if inner is not None:
        return inner[0]
    scalar = plain_scalar(value)
    plain = to_plain(value) if scalar is value else scalar
    if isinstance(plain, str) and scalar is value:
        raise InputError(
            f"input {name!r} of type {type(value).__name__} cannot enter the sandbox: give JSON values, bytes, "
            "pydantic models or dataclasses, or make it a dspy.SandboxSerializable"
        )
    return plain


def described(variable: REPLVariable) -> dict[str, Any]:
    """The description of an input for the graph, which then does not need to read the value."""
    return {
        "name": variable.name,
        "type": variable.type_name,
        "size": variable.total_length,
        "preview": variable.preview,
    }


@dataclass(frozen=True, slots=True)
class Prelude:
    """The first cell, which rebuilds `SandboxSerializable` inputs, and the raw variables that it needs."""

    code: str
    variables: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, SandboxSerializable]) -> Prelude | None:
        """The prelude for these inputs; None if there are none."""
        lines: list[str] = []
        variables: dict[str, Any] = {}
        for name, value in values.items():
            raw, payload = f"_raw_{name}", value.to_sandbox()
            if isinstance(payload, bytes):
                try:
                    variables[raw] = payload.decode()
                except UnicodeDecodeError:
                    variables[f"{raw}_base64"] = base64.b64encode(payload).decode("ascii")
                    lines += ["import base64", f"{raw} = base64.b64decode({raw}_base64)"]
            else:
                variables[raw] = str(payload)
            lines += [line for line in (value.sandbox_setup(), value.sandbox_assignment(name, raw)) if line]
        return cls("\n".join(lines), variables) if lines else None


class PreparedSandbox:
    """A sandbox whose sessions start with a prelude.

    Args:
        sandbox: opens the sessions.
        prelude: runs once, as the first cell of the journal.
    """

    def __init__(self, sandbox: Executor, prelude: Prelude) -> None:
        self._sandbox = sandbox
        self._prelude = prelude

    def open(
        self, *, variables: Mapping[str, object] = {}, journal: Sequence[CellRecord] = (), **options: Any
    ) -> ExecutorSession:
        """Open a session and run the prelude in it.

        Raises:
            CodeExecutionError: the prelude failed.
        """
        everything = {**variables, **self._prelude.variables}
        if journal:
            first = CellRecord(self._prelude.code, stdout_sha256=output_hash(""))
            return self._sandbox.open(variables=everything, journal=[first, *journal], **options)
        session = self._sandbox.open(variables=everything, **options)
        done = session.start(self._prelude.code)
        error = done.error.message if isinstance(done, Done) and done.error is not None else None
        if error is not None or not isinstance(done, Done):
            session.close()
            why = error or "it called a function of the host"
            raise CodeExecutionError(f"setting up the inputs in the sandbox failed: {why}")
        return session

    def ahead_account(self, *width: int) -> Any:
        """The same method of the sandbox."""
        return self._sandbox.ahead_account(*width)

    def thread_pool(self) -> futures.Executor:
        """The same method of the sandbox."""
        return self._sandbox.thread_pool()
