"""Usage of model calls: counts, tokens and dollars, and their sums and differences."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from rlm_adapters.errors import InputError

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

Usage: TypeAlias = dict[str, Any]
"""A plain dict, as saved in the state: ``calls`` (sub-LM calls and turns of child RLMs), ``root_calls`` (turns of the
outermost root LM), ``extract_calls`` (questions for a last answer when a limit ended a run), ``failed_calls`` (failed
calls of any kind, which are in none of the other counts), ``input_tokens``, ``output_tokens``, ``cost`` (US dollars;
None: unknown, because a model that answered has no known price), ``ahead_calls``, ``ahead_wasted``, ``by_model``
(``calls``, ``failed_calls``, ``input_tokens``, ``output_tokens`` and ``cost`` by model name). If a provider reports the
kinds of tokens, also the keys of `DETAILS`, in the total and by model."""

DETAILS: Final = {
    "cache_read_tokens": ("input_token_details", "cache_read"),
    "cache_write_tokens": ("input_token_details", "cache_creation"),
    "input_audio_tokens": ("input_token_details", "audio"),
    "reasoning_tokens": ("output_token_details", "reasoning"),
    "output_audio_tokens": ("output_token_details", "audio"),
}
"""Kinds of input and output tokens, and their keys in LangChain's ``usage_metadata``."""

_COUNTS = (
    "calls", "root_calls", "extract_calls", "failed_calls", "input_tokens", "output_tokens", "ahead_calls",
    "ahead_wasted",
)  # fmt: skip
_NO_CALLS: Final = dict.fromkeys(("calls", "failed_calls", "input_tokens", "output_tokens"), 0)
_COUNTED: Final = frozenset({*_COUNTS, *DETAILS})
_COUNTED_BY_MODEL: Final = frozenset({*_NO_CALLS, *DETAILS})


def add_usage(left: Usage | None, right: Usage | None) -> Usage:
    """Add two usages. This is the reducer of the state's ``usage``."""
    if not left or not right:
        return dict(left or right or {})
    total = _added(left, right, _COUNTED)
    models = {**left.get("by_model", {})}
    for name, counts in right.get("by_model", {}).items():
        models[name] = {**_NO_CALLS, **_added(models.get(name, {}), counts, _COUNTED_BY_MODEL)}
    total["by_model"] = models
    return total


def check_usage(usage: Any, least: float = 0) -> None:
    """Check usage that comes from outside, such as a state that a client has edited.

    Args:
        usage: the usage.
        least: smallest allowed number.

    Raises:
        InputError: it is not a usage.
    """
    figures = dict(usage) if isinstance(usage, dict) else {"usage": usage}
    models = figures.pop("by_model", {})
    for one in (figures, *(models.values() if isinstance(models, dict) else ({"by_model": models},))):
        for name, value in one.items() if isinstance(one, dict) else (("by_model", one),):
            if isinstance(value, bool) or not (value is None or (isinstance(value, int | float) and value >= least)):
                raise InputError(f"usage: {name}={str(value)[:80]} is wrong: give a number of at least {least}")


def subtract_usage(total: Usage, before: Usage) -> Usage:
    """The usage that was added after ``before``."""
    earlier = before.get("by_model", {})
    models = {name: _difference(figures, earlier.get(name, {})) for name, figures in total.get("by_model", {}).items()}
    models = {name: figures for name, figures in models.items() if any(figures.values())}
    rest = _difference({key: value for key, value in total.items() if key != "by_model"}, before)
    costs = [figures.get("cost", 0) for figures in models.values()]
    if "cost" in rest and rest["cost"] is None and None not in costs:
        rest["cost"] = sum(costs)  # the unknown cost was already in ``before``
    return {**rest, "by_model": models}


def details_of(metadata: Mapping[str, Any]) -> dict[str, int]:
    """The kinds of tokens in a LangChain ``usage_metadata``, as far as it has them."""
    found = {key: (metadata.get(group) or {}).get(name) for key, (group, name) in DETAILS.items()}
    return {key: count for key, count in found.items() if isinstance(count, int) and count > 0}


def usage_metadata(usage: Usage) -> UsageMetadata:
    """The tokens as LangChain's ``usage_metadata``, with their kinds."""
    tokens = int(usage.get("input_tokens", 0)), int(usage.get("output_tokens", 0))
    metadata: dict[str, Any] = {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
    for key, (group, name) in DETAILS.items():
        if usage.get(key):
            metadata.setdefault(group, {})[name] = usage[key]
    return cast("UsageMetadata", metadata)


def empty_usage() -> Usage:
    """A usage of zero."""
    return {**dict.fromkeys(_COUNTS, 0), "cost": 0, "by_model": {}}


def _added(left: Mapping[str, Any], right: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """The sums of these keys, as far as they are there, and of the cost. It is called for each sub-call."""
    total: dict[str, Any] = {key: value for key, value in left.items() if key in keys}
    for key, value in right.items():
        if key in keys:
            total[key] = total.get(key, 0) + value
    if "cost" in left or "cost" in right:
        costs = left.get("cost", 0), right.get("cost", 0)
        total["cost"] = None if None in costs else sum(costs)
    return total


def _difference(total: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Subtract each number. An unknown cost stays unknown if anything was added."""
    counts = {key: value - before.get(key, 0) for key, value in total.items() if key != "cost"}
    if "cost" in total:
        costs = total["cost"], before.get("cost", 0)
        unknown = None if any(counts.values()) else 0
        counts["cost"] = unknown if None in costs else costs[0] - costs[1]
    return counts


def known_cost(usage: Usage) -> float:
    """Dollars of all models with known prices."""
    cost = usage.get("cost")
    if cost is None:
        return float(sum(figures.get("cost") or 0.0 for figures in usage.get("by_model", {}).values()))
    return float(cost)
