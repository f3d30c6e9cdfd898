"""What this machine really offers, found by confining a child and trying to break out of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """Result of a probe: the layers that hold, and why others do not."""

    layers: frozenset[str]
    notes: tuple[str, ...]


def probe() -> Probe:
    """Try each layer in a child."""
    return Probe(frozenset({"rlimits"}), ())
