"""Confining a worker by the operating system: rlimits, Landlock and a seccomp allowlist, by ctypes alone.

This is the boundary of the sandbox. The language policy may be beaten (an independent attack found 14 ways out of
its prototype); what a cell can then reach is what this package leaves: memory up to a limit, CPU time, threads, and
one socket whose other end trusts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rlm_adapters.sandbox.hardening import rlimits

ALL_LAYERS: Final = ("rlimits", "landlock", "seccomp")


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
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - pathlib would be imported for this alone
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
    memory = confinement.memory_bytes
    if memory is None:
        memory = address_space() + (512 << 20) + 5 * confinement.input_bytes
    steps: dict[str, Callable[[], None]] = {
        "rlimits": lambda: rlimits.apply(memory_bytes=memory, files=32),
    }
    for layer in ALL_LAYERS:
        if layer in confinement.layers:
            try:
                steps[layer]()
            except (OSError, ValueError, KeyError) as error:
                raise HardeningError(f"{layer} could not be applied: {error}") from None
    return confinement.layers
