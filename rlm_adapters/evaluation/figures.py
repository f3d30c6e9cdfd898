"""Figures of results: shares with their intervals, medians, and what the runs took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rlm_adapters.evaluation.results import Result

_Z: Final = 1.959964  # 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of the results of one setting, all of them or those of a family, a size, or both.

    Attributes:
        setting: key of the setting.
        family: None: all.
        size: in bytes; None: all.
        tasks: how many were answered.
        correct: how many of them rightly.
        accuracy: the share of these; None where there is no task.
        low: lower end of its Wilson interval (95 %).
        high: upper end.
        score: the mean of what partly right answers are worth.
        input_tokens: median of a task.
        output_tokens: likewise.
        root_calls: mean.
        sub_calls: mean; turns of child runs are among them.
        failed_calls: in all.
        cost: dollars in all; None: a price is unknown.
        cost_median: of a task.
        cost_p95: of 95 tasks in 100 not more.
        seconds_median: of a task.
        seconds_p95: of 95 tasks in 100 not more.
        finish_reasons: how many tasks ended so.
    """

    setting: str
    family: str | None = None
    size: int | None = None
    tasks: int
    correct: int
    accuracy: float | None
    low: float
    high: float
    score: float | None
    input_tokens: float = 0
    output_tokens: float = 0
    root_calls: float = 0
    sub_calls: float = 0
    failed_calls: int = 0
    cost: float | None = None
    cost_median: float | None = None
    cost_p95: float | None = None
    seconds_median: float = 0.0
    seconds_p95: float = 0.0
    finish_reasons: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def wilson(correct: int, tasks: int) -> tuple[float, float]:
    """Wilson's score interval of a share (95 %): true for few tasks and for shares near 0 and 1 as well."""
    if not tasks:
        return 0.0, 1.0
    share, square = correct / tasks, _Z * _Z
    middle = share + square / (2 * tasks)
    spread = _Z * math.sqrt(share * (1 - share) / tasks + square / (4 * tasks * tasks))
    scale = 1 + square / tasks
    low = 0.0 if correct == 0 else (middle - spread) / scale
    high = 1.0 if correct == tasks else (middle + spread) / scale
    return max(0.0, low), min(1.0, high)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed; a median may lie between two."""
    ordered = sorted(values)
    place = share * len(ordered)
    if share == 0.5 and len(ordered) % 2 == 0:
        return (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2
    return ordered[min(len(ordered) - 1, max(0, math.ceil(place) - 1))]


def figures_of(results: Iterable[Result], setting: str, family: str | None = None, size: int | None = None) -> Figures:
    """Figures of a setting's results; those that are void are left out."""
    found = [
        one
        for one in results
        if one.setting == setting and not one.void and family in (None, one.family) and size in (None, one.size)
    ]
    correct = sum(one.correct for one in found)
    low, high = wilson(correct, len(found))
    if not found:
        return Figures(
            setting=setting, family=family, size=size, tasks=0, correct=0, accuracy=None, low=low, high=high, score=None
        )
    costs = [one.usage.get("cost") for one in found]
    known = [float(cost) for cost in costs if cost is not None]
    priced = len(known) == len(costs)
    seconds = [one.seconds for one in found]
    return Figures(
        setting=setting,
        family=family,
        size=size,
        tasks=len(found),
        correct=correct,
        accuracy=correct / len(found),
        low=low,
        high=high,
        score=sum(one.score for one in found) / len(found),
        input_tokens=quantile([one.usage.get("input_tokens", 0) for one in found], 0.5),
        output_tokens=quantile([one.usage.get("output_tokens", 0) for one in found], 0.5),
        root_calls=_mean(one.usage.get("root_calls", 0) for one in found),
        sub_calls=_mean(one.usage.get("calls", 0) for one in found),
        failed_calls=sum(one.usage.get("failed_calls", 0) for one in found),
        cost=sum(known) if priced else None,
        cost_median=quantile(known, 0.5) if priced else None,
        cost_p95=quantile(known, 0.95) if priced else None,
        seconds_median=quantile(seconds, 0.5),
        seconds_p95=quantile(seconds, 0.95),
        finish_reasons=dict(Counter(one.finish_reason for one in found).most_common()),
    )


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
