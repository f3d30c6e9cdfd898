"""``concurrent.futures`` of the cells, over the session's scheduler.

``_spawn`` starts a task and gives three functions: wait for it, whether it is done, its outcome.
"""

from collections import namedtuple

FIRST_COMPLETED = "FIRST_COMPLETED"
FIRST_EXCEPTION = "FIRST_EXCEPTION"
ALL_COMPLETED = "ALL_COMPLETED"
TimeoutError = TimeoutError


class CancelledError(Exception):
    """The future was cancelled."""


class InvalidStateError(Exception):
    """The operation is not allowed in this state."""


DoneAndNotDoneFutures = namedtuple("DoneAndNotDoneFutures", "done not_done")


class Future:
    """The result of a call that runs, or will."""

    def __init__(self, task=None):
        self._task = task
        self._cancelled = False
        self._value = None
        self._error = None
        self._set = False

    def done(self):
        return self._cancelled or self._set or (self._task is not None and self._task[1]())

    def running(self):
        return not self.done()

    def cancelled(self):
        return self._cancelled

    def cancel(self):
        if self.done():
            return self._cancelled
        return False

    def result(self, timeout=None):
        error = self.exception()
        if error is not None:
            raise error
        return self._value

    def exception(self, timeout=None):
        if self._cancelled:
            raise CancelledError()
        if not self._set:
            if self._task is None:
                raise TimeoutError("nobody sets this future's result")
            self._task[0]()
            self._value, self._error = self._task[2]()
            self._set = True
        return self._error

    def set_result(self, value):
        self._value, self._set = value, True

    def set_exception(self, error):
        self._error, self._set = error, True

    def add_done_callback(self, function):
        if self.done():
            function(self)
        else:
            _spawn(_call_when_done, (self, function), {})

    def __repr__(self):
        return f"<Future state={'finished' if self.done() else 'pending'}>"


def _call_when_done(future, function):
    future.exception()
    function(future)


class Executor:
    """Runs calls. How many run at once is up to the host; ``max_workers`` is only checked."""

    def __init__(self, max_workers=None, *args, **kwargs):
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._futures = []
        self._shutdown = False

    def submit(self, fn, /, *args, **kwargs):
        if self._shutdown:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future = Future(_spawn(fn, args, kwargs))
        self._futures.append(future)
        return future

    def map(self, fn, *iterables, timeout=None, chunksize=1):
        futures = [self.submit(fn, *args) for args in zip(*iterables)]
        return (future.result() for future in futures)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._shutdown = True
        if wait:
            for future in self._futures:
                future._task[0]()
        self._futures = []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.shutdown()
        return False


class ThreadPoolExecutor(Executor):
    """Runs calls side by side."""


class ProcessPoolExecutor(Executor):
    """The same: there is one process."""


def as_completed(fs, timeout=None):
    """The futures as they finish."""
    pending = list(dict.fromkeys(fs))
    while pending:
        if not any(future.done() for future in pending):
            pending[0]._task[0]()
        finished = [future for future in pending if future.done()]
        pending = [future for future in pending if future not in finished]
        yield from finished


def wait(fs, timeout=None, return_when=ALL_COMPLETED):
    """Wait for the futures."""
    fs = list(fs)
    for future in fs:
        future.exception()
        if return_when == FIRST_COMPLETED:
            break
    done = {future for future in fs if future.done()}
    return DoneAndNotDoneFutures(done, set(fs) - done)
