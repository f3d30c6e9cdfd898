"""A monty worker process, taken from a pool for one session."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pydantic_monty as monty

from rlm_adapters.errors import SandboxError

Printer = Callable[[str], None]


class Worker:
    """A worker with the state of one session.

    Args:
        session: a session from the pool that is not entered yet.
        files: the files for ``open`` and ``os``.
    """

    def __init__(self, session: monty.MontySession, files: monty.OSAccess) -> None:
        self._session = session
        self._files = files
        self._lock = threading.Lock()
        try:
            session.__enter__()
        except (monty.MontyError, TimeoutError, OSError, RuntimeError) as error:
            raise SandboxError(f"monty gave no worker: {error}") from None
        self._pid = session.worker_pid
        self._open = True

    def feed(self, code: str, write: Printer, inputs: Mapping[str, Any] | None = None) -> Any:
        """Run code up to its first call of the host. Returns a snapshot, or a ``MontyComplete``."""
        return self._session.feed_start(
            code,
            inputs=None if inputs is None else dict(inputs),
            print_callback=lambda _stream, text: write(text),
            os=self._files,
        )

    def value(self, code: str) -> Any:
        """The value of code without calls of the host."""
        return self._session.feed_run(code, print_callback=lambda _stream, _text: None)

    def kill(self) -> None:
        """End the process, from any thread. Threads that wait for it get an error."""
        with self._lock:
            if self._open and self._pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and release its place. It is never reused, because a cell may have run in it."""
        self.kill()
        with self._lock:
            opened, self._open = self._open, False
        if opened:
            with contextlib.suppress(monty.MontyError, RuntimeError):
                self._session.__exit__(None, None, None)
