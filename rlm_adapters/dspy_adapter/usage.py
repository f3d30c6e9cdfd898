"""Tokens that a piece of DSPy work used, counted without taking them from the caller's own tracker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dspy.dsp.utils.settings import settings
from dspy.utils.usage_tracker import track_usage

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")


@dataclass(slots=True)
class Measured:
    """Tokens of the calls made inside `measured`; zero where the LM did not say."""

    input_tokens: int = 0
    output_tokens: int = 0
    entries: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@contextmanager
def measured() -> Iterator[Measured]:
    """Count the tokens of the LM calls inside; the surrounding ``dspy.track_usage`` gets them as well."""
    result = Measured()
    outer = settings.usage_tracker
    with track_usage() as tracker:
        yield result
    for name, entries in tracker.usage_data.items():
        for entry in entries:
            result.input_tokens += _first(entry, _INPUT)
            result.output_tokens += _first(entry, _OUTPUT)
            if outer is not None:
                outer.add_usage(name, entry)


def _first(entry: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((int(entry[name]) for name in names if isinstance(entry.get(name), int)), 0)
