"""Apply all layers to this process, in a possible order."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rlm_adapters.sandbox.hardening import landlock, privileges, rlimits, seccomp

ALL_LAYERS: Final = ("rlimits", "landlock", "seccomp")

_BASE_BYTES: Final = 512 << 20
_INPUT_FACTOR: Final = 5
_FILES: Final = 32
_PROCESSES: Final = 256
"""Limit of threads and copies of a worker. It stops a fork bomb if the worker has its own user."""


class HardeningError(Exception):
    """A layer that this machine has could not be applied, so the worker must not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """How to confine a worker.

    Attributes:
        memory_bytes: limit of the address space; None: its current size + 512 MB + 5 x its inputs.
        input_bytes: size of the decoded inputs.
        layers: the layers to apply. A failure of one is an error.
        allow_fork: whether the worker can fork itself (run-ahead).
    """

    memory_bytes: int | None = None
    input_bytes: int = 0
    layers: frozenset[str] = frozenset(ALL_LAYERS)
    allow_fork: bool = False


def address_space() -> int:
    """Size of this process's address space in bytes; 0 if the platform does not report it."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - not worth importing pathlib
            return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def confine(confinement: Confinement) -> frozenset[str]:
    """Confine this process. This cannot be undone. Afterwards nothing can be opened or imported.

    Returns:
        The layers that now hold.

    Raises:
        HardeningError: A wanted layer could not be applied.
    """
    in_use = address_space()
    memory = confinement.memory_bytes
    if memory is None:
        memory = in_use + _BASE_BYTES + _INPUT_FACTOR * confinement.input_bytes
    elif memory <= in_use:
        raise HardeningError(
            f"memory_bytes={memory} is less than the {in_use} that the worker takes with its inputs: give more"
        )
    _refuse_threads()
    processes = _PROCESSES if privileges.drop() else None
    steps: dict[str, Callable[[], None]] = {
        "rlimits": lambda: rlimits.apply(memory_bytes=memory, files=_FILES, processes=processes),
        "landlock": landlock.apply,
        "seccomp": lambda: seccomp.apply(allow_fork=confinement.allow_fork),
    }
    held = [layer for layer in ALL_LAYERS if layer in confinement.layers]
    for layer in held:
        try:
            steps[layer]()
        except (OSError, ValueError, KeyError) as error:
            raise HardeningError(f"{layer} could not be applied: {error}") from None
    return frozenset(held)


def _refuse_threads() -> None:
    """Check that there are no other threads, because Landlock confines only the calling thread."""
    try:
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - not worth importing pathlib
    except OSError:  # not Linux: no Landlock either
        return
    if threads != 1:
        raise HardeningError("a module has started threads before the worker was confined: do not allow it")
