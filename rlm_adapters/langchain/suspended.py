"""Runs that wait for the results of tools: how long they are kept, and how they are deleted.

Other processes may use the same checkpointer, and a run that one process suspended can continue in another. So this
process only remembers which runs it must clean up. The time stamps in the checkpointer show whether a run continued.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from rlm_adapters.effects import Steps, Wait, off_loop, wait_for_future
from rlm_adapters.graph.leases import Lease, leased

_LOG = logging.getLogger("rlm_adapters")

OURS = "rlm_suspendable"
"""Key in the metadata of the checkpoints of these runs, because checkpointers list by metadata, not by name."""

_PREFIX = "rlm-"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that was suspended in this process.

    Attributes:
        since: seconds of the clock by which it expires.
        saved: seconds of the clock that dates checkpoints.
        runs: the session keys of the runs of its tree, whose workers wait too.
        returned: hash of the results that it was last resumed with.
        given_up: whether nobody can come back for it.
    """

    since: float
    saved: float = 0.0
    runs: frozenset[str] = frozenset()
    returned: str = ""
    given_up: bool = False


class _Patient:
    """Seconds since the epoch, by a clock that is never set forward: what waits must not expire by that."""

    def __init__(self) -> None:
        self._began = time.time() - time.monotonic()

    def __call__(self) -> float:
        return min(time.time(), self._began + time.monotonic())


class SuspendedRuns:
    """Deletes saved runs that were not continued in time.

    Args:
        saver: where LangGraph saves them.
        seconds: how long a suspended run is kept.
        count: most runs that are kept; the oldest are deleted first.
        end_worker: ends the worker of a run, by its session key.
        end_content: removes the stored content of a saver's thread; may block.
    """

    def __init__(
        self,
        saver: BaseCheckpointSaver[str],
        *,
        seconds: float,
        count: int,
        end_worker: Callable[[str], None] = lambda _: None,
        end_content: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.saver = saver
        self._seconds = seconds
        self._count = count
        self._end_worker = end_worker
        self._end_content = end_content
        self._clock = _Patient()
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._going_on: dict[str, Future[None]] = {}
        self._leases: dict[str, Lease | None] = {}
        self._lock = threading.Lock()

    # -- a run's turns

    def take(self, thread: str) -> Steps[Waiting | None]:
        """Begin a turn of a run. Until `put_back` or `forget` it cannot expire, and nobody else can take it.

        If the checkpointer has leases (`rlm_adapters.graph.leases`), this holds for other processes, too.

        A client may repeat a request while the first one still runs. This must not run the same cell twice.

        Returns:
            What this process knows of the run; None if another process suspended it.
        """
        while True:
            with self._lock:
                busy = self._going_on.get(thread)
                if busy is None:
                    turn: Future[None] = Future()
                    turn.set_running_or_notify_cancel()  # otherwise a cancelled waiter would cancel it
                    self._going_on[thread] = turn
                    break
            yield wait_for_future(busy)
        try:
            self._leases[thread] = yield from leased(self.saver, thread_name(thread), "enqueue")
        except BaseException:
            self._free(thread)
            raise
        with self._lock:
            return self._waiting.pop(thread, None)

    def lease(self, thread: str) -> Lease | None:
        """The lease of a run in its turn."""
        return self._leases.get(thread)

    def put_back(self, thread: str, runs: Iterable[str] = (), returned: str = "", *, given_up: bool = False) -> None:
        """End a turn: the run waits, or with ``given_up`` the next sweep deletes it."""
        with self._lock:
            self._waiting.pop(thread, None)
            self._waiting[thread] = Waiting(self._clock(), time.time(), frozenset(runs), returned, given_up)
        self._free(thread)

    def forget(self, thread: str) -> Steps[None]:
        """End a turn, and delete the run, which has ended."""
        try:
            yield from self._delete(thread)
        finally:
            self._free(thread)

    def has_expired(self, stamp: str | None) -> bool:
        """Whether a run that was saved at this time is too old to continue."""
        return stamp is not None and _seconds_of(stamp) < self._clock() - self._seconds

    # -- cleaning up

    def sweep(self) -> Steps[list[str]]:
        """Delete the expired runs that this process suspended.

        Returns:
            The ids of the deleted runs.
        """
        with self._lock:
            oldest = self._clock() - self._seconds
            excess = max(0, len(self._waiting) - self._count)
            gone = {
                thread: one
                for number, (thread, one) in enumerate(self._waiting.items())
                if number < excess or one.given_up or one.since < oldest
            }
            for thread in gone:
                del self._waiting[thread]
        deleted = []
        for thread, one in gone.items():
            for run in one.runs:
                self._end_worker(run)
            if one.given_up or not (yield from self._went_on(thread, one.saved)):
                yield from self._delete(thread)
                deleted.append(thread)
        return deleted

    def sweep_all(self) -> Steps[int]:
        """Delete all expired runs in the checkpointer, also those of other processes.

        Returns:
            Number of deleted runs.
        """
        newest: dict[str, str] = {}
        mine = {OURS: True}
        saved: list[CheckpointTuple] = yield Wait(
            lambda: list(self.saver.list(None, filter=mine)),
            lambda: _collect(self.saver.alist(None, filter=mine)),
        )
        for one in saved:
            thread: str = one.config["configurable"]["thread_id"]
            newest[thread] = max(newest.get(thread, ""), one.checkpoint["ts"])
        with self._lock:
            here = {thread_name(thread) for thread in (*self._waiting, *self._going_on)}
        expired = [thread for thread, stamp in newest.items() if thread not in here and self.has_expired(stamp)]
        for thread in expired:
            yield from self._delete(thread.removeprefix(_PREFIX))
        return len(expired)

    def __len__(self) -> int:
        return len(self._waiting)

    # -- parts

    def _went_on(self, thread: str, saved: float) -> Steps[bool]:
        """Whether another process has continued a run since it was put back here."""
        config: RunnableConfig = {"configurable": {"thread_id": thread_name(thread), "checkpoint_ns": ""}}
        try:
            found: CheckpointTuple | None = yield Wait(
                lambda: self.saver.get_tuple(config), lambda: self.saver.aget_tuple(config)
            )
        except Exception:  # noqa: BLE001 - see `_delete`
            return False
        return found is not None and _seconds_of(found.checkpoint["ts"]) > saved

    def _delete(self, thread: str) -> Steps[None]:
        """Delete a run. If the checkpointer fails, try again later, because the answer must not be lost."""
        name = thread_name(thread)
        try:
            yield Wait(lambda: self.saver.delete_thread(name), lambda: self.saver.adelete_thread(name))
            yield off_loop(lambda: self._end_content(name))
        except Exception:  # noqa: BLE001 - savers fail in their database's ways
            _LOG.exception("run %s could not be deleted from %s", name, type(self.saver).__name__)
            with self._lock:
                self._waiting[thread] = Waiting(self._clock(), time.time(), given_up=True)

    def _free(self, thread: str) -> None:
        if (lease := self._leases.pop(thread, None)) is not None:
            lease.release_soon()
        with self._lock:
            busy = self._going_on.pop(thread, None)
        if busy is not None:
            busy.set_result(None)


def thread_name(thread: str) -> str:
    """LangGraph's thread id of a run. It differs from other threads in a shared checkpointer."""
    return f"{_PREFIX}{thread}"


def _seconds_of(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]
