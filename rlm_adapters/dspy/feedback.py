"""Feedback for GEPA: the steps of a run, and its cost.

dspy.GEPA(metric=gepa_metric(score, cost_weight=0.1), ...)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dspy

from rlm_adapters.dspy.call import RESULT_FIELD
from rlm_adapters.prompts import cut_middle

Metric = Callable[..., Any]
_CODE_CHARS, _OUTPUT_CHARS = 1_500, 800  # of a step, because the reflecting LM reads several trajectories at once


def gepa_metric(
    metric: Metric, *, cost_weight: float = 0.0, cost: Callable[[Mapping[str, Any]], float] | None = None
) -> Callable[..., Any]:
    """Make a metric for GEPA. Its feedback includes the trajectory and its cost.

    Args:
        metric: ``metric(example, prediction)``, which returns a score from 0 to 1, or a ``dspy.Prediction`` with
            ``score`` and ``feedback``.
        cost_weight: the score is reduced by ``cost_weight`` times the cost of the run.
        cost: returns the cost of a run from its usage; default: dollars if prices are known, else thousands of tokens.

    Returns:
        A function for ``dspy.GEPA(metric=...)``. If a limit ended the run without an answer, the score is that of
        ``metric`` for empty fields, or 0 if ``metric`` raises.
    """
    price = cost or _cost

    def judge(gold: Any, pred: Any, *_: Any, **__: Any) -> Any:  # GEPA gives trace, pred_name and pred_trace too
        try:
            judged = metric(gold, pred)
        except Exception as error:
            told = getattr(pred, RESULT_FIELD, None) or {}
            if told.get("finish_reason") in (None, "submitted", "text"):
                raise
            judged = dspy.Prediction(score=0.0, feedback=f"There was no answer to judge ({error}).")
        score = float(judged.score if hasattr(judged, "score") else judged)
        said = str(getattr(judged, "feedback", "") or f"The score is {score:g}.")
        usage = (getattr(pred, RESULT_FIELD, None) or {}).get("usage") or {}
        score -= cost_weight * price(usage)
        return dspy.Prediction(score=score, feedback=f"{said}\n\n{describe_run(pred)}")

    return judge


def describe_run(prediction: Any) -> str:
    """A prediction of an RLM as text: its end, its usage, and its steps."""
    told = getattr(prediction, RESULT_FIELD, None) or {}
    usage = told.get("usage") or {}
    lines = []
    if told:
        reason, error = told.get("finish_reason"), told.get("error")
        lines.append(f"The run ended by {reason}{f' ({error})' if error else ''} after {told.get('iterations')} steps.")
        lines.append(
            f"It used {usage.get('calls', 0)} sub-calls, {usage.get('input_tokens', 0):,} input tokens and "
            f"{usage.get('output_tokens', 0):,} output tokens"
            + (f" (${usage['cost']:.4f})." if usage.get("cost") else ".")
        )
    for number, step in enumerate(getattr(prediction, "trajectory", None) or (), 1):
        lines.append(
            f"Step {number}: {step['reasoning']}\n```python\n{cut_middle(step['code'], _CODE_CHARS)}\n```\n"
            f"Output: {cut_middle(step['output'], _OUTPUT_CHARS)}"
        )
    return "\n".join(lines)


def _cost(usage: Mapping[str, Any]) -> float:
    dollars = usage.get("cost") or 0.0
    return float(dollars or (usage.get("input_tokens", 0) + usage.get("output_tokens", 0)) / 1000)
