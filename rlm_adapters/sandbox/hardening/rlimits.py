"""Resource limits of a worker."""

from __future__ import annotations

import resource


def apply(*, memory_bytes: int, files: int) -> None:
    """Limit address space and open files; no core dumps, no growing files, no locked memory, no message queues.

    RLIMIT_NPROC is of no use here: it counts all processes of the user.

    Raises:
        OSError, ValueError: A limit was refused.
    """
    limits = {"AS": memory_bytes, "CORE": 0, "FSIZE": 0, "NOFILE": files, "MEMLOCK": 0, "MSGQUEUE": 0}
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}", None)
        if which is not None:
            resource.setrlimit(which, (value, value))
