"""Limits of a run, and their description for the root LM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from rlm_adapters.arguments import checked
from rlm_adapters.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one run. Those marked *tree* apply to the run and all its child RLMs together."""

    max_iterations: int = 20
    """Turns of the root LM of one RLM, with repair turns. Each child counts its own."""
    max_depth: int = 1
    """0: no sub-calls. 1: sub-LM calls. 2: `rlm_query` starts child RLMs, whose sub-calls are LM calls; and so on."""
    max_calls: int | None = 500
    """*Tree*: sub-LM calls and turns of child RLMs."""
    max_tokens: int | None = None
    """*Tree*: input and output tokens of all calls."""
    max_cost: float | None = None
    """*Tree*: US dollars. Every model needs a price: common prices are known, ``prices=`` gives others."""
    max_seconds: float | None = None
    """*Tree*: wall time from the start of the run, in seconds, with the time before a resume."""
    max_concurrency: int = 32
    """*Tree*: model calls in flight at once."""
    requests_per_minute: int | None = None
    """*Tree*: model calls started in any 60 seconds."""
    tokens_per_minute: int | None = None
    """*Tree*: estimated tokens of the calls started in any 60 seconds."""
    max_repairs: int = 3
    """Replies in a row without usable code or answer. Then the run ends with ``finish_reason="error"``, or with
    ``"unsubmitted"`` if they have a plain answer."""
    max_output_chars: int = 10_000
    """Characters of a cell's output that the root LM sees (head and tail of a longer output)."""
    max_output_tokens: int = 8_192
    """Output tokens that are reserved for a call if tokens or cost are limited. The reply is then limited to them."""
    call_timeout: float = 300.0
    """Seconds after which a model call is cancelled (and retried); ``math.inf``: never."""
    max_retries: int = 3
    """Retries of a model call after rate limits, server errors, time-outs and lost connections."""

    @classmethod
    def of(cls, given: Limits | Mapping[str, Any] | None, **defaults: Any) -> Limits:
        """Make `Limits` from an argument: `Limits`, a dict of some of its fields, or None.

        Args:
            given: the argument.
            **defaults: other defaults than those of the class, if ``given`` is None or a dict.

        Raises:
            InputError: it is none of these, or a limit is wrong.
        """
        if isinstance(given, Limits):
            return given
        if given is None or isinstance(given, Mapping):
            return cls(**{**defaults, **{str(name): value for name, value in (given or {}).items()}})
        raise InputError(f"limits={given!r}: give Limits(max_iterations=...), or a dict of limits")

    def describe(self, *, sub_calls: bool = True) -> str:
        """The limits of the tree in a few words for the root LM; empty if there are none."""
        return in_words(
            self.max_calls if sub_calls else None,
            self.max_tokens,
            None if self.max_cost is None else f"{self.max_cost:g}",
            None if self.max_seconds is None else f"{self.max_seconds:g}",
        )

    def given(self) -> dict[str, Any]:
        """The limits of a run that are set, by name, for events."""
        names = ("max_iterations", "max_depth", "max_calls", "max_tokens", "max_cost", "max_seconds", "max_concurrency")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def __post_init__(self) -> None:
        """Refuse wrong values before any model is called."""
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
"""A line about each limit, for a form or a command's help. `Limits` has the details."""

# A frozen dataclass generates __init__. It is wrapped here, so that the error for a misspelt limit names the right one.
Limits.__init__ = checked("Limits")(Limits.__init__)  # type: ignore[method-assign]


def limits_remedy(name: str, value: Any) -> str:
    """A remedy for an argument that is the name of a limit, if ``limits`` is the right argument."""
    return f"give limits=Limits({name}={value!r})" if name in {one.name for one in fields(Limits)} else ""


def in_words(calls: int | None, tokens: int | None, cost: str | None, seconds: str | None) -> str:
    """The limits of a whole run, or what is left of them, in a few words; None means no limit."""
    parts = (
        None if calls is None else f"{calls:,} sub-calls",
        None if tokens is None else f"{tokens:,} tokens",
        cost and f"${cost}",
        seconds and f"{seconds} seconds",
    )
    return ", ".join(part for part in parts if part)
