"""`JournaledSession`: a session with one cell at a time, a journal, and a worker that may be lost at any time."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from rlm_adapters.errors import InputError, SandboxError
from rlm_adapters.sandbox.host.threads import in_thread
from rlm_adapters.sandbox.protocol.journal import check_answers
from rlm_adapters.sandbox.protocol.types import Answer, CellRecord, Done, Pending, VariableInfo

_T = TypeVar("_T")
_Cell = TypeVar("_Cell")

LIMIT_KINDS: Final = frozenset({"cpu", "memory", "wall", "crash"})
"""Errors after which nothing of a cell is kept: the worker is replaced, and a replay skips the cell."""


class JournaledSession(ABC, Generic[_Cell]):
    """Base class of sessions. A subclass defines how its worker runs a cell.

    Use it from one thread at a time; `kill` and `close` can be called from any thread.

    Attributes:
        epoch: start time of the session's clock, in seconds. A replay needs it.
        seed: its random seed. A replay needs it.
    """

    def __init__(
        self, thread_pool: Callable[[], Executor], journal: Sequence[CellRecord], *, seed: int, epoch: float
    ) -> None:
        self.epoch: Final = epoch
        self.seed: Final = seed
        self._thread_pool = thread_pool
        self._records = list(journal)
        self._variables: tuple[VariableInfo, ...] = ()
        self._cell: _Cell | None = None
        self._closed = False
        self._busy = threading.Lock()

    @property
    def journal(self) -> tuple[CellRecord, ...]:
        """The finished cells, also those that were replayed when the session was opened."""
        return tuple(self._records)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def start(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """Run a cell until it ends or waits for calls that ``answers`` does not answer.

        Args:
            code: the cell.
            answers: known answers by call id, of an earlier worker's run of the same cell.

        Raises:
            InputError: An answer is not allowed in the sandbox.
            SandboxError: There is no worker, or a cell is still waiting.
            ReplayDivergenceError: The replay of the journal differs from the first run.
        """
        if not isinstance(code, str):
            raise InputError(f"a cell is a str, not {type(code).__name__}")
        known = check_answers(answers)
        with self._exclusively():
            self._check_that_none_waits("resume it, or kill the session")
            return self._go_on(self._new_cell(code, known))

    def resume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """Continue a waiting cell. Answers can be given in parts. Answers to later calls are kept.

        A worker that was lost while the cell waited is replaced, and the cell continues where it was.

        Raises:
            InputError: An answer is not allowed in the sandbox.
            SandboxError: No cell waits, or there is no worker.
            ReplayDivergenceError: The replay of the journal differs from the first run.
        """
        checked = check_answers(answers)
        with self._exclusively():
            if self._cell is None:
                raise SandboxError("no cell is waiting for answers: start one")
            return self._go_on_with(self._cell, checked)

    async def astart(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """`start` without blocking the event loop. A cancellation kills the worker."""
        return await self._in_thread(lambda: self.start(code, answers=answers))

    async def aresume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """`resume` without blocking the event loop. A cancellation kills the worker."""
        return await self._in_thread(lambda: self.resume(answers))

    async def _in_thread(self, step: Callable[[], _T]) -> _T:
        return await in_thread(self._thread_pool(), step, self.kill)

    def warm(self) -> None:
        """Start a worker and replay the journal in it. Otherwise the next cell does this.

        Raises:
            SandboxError: There is no worker.
            ReplayDivergenceError: The replay of the journal differs from the first run.
        """
        with self._exclusively():
            self._ready_worker()

    @abstractmethod
    def kill(self) -> None:
        """Kill the worker, from any thread. The journal is kept, so the session can continue with a new worker."""

    def close(self) -> None:
        """Kill the worker for good."""
        self._closed = True
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- methods of a subclass; each is called with exclusive use of the session

    @abstractmethod
    def _new_cell(self, code: str, known: dict[str, Answer]) -> _Cell:
        """A new cell, with the answers that are already known."""

    @abstractmethod
    def _go_on(self, cell: _Cell) -> Pending | Done:
        """Run the cell until it ends or needs the host. Then the worker is in a known state, or has ended."""

    @abstractmethod
    def _go_on_with(self, cell: _Cell, answers: dict[str, Answer]) -> Pending | Done:
        """Continue a waiting cell with more answers."""

    @abstractmethod
    def _ready_worker(self) -> object:
        """The live worker, or a new one that has replayed the journal."""

    def _let_go(self) -> None:
        """Called at the end of each step, also after an error."""

    # -- parts

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Exclusive use by one thread. After an error, no worker is left in an unknown state."""
        if not self._busy.acquire(blocking=False):
            raise SandboxError("the session is running a cell in another thread")
        try:
            if self._closed:
                raise SandboxError("the session is closed")
            yield
        finally:
            self._let_go()
            self._busy.release()

    def _check_that_none_waits(self, remedy: str) -> None:
        if self._cell is not None:
            raise SandboxError(f"a cell is waiting for answers: {remedy}")
