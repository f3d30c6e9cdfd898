"""The current cell of a session, and the slot of the worker that runs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rlm_adapters.errors import SandboxError
from rlm_adapters.sandbox.host.forkserver import WorkerProcess
from rlm_adapters.sandbox.host.messages import WorkerCall
from rlm_adapters.sandbox.host.runahead import AheadAccount, CellAhead
from rlm_adapters.sandbox.protocol.frames import Message, ProtocolError
from rlm_adapters.sandbox.protocol.journal import CallIds, answer_to_json
from rlm_adapters.sandbox.protocol.types import Answer, HostCall

_STOCK_CHARS: Final = 8 << 20
"""Most characters of answers that are sent in one frame before the cell asks. Others are sent when it asks."""

_MOST_KILLS: Final = 3
"""After so many kills from outside a cell counts as their cause."""


class Cell:
    """The current cell.

    Attributes:
        waiting: the calls that it waits for; empty before it is started.
        place: a number for the place in the cell at which it waits; equal for equal call stacks.
        known: answers by call id, also those that the cell has not asked for yet.
        used: answers that the cell got.
        seconds_left: the rest of its wall time.
        replaced: whether its worker was lost and replaced.
        ahead: its run-ahead.
    """

    def __init__(
        self,
        index: int,
        code: str,
        known: Mapping[str, Answer],
        wall_seconds: float,
        ahead: CellAhead | None = None,
        *,
        inputs: int = 0,
    ) -> None:
        self._index = index
        self._inputs = inputs
        self.code = code
        self.known = dict(known)
        self.used: dict[str, Answer] = {}
        self.replaced = False
        self._kills: list[int] = []  # the number of known answers at each
        self.ahead = ahead or CellAhead(AheadAccount(enabled=False), index, ())
        self._begin(wall_seconds)

    def _begin(self, wall_seconds: float) -> None:
        self._ids = CallIds(self._index)
        self._unsent: dict[str, Answer] = {}  # by the keys of their calls, like the sent answers
        self._note(self.known)
        self._stocked: set[str] = set()
        self.waiting: tuple[HostCall, ...] = ()
        self.place = 0
        self.seconds_left = wall_seconds

    def restart(self, wall_seconds: float) -> None:
        """Start again in a new worker, with all known answers."""
        self._begin(wall_seconds)
        self.ahead.restart()
        self.replaced = True

    def outlives_kill(self) -> bool:
        """Note that its worker was killed from outside, and return whether to run it again.

        If the kernel killed it because of memory, it will do so again in the same place. So a cell runs again only if
        it has got an answer since the last time, and not without end.
        """
        again = len(self._kills) < _MOST_KILLS and (not self._kills or len(self.known) > self._kills[-1])
        self._kills.append(len(self.known))
        return again

    def learn(self, answers: Mapping[str, Answer]) -> None:
        """Add answers."""
        self._note({call: answer for call, answer in answers.items() if call not in self.known})
        self.known.update(answers)

    def _note(self, answers: Mapping[str, Answer]) -> None:
        """Note answers that the worker does not have yet."""
        for call, answer in answers.items():
            if (key := self._ids.key(call)) is not None:
                self._unsent[key] = answer

    def unknown(self) -> tuple[HostCall, ...]:
        """The calls that it waits for and that have no answer yet."""
        return tuple(call for call in self.waiting if call.id not in self.known)

    def waits_for(self, calls: Sequence[WorkerCall], place: int) -> None:
        """Note that the cell waits for these calls at this place."""
        self.place = place
        self.waiting = tuple(self._ids.call(call.function, call.args, call.kwargs) for call in calls)

    def took(self, keys: Sequence[str]) -> None:
        """Note that the cell has taken answers that were sent before it asked.

        Raises:
            ProtocolError: It cannot have taken them.
        """
        for key in keys:
            call = self._ids.expect(key)
            if call is None or key not in self._stocked:
                raise ProtocolError("an answer was taken that was not there")
            self._stocked.discard(key)
            self.used[call] = self.known[call]

    def message(self, cpu_seconds: float, *, ahead: bool = False) -> Message:
        """The next message to the worker: the code, or the answers that it waits for, and all other known answers."""
        for call in self.waiting:
            self.used[call.id] = self.known[call.id]
            self._unsent.pop(self._ids.key(call.id) or "", None)
        if not self.waiting:
            return {
                "t": "run",
                "code": self.code,
                "cpu": cpu_seconds,
                "ahead": ahead,
                "round": self._inputs,
                "stock": self._stock(),
            }
        answers = [answer_to_json(self.used[call.id]) for call in self.waiting]
        return {"t": "answers", "answers": answers, "stock": self._stock()}

    def _stock(self) -> dict[str, Any]:
        """Answers that the worker does not have yet, by the keys of their calls."""
        stock: dict[str, Any] = {}
        room = _STOCK_CHARS
        for key, answer in self._unsent.items():
            wire = answer_to_json(answer)
            room -= _chars(wire)
            if room < 0:
                break
            stock[key] = wire
        for key in stock:
            del self._unsent[key]
        self._stocked.update(stock)
        return stock


def _chars(wire: object) -> int:
    """The approximate length of a value as JSON."""
    if isinstance(wire, str):
        return len(wire)
    if isinstance(wire, dict):
        return sum(_chars(key) + _chars(value) for key, value in wire.items())
    return sum(map(_chars, wire)) if isinstance(wire, list) else 8


class WorkerSlot:
    """The current worker of a session, if there is one. Any thread can empty the slot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        self.kills = 0

    @property
    def worker(self) -> WorkerProcess | None:
        """The worker in the slot."""
        return self._worker

    def fill(self, worker: WorkerProcess, kills: int) -> None:
        """Put a worker in, unless the slot was emptied since ``kills`` was read."""
        with self._lock:
            if self.kills == kills:
                self._worker = worker
                return
        worker.end()
        raise SandboxError("the session was killed while its worker was starting")

    def kill(self) -> None:
        """Kill the worker, and any that is being made."""
        with self._lock:
            self.kills += 1
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    def abandon(self) -> None:
        """End the worker of a session that is garbage-collected. Nobody uses it any more."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.abandon()

    def drop(self, worker: WorkerProcess, *, wait: bool = False) -> int | None:
        """End this worker. Returns its exit status with ``wait``."""
        with self._lock:
            if self._worker is worker:
                self._worker = None
        return worker.end(wait=wait)
