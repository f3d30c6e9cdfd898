"""Deterministic concurrency in a cell: one task runs at a time, and calls to the host are sent together.

``ThreadPoolExecutor``, ``threading`` and ``asyncio`` in cells use this scheduler. Each task has its own thread, but
only one thread runs: the others wait until it blocks. When all tasks are blocked, their calls are sent to the host in
one batch, in the order of the tasks. So a cell does the same in each run, and none of its tasks runs after its end.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from rlm_adapters.sandbox.protocol.types import Answer, HostFunction
from rlm_adapters.sandbox.runtime.control import CellTimeout, ControlFlow, TaskCancelled
from rlm_adapters.sandbox.runtime.hostcalls import CallHost, HostFunctions, WireCall

_MAX_THREADS: Final = 128
_MAX_STACK: Final = 8 << 20
"""Enough for any recursion that Python allows, also through C (3.13 needs more than 4 MB)."""
_STACKS: Final = 192 << 20
"""Address space for the stacks of all tasks. With very many tasks each gets less; calls from Python to Python need no
C stack."""


class Waitable:
    """An object that tasks can wait for."""

    def __init__(self) -> None:
        self.waiting: deque[Task] = deque()


class Task(Waitable):
    """One task: a function, or a call that the host answers.

    Attributes:
        done: whether it has ended.
        value: its result.
        error: its exception.
    """

    def __init__(self, work: Callable[[], Any] | None = None) -> None:
        super().__init__()
        self.work = work
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.cancelled = False
        self.thread: threading.Thread | None = None
        self.resume = threading.Semaphore(0)
        self.ended_by_cell = False


class _HostWait(Waitable):
    """Calls that wait for the host."""

    def __init__(self, calls: Sequence[WireCall], then: Callable[[list[Answer]], None] | None = None) -> None:
        super().__init__()
        self.calls = calls
        self.answers: list[Answer] | None = None
        self.then = then


class Scheduler:
    """Runs the tasks of one session.

    Args:
        call_host: sends calls to the host. It is called only from the thread that runs the cell.
        now: reads the session's clock.
        advance_to: moves the clock.
    """

    def __init__(self, call_host: CallHost, now: Callable[[], float], advance_to: Callable[[float], None]) -> None:
        self._call_host = call_host
        self._now = now
        self._advance_to = advance_to
        self._ready: deque[Task] = deque()
        self._started: dict[Task, None] = {}
        self._host_waits: list[_HostWait] = []
        self._sleepers: list[tuple[float, int, Waitable]] = []
        self._order = 0
        self._current: Task | None = None
        self._baton = threading.Semaphore(0)
        self._fatal: BaseException | None = None
        self._main_thread = threading.get_ident()
        self._ending = False
        self.functions: HostFunctions

    def begin_session(self, call_host: CallHost) -> None:
        """Take calls to this host, from this thread."""
        self._call_host = call_host
        self._main_thread = threading.get_ident()

    # Making tasks

    def submit(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
        """A task that runs ``work(*args, **kwargs)``. A host function needs no thread."""
        function = self.functions.described(work)
        if function is not None:
            return self._submit_call(function, args, kwargs)
        task = Task(lambda: work(*args, **kwargs))
        self._ready.append(task)
        return task

    def _submit_call(self, function: HostFunction, args: Sequence[Any], kwargs: dict[str, Any]) -> Task:
        task = Task()

        def finish(answers: list[Answer]) -> None:
            self._complete(task, lambda: self.functions.finish(function, answers))

        try:
            calls = self.functions.plan(function, args, kwargs)
        except Exception as error:  # noqa: BLE001 - the caller of the task gets it, as from any other function
            task.error, task.done = error, True
            return task
        self._host_waits.append(_HostWait(calls, finish))
        return task

    def _complete(self, task: Task, work: Callable[[], Any]) -> None:
        try:
            task.value = work()
        except ControlFlow as error:
            task.error, self._fatal = error, error
        except BaseException as error:  # noqa: BLE001 - whatever the cell raises belongs to who waits for it
            task.error = error
        task.done = True
        self.wake(task)

    # Waiting

    def call_host(self, calls: Sequence[WireCall]) -> list[Answer]:
        """Block the running code until the host has answered the calls."""
        self._refuse_when_ending()
        if self._current is None and not (self._ready or self._started or self._host_waits):
            return self._call_host(calls)
        wait = _HostWait(calls)
        self._host_waits.append(wait)
        self.wait(wait, lambda: wait.answers is not None)
        assert wait.answers is not None
        return wait.answers

    def wait_for(self, task: Task) -> None:
        """Block the running code until the task has ended."""
        self.wait(task, lambda: task.done)

    def sleep(self, seconds: float) -> None:
        """Let other tasks run, then continue when the clock has moved by ``seconds``."""
        timer = Waitable()
        moment = self._now() + max(0.0, seconds)
        self._order += 1
        entry = (moment, self._order, timer)
        self._sleepers.append(entry)
        self.wait(timer, lambda: entry not in self._sleepers)

    def wait(self, waitable: Waitable, ready: Callable[[], bool]) -> None:
        """Block the running code until ``ready()``. Code that changes its result must call `wake`."""
        self._refuse_when_ending()
        while not ready():
            task = self._current
            if task is not None:
                waitable.waiting.append(task)
                self._park(task)
            elif not self._step():
                raise RuntimeError("deadlock: everything in this cell waits for something else in it")

    def wake(self, waitable: Waitable) -> None:
        """Let waiting tasks check again."""
        while waitable.waiting:
            self._ready.append(waitable.waiting.popleft())

    def _refuse_when_ending(self) -> None:
        if self._ending and threading.get_ident() != self._main_thread:
            raise TaskCancelled

    # The loop, on the thread that runs the cell

    def _step(self) -> bool:
        """Run one task until it blocks or ends. If none can run, ask the host. False: there is nothing to do."""
        if self._ready:
            task = self._ready[0]
            if task.thread is None and len(self._started) >= _MAX_THREADS and self._ask_host():
                return True
            self._ready.popleft()
            if not task.done:
                self._run(task)
            return True
        return self._wake_sleeper() or self._ask_host()

    def _wake_sleeper(self) -> bool:
        if not self._sleepers:
            return False
        entry = min(self._sleepers, key=lambda sleeper: sleeper[:2])
        self._sleepers.remove(entry)
        self._advance_to(entry[0])
        self.wake(entry[2])
        return True

    def _ask_host(self) -> bool:
        if not self._host_waits:
            return False
        waits, self._host_waits = self._host_waits, []
        answers = iter(self._call_host([call for wait in waits for call in wait.calls]))
        for wait in waits:
            wait.answers = [next(answers) for _ in wait.calls]
            if wait.then is not None:
                wait.then(wait.answers)
            self.wake(wait)
        return True

    def _run(self, task: Task) -> None:
        self._current = task
        try:
            if task.thread is None:
                self._start(task)
            else:
                task.resume.release()
            self._baton.acquire()
        finally:
            # A CellTimeout may be raised while this thread waits for its turn. Then `end` ends the task.
            self._current = None
        if self._fatal is not None:
            fatal, self._fatal = self._fatal, None
            raise fatal

    def _start(self, task: Task) -> None:
        task.thread = threading.Thread(target=self._main, args=(task,), daemon=True)
        self._started[task] = None
        share = _STACKS // min(_MAX_THREADS, len(self._ready) + len(self._started))
        previous = threading.stack_size(min(_MAX_STACK, share) // 4096 * 4096)
        try:
            task.thread.start()
        except BaseException:
            self._started.pop(task, None)
            raise
        finally:
            threading.stack_size(previous)

    # On the thread of a task

    def _main(self, task: Task) -> None:
        assert task.work is not None
        try:
            self._complete(task, task.work)
        finally:
            self._started.pop(task, None)
            self._baton.release()

    def _park(self, task: Task) -> None:
        self._baton.release()
        task.resume.acquire()
        if task.ended_by_cell:
            raise TaskCancelled

    # The end of a cell

    def begin(self) -> None:
        """Start a cell on this thread."""
        self._main_thread = threading.get_ident()

    def drain(self) -> None:
        """Run all remaining tasks, as Python does when it waits for its threads."""
        while self._ready or self._host_waits or self._sleepers:
            self._step()

    def end(self) -> None:
        """End every unfinished task, so that nothing of a cell runs after its end."""
        self._ending = True
        while left := list(self._started):
            try:
                self._end_one(left[0])
            except CellTimeout:
                continue
        self._ending = False
        self._current = None
        self._ready.clear()
        self._host_waits.clear()
        self._sleepers.clear()
        self._baton = threading.Semaphore(0)
        self._fatal = None

    def _end_one(self, task: Task) -> None:
        task.ended_by_cell = True
        task.resume.release()
        thread = task.thread
        assert thread is not None
        thread.join(0.01)
        while thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TaskCancelled)
            )
            thread.join(0.05)
        self._started.pop(task, None)


def run_coroutine(coroutine: Any) -> Any:
    """Run a coroutine of a cell to its end. An ``await`` blocks its task, so the coroutine is never suspended."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError("the coroutine awaits something that is not of this sandbox's asyncio")


class Ready:
    """An awaitable with a known value."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        return self._value


def awaitable(value: Any) -> Any:
    """The awaitable for ``await value``. A plain value, such as the result of ``llm_query``, is returned at once."""
    return value if hasattr(type(value), "__await__") else Ready(value)
