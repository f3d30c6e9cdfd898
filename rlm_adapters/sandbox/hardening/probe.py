"""Find out which layers hold on this machine, by confining a child and trying to break out of it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rlm_adapters.sandbox.hardening.confinement import ALL_LAYERS, Confinement, HardeningError, address_space, confine

_PROBE_MEMORY: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Probe:
    """The result: the layers that hold, and why others do not."""

    layers: frozenset[str]
    notes: tuple[str, ...]


def probe() -> Probe:
    """Apply each layer separately in a child of this (single-threaded) process, and try what it should refuse."""
    reasons = {layer: _try(layer) for layer in ALL_LAYERS}
    return Probe(
        layers=frozenset(layer for layer, reason in reasons.items() if not reason),
        notes=tuple(f"{layer}: {reason}" for layer, reason in reasons.items() if reason),
    )


def _try(layer: str) -> str:
    """Why the layer does not hold; empty if it does."""
    if layer != "rlimits" and sys.platform != "linux":
        return f"{sys.platform} has none"
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writer, _attempt(layer).encode() or b"holds")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        reason = answers.read().decode("utf-8", "replace")
    os.waitpid(pid, 0)
    return "" if reason == "holds" else reason or "the child of the probe died"


def _attempt(layer: str) -> str:
    try:
        confine(Confinement(memory_bytes=address_space() + _PROBE_MEMORY, layers=frozenset({layer})))
    except HardeningError as error:
        return str(error)
    for what, act in _FORBIDDEN[layer].items():
        try:
            act()
        except (OSError, MemoryError):
            continue
        return f"it is in force but {what} still succeeds"
    return ""


def _fork() -> None:
    if not os.fork():
        os._exit(0)


_FORBIDDEN: Final[dict[str, dict[str, Callable[[], object]]]] = {
    "rlimits": {"allocating too much": lambda: bytearray(2 * _PROBE_MEMORY)},
    "landlock": {"listing the root directory": lambda: os.listdir("/")},  # noqa: PTH208 - the call itself
    "seccomp": {
        "opening a file": lambda: os.open("/", os.O_RDONLY),
        "looking a file up": lambda: os.stat("/"),  # noqa: PTH116 - the call itself
        "making a socket": socket.socketpair,
        "forking": _fork,
    },
}
