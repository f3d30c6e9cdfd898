"""The life of a session, whatever its worker is: one cell at a time, a journal, a worker that may go at any time."""

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
"""Errors after which a cell leaves no trace: the worker is replaced and a replay skips the cell."""


class JournaledSession(ABC, Generic[_Cell]):
    """Base of the sessions; a subclass says how its worker runs a cell.

    Use it from one thread at a time; `kill` and `close` may come from any.

    Attributes:
        epoch: the instant, in seconds, at which the session's clock started: part of what a replay needs.
        seed: its random seed.
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
        """The finished cells, those that were replayed at the opening included."""
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
            InputError: An answer cannot be handed over.
            SandboxError: No worker can be had, or a cell is still waiting.
            ReplayDivergenceError: The journal does not rebuild what it did before.
        """
        if not isinstance(code, str):
            raise InputError(f"a cell is a str, not {type(code).__name__}")
        known = check_answers(answers)
        with self._exclusively():
            self._check_that_none_waits("resume it, or kill the session")
            return self._go_on(self._new_cell(code, known))

    def resume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """Go on with a waiting cell. Answers may come in parts; those to calls not yet asked are kept.

        A worker that was lost while the cell waited is replaced, and the cell continues where it was.

        Raises:
            InputError: An answer cannot be handed over.
            SandboxError: No cell waits, or no worker can be had.
            ReplayDivergenceError: The journal does not rebuild what it did before.
        """
        checked = check_answers(answers)
        with self._exclusively():
            if self._cell is None:
                raise SandboxError("no cell is waiting for answers: start one")
            return self._go_on_with(self._cell, checked)

    async def astart(self, code: str, *, answers: Mapping[str, Answer] = {}) -> Pending | Done:
        """`start` without blocking the event loop. Cancelled, it kills the worker."""
        return await self._in_thread(lambda: self.start(code, answers=answers))

    async def aresume(self, answers: Mapping[str, Answer]) -> Pending | Done:
        """`resume` without blocking the event loop. Cancelled, it kills the worker."""
        return await self._in_thread(lambda: self.resume(answers))

    async def _in_thread(self, step: Callable[[], _T]) -> _T:
        return await in_thread(self._thread_pool(), step, self.kill)

    def warm(self) -> None:
        """Have a worker ready, the journal replayed in it. Any cell would do this by itself.

        Raises:
            SandboxError: None can be had.
            ReplayDivergenceError: The journal does not rebuild what it did before.
        """
        with self._exclusively():
            self._ready_worker()

    @abstractmethod
    def kill(self) -> None:
        """Kill the worker, from any thread. The journal stays: the session can go on with a new one."""

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

    # -- what a subclass says; all of it is called with the session to itself

    @abstractmethod
    def _new_cell(self, code: str, known: dict[str, Answer]) -> _Cell:
        """A cell that was not started yet, with the answers that are known beforehand."""

    @abstractmethod
    def _go_on(self, cell: _Cell) -> Pending | Done:
        """Run the cell until it ends or needs the host; afterwards the worker is in a known state or gone."""

    @abstractmethod
    def _go_on_with(self, cell: _Cell, answers: dict[str, Answer]) -> Pending | Done:
        """Go on with a cell that waits, now that there are more answers."""

    @abstractmethod
    def _ready_worker(self) -> object:
        """The live worker, or a new one in which the journal was replayed."""

    def _let_go(self) -> None:
        """Called at the end of each step, whatever happened in it."""

    # -- parts

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One thread at a time; whatever else goes wrong, no worker is left in an unknown state."""
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
