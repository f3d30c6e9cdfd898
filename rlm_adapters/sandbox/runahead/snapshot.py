"""The worker's side: an idle fork of the worker, taken before a cell, from which children run ahead.

The snapshot and its children hold no end of the channel to the host. They talk to the worker through two pipes, and
the worker passes on what they report without looking into it. They end with the worker (its process group is killed
as a whole, and the kernel kills a child whose parent has died), and with the cell (the pipes are closed).
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import signal
import struct
import time
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

from rlm_adapters.sandbox.hardening import linux
from rlm_adapters.sandbox.protocol.frames import Message, decode_trusted

_LENGTH: Final = struct.Struct(">Q")
_WAVE_SECONDS: Final = 5.0  # of wall time that the cell waits for a child
_FLUSH_SECONDS: Final = 0.02
_READ_BYTES: Final = 1 << 16
_MAX_REPORT: Final = 64 << 20


class Reporter:
    """Sends what a child finds, some of it at a time: each write wakes the worker up."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._flushed = time.monotonic()

    def add(self, line: bytes) -> None:
        """Report a call."""
        self._lines.append(line + b"\n")
        if time.monotonic() > self._flushed + _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what there is."""
        try:
            _write(self._fd, b"".join(self._lines))
        except OSError:  # nobody waits for it any more
            os._exit(0)
        self._lines.clear()
        self._flushed = time.monotonic()

    def end(self) -> NoReturn:
        """Send what there is and end the child."""
        self.flush()
        os._exit(0)


Run: TypeAlias = Callable[[Message, Reporter], None]
"""Runs the cell in a child, with the request for it."""


class Snapshot:
    """An idle copy of this process.

    Args:
        channel_fd: the channel to the host, which the copy closes.
        prepare: called in the copy before its first child: makes the cell ready to be run ahead.
        run: called in each child with its request; runs the cell, reports each call that nobody has answered by the
            function that it is given, and need not return.

    Raises:
        OSError: This process may not fork, or there is no room for another one.
    """

    def __init__(
        self,
        channel_fd: int,
        prepare: Callable[[], None],
        run: Run,
    ) -> None:
        parent, state = os.getpid(), random.getstate()
        requests, self._requests = os.pipe()
        self._reports, reports = os.pipe()
        self._alive = True
        try:
            self.pid = os.fork()
        except OSError:
            for fd in (requests, reports):
                os.close(fd)
            self.close()
            raise
        if not self.pid:
            try:
                linux.die_with_parent(parent)
                for fd in (channel_fd, self._requests, self._reports):
                    os.close(fd)
                random.setstate(state)  # Python seeds it anew after a fork
                signal.signal(signal.SIGPROF, signal.SIG_DFL)
                gc.disable()
                _Server(requests, reports, prepare, run).serve()
            finally:
                os._exit(1)
        os.close(requests)
        os.close(reports)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._alive

    def look(self, request: bytes, wall_seconds: float = _WAVE_SECONDS) -> tuple[list[bytes], float]:
        """Have a child run ahead.

        Args:
            request: JSON with the new ``answers``, the CPU seconds ``cpu`` that the child may take, and what else
                the cell's runner wants to know.
            wall_seconds: how long to wait for it.

        Returns:
            What the child has reported, and the CPU seconds that it took. When something is wrong with it the
            snapshot is given up.
        """
        data = b""
        try:
            _write(self._requests, _LENGTH.pack(len(request)) + request)
            deadline = time.monotonic() + wall_seconds
            while not data.endswith(b"\n\n"):
                left = deadline - time.monotonic()
                if left <= 0 or len(data) > _MAX_REPORT or not select.select([self._reports], [], [], left)[0]:
                    raise TimeoutError
                chunk = os.read(self._reports, _READ_BYTES)
                if not chunk:
                    raise EOFError  # noqa: TRY301
                data += chunk
        except (OSError, EOFError):
            self.close()
            return _whole_lines(data), 0.0
        *lines, seconds = data[:-2].split(b"\n")
        return lines, float(seconds)

    def close(self) -> None:
        """End it, and the child that may be running."""
        if self._alive:
            self._alive = False
            os.close(self._requests)
            os.close(self._reports)


def _whole_lines(data: bytes) -> list[bytes]:
    """The reports that came through before something went wrong."""
    return data.split(b"\n")[:-1]


class _Server:
    """What the snapshot does."""

    def __init__(
        self,
        requests: int,
        reports: int,
        prepare: Callable[[], None],
        run: Run,
    ) -> None:
        self._requests = requests
        self._reports = reports
        self._prepare = prepare
        self._run = run

    def serve(self) -> NoReturn:
        """Fork a child for each request, until the worker closes the pipe."""
        answers: Message = {}
        prepared = False
        while True:
            (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
            request = decode_trusted(self._read(length))
            answers.update(request["answers"])
            if not prepared:
                self._prepare()
                prepared = True
            seconds = self._fork({**request, "answers": answers})
            _write(self._reports, f"{seconds:.6f}\n\n".encode())

    def _fork(self, request: Message) -> float:
        """Run one child to its end; its CPU seconds."""
        parent, state = os.getpid(), random.getstate()
        pid = os.fork()
        if not pid:
            try:
                linux.die_with_parent(parent)
                random.setstate(state)
                # The default action of both signals is to end the process, wherever it is.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_PROF, request["cpu"])
                signal.setitimer(signal.ITIMER_REAL, _WAVE_SECONDS - 0.5)
                os.close(self._requests)
                reporter = Reporter(self._reports)
                with contextlib.suppress(BaseException):
                    self._run(request, reporter)
                reporter.end()
            finally:
                os._exit(0)
        _, _, usage = os.wait4(pid, 0)
        return usage.ru_utime + usage.ru_stime

    def _read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = os.read(self._requests, min(count - len(data), 1 << 20))
            if not chunk:
                os._exit(0)
            data += chunk
        return bytes(data)


def _write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
