"""The REPL inside the worker: runs cells, one after the other, in one namespace.

Everything that a cell does happens inside `Repl.run`, including the conversion of its results. So the worker's CPU
timer covers all of it, and `Repl.run` raises no exception that a cell made.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType, CoroutineType
from typing import Any, Final, Self

from rlm_adapters.sandbox.language.builtin_names import make_builtins
from rlm_adapters.sandbox.language.classes import Classes
from rlm_adapters.sandbox.language.facades import Environment
from rlm_adapters.sandbox.language.facades.pdf import is_pdf, load_pypdf
from rlm_adapters.sandbox.language.guards import Guards
from rlm_adapters.sandbox.language.imports import Modules
from rlm_adapters.sandbox.language.names import REFUSED_NAMES, is_reserved
from rlm_adapters.sandbox.language.policy import compile_cell
from rlm_adapters.sandbox.language.tracebacks import CellSources, describe
from rlm_adapters.sandbox.protocol.types import Answer, CellError, HostFunction, VariableInfo
from rlm_adapters.sandbox.protocol.types import Final as FinalValue
from rlm_adapters.sandbox.repl.preload import load_package, preload
from rlm_adapters.sandbox.repl.variables import describe_variables, show_variables
from rlm_adapters.sandbox.runtime.clock import VirtualClock
from rlm_adapters.sandbox.runtime.control import CellTimeout, ControlFlow, FinalSignal
from rlm_adapters.sandbox.runtime.failures import SubCallError, ToolError
from rlm_adapters.sandbox.runtime.files import FileSystem
from rlm_adapters.sandbox.runtime.finish import Finish
from rlm_adapters.sandbox.runtime.hostcalls import CallHost, HostFunctions, InputReferences, WireCall
from rlm_adapters.sandbox.runtime.output import Output
from rlm_adapters.sandbox.runtime.quiet import quiet_interpreter
from rlm_adapters.sandbox.runtime.tasks import Scheduler, run_coroutine

preload()  # a confined worker cannot import, so modules that cells may need are loaded with this module

_TIMEOUT: Final = "the cell has used up its CPU time and was stopped; do less per cell, or find a faster way"


def cell_name(number: int) -> str:
    """The file name of a cell in tracebacks."""
    return f"<cell {number}>"


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """The outcome of a cell."""

    stdout: str
    stdout_chars: int = 0
    """Characters of the output before it was cut."""
    error: CellError | None = None
    final: FinalValue | None = None
    variables: tuple[VariableInfo, ...] = ()


class Repl:
    """A namespace in which cells run, after `begin`.

    Everything that is the same in each session is made here. Workers are forked from a process that has done this, so
    they share its memory and start faster.

    Args:
        allow_modules: real modules that cells can import. With them a cell can reach everything that the process can,
            within the confinement of the operating system.

    Raises:
        ImportError: one of ``allow_modules`` is not installed.
    """

    def __init__(self, *, allow_modules: Sequence[str] = ()) -> None:
        for package in allow_modules:
            load_package(package)
        self.namespace: dict[str, Any] = {}
        self.compile: Callable[[str, str], CodeType] = compile_cell
        self._cells = 0
        self._inputs: dict[str, object] = {}
        self._references = InputReferences()
        self._output = Output(0)
        self._files = FileSystem(0)
        self._sources = CellSources()
        self._finish = Finish(self._variables, None)
        clock = VirtualClock(0)
        self._scheduler = Scheduler(_no_host, clock.monotonic, clock.advance_to)
        self._scheduler.functions = HostFunctions(self._scheduler, self._references)
        classes = Classes()
        self._modules = Modules(lambda: self._environment, classes, allow_modules)
        self._environment = Environment(
            classes=classes,
            guards=Guards(classes, self.namespace, clock, frozenset(allow_modules)),
            output=self._output,
            files=self._files,
            clock=clock,
            random=random.Random(0),  # noqa: S311 - determinism is the point
            scheduler=self._scheduler,
            sources=self._sources,
            import_module=self._modules.load,
        )
        builtins = make_builtins(self._environment, self._modules.import_statement, self.namespace, self._variables)
        self._environment.builtins.update(builtins)
        self._builtins = self._environment.builtins
        for error in (SubCallError, ToolError):
            classes.allow(error)

    def begin(
        self,
        *,
        call_host: CallHost,
        functions: Sequence[HostFunction],
        output_chars: int,
        file_bytes: int,
        output_fields: Sequence[str] | None = None,
        seed: int = 0,
        epoch: float = 0.0,
    ) -> Self:
        """Begin the session of this namespace, once.

        Args:
            call_host: sends calls to the host. It is called only from the thread that calls `run`.
            functions: the host functions that cells can call.
            output_chars: characters of a cell's output that are kept, head and tail.
            file_bytes: bytes that cells can write to files.
            output_fields: names of the fields of the answer, for SUBMIT.
            seed: seed of all random numbers.
            epoch: start time of the session's clock, in seconds since 1970.

        Returns:
            This namespace.
        """
        self._context = contextvars.Context()
        self._epoch = epoch
        self._environment.clock.start(epoch)
        self._environment.random.seed(seed)
        self._output.limit(output_chars)
        self._files.limit(file_bytes)
        self._finish.expect(output_fields)
        self._scheduler.begin_session(call_host)
        machine: dict[str, Any] = {f.name: self._scheduler.functions.bind(f) for f in functions}
        machine.update(self._finish.functions(), SHOW_VARS=self._make_show_vars())
        machine.update(SubCallError=SubCallError, ToolError=ToolError)
        self._machine = frozenset(machine) | {"print", "open"}
        self._builtins.update(machine, _display_=self._display)
        self.namespace["__builtins__"] = self._builtins
        self.namespace["__name__"] = "__main__"
        return self

    @property
    def environment(self) -> Environment:
        """The parts of the session."""
        return self._environment

    @property
    def cells(self) -> int:
        """Number of cells that were run."""
        return self._cells

    def set_variable(self, name: str, value: object) -> None:
        """Set the variable of an input.

        Raises:
            ValueError: the name has another meaning in a cell.
        """
        if is_reserved(name) or name in self._machine or name in REFUSED_NAMES or not name.isidentifier():
            raise ValueError(f"an input cannot be called {name!r}: choose another name")
        self.namespace[name] = self._inputs[name] = value
        self._references.add(name, value)

    def add_file(self, path: str, data: bytes) -> None:
        """Add a file that cells can read but not write."""
        self._files.add(path, data)

    def advance_to(self, epoch: float) -> None:
        """Set the clock to a time, in seconds since 1970. It never goes back."""
        self._environment.clock.advance_to(epoch - self._epoch)

    def expect(self, values: Sequence[object]) -> None:
        """Load modules that later inputs need, while the process can still import."""
        if any(map(is_pdf, values)):
            with contextlib.suppress(ImportError):
                load_pypdf()

    def files_written(self) -> dict[str, bytes]:
        """The files that cells have written, by path."""
        return self._files.written()

    def run(self, code: str) -> CellOutcome:
        """Run a cell to its end. Exceptions of the cell are not raised."""
        self._cells += 1
        filename = cell_name(self._cells)
        self._output.clear()
        self._finish.final = None
        error: CellError | None = None
        try:
            with quiet_interpreter(self._output):
                error = self._attempt(code, filename)
        except CellTimeout:
            error = CellError("cpu", "TimeoutError", _TIMEOUT)
        except MemoryError:
            error = CellError("memory", "MemoryError", "the cell needs more memory than it is allowed")
        except RecursionError as recursion:
            error = CellError("exception", "RecursionError", str(recursion))
        return self._outcome(error)

    def _attempt(self, code: str, filename: str) -> CellError | None:
        try:
            try:
                self._sources.add(filename, code)
                compiled = self.compile(code, filename)
                self._scheduler.begin()
                self._context.run(self._execute, compiled)
                self._finish.take_answer_dict(self.namespace.get("answer"))  # a generator in it may call sub-LMs
            finally:
                self._scheduler.end()
        except FinalSignal:
            return None
        except CellTimeout as timeout:
            return self._timeout_error(timeout, filename)
        except SystemExit as leaving:
            if leaving.code in (None, 0):
                return None
            return describe(leaving, self._sources, filename)
        except ControlFlow as control:
            return CellError("exception", type(control).__name__, "the cell was stopped")
        except BaseException as error:  # noqa: BLE001 - code of the cell can raise anything
            return describe(error, self._sources, filename)
        return None

    def _execute(self, compiled: CodeType) -> None:
        result = eval(compiled, self.namespace)  # noqa: S307 - compiled under the policy
        if isinstance(result, CoroutineType):
            run_coroutine(result)
        self._scheduler.drain()

    def _timeout_error(self, timeout: CellTimeout, filename: str) -> CellError:
        where = describe(timeout, self._sources, filename)
        text = where.traceback.rsplit("\n", 2)[0] if "\n" in where.traceback.rstrip() else ""
        return CellError("cpu", "TimeoutError", _TIMEOUT, where.line, f"{text}\nTimeoutError: {_TIMEOUT}\n".lstrip())

    def _outcome(self, error: CellError | None) -> CellOutcome:
        for name in self._machine:
            # If the cell has defined it, it would hide the function of this name in the next cell.
            self.namespace.pop(name, None)
        self.namespace["__name__"] = "__main__"
        self._builtins["id"].forget()
        variables = describe_variables(self._own_variables())
        return CellOutcome(self._output.getvalue(), self._output.chars, error, self._finish.final, variables)

    def _variables(self) -> dict[str, Any]:
        """The variables of cells, and the inputs."""
        return {
            name: value
            for name, value in self.namespace.items()
            if not (name.startswith("__") and name.endswith("__")) and name not in self._machine
        }

    def _own_variables(self) -> dict[str, Any]:
        """The variables of cells. Inputs only if a cell has changed their variable."""
        inputs = self._inputs
        missing = object()
        return {
            name: value
            for name, value in self._variables().items()
            if name != "_" and inputs.get(name, missing) is not value
        }

    def _display(self, value: object) -> None:
        """Show the value of the last expression of a cell."""
        if value is not None:
            self.namespace["_"] = value
            self._output.write(f"{value!r}\n")

    def _make_show_vars(self) -> Callable[[], str]:
        def SHOW_VARS() -> str:  # noqa: N802 - the name that cells use
            """The variables that exist, with their types and sizes."""
            return show_variables(self._variables())

        return SHOW_VARS


def _no_host(_: Sequence[WireCall]) -> list[Answer]:
    raise AssertionError("the session has not begun")


__all__ = ["CallHost", "CellOutcome", "Repl", "WireCall"]
