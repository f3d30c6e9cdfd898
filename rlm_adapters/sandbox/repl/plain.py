"""Test mode: run cells as plain Python, without the policy.

Tests use it to show that the layers of the operating system are enough to keep a cell from files, processes and the
network, if the cell has bypassed the language policy. Not for users.
"""

from __future__ import annotations

import ast
import io
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from rlm_adapters.sandbox.protocol.types import CellError, Failure, Final, HostFunction
from rlm_adapters.sandbox.repl.repl import CellOutcome
from rlm_adapters.sandbox.runtime.control import CellTimeout, FinalSignal
from rlm_adapters.sandbox.runtime.hostcalls import CallHost, WireCall


class PlainRepl:
    """A `repl.Repl` without protection."""

    def __init__(self, *, call_host: CallHost, functions: Sequence[HostFunction], **_: object) -> None:
        self._call_host = call_host
        self._files: dict[str, bytes] = {}
        self._final: Final | None = None
        self._namespace: dict[str, Any] = {"FINAL": self._submit, "__name__": "__main__"}
        for function in functions:
            self._namespace[function.name] = self._make(function)

    def expect(self, values: Sequence[object]) -> None:
        """Does nothing."""

    def advance_to(self, epoch: float) -> None:
        """Does nothing."""

    def set_variable(self, name: str, value: object) -> None:
        """Set the variable of an input."""
        self._namespace[name] = value

    def add_file(self, path: str, data: bytes) -> None:
        """Keep a file for `files_written`."""
        self._files[path] = data

    def files_written(self) -> dict[str, bytes]:
        """All files."""
        return self._files

    def run(self, code: str) -> CellOutcome:
        """Execute the cell as a module's code."""
        self._final = None
        output = io.StringIO()
        error = None
        with redirect_stdout(output):
            try:
                exec(compile(ast.parse(code), "<cell>", "exec"), self._namespace)  # noqa: S102 - what it is for
            except FinalSignal:
                pass
            except CellTimeout:
                error = CellError("cpu", "TimeoutError", "the cell used too much CPU time")
            except MemoryError:
                error = CellError("memory", "MemoryError", "the cell needed too much memory")
            except BaseException as raised:  # noqa: BLE001 - everything is the cell's error
                text = traceback.format_exc()
                error = CellError("exception", type(raised).__name__, str(raised), traceback=text)
        stdout = output.getvalue()
        return CellOutcome(stdout=stdout, stdout_chars=len(stdout), error=error, final=self._final, variables=())

    def _submit(self, value: object) -> None:
        self._final = Final("FINAL", value)
        raise FinalSignal

    def _make(self, function: HostFunction) -> Any:
        def one(*args: Any, **kwargs: Any) -> Any:
            return _unwrap(self._call_host([WireCall(function.name, list(args), kwargs)])[0])

        def batch(items: Sequence[Any]) -> Any:
            target = function.batch_of or function.name
            return [_unwrap(answer) for answer in self._call_host([WireCall(target, [item], {}) for item in items])]

        return batch if function.batch_of else one


def _unwrap(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise RuntimeError(answer.message)  # noqa: TRY004 - not about its type
    return answer.value
