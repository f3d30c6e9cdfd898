"""Resource limits of a worker."""

from __future__ import annotations

import resource


def apply(*, memory_bytes: int, files: int, processes: int | None) -> None:
    """Limit address space and open files; forbid core dumps, growing files, locked memory and message queues.

    Args:
        memory_bytes: limit of the address space.
        files: limit of open files.
        processes: limit of processes and threads of this process's user. Useful only if the user has no other ones.

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
