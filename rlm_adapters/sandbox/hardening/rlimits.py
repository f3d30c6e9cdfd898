"""Resource limits of a worker."""

from __future__ import annotations

import resource


def apply(*, memory_bytes: int, files: int, processes: int | None) -> None:
    """Limit address space and open files; no core dumps, no growing files, no locked memory, no message queues.

    Args:
        memory_bytes: of address space.
        files: open at the same time.
        processes: and threads, of all that the user of this process has: of use only if it has no other.

    Raises:
        OSError, ValueError: A limit was refused.
    """
    limits = {"AS": memory_bytes, "CORE": 0, "FSIZE": 0, "NOFILE": files, "MEMLOCK": 0, "MSGQUEUE": 0}
    if processes is not None:
        limits["NPROC"] = processes
    for name, value in limits.items():
        which = getattr(resource, f"RLIMIT_{name}", None)
        if which is not None:
            resource.setrlimit(which, (value, value))
