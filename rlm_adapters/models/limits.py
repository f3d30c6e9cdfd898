"""Limits of a run: what a user may bound, and how that is told to the root LM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from rlm_adapters.arguments import checked
from rlm_adapters.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run; those marked *tree* hold over the run and all its child RLMs together."""

    max_iterations: int = 20
    """Root LM turns of one RLM (each child counts its own). Repair turns count too."""
    max_depth: int = 1
    """0: no sub-calls. 1: sub-LM calls. 2: `rlm_query` starts child RLMs, whose sub-calls are LM calls; and so on."""
    max_calls: int | None = 500
    """*Tree*: sub-LM calls and turns of child RLMs."""
    max_tokens: int | None = None
    """*Tree*: input and output tokens of all calls."""
    max_cost: float | None = None
    """*Tree*: US dollars; needs a price for every model: common ones are known, ``prices=`` gives others."""
    max_seconds: float | None = None
    """*Tree*: wall time from the start of the run, in seconds, time before a resume included."""
    max_concurrency: int = 32
    """*Tree*: model calls in flight at once."""
    requests_per_minute: int | None = None
    """*Tree*: model calls started in any 60 seconds."""
    tokens_per_minute: int | None = None
    """*Tree*: estimated tokens of the calls started in any 60 seconds."""
    max_repairs: int = 3
    """Consecutive replies without usable code or answer after which the run ends with ``finish_reason="error"``, or
    ``"unsubmitted"`` if they hold a plain answer."""
    max_output_chars: int = 10_000
    """Characters of a cell's output that the root LM sees (head and tail of longer ones)."""
    max_output_tokens: int = 8_192
    """Output tokens reserved for a call when tokens or cost are limited; the call is then also capped at it."""
    call_timeout: float = 300.0
    """Seconds after which one model call is given up (and retried); ``math.inf``: never."""
    max_retries: int = 3
    """Retries of a model call on rate limits, server errors, time-outs and lost connections."""

    @classmethod
    def of(cls, given: Limits | Mapping[str, Any] | None, **defaults: Any) -> Limits:
        """Limits from what a user gives: `Limits`, a dict of some of its fields, or None.

        Args:
            given: limits.
            **defaults: fields that differ from the class's defaults where ``given`` is None or a dict.

        Raises:
            InputError: it is none of these, or a limit is unusable.
        """
        if isinstance(given, Limits):
            return given
        if given is None or isinstance(given, Mapping):
            return cls(**{**defaults, **{str(name): value for name, value in (given or {}).items()}})
        raise InputError(f"limits={given!r}: give Limits(max_iterations=...), or a dict of limits")

    def describe(self, *, sub_calls: bool = True) -> str:
        """The limits of the tree in a few words for the root LM; empty when there are none."""
        return in_words(
            self.max_calls if sub_calls else None,
            self.max_tokens,
            None if self.max_cost is None else f"{self.max_cost:g}",
            None if self.max_seconds is None else f"{self.max_seconds:g}",
        )

    def given(self) -> dict[str, Any]:
        """The limits that bound a run and are set, by name, for whoever looks at it."""
        names = ("max_iterations", "max_depth", "max_calls", "max_tokens", "max_cost", "max_seconds", "max_concurrency")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def __post_init__(self) -> None:
        """Refuse nonsense before any model is called."""
        least = {"max_iterations": 1, "max_depth": 0, "max_concurrency": 1, "max_output_chars": 200}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and "None" in str(field.type):
                continue
            wanted = float if "float" in str(field.type) else int
            if isinstance(value, bool) or not isinstance(value, int | wanted) or math.isnan(value):
                raise InputError(
                    f"limit {field.name}={value!r}: give {'a number' if wanted is float else 'an integer'}"
                )
            minimum = least.get(field.name, 0)
            if value < minimum:
                raise InputError(f"limit {field.name}={value!r} is too small: give at least {minimum}")


LIMIT_HELP: Final = {
    "max_iterations": "Turns of the root LM; each child RLM counts its own.",
    "max_depth": "0: no sub-calls. 1: cells ask sub-LMs. 2: cells start child RLMs, and so on.",
    "max_calls": "Calls of sub-LMs, and turns of child RLMs.",
    "max_tokens": "Input and output tokens of all calls.",
    "max_cost": "US dollars; every model must have a known price.",
    "max_seconds": "Wall time from the start of the run, in seconds.",
    "max_concurrency": "Model calls at the same time.",
    "requests_per_minute": "Model calls that begin in any 60 seconds.",
    "tokens_per_minute": "Estimated tokens of the calls that begin in any 60 seconds.",
    "max_repairs": "Replies in a row without code or answer, after which the run ends.",
    "max_output_chars": "Characters of a cell's output that the root LM sees.",
    "max_output_tokens": "Output tokens of one call, where tokens or cost are limited.",
    "call_timeout": "Seconds after which a model call is given up and made again.",
    "max_retries": "How often a model call that failed is made again.",
}
"""A line on each limit, for a form or a command's help; `Limits` says more."""

# A frozen dataclass writes its own __init__; wrapped here, a misspelt limit names the one that was meant.
Limits.__init__ = checked("Limits")(Limits.__init__)  # type: ignore[method-assign]


def limits_remedy(name: str, value: Any) -> str:
    """What to say of an argument that is a limit, where ``limits`` is the argument."""
    return f"give limits=Limits({name}={value!r})" if name in {one.name for one in fields(Limits)} else ""


def in_words(calls: int | None, tokens: int | None, cost: str | None, seconds: str | None) -> str:
    """Bounds of a whole run, or what is left of them, in a few words; None where there is none."""
    parts = (
        None if calls is None else f"{calls:,} sub-calls",
        None if tokens is None else f"{tokens:,} tokens",
        cost and f"${cost}",
        seconds and f"{seconds} seconds",
    )
    return ", ".join(part for part in parts if part)
