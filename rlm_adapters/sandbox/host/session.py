"""`Session`: one REPL namespace that runs cells one by one and can outlive its worker.

``start`` runs a cell until it ends or waits for the host; ``resume`` continues with answers. The worker can be killed
at any time: when a new worker is needed, it is built from the journal. If a cell reaches a limit, nothing of it is
kept: its worker is replaced, and the replay skips the cell.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final, Protocol

from rlm_adapters.errors import InputError, ReplayDivergenceError, SandboxError
from rlm_adapters.sandbox.host.cell import Cell, WorkerSlot
from rlm_adapters.sandbox.host.channel import ChannelClosedError, ChannelTimeoutError, ChannelUnsentError
from rlm_adapters.sandbox.host.driving import aanswer_calls, answer_calls
from rlm_adapters.sandbox.host.forkserver import WorkerProcess
from rlm_adapters.sandbox.host.journaled import LIMIT_KINDS, JournaledSession
from rlm_adapters.sandbox.host.loss import with_loss
from rlm_adapters.sandbox.host.messages import (
    WorkerDone,
    parse_calls,
    parse_done,
    parse_failure,
    parse_file_piece,
    parse_place,
    parse_taken,
)
from rlm_adapters.sandbox.host.runahead import AheadAccount, CellAhead, parse_found, rehearsal
from rlm_adapters.sandbox.host.spec import SessionSpec
from rlm_adapters.sandbox.protocol.exits import death, killed_from_outside
from rlm_adapters.sandbox.protocol.frames import ProtocolError
from rlm_adapters.sandbox.protocol.journal import check_answers, output_hash
from rlm_adapters.sandbox.protocol.types import (
    Answer,
    CellError,
    CellRecord,
    Done,
    HostCall,
    Pending,
)

_MAX_FILES: Final = 100_000
_LOOK_SECONDS: Final = 30.0  # of wall time; a worker gives its child far less


class WorkerSource(Protocol):
    """Makes the workers of a session."""

    spec: SessionSpec

    def start(self) -> WorkerProcess:
        """Start a worker with the session's inputs, which waits for a cell."""

    def close(self) -> None:
        """No more workers are needed."""


class Session(JournaledSession[Cell]):
    """One REPL of a sandbox. `Sandbox.open` makes it.

    Use it from one thread at a time; `kill` and `close` can be called from any thread.

    Attributes:
        epoch: start time of the session's clock, in seconds. A replay needs it.
        seed: its random seed. A replay needs it.
    """

    def __init__(
        self,
        workers: WorkerSource,
        thread_pool: Callable[[], Executor],
        callables: Mapping[str, Callable[..., Any]],
        journal: Sequence[CellRecord] = (),
        ahead: AheadAccount | None = None,
    ) -> None:
        self._spec = spec = workers.spec
        super().__init__(thread_pool, journal, seed=spec.seed, epoch=spec.epoch)
        self._ahead = ahead or AheadAccount(enabled=False)
        self._workers = workers
        self._offered = spec.offered
        self._callables = dict(callables)
        self._slot = WorkerSlot()
        weakref.finalize(self, self._slot.abandon)

    def run(self, code: str) -> Done:
        """Run a cell to its end, and answer its calls with the session's functions.

        Calls of a batch run at the same time. An exception of a function becomes a `Failure`.

        Raises:
            InputError: The session has descriptions of functions instead of functions.
            SandboxError: There is no worker.
        """
        self._check_callables()
        step = self.start(code)
        while isinstance(step, Pending):
            step = self.resume(answer_calls(step.calls, self._callables))
        return step

    async def arun(self, code: str) -> Done:
        """`run` without blocking the event loop. The functions can be coroutine functions."""
        self._check_callables()
        step = await self.astart(code)
        while isinstance(step, Pending):
            answers = await aanswer_calls(step.calls, self._callables, self._thread_pool())
            step = await self.aresume(answers)
        return step

    def rehearse(
        self,
        code: str,
        new: str,
        *,
        most: int,
        answers: Mapping[str, Answer] = {},
        waiting: Collection[str] = (),
    ) -> tuple[tuple[HostCall, ...], bool]:
        """Find the LM calls of the next cell, which begins with this code. The session does not change.

        Args:
            code: complete statements at the beginning of the cell.
            new: its last statements, which were not part of an earlier look, and the functions of the cell that they
                use.
            most: largest number of reported calls.
            answers: known answers by the ids of their calls.
            waiting: ids of calls that were found before and have no answer yet. They are not reported again.

        Returns:
            The calls, with the ids that they have in the cell, and whether another look, with more code or more
            answers, may find others.

        Raises:
            SandboxError: There is no worker, or a cell waits.
            ReplayDivergenceError: The replay of the journal differs from the first run.
        """
        with self._exclusively():
            self._check_that_none_waits("a cell can be rehearsed between cells")
            if not (self._spec.ahead and self._spec.pure):
                return (), False
            index = len(self._records)
            frame = rehearsal(
                code, new, check_answers(answers), waiting, most=most, inputs=self._spec.inputs.round_at(index)
            )
            worker = self._ready_worker()
            deadline = time.monotonic() + _LOOK_SECONDS
            try:
                worker.channel.send(frame, deadline=deadline)
                return parse_found(worker.channel.receive(deadline=deadline), self._spec.pure, index, most)
            except (ChannelClosedError, ChannelTimeoutError, ProtocolError):
                self._slot.drop(worker)  # the cell gets a new one
                return (), False

    def files_written(self) -> dict[str, bytes]:
        """The workspace files that cells have written, by path.

        Raises:
            SandboxError: A cell is waiting, or there is no worker.
        """
        with self._exclusively():
            self._check_that_none_waits("files can be fetched between cells")
            worker = self._ready_worker()
            try:
                return self._take_files(worker)
            except (ChannelClosedError, ChannelTimeoutError, ProtocolError) as error:
                self._slot.drop(worker)
                raise SandboxError(f"the worker did not hand over its files: {error or 'it took too long'}") from None

    def kill(self) -> None:
        """Kill the worker, from any thread. The journal is kept, so the session can continue with a new worker."""
        self._slot.kill()

    def close(self) -> None:
        """Kill the worker for good."""
        super().close()
        self._workers.close()

    def _new_cell(self, code: str, known: dict[str, Answer]) -> Cell:
        functions = self._spec.pure if self._spec.ahead else ()
        ahead = CellAhead(self._ahead, len(self._records), functions, given=known)
        return self._cell_at(len(self._records), code, known, ahead)

    def _go_on_with(self, cell: Cell, answers: dict[str, Answer]) -> Pending | Done:
        cell.ahead.answered(answers, cell.waiting)
        cell.learn(answers)
        unknown = cell.unknown()
        return Pending(unknown) if unknown else self._go_on(cell)

    def _check_callables(self) -> None:
        missing = [f.name for f in self._spec.functions if f.batch_of is None and f.name not in self._callables]
        if missing:
            raise InputError(
                f"run() has nothing to answer {', '.join(missing)} with: "
                "open the session with functions={name: function}, or drive it by start() and resume()"
            )

    def _ready_worker(self) -> WorkerProcess:
        worker = self._slot.worker
        if worker is not None:
            return worker
        for last in (False, True):
            kills = self._slot.kills
            worker = self._workers.start()
            self._slot.fill(worker, kills)
            try:
                for index, record in enumerate(self._records):
                    if not record.failed:
                        self._replay(worker, index, record)
            except ChannelClosedError as error:
                status = self._slot.drop(worker, wait=True)
                if last or not killed_from_outside(status) or self._slot.kills != kills:
                    raise ReplayDivergenceError(f"a cell of the journal does not end as before: {error}") from None
            except BaseException:
                self._slot.drop(worker)
                raise
            else:
                return worker
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _cell_at(self, index: int, code: str, known: Mapping[str, Answer], ahead: CellAhead | None = None) -> Cell:
        spec = self._spec
        return Cell(index, code, known, spec.limits.wall_seconds, ahead, inputs=spec.inputs.round_at(index))

    def _replay(self, worker: WorkerProcess, index: int, record: CellRecord) -> None:
        """Run a finished cell again with its recorded answers."""
        cell = self._cell_at(index, record.code, record.answers)
        where = f"cell {index + 1} of the journal"
        try:
            while (report := self._exchange(worker, cell)) is None:
                if unknown := cell.unknown():
                    raise ReplayDivergenceError(f"{where} asks {unknown[0].function} something else than before")
        except (ChannelTimeoutError, ProtocolError) as error:
            raise ReplayDivergenceError(f"{where} does not end as it did before: {error or 'time'}") from None
        if report.error is not None and report.error.kind in LIMIT_KINDS:
            raise ReplayDivergenceError(f"{where} does not end as it did before: {report.error.message}")
        if cell.used.keys() != record.answers.keys():
            raise ReplayDivergenceError(f"{where} asks less than before")
        if output_hash(report.stdout, report.error) != record.stdout_sha256:
            raise ReplayDivergenceError(f"{where} prints something else than before, or ends in another error")
        self._variables = report.variables

    def _take_files(self, worker: WorkerProcess) -> dict[str, bytes]:
        """Collect the files that the worker sends, up to the limit of written files."""
        files: dict[str, bytearray] = {}
        left = self._spec.limits.file_bytes
        deadline = time.monotonic() + self._spec.limits.wall_seconds
        worker.channel.send({"t": "files"}, deadline=deadline)
        while piece := parse_file_piece(worker.channel.receive(deadline=deadline)):
            path, data = piece
            files.setdefault(path, bytearray()).extend(data)
            left -= len(data)
            if left < 0 or len(files) > _MAX_FILES:
                raise ProtocolError("more files than cells may write")
        return {path: bytes(data) for path, data in files.items()}

    def _go_on(self, cell: Cell) -> Pending | Done:
        kills = self._slot.kills
        try:
            step = self._advance(cell)
        except BaseException:  # Ctrl-C, no worker, a divergence
            self._cell = None
            self._slot.kill()
            raise
        if self._slot.kills != kills:
            self._cell = None
            raise SandboxError("the session was killed while a cell was running")
        self._cell = cell if isinstance(step, Pending) else None
        if isinstance(step, Done):
            calls, wasted = cell.ahead.settle(cell.used)
            step = replace(step, ahead_calls=calls, ahead_wasted=wasted)
            self._records.append(_record(cell, step))
        return step

    def _advance(self, cell: Cell) -> Pending | Done:
        if cell.waiting and self._slot.worker is None:
            cell.restart(self._spec.limits.wall_seconds)
        kills = self._slot.kills
        worker = self._ready_worker()
        try:
            try:
                return self._converse(worker, cell)
            except ChannelUnsentError:  # it was killed while it was idle
                self._slot.drop(worker)
                cell.restart(self._spec.limits.wall_seconds)
                worker = self._ready_worker()
                return self._converse(worker, cell)
        except ChannelTimeoutError:
            self._slot.drop(worker)
            message = f"the cell ran for {self._spec.limits.wall_seconds:g} s and was stopped"
            return self._lost(cell, CellError("wall", "TimeoutError", message))
        except ProtocolError as error:
            self._slot.drop(worker)
            return self._lost(cell, CellError("crash", "WorkerError", f"the worker was stopped: {error}"))
        except ChannelClosedError:
            status = self._slot.drop(worker, wait=True)
            if killed_from_outside(status) and self._slot.kills == kills and cell.outlives_kill():
                cell.restart(self._spec.limits.wall_seconds)
                return self._advance(cell)
            return self._lost(cell, CellError(*death(status)))

    def _converse(self, worker: WorkerProcess, cell: Cell) -> Pending | Done:
        """Send known answers until the cell ends or makes an unknown call."""
        while (report := self._exchange(worker, cell)) is None:
            if unknown := cell.unknown():
                return Pending(unknown + self._look_ahead(worker, cell))
        return self._finished(worker, cell, report)

    def _look_ahead(self, worker: WorkerProcess, cell: Cell) -> tuple[HostCall, ...]:
        """Calls that the cell will make later, as far as they can be found now.

        An error here does not affect the cell: it continues without these calls, in a new worker if necessary.
        """
        unknown = cell.unknown()
        if reserved := cell.ahead.reserved(unknown):
            return reserved
        request = cell.ahead.request(unknown, cell.known, cell.place)
        if request is None:
            return ()
        deadline = time.monotonic() + _LOOK_SECONDS
        try:
            worker.channel.send(request, deadline=deadline)
            found = worker.channel.receive(deadline=deadline)
            return cell.ahead.take(found, unknown, cell.known, cell.place)
        except (ChannelClosedError, ChannelTimeoutError, ProtocolError):
            self._slot.drop(worker)
            cell.ahead.close()
            return ()

    def _exchange(self, worker: WorkerProcess, cell: Cell) -> WorkerDone | None:
        """Send the cell, or the answers that it waits for, and read the reply.

        Returns:
            The report of the cell's end; None if it waits for the calls in ``cell.waiting``.
        """
        message = cell.message(self._spec.limits.cpu_seconds, ahead=cell.ahead.wanted)
        # Only the time in which the host waits for the worker counts for the wall limit.
        started = time.monotonic()
        deadline = started + cell.seconds_left
        worker.channel.send(message, deadline=deadline)
        message = worker.channel.receive(deadline=deadline)
        cell.seconds_left -= time.monotonic() - started
        if message["t"] == "call":
            cell.took(parse_taken(message))
            cell.waits_for(parse_calls(message, self._offered), parse_place(message))
            return None
        if message["t"] == "failed":
            raise ProtocolError(f"it failed: {parse_failure(message)}")
        if message["t"] != "done":
            raise ProtocolError("an unexpected frame")
        cell.took(parse_taken(message))
        return parse_done(message, output_chars=self._spec.limits.output_chars)

    def _finished(self, worker: WorkerProcess, cell: Cell, report: WorkerDone) -> Done:
        error = report.error
        if error is not None and error.kind in LIMIT_KINDS:
            # Its progress depends on the machine, so a replay could not repeat it: nothing of it is kept.
            self._slot.drop(worker)
            return replace(
                self._lost(cell, error),
                stdout=report.stdout,
                stdout_chars=report.stdout_chars,
                final=report.final,
                cpu_seconds=report.cpu_seconds,
            )
        self._variables = report.variables
        return Done(
            stdout=report.stdout,
            error=error,
            final=report.final,
            stdout_chars=report.stdout_chars,
            cpu_seconds=report.cpu_seconds,
            variables=report.variables,
            replaced=cell.replaced,
        )

    def _lost(self, cell: Cell, error: CellError) -> Done:
        """The end of a cell whose worker was lost. A new worker is made when it is needed."""
        told = with_loss(error, cell.code, self._variables)
        return Done(stdout="", error=told, variables=self._variables, replaced=True)


def _record(cell: Cell, done: Done) -> CellRecord:
    """The journal's entry of a finished cell."""
    failed = done.error is not None and done.error.kind in LIMIT_KINDS
    return CellRecord(
        code=cell.code, answers=dict(cell.used), failed=failed, stdout_sha256=output_hash(done.stdout, done.error)
    )
