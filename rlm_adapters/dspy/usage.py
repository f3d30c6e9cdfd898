"""Tokens that a piece of DSPy work used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dspy.utils.usage_tracker import track_usage

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")


@dataclass(slots=True)
class Measured:
    """Tokens of the calls made inside `measured`; zero where the LM did not say, or its cache answered."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input tokens."""


@contextmanager
def measured() -> Iterator[Measured]:
    """Count the tokens of the LM calls inside; DSPy adds them to the surrounding ``dspy.track_usage`` as well."""
    result = Measured()
    with track_usage() as tracker:
        try:
            yield result
        finally:
            for entries in tracker.usage_data.values():
                result.input_tokens += sum(_first(entry, _INPUT) for entry in entries)
                result.output_tokens += sum(_first(entry, _OUTPUT) for entry in entries)
                result.cached_tokens += sum(map(_cached, entries))


def _cached(entry: dict[str, Any]) -> int:
    details = entry.get("prompt_tokens_details") or entry.get("input_tokens_details")
    told = details.get("cached_tokens") if isinstance(details, dict) else getattr(details, "cached_tokens", None)
    return told if isinstance(told, int) else _first(entry, ("cache_read_input_tokens",))


def _first(entry: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((int(entry[name]) for name in names if isinstance(entry.get(name), int)), 0)
