"""``asyncio`` of the cells, over the session's scheduler.

To await something blocks the task that does it, so coroutines never have to be suspended. ``_spawn`` starts a task,
``_run`` runs a coroutine in the current one, ``_sleep`` lets the others run.
"""

import queue
import threading

from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError, InvalidStateError
from concurrent.futures import Future as _Future

TimeoutError = TimeoutError
QueueEmpty = queue.Empty
QueueFull = queue.Full


class Future(_Future):
    """The result of something that runs, or will."""

    def __await__(self):
        return self.result()
        yield

    def get_name(self):
        return "Task"

    def set_name(self, name):
        pass


class Task(Future):
    """A coroutine that runs."""


class _Deferred:
    """A call that starts when it is awaited or made a task."""

    def __init__(self, function, args, kwargs):
        self._parts = function, args, kwargs

    def start(self):
        return Task(_spawn(*self._parts))

    def __await__(self):
        return self.start().result()
        yield


class _Gathered(Future):
    """The results of several tasks."""

    def __init__(self, tasks, return_exceptions):
        super().__init__()
        self._tasks, self._keep_errors = tasks, return_exceptions

    def done(self):
        return self._set or all(task.done() for task in self._tasks)

    def exception(self, timeout=None):
        if not self._set:
            outcomes = [(task.exception(), task) for task in self._tasks]
            if self._keep_errors:
                self._value = [task._value if error is None else error for error, task in outcomes]
            else:
                errors = [error for error, _ in outcomes if error is not None]
                self._error = errors[0] if errors else None
                self._value = [task._value for _, task in outcomes]
            self._set = True
        return self._error


def ensure_future(awaitable, *, loop=None):
    """A task for an awaitable; a plain value counts as an answer that is there."""
    if isinstance(awaitable, _Future):
        return awaitable
    if isinstance(awaitable, _Deferred):
        return awaitable.start()
    if iscoroutine(awaitable):
        return Task(_spawn(_run, (awaitable,), {}))
    if hasattr(awaitable, "__await__"):
        return Task(_spawn(_run, (_await_one(awaitable),), {}))
    future = Future()
    future.set_result(awaitable)
    return future


async def _await_one(awaitable):
    return await awaitable


def create_task(coro, *, name=None, context=None):
    """Start a coroutine."""
    return ensure_future(coro)


def gather(*aws, return_exceptions=False):
    """Run awaitables side by side; the results come in order."""
    return _Gathered([ensure_future(aw) for aw in aws], return_exceptions)


def run(main, *, debug=None, loop_factory=None):
    """Run a coroutine to its end."""
    return _run(main if iscoroutine(main) else _await_one(main))


async def sleep(delay, result=None):
    """Let the others run for a while."""
    _sleep(delay)
    return result


def to_thread(func, /, *args, **kwargs):
    """Call a function beside the others."""
    return _Deferred(func, args, kwargs)


async def wait_for(fut, timeout, **kwargs):
    """Wait for an awaitable."""
    return await fut


async def shield(arg):
    """Wait for an awaitable."""
    return await arg


async def wait(fs, *, timeout=None, return_when=ALL_COMPLETED):
    """Wait for tasks."""
    tasks = [ensure_future(aw) for aw in fs]
    for task in tasks:
        task.exception()
        if return_when == FIRST_COMPLETED:
            break
    done = {task for task in tasks if task.done()}
    return done, set(tasks) - done


def as_completed(fs, *, timeout=None):
    """Awaitables that give the results as they come."""
    pending = [ensure_future(aw) for aw in fs]
    while pending:
        if not any(task.done() for task in pending):
            pending[0].exception()
        finished = [task for task in pending if task.done()]
        pending = [task for task in pending if task not in finished]
        yield from finished


class Semaphore(threading.Semaphore):
    """Lets a number of tasks through at a time."""

    async def acquire(self):
        return super().acquire()

    async def __aenter__(self):
        await self.acquire()

    async def __aexit__(self, kind, value, traceback):
        self.release()


class BoundedSemaphore(Semaphore):
    """A semaphore."""


class Lock(Semaphore):
    """A semaphore for one."""

    def __init__(self):
        super().__init__(1)


class Event(threading.Event):
    """A flag that tasks wait for."""

    async def wait(self):
        return super().wait()


class Queue(queue.Queue):
    """First in, first out."""

    async def put(self, item):
        super().put(item)

    async def get(self):
        return super().get()

    async def join(self):
        super().join()

    def put_nowait(self, item):
        queue.Queue.put(self, item, block=False)

    def get_nowait(self):
        return queue.Queue.get(self, block=False)


class TaskGroup:
    """Tasks that are waited for together."""

    def __init__(self):
        self._tasks = []

    def create_task(self, coro, *, name=None, context=None):
        task = ensure_future(coro)
        self._tasks.append(task)
        return task

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, value, traceback):
        errors = [error for error in [task.exception() for task in self._tasks] if error is not None]
        if errors:
            raise _exception_group("unhandled errors in a TaskGroup", errors)


class timeout:
    """A time limit, which nothing reaches here."""

    def __init__(self, delay=None):
        pass

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, value, traceback):
        pass


class _Loop:
    """The event loop."""

    def run_until_complete(self, future):
        return run(future)

    def create_task(self, coro, **kwargs):
        return ensure_future(coro)

    def run_in_executor(self, executor, func, *args):
        return Task(_spawn(func, args, {}))

    def create_future(self):
        return Future()

    def time(self):
        return _time()

    def is_running(self):
        return False

    def is_closed(self):
        return False

    def close(self):
        pass

    def set_debug(self, enabled):
        pass

    async def shutdown_asyncgens(self):
        pass


_LOOP = _Loop()


def get_event_loop():
    """The event loop."""
    return _LOOP


get_running_loop = new_event_loop = get_event_loop


def set_event_loop(loop):
    """Do nothing: there is one event loop."""


def iscoroutine(value):
    """Whether ``value`` is a coroutine."""
    return _is_coroutine(value)


def iscoroutinefunction(value):
    """Whether ``value`` is an ``async def`` function."""
    return _is_coroutine_function(value)


def isfuture(value):
    """Whether ``value`` is a future."""
    return isinstance(value, _Future)
