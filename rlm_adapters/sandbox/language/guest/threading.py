"""``threading`` of the cells, over the session's scheduler.

``_spawn`` starts a task; ``_condition`` gives two functions: wait until a predicate holds, and let waiters look.
"""


class Thread:
    """A call that runs beside the others, one at a time."""

    def __init__(self, group=None, target=None, name=None, args=(), kwargs=None, *, daemon=None):
        self._target, self._args, self._kwargs = target, args, kwargs or {}
        self._task = None
        self.name = name or "Thread"
        self.daemon = bool(daemon)

    def run(self):
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def start(self):
        if self._task is not None:
            raise RuntimeError("threads can only be started once")
        self._task = _spawn(_run_thread, (self,), {})

    def join(self, timeout=None):
        if self._task is None:
            raise RuntimeError("cannot join thread before it is started")
        self._task[0]()

    def is_alive(self):
        return self._task is not None and not self._task[1]()


def _run_thread(thread):
    try:
        thread.run()
    except Exception as error:
        print(f"Exception in thread {thread.name}:\n{type(error).__name__}: {error}")


class Semaphore:
    """Lets a number of tasks through at a time."""

    def __init__(self, value=1):
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        self._value = value
        self._wait, self._notify = _condition()

    def acquire(self, blocking=True, timeout=None):
        if self._value <= 0 and not blocking:
            return False
        self._wait(lambda: self._value > 0)
        self._value -= 1
        return True

    def release(self, n=1):
        self._value += n
        self._notify()

    def locked(self):
        return self._value <= 0

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, kind, value, traceback):
        self.release()


class BoundedSemaphore(Semaphore):
    """A semaphore."""


class Lock(Semaphore):
    """A semaphore for one."""

    def __init__(self):
        super().__init__(1)

    def release(self):
        if self._value > 0:
            raise RuntimeError("release unlocked lock")
        super().release()


class RLock:
    """A lock that never blocks who holds it; tasks take turns only where they wait, so counting is enough."""

    def __init__(self):
        self._count = 0

    def acquire(self, blocking=True, timeout=-1):
        self._count += 1
        return True

    def release(self):
        if not self._count:
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, kind, value, traceback):
        self.release()


class Event:
    """A flag that tasks wait for."""

    def __init__(self):
        self._flag = False
        self._wait, self._notify = _condition()

    def is_set(self):
        return self._flag

    def set(self):
        self._flag = True
        self._notify()

    def clear(self):
        self._flag = False

    def wait(self, timeout=None):
        if timeout is None:
            self._wait(lambda: self._flag)
        return self._flag


class Condition:
    """A lock with a queue of waiters."""

    def __init__(self, lock=None):
        self._round = 0
        self._wait, self._notify = _condition()

    def wait(self, timeout=None):
        start = self._round
        self._wait(lambda: self._round > start)
        return True

    def wait_for(self, predicate, timeout=None):
        while not predicate():
            self.wait()
        return True

    def notify(self, n=1):
        self._round += 1
        self._notify()

    notify_all = notify

    def acquire(self, *args):
        return True

    def release(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        pass


class local:
    """Attributes of a thread."""


_MAIN = Thread(name="MainThread")


def current_thread():
    """The current thread, always the same object here."""
    return _MAIN


def main_thread():
    """The main thread."""
    return _MAIN


def active_count():
    """How many threads run at a time."""
    return 1


def get_ident():
    """A number for the current thread."""
    return 1
