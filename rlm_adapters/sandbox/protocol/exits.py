"""Exit codes of a worker, and what they tell."""

from __future__ import annotations

import signal
from typing import Final

EXIT_HOST_GONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_MEMORY: Final = 70
"""Not even the report of a cell fitted into the memory limit."""


def death(status: int | None) -> tuple[str, str, str]:
    """Kind, type and message of the error for a worker that has died by itself, by its exit status."""
    if status in (EXIT_MEMORY, -signal.SIGKILL):  # only the kernel, out of memory, kills it besides the host
        return "memory", "MemoryError", "the cell used more memory than there is"
    if status is not None and status < 0:
        return "crash", "WorkerError", f"the worker died in this cell ({signal.Signals(-status).name})"
    return "crash", "WorkerError", "the worker ended in this cell"


def killed_from_outside(status: int | None) -> bool:
    """Whether it was no doing of the cell's: it was killed, or died with the process that forked it.

    A cell cannot send signals. The kernel, out of memory, looks the same.
    """
    return status in (None, -signal.SIGKILL)
