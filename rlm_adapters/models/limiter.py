"""`Limiter`: one for each run, for the model calls of its whole call tree.

LangGraph's ``max_concurrency`` counts per graph, so it multiplies with the depth (2 becomes 4 calls at depth 2).
Therefore a run has one `Limiter`, shared with all its child runs. A slot is held only during a model call, never while
a parent waits for a child. So a child never waits for a slot of its parent.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Self

from rlm_adapters.effects import Steps, sleep, wait_for_future
from rlm_adapters.models.limits import Limits

_WINDOW = 60.0  # seconds of the per-minute limits


class Limiter:
    """Limits calls in flight, and calls and tokens per minute. Thread-safe; fair between owners.

    Args:
        max_concurrency: calls in flight.
        requests_per_minute: calls started in any 60 seconds.
        tokens_per_minute: tokens of those calls.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        max_concurrency: int,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free = max_concurrency
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._clock = clock
        self._lock = threading.Lock()
        self._queues: OrderedDict[str, deque[Future[None]]] = OrderedDict()
        self._started: deque[tuple[float, int]] = deque()
        self._started_tokens = 0

    @classmethod
    def of(cls, limits: Limits, *, share: int = 1) -> Self:
        """A limiter for the fields of `Limits` about calls at once and per minute, or for a part of them.

        Args:
            limits: of the whole.
            share: number of processes that share them equally.
        """
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        return cls(
            max(1, limits.max_concurrency // share),
            requests_per_minute=None if requests is None else max(1, requests // share),
            tokens_per_minute=None if tokens is None else max(1, tokens // share),
        )

    def slot(
        self, owner: str, tokens: int, seconds_left: Callable[[], float | None] = lambda: None
    ) -> Steps[Callable[[], None]]:
        """Wait for a slot to call a model.

        Args:
            owner: owner of the call. Owners get free slots in turn, so one child's batch does not block its siblings.
            tokens: estimated tokens of the call.
            seconds_left: returns the seconds until the time limit of the run; None: no limit.

        Returns:
            A function that releases the slot.

        Raises:
            TimeoutError: the time limit was reached before there was a slot.
        """
        future = self._queue(owner)
        if not future.done():
            try:
                yield wait_for_future(future, seconds_left())
            except BaseException:
                self._abandon(owner, future)
                raise
        try:
            while (delay := self._start(tokens)) > 0:
                left = seconds_left()
                if left is not None and left < delay:
                    raise TimeoutError("the run is over before the next minute begins")  # noqa: TRY301 - gives the place back
                yield sleep(delay)
        except BaseException:
            self._release()
            raise
        return self._release

    @contextmanager
    def held(self, release: Callable[[], None]) -> Iterator[None]:
        """Release a slot at the end of a block."""
        try:
            yield
        finally:
            release()

    def _queue(self, owner: str) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if self._free > 0 and not self._queues:
                self._free -= 1
                future.set_result(None)
            else:
                self._queues.setdefault(owner, deque()).append(future)
        return future

    def _release(self) -> None:
        while True:
            with self._lock:
                if not self._queues:
                    self._free += 1
                    return
                owner, queue = self._queues.popitem(last=False)
                future = queue.popleft()
                if queue:
                    self._queues[owner] = queue  # move it to the end
            if future.set_running_or_notify_cancel():
                future.set_result(None)
                return

    def _abandon(self, owner: str, future: Future[None]) -> None:
        with self._lock:
            queue = self._queues.get(owner)
            if queue is not None and future in queue:
                queue.remove(future)
                if not queue:
                    del self._queues[owner]
                return
        if not future.cancelled():
            self._release()  # the slot was just granted

    def _start(self, tokens: int) -> float:
        """Note the start of a call. If the minute is full, return the seconds to wait instead."""
        if self._requests is None and self._tokens is None:
            return 0.0
        with self._lock:
            now = self._clock()
            while self._started and self._started[0][0] <= now - _WINDOW:
                self._started_tokens -= self._started.popleft()[1]
            full = self._requests is not None and len(self._started) >= self._requests
            heavy = self._tokens is not None and self._started and self._started_tokens + tokens > self._tokens
            if full or heavy:
                return max(0.01, self._started[0][0] + _WINDOW - now)
            self._started.append((now, tokens))
            self._started_tokens += tokens
            return 0.0
