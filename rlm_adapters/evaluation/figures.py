"""Figures of results: shares with their intervals, medians, tokens, cost and time."""

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
    """Figures of the results of one setting: of all results, or of those of a family, a size, or both.

    Attributes:
        setting: key of the setting.
        family: the family; None: all.
        size: the size in bytes; None: all.
        tasks: number of answered tasks.
        correct: number of right answers.
        accuracy: share of right answers; None if there is no task.
        low: lower end of its Wilson interval (95 %).
        high: upper end of the interval.
        score: mean score, which also counts partly right answers.
        input_tokens: median per task.
        output_tokens: median per task.
        root_calls: mean per task.
        sub_calls: mean per task, with the turns of child runs.
        failed_calls: total.
        cost: dollars in total; None: a price is unknown.
        cost_median: median per task.
        cost_p95: 95th percentile per task.
        seconds_median: median per task.
        seconds_p95: 95th percentile per task.
        finish_reasons: number of tasks by finish reason.
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
        """The figures as plain JSON."""
        return asdict(self)


def wilson(correct: int, tasks: int) -> tuple[float, float]:
    """Wilson's score interval of a share (95 %). It is correct also for few tasks and for shares near 0 and 1."""
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
    """The smallest value that ``share`` of the values do not exceed. A median may be between two values."""
    ordered = sorted(values)
    place = share * len(ordered)
    if share == 0.5 and len(ordered) % 2 == 0:
        return (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2
    return ordered[min(len(ordered) - 1, max(0, math.ceil(place) - 1))]


def figures_of(results: Iterable[Result], setting: str, family: str | None = None, size: int | None = None) -> Figures:
    """Figures of a setting's results, without void ones."""
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
