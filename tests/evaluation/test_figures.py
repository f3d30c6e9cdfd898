"""Figures: intervals as in the literature, medians and percentiles, and unknown prices."""

import pytest

from rlm_adapters.evaluation.figures import figures_of, quantile, wilson
from rlm_adapters.evaluation.results import Result


@pytest.mark.parametrize(
    ("correct", "tasks", "low", "high"),
    [  # Newcombe 1998, table I (method 3)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0.0, 1.0),
        (5, 5, 0.5655, 1.0),
    ],
)
def test_intervals_are_wilson_s(correct, tasks, low, high):
    assert wilson(correct, tasks) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_quantiles():
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile([4, 1, 2, 3], 0.5) == 2.5
    assert quantile(list(range(1, 101)), 0.95) == 95
    assert quantile([7], 0.95) == 7


def result(number, **given):
    usage = {"input_tokens": number, "cost": given.pop("cost", 0.1 * number)}
    return Result(setting="a", task=str(number), family="f", size=10_000, usage=usage, seconds=number, **given)


def test_what_is_void_counts_for_nothing():
    found = figures_of([result(1, correct=True, score=1.0), result(2, score=0.5), result(3, void=True)], "a")
    assert (found.tasks, found.correct, found.accuracy, found.score) == (2, 1, 0.5, 0.75)
    assert (found.cost, found.cost_median, found.cost_p95) == (pytest.approx(0.3), pytest.approx(0.15), 0.2)
    assert figures_of([result(1)], "a", "g").tasks == figures_of([result(1)], "a", None, 20_000).tasks == 0


def test_a_sum_with_an_unknown_price_is_unknown():
    found = figures_of([result(1), result(2, cost=None)], "a")
    assert (found.cost, found.cost_median, found.input_tokens) == (None, None, 1.5)
