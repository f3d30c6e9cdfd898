"""Count the tokens that a part of a DSPy program uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dspy.utils.usage_tracker import track_usage

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_INPUTS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUTS = ("completion_tokens_details", "output_tokens_details")
_DETAILS = {
    "cache_read_tokens": (_INPUTS, "cached_tokens"),
    "input_audio_tokens": (_INPUTS, "audio_tokens"),
    "reasoning_tokens": (_OUTPUTS, "reasoning_tokens"),
    "output_audio_tokens": (_OUTPUTS, "audio_tokens"),
    "cache_write_tokens": ((), ""),
}
_ALONE = {
    "cache_read_tokens": ("cache_read_input_tokens",),
    "cache_write_tokens": ("cache_creation_input_tokens",),
}


@dataclass(slots=True)
class Measured:
    """Tokens of the calls inside `measured`. Zero if the LM does not report them, or its cache answered."""

    input_tokens: int = 0
    output_tokens: int = 0
    details: dict[str, int] = field(default_factory=dict)
    """Kinds of tokens; see `rlm_adapters.models.usage.DETAILS`."""


@contextmanager
def measured() -> Iterator[Measured]:
    """Count the tokens of the LM calls inside. DSPy also adds them to a surrounding ``dspy.track_usage``."""
    result = Measured()
    with track_usage() as tracker:
        try:
            yield result
        finally:
            for entries in tracker.usage_data.values():
                result.input_tokens += sum(_first(entry, _INPUT) for entry in entries)
                result.output_tokens += sum(_first(entry, _OUTPUT) for entry in entries)
                for key, (groups, name) in _DETAILS.items():
                    count = sum(_detail(entry, groups, name) or _first(entry, _ALONE.get(key, ())) for entry in entries)
                    if count:
                        result.details[key] = count


def _detail(entry: dict[str, Any], groups: tuple[str, ...], name: str) -> int:
    group = next((entry[one] for one in groups if entry.get(one)), None)
    told = group.get(name) if isinstance(group, dict) else getattr(group, name, None)
    return told if isinstance(told, int) else 0


def _first(entry: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((int(entry[name]) for name in names if isinstance(entry.get(name), int)), 0)
