"""The cell in progress of a session, and the place of the worker that runs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from rlm_adapters.errors import SandboxError
from rlm_adapters.sandbox.forkserver import WorkerProcess
from rlm_adapters.sandbox.frames import Message
from rlm_adapters.sandbox.journal import CallIds, answer_to_json
from rlm_adapters.sandbox.runahead.account import AheadAccount, CellAhead
from rlm_adapters.sandbox.types import Answer, HostCall


class Cell:
    """The cell in progress.

    Attributes:
        waiting: the calls that it waits for; empty before it was started.
        known: answers by call id, whether already asked for or not.
        used: those that the cell was given.
        seconds_left: what is left of its wall time.
        replaced: its worker was lost while it waited.
        ahead: its run-ahead.
    """

    def __init__(
        self,
        index: int,
        code: str,
        known: Mapping[str, Answer],
        wall_seconds: float,
        ahead: CellAhead | None = None,
    ) -> None:
        self._index = index
        self.code = code
        self.known = dict(known)
        self.used: dict[str, Answer] = {}
        self.replaced = False
        self.ahead = ahead or CellAhead(AheadAccount(enabled=False), index, ())
        self._begin(wall_seconds)

    def _begin(self, wall_seconds: float) -> None:
        self.ids = CallIds(self._index)
        self.waiting: tuple[HostCall, ...] = ()
        self.seconds_left = wall_seconds

    def restart(self, wall_seconds: float) -> None:
        """Start over in a new worker, with all the answers that are known."""
        self._begin(wall_seconds)
        self.ahead.restart()
        self.replaced = True

    def unknown(self) -> tuple[HostCall, ...]:
        """The calls that it waits for and nobody has answered yet."""
        return tuple(call for call in self.waiting if call.id not in self.known)

    def message(self, cpu_seconds: float, *, ahead: bool = False) -> Message:
        """What to tell the worker next: the code, or the answers that it waits for."""
        if not self.waiting:
            return {"t": "run", "code": self.code, "cpu": cpu_seconds, "ahead": ahead}
        for call in self.waiting:
            self.used[call.id] = self.known[call.id]
        return {"t": "answers", "answers": [answer_to_json(self.used[call.id]) for call in self.waiting]}


class WorkerSlot:
    """The worker of a session, if it has one now; may be emptied from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        self.kills = 0

    @property
    def worker(self) -> WorkerProcess | None:
        """The worker in it."""
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
        """Let go of the worker when the session is garbage: nobody can be using it."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.abandon()

    def drop(self, worker: WorkerProcess, *, wait: bool = False) -> int | None:
        """End this worker; how it ended."""
        with self._lock:
            if self._worker is worker:
                self._worker = None
        return worker.end(wait=wait)
