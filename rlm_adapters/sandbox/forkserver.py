"""The host's side of the zygote: starting it, asking it for workers, ending them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from rlm_adapters.errors import InputError, SandboxError
from rlm_adapters.sandbox.channel import Channel, ChannelClosedError, ChannelTimeoutError
from rlm_adapters.sandbox.frames import Message, ProtocolError
from rlm_adapters.sandbox.inputs import Load

_T = TypeVar("_T")
_REQUEST_SECONDS: Final = 60.0
_MAX_REPLY_BYTES: Final = 1 << 20
_PACKAGE_ROOT: Final = str(Path(__file__).resolve().parents[2])
_BOOT: Final = (
    "import json, sys; path, fd, modules = json.loads(sys.argv[1]); "
    "sys.path += [entry for entry in path if entry not in sys.path]; "
    "from rlm_adapters.sandbox.zygote import main; main(fd, modules)"
)
_ENVIRONMENT: Final = {
    "PYTHONHASHSEED": "0",  # the order of a set must be the same in the worker that replays a journal
    "PYTHONUTF8": "1",
    "TZ": "UTC",
    "MALLOC_ARENA_MAX": "1",  # an arena reserves 64 MB of address space per thread, and that is limited
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
"""The whole environment of the zygote: nothing of the host's, so no key of the user's can be read in a worker."""


class ForkServerGoneError(Exception):
    """The fork server is dead or does not answer."""


class WorkerProcess:
    """A worker that a fork server has made, and the channel to it.

    The pid was told by the fork server before any cell ran, and cannot be reused before `end`.
    """

    def __init__(self, server: ForkClient, pid: int, sock: socket.socket, max_frame_bytes: int) -> None:
        self.pid = pid
        self.channel = Channel(sock, max_frame_bytes=max_frame_bytes)
        self._server = server
        self._lock = threading.Lock()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended

    def end(self, *, wait: bool = False) -> int | None:
        """Kill the worker and its process group; harmless when done twice, and from any thread.

        Args:
            wait: it has closed its socket: find out how it ended.

        Returns:
            With ``wait``, its exit status, or the negative number of the signal that killed it.
        """
        with self._lock:
            if self._ended:
                return None
            self._ended = True
        status = None
        self.channel.close()
        # When the fork server is gone the kernel has killed the worker with it.
        with contextlib.suppress(ForkServerGoneError):
            status = self._server.end(self.pid, wait=wait)
        return status

    def abandon(self) -> None:
        """`end` for a finalizer, which may run in a thread that is just talking to the fork server.

        Nobody waits for this worker, so it waits for the host and ends by itself when the channel closes; it is
        reaped with the next request.
        """
        if not self._ended:
            self._ended = True
            self.channel.close()
            self._server.abandon(self.pid)


class ForkClient:
    """Requests to a fork server; thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock, max_frame_bytes=_MAX_REPLY_BYTES)
        self._lock = threading.Lock()
        self._gone = False
        self._abandoned: deque[int] = deque()

    def fork(self, *, max_frame_bytes: int) -> WorkerProcess:
        """A new worker.

        Raises:
            ForkServerGoneError: The fork server is dead.
        """
        pid, sock = self._fork("fork")
        return WorkerProcess(self, pid, sock, max_frame_bytes)

    def fork_holder(self) -> Holder:
        """A fork server without inputs, to be given some.

        Raises:
            ForkServerGoneError: This fork server is dead.
        """
        return Holder(self, *self._fork("fork_holder"))

    def _fork(self, request: str) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                return self._request({"t": request}, fds=[theirs.fileno()])["pid"], ours
            except BaseException:
                ours.close()
                raise

    def end(self, pid: int, *, wait: bool) -> int | None:
        """Kill a worker of this server and reap it."""
        message: Message = {"t": "end", "pid": pid, "wait": wait}
        if not wait:
            self._tell(message)
            return None
        status: int | None = self._request(message)["status"]
        return status

    def abandon(self, pid: int) -> None:
        """Have a worker reaped with the next request; takes no lock."""
        self._abandoned.append(pid)

    def load(self, load: Load) -> None:
        """Have the server itself take some inputs, for the workers that it forks later.

        Raises:
            InputError: They cannot be decoded.
        """
        reply = self._request({"t": "load", "items": list(load.items)}, fds=load.fds)
        if reply["t"] == "failed":
            raise InputError(reply["message"])

    def close(self) -> None:
        """Let the server end itself and all its workers."""
        self._gone = True
        self._channel.close()

    def _request(self, message: Message, *, fds: Sequence[int] = ()) -> Message:
        with self._conversation() as deadline:
            self._channel.send(message, deadline=deadline, fds=fds)
            return self._channel.receive(deadline=deadline)

    def _tell(self, message: Message) -> None:
        with self._conversation() as deadline:
            self._channel.send(message, deadline=deadline)

    @contextlib.contextmanager
    def _conversation(self) -> Iterator[float]:
        """Exclusive use of the channel until a deadline; what goes wrong in it is the end of this server."""
        with self._lock:
            if self._gone:
                raise ForkServerGoneError("the fork server was closed")
            deadline = time.monotonic() + _REQUEST_SECONDS
            try:
                while self._abandoned:
                    end = {"t": "end", "pid": self._abandoned.popleft(), "wait": False}
                    self._channel.send(end, deadline=deadline)
                yield deadline
            except BaseException as error:
                self._gone = True  # a request without its reply: the next reply would be the wrong one
                self._channel.close()
                if isinstance(error, (ChannelClosedError, ChannelTimeoutError, ProtocolError)):
                    raise ForkServerGoneError(str(error)) from None
                raise


class Holder(ForkClient):
    """A process that holds decoded inputs; the workers forked from it share them copy-on-write.

    It ends, with its workers, when nobody refers to it any more.
    """

    def __init__(self, parent: ForkClient, pid: int, sock: socket.socket) -> None:
        super().__init__(sock)
        # A finalizer takes no lock: it may run in a thread that is talking to one of these processes.
        self._end = weakref.finalize(self, _abandon_holder, self._channel, parent, pid)

    def close(self) -> None:
        """End the holder and its workers."""
        self._gone = True
        self._end()


def _abandon_holder(channel: Channel, parent: ForkClient, pid: int) -> None:
    channel.close()
    parent.abandon(pid)


class Zygote(ForkClient):
    """The zygote process. Returns at once: it imports while the host goes on.

    Args:
        modules: imported by the zygote for every worker.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(ours)
        path = [_PACKAGE_ROOT, *(entry for entry in sys.path if Path(entry).is_absolute())]
        arguments = json.dumps([path, theirs.fileno(), list(modules)])
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        with theirs:
            # Not -I: it would ignore PYTHONHASHSEED too.
            self._process = subprocess.Popen(  # noqa: S603 - our own code
                [sys.executable, "-s", "-P", "-c", _BOOT, arguments],
                env=_ENVIRONMENT | {k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal is the host's
            )
        self._hello: Message | None = None

    def hello(self) -> Message:
        """What the zygote said when it was ready: the layers that hold on this machine.

        Raises:
            SandboxError: It could not start.
        """
        with self._lock:
            if self._hello is None:
                try:
                    hello = self._channel.receive(deadline=time.monotonic() + _REQUEST_SECONDS)
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
        """End the zygote with all its workers, and reap it."""
        super().close()
        self._errors.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """In a forked copy of the host: let go of the parent's zygote without ending it."""
        self._gone = True
        self._channel.detach()
        self._errors.close()
        self._process.returncode = 0  # not our child


class SharedZygote:
    """One zygote for all sandboxes of this process that import the same modules; started anew when it dies."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._modules = modules
        self._lock = threading.RLock()  # a finalizer may release while this thread is starting the zygote
        self._zygote: Zygote | None = None
        self._users = 0

    def acquire(self) -> None:
        """Count one more user, and have the zygote starting."""
        with self._lock:
            self._users += 1
            if self._zygote is None:
                self._zygote = Zygote(self._modules)

    def release(self) -> None:
        """Count one user less; with the last one the zygote ends."""
        with self._lock:
            self._users -= 1
            if self._users > 0 or self._zygote is None:
                return
            zygote, self._zygote = self._zygote, None
        zygote.close()

    def hello(self) -> Message:
        """What the zygote found out about this machine."""
        return self._current().hello()

    def fork(self, *, max_frame_bytes: int) -> WorkerProcess:
        """A new worker, from a new zygote if the old one has died.

        Raises:
            SandboxError: None can be had.
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
            SandboxError: None can be had.
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

    def forget(self) -> None:
        """In a forked copy of the host: start over with a zygote of its own."""
        self._lock = threading.RLock()
        if self._zygote is not None:
            self._zygote.forget()
            self._zygote = None


_shared: Final[weakref.WeakValueDictionary[tuple[str, ...], SharedZygote]] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_zygote(modules: Sequence[str]) -> SharedZygote:
    """The zygote of this process that imports these modules. It holds no inputs, so runs cannot meet in it."""
    key = tuple(modules)
    with _shared_lock:
        zygote = _shared.get(key)
        if zygote is None:
            zygote = _shared[key] = SharedZygote(key)
        return zygote


def _after_fork_in_child() -> None:
    global _shared_lock  # noqa: PLW0603 - the old one may be held by a thread that does not exist here
    _shared_lock = threading.Lock()
    for zygote in list(_shared.values()):
        zygote.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
