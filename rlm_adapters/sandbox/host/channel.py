"""The host's end of the socket to a worker: frames out, hostile frames in, a deadline for each whole frame."""

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
"""Descriptors that fit in one frame (the kernel's own limit is 253)."""


class ChannelClosedError(Exception):
    """The other side has closed the socket or is dead."""


class ChannelUnsentError(ChannelClosedError):
    """It had closed the socket before it could take the frame."""


class ChannelTimeoutError(Exception):
    """The deadline passed before the whole frame was through."""


class Channel:
    """Sends and receives frames; not thread-safe, but it may be closed from another thread.

    Descriptors can be sent but never received: ``recv`` makes the kernel drop any that a worker attaches.

    Args:
        sock: one end of a stream socketpair; the channel owns it.
        max_frame_bytes: larger frames from the other side are refused before they are read.
    """

    def __init__(self, sock: socket.socket, *, max_frame_bytes: int) -> None:
        sock.setblocking(False)  # waiting by poll takes half the system calls of a timeout of the socket
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
        left = memoryview(HEADER.pack(len(body)) + body)
        try:
            while left:
                try:
                    if fds:
                        left = left[socket.send_fds(self._socket, [left], list(fds)) :]
                        fds = ()  # they went with the first byte
                    else:
                        left = left[self._socket.send(left) :]
                except BlockingIOError:
                    self._wait(self._writable, deadline)
        except OSError as error:
            raise ChannelUnsentError(str(error)) from None

    def receive(self, *, deadline: float) -> Message:
        """The next frame, whole, before ``deadline`` (of ``time.monotonic``).

        Raises:
            ChannelClosedError: The socket was closed, in the middle of a frame too.
            ChannelTimeoutError: The deadline passed.
            ProtocolError: What came is no frame, or too large.
        """
        (length,) = HEADER.unpack(self._read(HEADER.size, deadline))
        if length > self._max_frame_bytes:
            raise ProtocolError(f"a frame of {length} bytes is larger than {self._max_frame_bytes}")
        return decode_frame(self._read(length, deadline))

    def close(self) -> None:
        """End the connection, for a thread that waits on it too; harmless when done twice."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def detach(self) -> None:
        """Close this process's descriptor of a connection that belongs to another process."""
        self._closed = True
        self._socket.close()

    def _read(self, count: int, deadline: float) -> bytearray:
        # Grown as data comes: a header alone must not make the host reserve what it announces.
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
        """Wait until the socket is ready, or closed by whichever side."""
        while not self._closed:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChannelTimeoutError
            # In slices: the descriptor could have been closed, and its number reused, a moment before poll sees it.
            if poll.poll(min(left, _SLICE_SECONDS) * 1000):
                return
        raise ChannelClosedError("the socket was closed")
