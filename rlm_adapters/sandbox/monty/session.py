"""A session in monty workers, with the same life as that of `rlm_adapters.sandbox.host.session`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

import pydantic_monty as monty

from rlm_adapters.errors import InputError, ReplayDivergenceError, SandboxError
from rlm_adapters.sandbox.host.loss import bound_names, describe_loss
from rlm_adapters.sandbox.host.threads import in_thread
from rlm_adapters.sandbox.monty.cell import Calls, CellRun
from rlm_adapters.sandbox.monty.sources import Sources
from rlm_adapters.sandbox.monty.worker import Worker
from rlm_adapters.sandbox.protocol.journal import check_answers, output_hash
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

_T = TypeVar("_T")
_LOST: Final = frozenset({"cpu", "memory", "wall", "crash"})
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
        """It will be run from its start, in a new worker."""
        self.used: dict[str, Answer] = {}
        self.run: CellRun | None = None
        self.steps: Generator[Calls, Sequence[Answer], None] | None = None
        self.waiting: Calls = ()


class MontySession:
    """One namespace in a monty worker; made by `MontySandbox.open`.

    Attributes:
        epoch: the instant at which the session's clock stands.
        seed: its random seed.
    """

    def __init__(
        self,
        make_worker: Callable[[], Worker],
        thread_pool: Callable[[], ThreadPoolExecutor],
        variables: Mapping[str, Any],
        functions: Sequence[HostFunction],
        *,
        output_fields: Sequence[str] | None,
        output_chars: int,
        seed: int,
        epoch: float,
        journal: Sequence[CellRecord],
    ) -> None:
        self.seed: Final = seed
        self.epoch: Final = epoch
        self._make_worker = make_worker
        self._thread_pool = thread_pool
        self._inputs = dict(variables)
        self._functions = {function.name: function for function in functions}
        self._finish = Finish(dict, output_fields)
        self._output_chars = output_chars
        self._records = list(journal)
        self._variables: tuple[VariableInfo, ...] = ()
        self._names: list[str] = []
        self._sources = Sources()
        self._worker: Worker | None = None
        self._cell: _Cell | None = None
        self._closed = False
        self._kills = 0
        self._busy = threading.Lock()

    @property
    def journal(self) -> tuple[CellRecord, ...]:
        """The finished cells, those that were replayed at the opening included."""
        return tuple(self._records)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def start(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """Run a cell until it ends or waits for calls that ``answers`` does not answer.

        Raises:
            InputError: an answer cannot be handed over.
            SandboxError: no worker can be had, or a cell is still waiting.
            ReplayDivergenceError: the journal does not rebuild what it did before.
        """
        if not isinstance(code, str):
            raise InputError(f"a cell is a str, not {type(code).__name__}")
        known = check_answers(answers)
        with self._exclusively():
            if self._cell is not None:
                raise SandboxError("a cell is waiting for answers: resume it, or kill the session")
            return self._go_on(_Cell(len(self._records), code, known))

    def resume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """Go on with a waiting cell; in a new worker, if the old one was lost.

        Raises:
            InputError: an answer cannot be handed over.
            SandboxError: no cell waits, or no worker can be had.
            ReplayDivergenceError: the journal does not rebuild what it did before.
        """
        checked = check_answers(answers)
        with self._exclusively():
            cell = self._cell
            if cell is None:
                raise SandboxError("no cell is waiting for answers: start one")
            cell.known.update(checked)
            return self._go_on(cell)

    async def astart(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """`start` without blocking the event loop. Cancelled, it kills the worker."""
        return await self._in_thread(lambda: self.start(code, answers=answers))

    async def aresume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """`resume` without blocking the event loop. Cancelled, it kills the worker."""
        return await self._in_thread(lambda: self.resume(answers))

    async def _in_thread(self, step: Callable[[], _T]) -> _T:
        return await in_thread(self._thread_pool(), step, self.kill)

    def warm(self) -> None:
        """Have a worker ready, the journal replayed in it."""
        with self._exclusively():
            self._ready_worker()

    def kill(self) -> None:
        """Kill the worker, from any thread. The journal stays: the session can go on with a new one."""
        self._kills += 1
        worker = self._worker
        if worker is not None:
            worker.kill()
            if self._busy.acquire(blocking=False):  # else the thread that uses it will see that it is gone
                try:
                    self._drop()
                finally:
                    self._busy.release()

    def close(self) -> None:
        """Kill the worker for good."""
        self._closed = True
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise SandboxError("the session is running a cell in another thread")
        try:
            if self._closed:
                raise SandboxError("the session is closed")
            yield
        finally:
            if self._closed:
                self._drop()
            self._busy.release()

    def _drop(self) -> None:
        worker, self._worker = self._worker, None
        if self._cell is not None and self._cell.steps is not None:
            self._cell.restart()
            self._cell.replaced = True
        if worker is not None:
            worker.close()

    def _ready_worker(self) -> Worker:
        """The live worker, or a new one in which the journal was replayed."""
        if self._worker is not None:
            return self._worker
        self._sources = Sources()
        self._names = list(self._inputs)
        self._worker = self._make_worker()
        try:
            self._worker.feed("None", lambda _: None, self._inputs)
            for index, record in enumerate(self._records):
                if not record.failed:
                    self._replay(index, record)
        except BaseException as error:
            self._drop()
            if isinstance(error, monty.MontyError):
                raise SandboxError(f"a worker could not take its inputs: {error}") from None
            raise
        return self._worker

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
        """Run the cell as far as known answers go; True if it waits for more."""
        if cell.steps is None:
            assert self._worker is not None
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
        loss = describe_loss(cell.code, self._variables)
        return CellError(
            error.kind, error.type, f"{error.message}. {loss}", error.line, f"{error.traceback.rstrip()}\n{loss}"
        )

    def _bind(self, code: str) -> None:
        """Note what the cell has bound, and ask the worker for types and sizes."""
        worker = self._worker
        assert worker is not None
        self._names = list(dict.fromkeys([*self._names, *bound_names(code)]))
        mine = [name for name in self._names if name not in self._inputs or name in bound_names(code)][-_MAX_NAMES:]
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
