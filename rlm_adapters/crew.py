"""Drive several generator bodies in threads, without a further thread for each call with a time-out.

A call that blocks cannot be ended from outside. So a body whose call takes too long is continued by another thread,
and the thread of the call ends when the call returns.
"""

from __future__ import annotations

import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

T = TypeVar("T")


class Blocking(Protocol):
    """What a body yields: a blocking call, and the seconds after which ``TimeoutError`` is raised in the body."""

    @property
    def run(self) -> Callable[[], Any]:
        """Blocks and returns the result."""
        ...

    @property
    def timeout(self) -> float | None:
        """None: no time-out."""
        ...


class _Body(Generic[T]):
    """A body, with the thread that continues it.

    Attributes:
        steps: the generator.
        context: in which it runs.
        turn: number of times that another thread has taken it over.
        deadline: when its current call has taken too long, in monotonic seconds.
        result: its result, at its end.
    """

    __slots__ = ("context", "deadline", "result", "steps", "turn")

    def __init__(self, steps: Generator[Blocking, Any, T]) -> None:
        self.steps = steps
        self.context = contextvars.copy_context()
        self.turn = 0
        self.deadline = math.inf
        self.result: T | None = None


class Crew(Generic[T]):
    """Threads that drive bodies. The thread that waits for the results watches the time-outs.

    Args:
        bodies: generators that yield `Blocking` calls.
        threads: number of bodies that run at once.
    """

    def __init__(self, bodies: Sequence[Generator[Blocking, Any, T]], threads: int) -> None:
        self._bodies = [_Body(body) for body in bodies]
        self._waiting = deque(self._bodies)
        self._threads = min(threads, len(bodies))
        self._open = len(bodies)
        self._failure: BaseException | None = None
        self._watched = math.inf
        self._news: Final = threading.Condition()

    def results(self) -> list[Any]:
        """Drive all bodies, and return their results in order.

        When one raises, its exception is raised. Then nobody waits for the others: those that have begun end by
        themselves, and the rest never begin.
        """
        try:
            self._start()
            with self._news:
                while self._open and self._failure is None:
                    self._watch()
        finally:
            with self._news:
                self._waiting.clear()
        if self._failure is not None:
            raise self._failure
        return [body.result for body in self._bodies]

    def _start(self) -> None:
        for number in range(self._threads):
            try:
                _thread(self._work)
            except RuntimeError:  # the system allows no more threads
                if not number:
                    raise
                return

    def _watch(self) -> None:
        """Wait for news, and pass on bodies whose call has taken too long. With the lock held."""
        now = time.monotonic()
        for body in self._bodies:
            if body.deadline <= now:
                body.turn, body.deadline = body.turn + 1, math.inf
                _thread(lambda body=body: self._take_over(body))  # type: ignore[misc]
        self._watched = min(body.deadline for body in self._bodies)
        self._news.wait(None if math.isinf(self._watched) else self._watched - now)

    def _work(self) -> None:
        while True:
            with self._news:
                if not self._waiting or self._failure is not None:
                    return
                body = self._waiting.popleft()
            if not self._drive(body, lambda body=body: next(body.steps)):  # type: ignore[misc]
                return

    def _take_over(self, body: _Body[T]) -> None:
        if self._drive(body, lambda: body.steps.throw(TimeoutError())):
            self._work()

    def _drive(self, body: _Body[T], send: Callable[[], Blocking]) -> bool:
        """Continue a body to its end. Returns whether this thread was not replaced meanwhile."""
        turn = body.turn
        while True:
            try:
                wait = body.context.run(send)
            except StopIteration as stop:
                self._end(body, stop.value)
                return True
            except BaseException as error:  # noqa: BLE001 - carried to whoever waits for the results
                self._end(body, None, error)
                return True
            try:
                value = self._call(body, wait)
            except BaseException as error:  # noqa: BLE001 - every outcome belongs to the body
                caught = error
                send = lambda caught=caught: body.steps.throw(caught)  # type: ignore[misc]  # noqa: E731
            else:
                send = lambda value=value: body.steps.send(value)  # type: ignore[misc]  # noqa: E731
            with self._news:
                if body.turn != turn:
                    return False
                body.deadline = math.inf

    def _call(self, body: _Body[T], wait: Blocking) -> Any:
        if wait.timeout is None:
            return body.context.run(wait.run)
        if wait.timeout <= 0:
            raise TimeoutError
        with self._news:
            body.deadline = time.monotonic() + wait.timeout
            if body.deadline < self._watched:
                self._news.notify()
        return body.context.copy().run(wait.run)  # another thread may need the context before it returns

    def _end(self, body: _Body[T], result: T | None, error: BaseException | None = None) -> None:
        with self._news:
            body.result = result
            self._open -= 1
            if error is not None and self._failure is None:
                self._failure = error
            if error is not None or not self._open:
                self._news.notify()


def _thread(work: Callable[[], Any]) -> None:
    threading.Thread(target=work, daemon=True, name="rlm-gather").start()
