"""The snapshot: an idle fork of the worker, made before a cell. It forks the children that run ahead.

The snapshot and its children do not have the channel to the host. They communicate with the worker through two pipes,
and the worker passes their reports on without reading them. They end with the worker (its process group is killed, and
the kernel kills a child whose parent has died) and with the cell (the pipes are closed).
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
    """Sends the calls that a child finds, several at a time, because each write wakes the worker."""

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
        """Send the collected calls."""
        try:
            _write(self._fd, b"".join(self._lines))
        except OSError:  # the worker does not wait any more
            os._exit(0)
        self._lines.clear()
        self._flushed = time.monotonic()

    def end(self) -> NoReturn:
        """Send the collected calls and end the child."""
        self.flush()
        os._exit(0)


Run: TypeAlias = Callable[[Message, Reporter], None]
"""Runs the cell in a child, for a request."""


class Snapshot:
    """An idle copy of this process.

    Args:
        channel_fd: the channel to the host. The copy closes it.
        prepare: called in the copy before its first child, to prepare the cell.
        run: called in each child with its request and a reporter. It runs the cell, reports each unknown call, and need
            not return.

    Raises:
        OSError: This process cannot fork.
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
                random.setstate(state)  # Python sets a new seed after a fork
                signal.signal(signal.SIGPROF, signal.SIG_DFL)
                gc.disable()
                _Server(requests, reports, prepare, run).serve()
            finally:
                os._exit(1)
        os.close(requests)
        os.close(reports)

    @property
    def alive(self) -> bool:
        """Whether it can be used."""
        return self._alive

    def look(self, request: bytes, wall_seconds: float = _WAVE_SECONDS) -> tuple[list[bytes], float]:
        """Let a child run ahead.

        Args:
            request: JSON with the new ``answers``, the CPU seconds ``cpu`` of the child, and other data for ``run``.
            wall_seconds: how long to wait for it.

        Returns:
            The reports of the child, and its CPU seconds. After an error the snapshot is closed.
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
        """End the snapshot, and its running child."""
        if self._alive:
            self._alive = False
            os.close(self._requests)
            os.close(self._reports)


def _whole_lines(data: bytes) -> list[bytes]:
    """The complete reports before an error."""
    return data.split(b"\n")[:-1]


class _Server:
    """The loop of the snapshot."""

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
        """Run one child to its end. Returns its CPU seconds."""
        parent, state = os.getpid(), random.getstate()
        pid = os.fork()
        if not pid:
            try:
                linux.die_with_parent(parent)
                random.setstate(state)
                # The default action of both signals ends the process at any place.
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
