"""A session whose worker is on a node. The journal is here, so nothing is lost with a node."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any, Final

from rlm_adapters.cluster.content import Put, Puts
from rlm_adapters.cluster.library import LostError
from rlm_adapters.cluster.orders import InputsLostError, Item, Opening, Step, Stepped
from rlm_adapters.cluster.pool import MOST_LOSSES, Pool, Seat
from rlm_adapters.effects import Steps, adrive, drive, off_loop, wait_for_future
from rlm_adapters.errors import InputError, SandboxError
from rlm_adapters.sandbox.host.inputs import Inputs
from rlm_adapters.sandbox.host.journaled import JournaledSession
from rlm_adapters.sandbox.host.loss import with_loss
from rlm_adapters.sandbox.host.runahead import AheadAccount
from rlm_adapters.sandbox.protocol.journal import check_answers, output_hash
from rlm_adapters.sandbox.protocol.types import Answer, CellError, CellRecord, Done, HostFunction, Pending

_MOST_OPENINGS: Final = 10
_GRACE_SECONDS: Final = 60.0
"""Extra time of a call in addition to the time limit of its cells, for the network and a busy machine."""


class _Cell:
    """The current cell."""

    def __init__(self, code: str, known: Mapping[str, Answer]) -> None:
        self.code = code
        self.known = dict(known)
        self.unsent: dict[str, Answer] = {}
        self.losses = 0
        self.replaced = False
        self.begun_in: Seat | None = None
        """The place where it runs; None: not started yet."""

    def learn(self, answers: Mapping[str, Answer]) -> None:
        """Add answers."""
        new = {call: answer for call, answer in answers.items() if call not in self.known}
        self.known.update(new)
        self.unsent.update(new)


class _Slot:
    """The place of a session. It exists until the place is released, also after the session."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.seat: Seat | None = None

    def leave(self) -> None:
        """Release the place."""
        seat, self.seat = self.seat, None
        if seat is not None:
            self._pool.leave(seat)


class RaySession(JournaledSession[_Cell]):
    """One namespace in an actor on a node. `RaySandbox.open` makes it.

    Attributes:
        epoch: start time of the session's clock, in seconds.
        seed: its random seed.
    """

    def __init__(
        self,
        pool: Pool,
        puts: Puts,
        thread_pool: Callable[[], Executor],
        inputs: Inputs,
        functions: Sequence[HostFunction],
        *,
        output_fields: Sequence[str] | None,
        seed: int,
        epoch: float,
        journal: Sequence[CellRecord],
        ahead: AheadAccount,
        scope: Hashable | None,
        wall_seconds: float,
    ) -> None:
        super().__init__(thread_pool, journal, seed=seed, epoch=epoch)
        self._pool = pool
        self._puts = puts
        self._inputs = inputs
        self._items: tuple[Item, ...] = ()
        self._held: dict[str, Put] | None = None
        self._functions = tuple(functions)
        self._output_fields = None if output_fields is None else tuple(output_fields)
        self._ahead = ahead
        self._scope = scope
        self._wall_seconds = wall_seconds
        self._slot = _Slot(pool)
        self._asked: Future[Any] | None = None
        self._kills = 0
        weakref.finalize(self, self._slot.leave)

    async def astart(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """`start` on the event loop: it awaits Ray's futures. A cancellation kills the worker."""
        if not isinstance(code, str):
            raise InputError(f"a cell is a str, not {type(code).__name__}")
        known = check_answers(answers)
        with self._exclusively():
            self._check_that_none_waits("resume it, or kill the session")
            return await adrive(self._run(_Cell(code, known)))

    async def aresume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """`resume` on the event loop: it awaits Ray's futures. A cancellation kills the worker."""
        checked = check_answers(answers)
        with self._exclusively():
            if self._cell is None:
                raise SandboxError("no cell is waiting for answers: start one")
            self._cell.learn(checked)
            return await adrive(self._run(self._cell))

    def kill(self) -> None:
        """Kill the worker, from any thread. The journal is kept, so the session can continue with a new worker."""
        self._kills += 1
        self._slot.leave()
        asked = self._asked
        if asked is not None and not asked.done():
            try:
                asked.set_exception(SandboxError("the session was killed while a cell was running"))
            except Exception:  # noqa: BLE001 - it came to its end meanwhile
                return

    # -- methods for the base class

    def _new_cell(self, code: str, known: dict[str, Answer]) -> _Cell:
        return _Cell(code, known)

    def _go_on(self, cell: _Cell) -> Pending | Done:
        return drive(self._run(cell))

    def _go_on_with(self, cell: _Cell, answers: dict[str, Answer]) -> Pending | Done:
        cell.learn(answers)
        return self._go_on(cell)

    def _ready_worker(self) -> object:
        seat = drive(self._seated())
        self._pool.rest(seat)
        return seat

    # -- parts

    def _run(self, cell: _Cell) -> Steps[Pending | Done]:
        """Run a cell until it needs an unknown answer, on one node or, if nodes are lost, on several."""
        kills = self._kills
        self._cell = None
        try:
            stepped = yield from self._stepped(cell)
        except BaseException:  # Ctrl-C, a cancellation, no free place, a divergence
            self._kill_quietly()
            raise
        if self._kills != kills:
            raise SandboxError("the session was killed while a cell was running")
        if stepped is None:
            return self._given_up(cell)
        for count, room in stepped.found:
            self._ahead.found(count, room)
        outcome = stepped.outcome
        if isinstance(outcome, Pending):
            self._cell = cell
            return outcome
        if cell.replaced:
            outcome = replace(outcome, replaced=True)
        self._ahead.settle(outcome.ahead_calls, outcome.ahead_wasted)
        self._variables = outcome.variables
        used = {call: cell.known[call] for call in stepped.used}
        self._records.append(
            CellRecord(code=cell.code, answers=used, failed=stepped.failed, stdout_sha256=stepped.stdout_sha256)
        )
        return outcome

    def _stepped(self, cell: _Cell) -> Steps[Stepped | None]:
        """The outcome of the cell; None: every node that ran it was lost."""
        while True:
            seat = yield from self._seated()
            again = cell.begun_in is not seat
            if again:
                cell.replaced = cell.replaced or cell.begun_in is not None
                cell.begun_in = seat
            step = Step(
                what="start" if again else "resume",
                code=cell.code if again else "",
                answers=cell.known if again else cell.unsent,
                ahead=self._ahead.terms(),
            )
            cell.unsent = {}
            try:
                stepped: Stepped = yield from self._ask(seat, "step", step, seconds=self._wall_seconds)
            except LostError:
                cell.losses += 1
                if cell.losses >= MOST_LOSSES:
                    return None
                continue
            self._pool.rest(seat)
            return stepped

    def _seated(self) -> Steps[Seat]:
        """A place with the open session and its journal, marked as busy."""
        seat = self._slot.seat
        if seat is not None and self._pool.enter(seat):
            return seat
        for attempt in range(1, _MOST_OPENINGS + 1):
            if self._held is None:
                self._items, self._held = yield off_loop(lambda: self._puts.items(self._inputs))
            kills = self._kills
            seat = self._slot.seat = yield from self._pool.take()
            refs = {digest: put.ref for digest, put in self._held.items()}
            try:
                yield from self._ask(
                    seat, "open", self._opening(), refs, seconds=(len(self._records) + 1) * self._wall_seconds
                )
            except LostError:
                if attempt == _MOST_OPENINGS:
                    raise
            except InputsLostError:
                self._slot.leave()
                self._puts.forget(list(self._held))
                self._held = None
                if attempt == _MOST_OPENINGS:
                    raise
            except BaseException:
                self._slot.leave()
                raise
            else:
                if self._kills != kills:
                    raise SandboxError("the session was killed while it was being opened")
                return seat
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ask(self, seat: Seat, method: str, *args: object, seconds: float) -> Steps[Any]:
        """Call a method of the actor. If it does not answer, it is lost."""
        self._asked = asked = self._pool.ask(seat, method, *args)
        try:
            return (yield wait_for_future(asked, seconds + _GRACE_SECONDS))
        except TimeoutError:
            self._pool.lost(seat.actor)
            raise LostError(f"an actor did not answer within {seconds + _GRACE_SECONDS:g} s") from None
        except LostError:
            self._pool.lost(seat.actor)
            raise
        finally:
            self._asked = None

    def _opening(self) -> Opening:
        return Opening(
            items=self._items,
            later=tuple(zip(self._inputs.starts, self._inputs.epochs, strict=True)),
            functions=self._functions,
            output_fields=self._output_fields,
            seed=self.seed,
            epoch=self.epoch,
            journal=tuple(self._records),
            width=self._ahead.most,
            scope=None if self._scope is None else f"{id(self._scope)}",
        )

    def _kill_quietly(self) -> None:
        """Kill the worker, because its work is not needed any more."""
        self._cell = None
        self._slot.leave()

    def _given_up(self, cell: _Cell) -> Done:
        """The end of a cell that is given up because several nodes were lost. A replay leaves it out."""
        message = f"{cell.losses} nodes were lost one after the other while they ran this cell"
        error = with_loss(CellError("crash", "WorkerError", message), cell.code, self._variables)
        self._records.append(CellRecord(code=cell.code, failed=True, stdout_sha256=output_hash("", error)))
        return Done(stdout="", error=error, variables=self._variables, replaced=True)
