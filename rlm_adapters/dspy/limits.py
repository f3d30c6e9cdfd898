"""Merge the limits from dspy.RLM's arguments and from `Limits`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.models.limits import Limits

DEFAULTS: Final = Limits()
MAX_LLM_CALLS: Final = 50
"""The default of dspy.RLM. All other limits have the defaults of `Limits`."""

_ARGUMENTS: Final = {
    "max_iters": "max_iterations",
    "max_llm_calls": "max_calls",
    "max_output_chars": "max_output_chars",
    "max_depth": "max_depth",
}
"""The module's argument for each field of `Limits` with the same meaning."""


def merged_limits(limits: Limits | Mapping[str, Any] | None, **arguments: int) -> Limits:
    """The limits of a run. Each limit can be given as dspy.RLM's argument or in ``limits``.

    Args:
        limits: the argument of the module.
        **arguments: the module's ``max_iters``, ``max_llm_calls``, ``max_output_chars``, ``max_depth``.

    Raises:
        InputError: a limit is wrong, or is given twice with different values.
    """
    given = Limits.of(limits, call_timeout=math.inf)  # a DSPy LM has its own time-out
    named = limits if isinstance(limits, Mapping) else {}
    chosen: dict[str, Any] = {}
    for argument, field in _ARGUMENTS.items():
        value, other = arguments[argument], getattr(given, field)
        default = getattr(DEFAULTS, field)
        in_limits = field in named or other != default
        as_argument = value != (MAX_LLM_CALLS if argument == "max_llm_calls" else default)
        if in_limits and as_argument and value != other:
            raise InputError(f"{argument}={value!r} and limits' {field}={other!r} differ: give one of them")
        chosen[field] = other if in_limits else value
    return replace(given, **chosen)
