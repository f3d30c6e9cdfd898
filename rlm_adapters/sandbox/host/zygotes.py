"""The zygote: started at the first use, shared, and started again if it dies."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from rlm_adapters.errors import SandboxError
from rlm_adapters.forking import forget_in_children
from rlm_adapters.sandbox.host.channel import ChannelClosedError, ChannelTimeoutError
from rlm_adapters.sandbox.host.forkserver import ForkClient, ForkServerGoneError, Holder, WorkerProcess
from rlm_adapters.sandbox.protocol.frames import Message, ProtocolError

_T = TypeVar("_T")
_START_SECONDS: Final = 60.0
_PACKAGE_ROOT: Final = str(Path(__file__).resolve().parents[3])
_BOOT: Final = (
    "import json, sys; path, fd, modules = json.loads(sys.argv[1]); "
    "sys.path[:0] = path[:1]; sys.path += [entry for entry in path if entry not in sys.path]; "
    "from rlm_adapters.sandbox.worker.zygote import main; main(fd, modules)"
)
_ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",  # the order of a set must be the same in the worker that replays a journal
    "PYTHONUTF8": "1",
    "TZ": "UTC",
    "MALLOC_ARENA_MAX": "1",  # an arena reserves 64 MB of address space per thread, and that is limited
    # Big objects in pages of 2 MB: 100 MB of text are decoded in half the time. Workers without such an input use small
    # pages (see `linux.use_small_pages`), so that they take no more memory.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""The environment of the zygote. It has no variables of the host, so a worker cannot read the user's keys."""


class Zygote(ForkClient):
    """The zygote process. The constructor returns at once, and the zygote imports its modules in the background.

    Args:
        modules: modules that the zygote imports for every worker.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        path = [_PACKAGE_ROOT, *(entry for entry in sys.path if Path(entry).is_absolute())]
        arguments = json.dumps([path, theirs.fileno(), list(modules)])
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        with theirs:
            # Not -I, because it would also ignore PYTHONHASHSEED.
            self._process = subprocess.Popen(  # noqa: S603 - our own code
                [sys.executable, "-s", "-P", "-c", _BOOT, arguments],
                env=_ENVIRONMENT | {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal is only for the host
            )
        self._hello: Message | None = None

    def hello(self) -> Message:
        """The first message of the zygote, with the layers that hold on this machine.

        Raises:
            SandboxError: It could not start.
        """
        if self._hello is not None:  # without the lock, which others hold while they fork
            return self._hello
        with self._lock:
            if self._hello is None:
                try:
                    hello = self._channel.receive(deadline=time.monotonic() + _START_SECONDS)
                except (ChannelClosedError, ChannelTimeoutError, ProtocolError) as error:
                    self._process.kill()
                    self._errors.seek(0)
                    said = self._errors.read().decode("utf-8", "replace").strip() or str(error)
                    raise SandboxError(f"the sandbox's fork server did not start: {said}") from None
                if hello["t"] != "hello":
                    raise SandboxError(f"the sandbox's fork server did not start: {hello['message']}")
                self._hello = hello
            return self._hello

    def close(self) -> None:
        """End the zygote and all its workers, and reap it."""
        super().close()
        self._errors.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a forked child: forget the parent's zygote without ending it."""
        self._gone = True
        self._channel.detach()
        self._errors.close()
        self._process.returncode = 0  # not our child


class SharedZygote:
    """One zygote for all sandboxes of this process with the same modules. It is started again if it dies."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._modules = modules
        self._lock = threading.RLock()  # a finalizer may release while this thread is starting the zygote
        self._zygote: Zygote | None = None
        self._users = 0
        forget_in_children(self)

    def acquire(self) -> None:
        """Count one more user, and start the zygote if necessary."""
        with self._lock:
            self._users += 1
            if self._zygote is not None:
                return
            if not _on_event_loop():
                self._zygote = Zygote(self._modules)
                return
        threading.Thread(target=self._current, daemon=True, name="rlm-zygote").start()  # starting it blocks

    def release(self) -> None:
        """Count one user less. The zygote ends with its last user."""
        with self._lock:
            self._users -= 1
            if self._users > 0 or self._zygote is None:
                return
            zygote, self._zygote = self._zygote, None
        zygote.close()

    def hello(self) -> Message:
        """The zygote's report about this machine."""
        return self._current().hello()

    def fork(self, *, max_frame_bytes: int) -> WorkerProcess:
        """A new worker, from a new zygote if the old one has died.

        Raises:
            SandboxError: It cannot be started.
        """
        return self._ask(lambda zygote: zygote.fork(max_frame_bytes=max_frame_bytes))

    def _ask(self, request: Callable[[Zygote], _T]) -> _T:
        for _ in range(2):
            zygote = self._current()
            zygote.hello()
            try:
                return request(zygote)
            except ForkServerGoneError:
                self._replace(zygote)
        raise SandboxError("no worker could be started: the sandbox's fork server died twice")

    def fork_holder(self) -> Holder:
        """A new holder, from a new zygote if the old one has died.

        Raises:
            SandboxError: It cannot be started.
        """
        return self._ask(Zygote.fork_holder)

    def _current(self) -> Zygote:
        with self._lock:
            if self._zygote is None:
                self._zygote = Zygote(self._modules)
            return self._zygote

    def _replace(self, dead: Zygote) -> None:
        with self._lock:
            if self._zygote is not dead:
                return  # another thread was faster
            self._zygote = Zygote(self._modules)
        dead.close()

    def forget_parent(self) -> None:
        """In a forked child: start again with a new zygote."""
        self._lock = threading.RLock()
        if self._zygote is not None:
            self._zygote.forget()
            self._zygote = None


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_shared: Final[weakref.WeakValueDictionary[tuple[str, ...], SharedZygote]] = weakref.WeakValueDictionary()


def shared_zygote(modules: Sequence[str]) -> SharedZygote:
    """The zygote of this process with these modules. It holds no inputs, so it does not connect runs."""
    key = tuple(modules)
    with _shared_lock.lock:
        zygote = _shared.get(key)
        if zygote is None:
            zygote = _shared[key] = SharedZygote(key)
        return zygote


class _SharedLock:
    """The lock for `_shared`. A child gets a new one, because a missing thread may hold the old one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        forget_in_children(self)

    def forget_parent(self) -> None:
        self.lock = threading.Lock()


_shared_lock: Final = _SharedLock()
