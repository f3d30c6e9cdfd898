"""Steps that block, done in a thread for an event loop."""

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
    """A pool whose threads end when they have had nothing to do for a while; ThreadPoolExecutor keeps them for ever.

    Work goes to the thread that became idle last. So after a burst those that are not needed end, though others work
    on: were it the one that has waited longest, a little work now and then would keep all of them.

    They do not hold up the end of the process. After `shutdown` it can be used again.

    Args:
        name: of the threads.
        most: how many there are at once.
        idle_seconds: how long one waits for work.
    """

    def __init__(self, name: str, *, most: int = _MOST, idle_seconds: float = 10.0) -> None:
        self._name, self._most, self._idle_seconds = name, most, idle_seconds
        self._lock = threading.Lock()
        self._work: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle: list[threading.Condition] = []
        """Of each thread that waits, the last one to become idle at the end."""
        self._coming = 0
        """Threads that were started or woken and have not looked for work yet."""
        self._ending: set[threading.Thread] = set()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have a function called by a thread of the pool."""
        future: Future[_T] = Future()
        with self._lock:
            self._work.append((future, lambda: fn(*args, **kwargs)))
            if self._idle:
                self._wake(self._idle[-1])
            elif len(self._work) > self._coming and len(self._threads) < self._most:
                self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, each after what it is at.

        Args:
            wait: until they have ended.
            cancel_futures: cancel what no thread has begun; otherwise it is done first.
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
        """How many threads there are."""
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
        except RuntimeError:  # the system gives no more threads
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
            del given  # the next one may be long in coming

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """What to do next; None: this thread ends."""
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
        """Wait for work; whether somebody has said that there is some."""
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
    """Do a step of a session without blocking the event loop.

    Args:
        pool: whose threads do it.
        step: what blocks.
        kill: ends what the step waits for; called when the awaiting task is cancelled.
    """
    future = asyncio.wrap_future(pool.submit(step))
    # Whoever cancels may do so twice, as LangGraph and then the end of a loop do: nobody is left to ask how it ended.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():  # again, since a step that had no worker yet may be starting one
            await asyncio.wrap_future(pool.submit(kill))
            await asyncio.wait([future], timeout=_KILL_AGAIN_SECONDS)
        raise
