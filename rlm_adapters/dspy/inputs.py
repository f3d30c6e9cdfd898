"""Input values of a signature on their way into the sandbox of this package."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.primitives.code_interpreter import CodeExecutionError
from dspy.primitives.repl_types import REPLVariable
from dspy.primitives.sandbox_serializable import SandboxSerializable

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox import CellRecord, Done, Executor
from rlm_adapters.sandbox.host.executor import ExecutorSession
from rlm_adapters.sandbox.protocol.journal import output_hash
from rlm_adapters.values.answers import to_plain

_SCALARS = frozenset({str, int, float, bool, type(None)})


def to_repl(name: str, value: Any) -> Any:
    """A value as the cells see it: JSON types and bytes.

    Pydantic models and dataclasses become dicts. An image becomes the content block that stands for it in a prompt,
    so that a cell can hand it on: ``llm_query(["What is on it?", image])``.

    Raises:
        InputError: the value has no such form.
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
        return value  # millions of rows need no copy
    if isinstance(value, list | tuple | set | frozenset):
        return [to_repl(name, item) for item in value]
    plain = to_plain(value)
    if isinstance(plain, str):
        raise InputError(
            f"input {name!r} of type {type(value).__name__} cannot enter the sandbox: give JSON values, bytes, "
            "pydantic models or dataclasses, or make it a dspy.SandboxSerializable"
        )
    return plain


def described(variable: REPLVariable) -> dict[str, Any]:
    """What the graph notes of an input, so that it need not read the value again."""
    return {
        "name": variable.name,
        "type": variable.type_name,
        "size": variable.total_length,
        "preview": variable.preview,
    }


@dataclass(frozen=True, slots=True)
class Prelude:
    """A first cell that rebuilds `SandboxSerializable` inputs, and the raw variables that it needs."""

    code: str
    variables: Mapping[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, SandboxSerializable]) -> Prelude | None:
        """The prelude for these inputs; None when there are none."""
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
    """A sandbox whose sessions begin with a prelude.

    Args:
        sandbox: where the sessions come from.
        prelude: run once, as the first cell of the journal.
    """

    def __init__(self, sandbox: Executor, prelude: Prelude) -> None:
        self._sandbox = sandbox
        self._prelude = prelude

    def open(
        self, *, variables: Mapping[str, object] = {}, journal: Sequence[CellRecord] = (), **options: Any
    ) -> ExecutorSession:
        """A session in which the prelude was run.

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
        """Of the sandbox."""
        return self._sandbox.ahead_account(*width)

    def thread_pool(self) -> ThreadPoolExecutor:
        """Of the sandbox."""
        return self._sandbox.thread_pool()
