"""Applying all layers to this process, in the order in which they can be."""

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
"""Threads of a cell's tasks and copies that run ahead; a bomb ends here if the worker has a user of its own."""


class HardeningError(Exception):
    """A layer that this machine has could not be applied: the worker must not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """How to confine a worker.

    Attributes:
        memory_bytes: limit of the address space; None: what the process has now + 512 MB + 5 x its inputs.
        input_bytes: size of the decoded inputs.
        layers: the layers to apply; one that fails is an error.
        allow_fork: the worker may fork itself (run-ahead).
    """

    memory_bytes: int | None = None
    input_bytes: int = 0
    layers: frozenset[str] = frozenset(ALL_LAYERS)
    allow_fork: bool = False


def address_space() -> int:
    """Size of this process's address space in bytes; 0 where the platform does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - not worth importing pathlib
            return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def confine(confinement: Confinement) -> frozenset[str]:
    """Confine this process for good; nothing can be opened or imported afterwards.

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
    """Landlock confines the calling thread alone, so there must be no other."""
    try:
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - not worth importing pathlib
    except OSError:  # not Linux: no Landlock either
        return
    if threads != 1:
        raise HardeningError("a module has started threads before the worker was confined: do not allow it")
