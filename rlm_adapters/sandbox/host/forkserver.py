"""Request workers from a fork server (the zygote, or a holder of inputs), and end them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.host.channel import Channel, ChannelClosedError, ChannelTimeoutError
from rlm_adapters.sandbox.host.inputs import Load
from rlm_adapters.sandbox.protocol.frames import Message, ProtocolError

_REQUEST_SECONDS: Final = 600.0
"""Time limit for a fork server that does not answer. A dead one is noticed at once. Decoding gigabytes takes long."""
_MAX_REPLY_BYTES: Final = 1 << 20


class ForkServerGoneError(Exception):
    """The fork server is dead or does not answer."""


class WorkerProcess:
    """A worker of a fork server, and the channel to it.

    The fork server sent the pid before any cell ran, and the pid cannot be reused before `end`.
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
        """Kill the worker and its process group. Can be called twice, and from any thread.

        Args:
            wait: the worker has closed its socket: wait for its exit status.

        Returns:
            With ``wait``, its exit status, or the negative number of the signal that killed it.
        """
        with self._lock:
            if self._ended:
                return None
            self._ended = True
        status = None
        self.channel.close()
        # If the fork server has ended, the kernel has killed the worker with it.
        with contextlib.suppress(ForkServerGoneError):
            status = self._server.end(self.pid, wait=wait)
        return status

    def abandon(self) -> None:
        """`end` for a finalizer, which may run in a thread that is using the fork server.

        The worker waits for the host, so it ends when the channel closes. It is reaped with the next request.
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
        """A new fork server without inputs. Give it inputs with `load`.

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
        if not wait:
            self._abandoned.append(pid)
            self._send_endings()
            return None
        status: int | None = self._request({"t": "end", "pid": pid, "wait": True})["status"]
        return status

    def abandon(self, pid: int) -> None:
        """End a worker with the next request. Takes no lock."""
        self._abandoned.append(pid)

    def load(self, load: Load) -> None:
        """Load inputs into the server, for the workers that it forks later.

        Raises:
            InputError: They cannot be decoded.
        """
        reply = self._request({"t": "load", "items": list(load.items)}, fds=load.fds, stream=load.stream)
        if reply["t"] == "failed":
            raise InputError(reply["message"])

    def close(self) -> None:
        """End the server and all its workers."""
        self._gone = True
        self._channel.close()

    def _request(
        self, message: Message, *, fds: Sequence[int] = (), stream: Iterable[bytes | memoryview] = ()
    ) -> Message:
        with self._conversation() as deadline:
            self._channel.send(message, deadline=deadline, fds=fds)
            for piece in stream:
                self._channel.send_bytes(piece, deadline=deadline)
            return self._channel.receive(deadline=deadline)

    def _send_endings(self) -> None:
        """Tell the server which workers to end.

        Runs end on event loops, and a hundred of them at once would wait seconds for the forks of others. So if another
        thread is using the server, this thread does not wait, and the other one sends the requests when it is done.
        """
        while self._abandoned and not self._gone and self._lock.acquire(blocking=False):
            try:
                with self._talking():
                    pass
            finally:
                self._lock.release()

    @contextlib.contextmanager
    def _conversation(self) -> Iterator[float]:
        """Exclusive use of the channel until a deadline. Any error in it means that the server has failed."""
        with self._lock, self._talking() as deadline:
            yield deadline
        self._send_endings()

    @contextlib.contextmanager
    def _talking(self) -> Iterator[float]:
        """Use of the channel with the lock. Waiting requests to end workers are sent first."""
        if self._gone:
            raise ForkServerGoneError("the fork server was closed")
        deadline = time.monotonic() + _REQUEST_SECONDS
        try:
            while self._abandoned:
                end = {"t": "end", "pid": self._abandoned.popleft(), "wait": False}
                self._channel.send(end, deadline=deadline)
            yield deadline
        except BaseException as error:
            self._gone = True  # the reply is missing, so the next reply would belong to this request
            self._channel.close()
            if isinstance(error, (ChannelClosedError, ChannelTimeoutError, ProtocolError)):
                raise ForkServerGoneError(str(error)) from None
            raise


class Holder(ForkClient):
    """A process that holds decoded inputs. The workers that it forks share them copy-on-write.

    It ends, with its workers, when no object refers to it any more.
    """

    def __init__(self, parent: ForkClient, pid: int, sock: socket.socket) -> None:
        super().__init__(sock)
        # A finalizer must not take a lock: it may run in a thread that is using one of these processes.
        self._end = weakref.finalize(self, _abandon_holder, self._channel, parent, pid)

    def close(self) -> None:
        """End the holder and its workers."""
        self._gone = True
        self._end()


def _abandon_holder(channel: Channel, parent: ForkClient, pid: int) -> None:
    channel.close()
    parent.abandon(pid)
