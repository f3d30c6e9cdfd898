"""Run one cell in a monty worker, from one call of the host to the next."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final

import pydantic_monty as monty

from rlm_adapters.sandbox.monty.sources import Sources
from rlm_adapters.sandbox.monty.worker import Worker
from rlm_adapters.sandbox.protocol.journal import CallIds
from rlm_adapters.sandbox.protocol.types import Answer, CellError, Failure, HostCall, HostFunction
from rlm_adapters.sandbox.protocol.types import Final as FinalValue
from rlm_adapters.sandbox.runtime.control import FinalSignal
from rlm_adapters.sandbox.runtime.finish import Finish
from rlm_adapters.sandbox.runtime.hostcalls import HostFunctions, InputReferences, WireCall
from rlm_adapters.sandbox.runtime.output import Output
from rlm_adapters.sandbox.runtime.wire import to_json

Calls = tuple[HostCall, ...]
_EXIT: Final = "the cell has handed in its answer"


class _NoScheduler:
    """Used to plan calls. The session makes them."""

    def call_host(self, calls: Sequence[WireCall]) -> list[Answer]:
        raise NotImplementedError


class CellRun:
    """One run of one cell.

    Args:
        worker: its worker.
        code: the cell.
        index: its index in the journal.
        functions: functions that it can call.
        finish: the functions that submit an answer.
        names: names that are already defined.
        output: gets its output.

    Attributes:
        error: why it ended early.
        lost: whether the worker cannot be used any more.
    """

    def __init__(
        self,
        worker: Worker,
        code: str,
        index: int,
        *,
        functions: Mapping[str, HostFunction],
        finish: Finish,
        names: Sequence[str],
        sources: Sources,
        output: Output,
    ) -> None:
        self.error: CellError | None = None
        self.lost = False
        self._worker = worker
        self._code = code
        self._functions = functions
        self._planner = HostFunctions(_NoScheduler(), InputReferences())
        self._finish = finish
        self._finishing = finish.functions()
        self._names = frozenset(names)
        self._wanted: str | None = None
        self._sources = sources
        self._output = output
        self._ids = CallIds(index)
        self._promised: dict[int, HostCall] = {}

    def drive(self) -> Generator[Calls, Sequence[Answer], None]:
        """Run the cell. Yields the calls that it waits for, and gets their answers, until it ends."""
        self._finish.final = None
        self._sources.begin(self._code)
        try:
            step = self._worker.feed(self._code, self._print)
            while not isinstance(step, monty.MontyComplete):
                step = yield from self._answer(step)
            if step.output is not None:
                self._output.write(f"{step.output!r}\n")
        except monty.MontyError as error:
            self._failed(error)
        if not self.lost:
            self._hand_in()

    def _print(self, text: str) -> None:
        self._output.write(text)

    def _answer(self, step: Any) -> Generator[Calls, Sequence[Answer], Any]:
        if isinstance(step, monty.NameLookupSnapshot):
            known = step.variable_name in self._functions
            return step.resume(value=_stub(step.variable_name)) if known else step.resume()
        if isinstance(step, monty.FutureSnapshot):
            calls = tuple(self._promised.pop(number) for number in step.pending_call_ids)
            answers = yield calls
            return step.resume(dict(zip(step.pending_call_ids, map(_settle, answers), strict=True)))
        if step.is_os_function:
            return step.resume_auto()
        return (yield from self._call(step, str(step.function_name)))

    def _call(self, step: Any, name: str) -> Generator[Calls, Sequence[Answer], Any]:
        function = self._functions.get(name)
        try:
            if name == "SHOW_VARS":
                return step.resume({"return_value": ", ".join(sorted(self._names)) or "no variables yet"})
            if name == "FINAL_VAR":
                self._want(*step.args)
            if name in self._finishing:
                self._finishing[name](*step.args, **step.kwargs)
            if function is None:
                return step.resume(_raising("NameError", f"name {name!r} is not defined"))
            wire = self._planner.plan(function, step.args, step.kwargs)
        except FinalSignal:
            return step.resume(_raising("SystemExit", _EXIT))
        except (TypeError, ValueError, NameError) as error:
            return step.resume(_raising(type(error).__name__, str(error)))
        calls = tuple(self._ids.call(call.function, call.args, call.kwargs) for call in wire)
        if function.batch_of is not None:
            answers = yield calls
            return step.resume({"return_value": [None if isinstance(a, Failure) else a.value for a in answers]})
        if self._sources.is_awaited(step):
            self._promised[step.call_id] = calls[0]
            return step.resume({"future": ...})
        (answer,) = yield calls
        return step.resume(_settle(answer))

    def _want(self, variable: Any = None, *_: Any) -> None:
        """Note the variable that FINAL_VAR names. Its value can be read only after the cell has ended."""
        name = variable.strip() if isinstance(variable, str) else ""
        if name.isidentifier() and self._finish.final is None and self._wanted is None:
            self._wanted = name
            raise FinalSignal

    def _hand_in(self) -> None:
        """Read the values at the end of the cell: the variable of FINAL_VAR, and the ``answer`` dict."""
        try:
            self._hand_in_by_name()
        except (TypeError, ValueError) as error:  # it is not data
            text = str(error)
            self.error = CellError("exception", type(error).__name__, text, traceback=f"{type(error).__name__}: {text}")

    def _hand_in_by_name(self) -> None:
        wanted, finish = self._wanted, self._finish
        try:
            if wanted is not None and finish.final is None:
                finish.final = FinalValue("FINAL_VAR", to_json(self._worker.value(wanted)))
        except monty.MontyCrashedError as error:
            self._failed(error)
        except monty.MontyError:
            text = f"FINAL_VAR: there is no variable {wanted!r}"
            self.error = CellError("exception", "NameError", text, traceback=f"NameError: {text}")
        if finish.final is None and "answer" in self._code and not self.lost:
            with contextlib.suppress(monty.MontyError):  # the name does not exist
                finish.take_answer_dict(self._worker.value("answer"))

    def _failed(self, error: monty.MontyError) -> None:
        if isinstance(error, monty.MontyCrashedError):
            self.lost = True
            kind, name = ("wall", "TimeoutError") if error.timed_out else ("crash", "WorkerError")
            self.error = CellError(kind, name, str(error), traceback=f"{name}: {error}")
            return
        raised = error.exception()
        name, text = type(raised).__name__, str(raised)
        if name == "SystemExit" and (self._finish.final is not None or self._wanted is not None):
            return
        kind = "exception"
        if isinstance(error, monty.MontySyntaxError):
            kind = "syntax"
        elif name == "NotImplementedError" and "monty" in text:
            kind = "policy"
        elif name == "TimeoutError" and "time limit exceeded" in text:
            kind = "cpu"
        elif name == "MemoryError":
            kind = "memory"
        self.lost = kind in ("cpu", "memory")
        frames, display = [], str(error)
        if isinstance(error, (monty.MontyRuntimeError, monty.MontySyntaxError)):
            frames, display = error.traceback(), error.display()
        self.error = CellError(kind, name, text, frames[-1].line if frames else None, display)


def _settle(answer: Answer) -> Any:
    if isinstance(answer, Failure):
        return _raising("RuntimeError", f"SubCallError: {answer.message}")
    return {"return_value": answer.value}


def _raising(kind: str, message: str) -> Any:
    return {"exc_type": kind, "message": message}


def _stub(name: str) -> Any:
    """Replaces a host function if a cell uses its name without a call."""

    def stub(*_: Any, **__: Any) -> None:
        raise NotImplementedError

    stub.__name__ = stub.__qualname__ = name
    return stub
