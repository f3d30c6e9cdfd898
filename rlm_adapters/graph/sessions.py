"""A cache of live sandbox sessions between two steps of the graph.

Only the journal in the state counts. A step takes a session only if it continues exactly at the session's position. In
all other cases (resume in another process, time travel, fork) a new session replays the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from concurrent.futures import Future
from dataclasses import dataclass

from rlm_adapters.forking import forget_in_children
from rlm_adapters.sandbox import ExecutorSession

_KEEP_SECONDS = 600.0  # a run that waits longer is replayed from its journal when it continues
_KEEP_COUNT = 1_000  # if there are more waiting runs, the oldest ones are replayed


@dataclass(frozen=True, slots=True)
class _Kept:
    position: str
    session: ExecutorSession
    since: float


class SessionCache:
    """Sessions by the key of their run (`Run.session_key`), each with its position in the journal. Thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._opening: dict[str, tuple[str, Future[ExecutorSession]]] = {}
        self._lock = threading.Lock()
        forget_in_children(self)

    def forget_parent(self) -> object:
        """Start again in a forked child: the sessions belong to the parent."""
        inherited = (self._kept, self._opening)
        self._kept, self._opening = {}, {}
        self._lock = threading.Lock()
        return inherited

    def open_early(self, run: str, position: str, open_: Callable[[], ExecutorSession], pool: Pool) -> None:
        """Start to open a session for a later step, unless the run has one."""
        with self._lock:
            if run not in self._kept and run not in self._opening:
                self._opening[run] = position, pool.submit(open_)

    def opening(self, run: str, position: str) -> Future[ExecutorSession] | None:
        """Take the session that `open_early` started, if it will be at this position."""
        with self._lock:
            begun, future = self._opening.pop(run, (None, None))
        if future is not None and begun != position:
            close_when_open(future)
            return None
        return future

    def take(self, run: str, position: str) -> ExecutorSession | None:
        """Take the session of a run, if it is at this position."""
        with self._lock:
            kept = self._kept.pop(run, None)
        if kept is None:
            return None
        if kept.position == position and not kept.session.closed:
            return kept.session
        kept.session.close()
        return None

    def keep(self, run: str, position: str, session: ExecutorSession) -> None:
        """Put a session back."""
        now = time.monotonic()
        with self._lock:
            old = self._kept.pop(run, None)
            self._kept[run] = _Kept(position, session, now)
            stale = [key for key, kept in self._kept.items() if now - kept.since > _KEEP_SECONDS]
            excess = sorted(self._kept, key=lambda key: self._kept[key].since)[: max(0, len(self._kept) - _KEEP_COUNT)]
            gone = [self._kept.pop(key) for key in {*stale, *excess} - {run}]
        for kept in [*gone, *([old] if old else [])]:
            kept.session.close()

    def discard(self, run: str) -> None:
        """End the session of a run, if there is one."""
        with self._lock:
            kept = self._kept.pop(run, None)
            _, future = self._opening.pop(run, (None, None))
        if kept is not None:
            kept.session.close()
        if future is not None:
            close_when_open(future)

    def close(self) -> None:
        """End all sessions."""
        with self._lock:
            gone, self._kept = list(self._kept.values()), {}
            begun, self._opening = list(self._opening.values()), {}
        for kept in gone:
            kept.session.close()
        for _, future in begun:
            close_when_open(future)

    def __len__(self) -> int:
        return len(self._kept) + len(self._opening)


def close_when_open(future: Future[ExecutorSession]) -> None:
    """End a session when it has opened, because nobody waits for it any more."""
    future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())
