"""Run blocking steps in threads, for an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_KILL_AGAIN_SECONDS: Final = 0.05
_MOST: Final = 512


class Threads(Executor):
    """A thread pool whose threads end after some idle time. ThreadPoolExecutor keeps its threads forever.

    The thread that became idle last gets the next work. So after a burst, threads that are not needed end, although
    others still work. If the thread with the longest wait got the work, a little work from time to time would keep all
    of them.

    The process does not wait for these threads at its end. After `shutdown` the pool can be used again.

    Args:
        name: of the threads.
        most: largest number of threads.
        idle_seconds: how long a thread waits for work.
    """

    def __init__(self, name: str, *, most: int = _MOST, idle_seconds: float = 10.0) -> None:
        self._name, self._most, self._idle_seconds = name, most, idle_seconds
        self._lock = threading.Lock()
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle: list[threading.Condition] = []
        """Conditions of the idle threads; the one that became idle last is at the end."""
        self._coming = 0
        """Number of threads that were started or woken and have not yet taken work."""
        self._ending: set[threading.Thread] = set()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call a function in a thread of the pool."""
        future: Future[_T] = Future()
        with self._lock:
            self._work.append((future, lambda: fn(*args, **kwargs)))
            if self._idle:
                self._wake(self._idle[-1])
            elif len(self._work) > self._coming and len(self._threads) < self._most:
                self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, each after its current work.

        Args:
            wait: wait until they have ended.
            cancel_futures: cancel work that has not started; otherwise it is done first.
        """
        with self._lock:
            ending = self._threads - {threading.current_thread()}
            self._ending |= self._threads
            self._threads = set()
            if cancel_futures:
                for future, _ in self._work:
                    future.cancel()
                self._work.clear()
            for idle in tuple(self._idle):
                self._wake(idle)
        if wait:
            for thread in ending:
                thread.join()

    def __len__(self) -> int:
        """Number of threads."""
        return len(self._threads)

    # -- parts; all but `_run` are called with the lock held, or take it

    def _wake(self, idle: threading.Condition) -> None:
        self._idle.remove(idle)
        self._coming += 1
        idle.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._coming += 1
        try:
            thread.start()
        except RuntimeError:  # the system allows no more threads
            self._coming -= 1
            if not self._threads:
                self._work.pop()
                raise
        else:
            self._threads.add(thread)  # it waits for the lock

    def _run(self) -> None:
        with self._lock:
            self._coming -= 1
        while (given := self._next()) is not None:
            _fulfil(*given)
            del given  # the next work may come much later

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """The next work; None: this thread ends."""
        me = threading.current_thread()
        with self._lock:
            told = True
            while not self._work:
                if me in self._ending or not told:
                    self._threads.discard(me)
                    self._ending.discard(me)
                    return None
                told = self._wait()
            return self._work.popleft()

    def _wait(self) -> bool:
        """Wait for work. Returns whether there is some."""
        idle = threading.Condition(self._lock)
        self._idle.append(idle)
        idle.wait(self._idle_seconds)
        if idle in self._idle:
            self._idle.remove(idle)
            return False
        self._coming -= 1
        return True


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - carried to whoever asks for the result
        future.set_exception(error)
    else:
        future.set_result(result)


async def in_thread(pool: Executor, step: Callable[[], _T], kill: Callable[[], object]) -> _T:
    """Run a step of a session without blocking the event loop.

    Args:
        pool: its threads run the step.
        step: the blocking step.
        kill: ends what the step waits for. Called when the awaiting task is cancelled.
    """
    future = asyncio.wrap_future(pool.submit(step))
    # The task may be cancelled twice, by LangGraph and by the end of the loop. Then nobody reads the result.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():  # again, because a step without a worker may be starting one
            await asyncio.wrap_future(pool.submit(kill))
            await asyncio.wait([future], timeout=_KILL_AGAIN_SECONDS)
        raise
