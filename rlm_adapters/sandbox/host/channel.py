"""The host's end of the socket to a worker. It sends frames and receives untrusted frames, with a deadline for each."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from typing import Final

from rlm_adapters.sandbox.protocol.frames import HEADER, Message, ProtocolError, decode_frame, encode_body

_READ_BYTES: Final = 1 << 12
_MAX_READ_BYTES: Final = 1 << 20
_SLICE_SECONDS: Final = 1.0
MAX_FDS: Final = 200
"""Most descriptors in one frame (the kernel's limit is 253)."""


class ChannelClosedError(Exception):
    """The other side has closed the socket or is dead."""


class ChannelUnsentError(ChannelClosedError):
    """The other side had closed the socket before it got the frame."""


class ChannelTimeoutError(Exception):
    """The deadline passed before the whole frame was transferred."""


class Channel:
    """Sends and receives frames. Not thread-safe, but another thread may close it.

    Descriptors can be sent but never received: with ``recv`` the kernel drops all that a worker attaches.

    Args:
        sock: one end of a stream socketpair. The channel owns it.
        max_frame_bytes: larger frames from the other side are refused before they are read.
    """

    def __init__(self, sock: socket.socket, *, max_frame_bytes: int) -> None:
        sock.setblocking(False)  # poll needs half the system calls of a socket timeout
        self._socket = sock
        self._max_frame_bytes = max_frame_bytes
        self._ahead = bytearray()
        self._closed = False
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)

    def send(self, message: Message, *, deadline: float, fds: Sequence[int] = ()) -> None:
        """Send one frame before ``deadline`` (of ``time.monotonic``), descriptors attached to its header.

        Raises:
            ChannelUnsentError: Nobody will read it.
            ChannelTimeoutError: The other side does not read.
        """
        body = encode_body(message)
        self.send_bytes(HEADER.pack(len(body)) + body, deadline=deadline, fds=fds)

    def send_bytes(self, data: bytes | memoryview, *, deadline: float, fds: Sequence[int] = ()) -> None:
        """Send bytes as they are. The errors are those of `send`."""
        left = memoryview(data)
        try:
            while left:
                try:
                    if fds:
                        left = left[socket.send_fds(self._socket, [left], list(fds)) :]
                        fds = ()  # they were sent with the first byte
                    else:
                        left = left[self._socket.send(left) :]
                except BlockingIOError:
                    self._wait(self._writable, deadline)
        except OSError as error:
            raise ChannelUnsentError(str(error)) from None

    def receive(self, *, deadline: float) -> Message:
        """The next whole frame, before ``deadline`` (of ``time.monotonic``).

        Raises:
            ChannelClosedError: The socket was closed, perhaps in the middle of a frame.
            ChannelTimeoutError: The deadline passed.
            ProtocolError: The data is not a frame, or is too large.
        """
        (length,) = HEADER.unpack(self._read(HEADER.size, deadline))
        if length > self._max_frame_bytes:
            raise ProtocolError(f"a frame of {length} bytes is larger than {self._max_frame_bytes}")
        return decode_frame(self._read(length, deadline))

    def close(self) -> None:
        """End the connection, also for a thread that waits on it. Can be called twice."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def detach(self) -> None:
        """Close this process's descriptor of a connection that belongs to another process."""
        self._closed = True
        self._socket.close()

    def _read(self, count: int, deadline: float) -> bytearray:
        # The buffer grows with the data, so that a header cannot make the host allocate the announced size.
        data = self._ahead
        try:
            while len(data) < count:
                self._wait(self._readable, deadline)
                try:
                    chunk = self._socket.recv(max(_READ_BYTES, min(count - len(data), _MAX_READ_BYTES)))
                except BlockingIOError:
                    continue
                if not chunk:
                    raise ChannelClosedError("the socket was closed")
                data += chunk
        except OSError as error:
            raise ChannelClosedError(str(error)) from None
        self._ahead = data[count:]
        del data[count:]
        return data

    def _wait(self, poll: select.poll, deadline: float) -> None:
        """Wait until the socket is ready, or closed by either side."""
        while not self._closed:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChannelTimeoutError
            # In slices, because the descriptor could be closed, and its number reused, just before poll.
            if poll.poll(min(left, _SLICE_SECONDS) * 1000):
                return
        raise ChannelClosedError("the socket was closed")
