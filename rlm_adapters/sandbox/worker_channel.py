"""The worker's end of the socket to the host."""

from __future__ import annotations

import os
import socket
from typing import Final

from rlm_adapters.sandbox.frames import HEADER, Message, decode_trusted, encode_body

_READ_BYTES: Final = 1 << 20
_MAX_FDS: Final = 256


class WorkerChannel:
    """The inner end of the socket: the host is trusted, and waiting costs nothing."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, message: Message) -> None:
        """Send one frame, whole."""
        self.send_body(encode_body(message, errors="replace"))

    def send_body(self, body: bytes) -> None:
        """Send an encoded frame with plain ``write``: a confined worker needs no socket call at all."""
        left = memoryview(HEADER.pack(len(body)) + body)
        while left:
            left = left[os.write(self.fd, left) :]

    def receive(self) -> Message:
        """The next frame.

        Raises:
            EOFError: The host has closed the channel, or is dead.
        """
        return self._body(self._read(HEADER.size))

    def receive_fds(self) -> tuple[Message, list[int]]:
        """The next frame and the descriptors that came with it. Not possible any more once confined."""
        with socket.socket(fileno=os.dup(self.fd)) as sock:
            header, fds, _, _ = socket.recv_fds(sock, HEADER.size, _MAX_FDS)
        if not header:
            raise EOFError
        return self._body(header + self._read(HEADER.size - len(header))), list(fds)

    def _body(self, header: bytes) -> Message:
        return decode_trusted(self._read(HEADER.unpack(header)[0]))

    def _read(self, count: int) -> bytes:
        chunks = []
        while count:
            chunk = os.read(self.fd, min(count, _READ_BYTES))
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)
