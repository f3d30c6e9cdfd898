"""Which processes there are, from /proc."""

import os
import random
import sys
from pathlib import Path

AVAILABLE = sys.platform == "linux"


def parents() -> dict[int, int]:
    """The parent of each process; those that have ended and wait to be reaped are left out."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
            except OSError:
                continue  # it has just ended
            if state != "Z":
                found[int(folder.name)] = int(parent)
    return found


def children(pid: int, known: dict[int, int]) -> list[int]:
    return [child for child, parent in known.items() if parent == pid]


def descendants(pid: int) -> set[int]:
    """All living processes below one."""
    known, found, waiting = parents(), set(), [pid]
    while waiting:
        below = children(waiting.pop(), known)
        found.update(below)
        waiting += below
    return found


def sandbox_process(kind: str) -> int | None:
    """A process of this process's sandbox: its ``zygote``, a ``holder`` of inputs, or a ``worker``."""
    known = parents()
    zygotes = [pid for pid in children(os.getpid(), known) if _command_has(pid, b"worker.zygote")]
    forked = [pid for zygote in zygotes for pid in children(zygote, known)]
    holders = [pid for pid in forked if children(pid, known)]
    workers = [pid for pid in forked if pid not in holders] + [pid for one in holders for pid in children(one, known)]
    found = {"zygote": zygotes, "holder": holders, "worker": workers}[kind]
    return random.choice(found) if found else None


def _command_has(pid: int, text: bytes) -> bool:
    try:
        return text in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
