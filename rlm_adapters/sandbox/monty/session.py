"""A session in monty workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

import pydantic_monty as monty

from rlm_adapters.errors import ReplayDivergenceError, SandboxError
from rlm_adapters.sandbox.host.journaled import JournaledSession
from rlm_adapters.sandbox.host.loss import bound_names, with_loss
from rlm_adapters.sandbox.monty.cell import Calls, CellRun
from rlm_adapters.sandbox.monty.sources import Sources
from rlm_adapters.sandbox.monty.worker import Worker
from rlm_adapters.sandbox.protocol.journal import output_hash
from rlm_adapters.sandbox.protocol.types import (
    Answer,
    CellError,
    CellRecord,
    Done,
    HostFunction,
    Pending,
    VariableInfo,
)
from rlm_adapters.sandbox.runtime.finish import Finish
from rlm_adapters.sandbox.runtime.output import Output

_MAX_NAMES: Final = 200


class _Cell:
    """The cell in progress."""

    def __init__(self, index: int, code: str, known: Mapping[str, Answer]) -> None:
        self.index = index
        self.code = code
        self.known = dict(known)
        self.replaced = False
        self.restart()

    def restart(self) -> None:
        """Start again in a new worker."""
        self.used: dict[str, Answer] = {}
        self.run: CellRun | None = None
        self.steps: Generator[Calls, Sequence[Answer], None] | None = None
        self.waiting: Calls = ()


class MontySession(JournaledSession[_Cell]):
    """One namespace in a monty worker. `MontySandbox.open` makes it.

    Attributes:
        epoch: time of the session's clock, in seconds.
        seed: its random seed.
    """

    def __init__(
        self,
        make_worker: Callable[[], Worker],
        thread_pool: Callable[[], Executor],
        variables: Sequence[tuple[int, Mapping[str, Any]]],
        functions: Sequence[HostFunction],
        *,
        output_fields: Sequence[str] | None,
        output_chars: int,
        seed: int,
        epoch: float,
        journal: Sequence[CellRecord],
    ) -> None:
        super().__init__(thread_pool, journal, seed=seed, epoch=epoch)
        self._make_worker = make_worker
        self._inputs = [(after, dict(given)) for after, given in variables]
        self._input_names = {name for _, given in variables for name in given}
        self._functions = {function.name: function for function in functions}
        self._finish = Finish(dict, output_fields)
        self._output_chars = output_chars
        self._names: list[str] = []
        self._sources = Sources()
        self._worker: Worker | None = None
        self._given = 0
        self._kills = 0

    def kill(self) -> None:
        """Kill the worker, from any thread. The journal is kept, so the session can continue with a new worker."""
        self._kills += 1
        worker = self._worker
        if worker is not None:
            worker.kill()
            if self._busy.acquire(blocking=False):  # otherwise the thread that uses it will notice
                try:
                    self._drop()
                finally:
                    self._busy.release()

    def _new_cell(self, code: str, known: dict[str, Answer]) -> _Cell:
        return _Cell(len(self._records), code, known)

    def _go_on_with(self, cell: _Cell, answers: dict[str, Answer]) -> Pending | Done:
        cell.known.update(answers)
        return self._go_on(cell)

    def _let_go(self) -> None:
        if self._closed:
            self._drop()

    def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if self._cell is not None and self._cell.steps is not None:
            self._cell.restart()
            self._cell.replaced = True
        if worker is not None:
            worker.close()

    def _ready_worker(self) -> Worker:
        if self._worker is not None:
            return self._worker
        self._sources = Sources()
        self._names = []
        self._given = 0
        self._worker = self._make_worker()
        try:
            self._take_inputs(0)
            for index, record in enumerate(self._records):
                if not record.failed:
                    self._replay(index, record)
        except BaseException as error:
            self._drop()
            if isinstance(error, monty.MontyError):
                raise SandboxError(f"a worker could not take its inputs: {error}") from None
            raise
        return self._worker

    def _take_inputs(self, cells: int) -> None:
        """Set the inputs that apply after this number of cells."""
        assert self._worker is not None
        while self._given < len(self._inputs) and self._inputs[self._given][0] <= cells:
            _, given = self._inputs[self._given]
            self._worker.feed("None", lambda _: None, given)
            self._names = list(dict.fromkeys([*self._names, *given]))
            self._given += 1

    def _replay(self, index: int, record: CellRecord) -> None:
        cell = _Cell(index, record.code, record.answers)
        output = Output(self._output_chars)
        where = f"cell {index + 1} of the journal"
        if self._advance(cell, output):
            raise ReplayDivergenceError(f"{where} asks {cell.waiting[0].function} something else than before")
        run = cell.run
        if run is None or run.lost:
            raise ReplayDivergenceError(f"{where} does not end as it did before: {run and run.error}")
        if output_hash(output.getvalue()) != record.stdout_sha256:
            raise ReplayDivergenceError(f"{where} prints something else than before")
        self._bind(record.code)

    def _go_on(self, cell: _Cell) -> Pending | Done:
        kills = self._kills
        self._cell = None
        if cell.steps is None:
            self._output = Output(self._output_chars)
        try:
            self._ready_worker()
            waits = self._advance(cell, self._output)
        except BaseException:
            self._drop()
            raise
        if self._kills != kills:
            self._drop()
            raise SandboxError("the session was killed while a cell was running")
        if waits:
            self._cell = cell
            return Pending(tuple(call for call in cell.waiting if call.id not in cell.known))
        return self._finished(cell)

    def _advance(self, cell: _Cell, output: Output) -> bool:
        """Run the cell until it needs an unknown answer. Returns True if it waits for one."""
        if cell.steps is None:
            assert self._worker is not None
            self._take_inputs(cell.index)
            cell.run = CellRun(
                self._worker,
                cell.code,
                cell.index,
                functions=self._functions,
                finish=self._finish,
                names=[*self._names, *bound_names(cell.code)],
                sources=self._sources,
                output=output,
            )
            cell.steps = cell.run.drive()
        try:
            if not cell.waiting:
                cell.waiting = next(cell.steps)
            while all(call.id in cell.known for call in cell.waiting):
                answers = [cell.known[call.id] for call in cell.waiting]
                cell.used.update((call.id, answer) for call, answer in zip(cell.waiting, answers, strict=True))
                cell.waiting = cell.steps.send(answers)
        except StopIteration:
            cell.waiting = ()
            return False
        return True

    def _finished(self, cell: _Cell) -> Done:
        run = cell.run
        assert run is not None
        stdout, error = self._output.getvalue(), run.error
        if run.lost and error is not None:
            error = self._lost(cell, error)
        else:
            self._bind(cell.code)
        self._records.append(
            CellRecord(
                code=cell.code,
                answers=cell.used,
                failed=run.lost,
                stdout_sha256=output_hash(stdout),
            )
        )
        return Done(
            stdout=stdout,
            error=error,
            final=self._finish.final,
            stdout_chars=self._output.chars,
            variables=self._variables,
            replaced=cell.replaced or run.lost,
        )

    def _lost(self, cell: _Cell, error: CellError) -> CellError:
        self._drop()
        return with_loss(error, cell.code, self._variables)

    def _bind(self, code: str) -> None:
        """Note the names that the cell has defined, with their types and sizes from the worker."""
        worker = self._worker
        assert worker is not None
        self._names = list(dict.fromkeys([*self._names, *bound_names(code)]))
        bound = bound_names(code)
        mine = [name for name in self._names if name not in self._input_names or name in bound][-_MAX_NAMES:]
        try:
            found = worker.value(_DESCRIBE.format(lines="".join(_DESCRIBE_ONE.format(name=name) for name in mine)))
            self._variables = tuple(VariableInfo(name, kind, size) for name, kind, size in found)
        except (monty.MontyError, TypeError, ValueError):  # only a description
            return


_DESCRIBE: Final = "__rlm = []\n{lines}__rlm"
_DESCRIBE_ONE: Final = """\
try:
    __rlm_size = len({name}) if type({name}) in (str, bytes, list, tuple, dict, set) else None
    __rlm.append(["{name}", type({name}).__name__, __rlm_size])
except Exception:
    pass
"""
