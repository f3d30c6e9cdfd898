"""The worker's end of the socket to the host."""

from __future__ import annotations

import os
import socket
from typing import Final

from rlm_adapters.sandbox.protocol.frames import HEADER, Message, decode_trusted, encode_body

_READ_BYTES: Final = 1 << 12
_MAX_READ_BYTES: Final = 1 << 20
_MAX_FDS: Final = 256


class WorkerChannel:
    """The worker's end of the socket. The host is trusted, so there are no checks and deadlines."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._ahead = bytearray()

    def send(self, message: Message) -> None:
        """Send one whole frame."""
        self.send_body(encode_body(message, errors="replace"))

    def send_body(self, body: bytes) -> None:
        """Send an encoded frame with ``write``, so a confined worker needs no socket calls."""
        left = memoryview(HEADER.pack(len(body)) + body)
        while left:
            left = left[os.write(self.fd, left) :]

    def receive(self) -> Message:
        """The next frame.

        Raises:
            EOFError: The host has closed the channel or has ended.
        """
        (length,) = HEADER.unpack(self._take(HEADER.size))
        return decode_trusted(self._take(length))

    def receive_fds(self) -> tuple[Message, list[int]]:
        """The next frame and its descriptors. Not possible after the confinement.

        It reads not one byte more, because the descriptors of the next frame would arrive with it and be lost.

        Raises:
            EOFError: The host has closed the channel or has ended.
        """
        with socket.socket(fileno=os.dup(self.fd)) as sock:
            header, fds, _, _ = socket.recv_fds(sock, HEADER.size, _MAX_FDS)
        if not header:
            raise EOFError
        header += self._exactly(HEADER.size - len(header))
        return decode_trusted(self._exactly(HEADER.unpack(header)[0])), list(fds)

    def fill(self, view: memoryview) -> None:
        """Read bytes that follow a frame of `receive_fds`, until the view is full.

        Raises:
            EOFError: The host has closed the channel or has ended.
        """
        while view:
            read = os.readv(self.fd, [view])
            if not read:
                raise EOFError
            view = view[read:]

    def _take(self, count: int) -> bytearray:
        """The next bytes. Some of them may be in the buffer."""
        data = self._ahead
        while len(data) < count:
            data += self._read(max(_READ_BYTES, min(count - len(data), _MAX_READ_BYTES)))
        self._ahead = data[count:]
        del data[count:]
        return data

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self._read(min(count - len(data), _MAX_READ_BYTES))
        return data

    def _read(self, count: int) -> bytes:
        data = os.read(self.fd, count)
        if not data:
            raise EOFError
        return data
