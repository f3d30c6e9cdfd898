"""Exit codes of a worker, and their meaning."""

from __future__ import annotations

import signal
from typing import Final

EXIT_HOST_GONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_MEMORY: Final = 70
"""Even the report of a cell did not fit into the memory limit."""


def death(status: int | None) -> tuple[str, str, str]:
    """Kind, type and message of the error for a worker that died, by its exit status."""
    if status in (EXIT_MEMORY, -signal.SIGKILL):  # apart from the host, only the kernel kills it, if there is no memory
        return "memory", "MemoryError", "the cell used more memory than there is"
    if status is not None and status < 0:
        return "crash", "WorkerError", f"the worker died in this cell ({signal.Signals(-status).name})"
    return "crash", "WorkerError", "the worker ended in this cell"


def killed_from_outside(status: int | None) -> bool:
    """Whether the cell is not the cause: the worker was killed, or died with the process that forked it.

    A cell cannot send signals. If the kernel killed the worker because of memory, the status is the same.
    """
    return status in (None, -signal.SIGKILL)
