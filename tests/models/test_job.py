"""A job's ledger: what its runs reserve and use is reserved and used there too."""

from concurrent.futures import Future

import pytest

from rlm_adapters.errors import BudgetExceededError
from rlm_adapters.models.budget import Ledger, Reservation
from rlm_adapters.models.job import JobLedger
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable

PRICES = PriceTable({"m": (1.0, 1.0)})
ANY = Limits(max_calls=None)


def job(**limits):
    return JobLedger(Limits(**{"max_calls": None, **limits}), PRICES)


def reserve(ledger, kind="root", tokens=100, output=None):
    return ledger.try_reserve("m", kind, tokens, output)


def test_calls_of_every_kind_and_run_count_together():
    around = job(max_calls=3)
    first, second = (Ledger(ANY, PRICES, around=around) for _ in range(2))
    for ledger, kind in ((first, "root"), (second, "sub"), (first, "extract")):
        place = reserve(ledger, kind)
        assert isinstance(place, Reservation)
        ledger.settle(place, 100, 10)
    with pytest.raises(BudgetExceededError, match="all 3 model calls of the job"):
        reserve(second)
    assert around.refusal is not None
    assert (around.exhausted(), first.exhausted()) == ("max_calls", "max_calls")
    assert (around.used["input_tokens"], first.used["input_tokens"], second.used["input_tokens"]) == (300, 200, 100)
    assert second.used["calls"] == 1


def test_calls_in_flight_count_and_what_is_given_back_does_not():
    around = job(max_calls=2)
    run = Ledger(ANY, PRICES, around=around)
    places = [reserve(run), reserve(run)]
    with pytest.raises(BudgetExceededError):
        reserve(run)
    run.release(places[0])
    run.fail(places[1])
    assert around.used["failed_calls"] == 1
    assert isinstance(reserve(run), Reservation)
    assert isinstance(reserve(run), Reservation)


def test_the_worst_cases_of_two_runs_never_exceed_the_budget_together():
    around = job(max_tokens=1_000, max_output_tokens=500)
    first, second = (Ledger(Limits(max_calls=None), PRICES, around=around) for _ in range(2))
    place = reserve(first)
    assert (place.input_tokens, place.output_tokens) == (100, 500)
    waiting = reserve(second)
    assert isinstance(waiting, Future)
    assert not waiting.done()
    first.settle(place, 100, 50)
    assert waiting.done()
    place = reserve(second)
    assert place.output_tokens == 500
    second.settle(place, 100, 500)
    assert reserve(first).output_tokens == 150
    assert sum(ledger.used["input_tokens"] for ledger in (first, second)) == around.used["input_tokens"]


def test_a_run_keeps_its_own_limits_inside_of_a_job():
    around = job(max_calls=100)
    run = Ledger(Limits(max_calls=1), PRICES, around=around)
    run.settle(reserve(run, "sub"), 1, 1)
    with pytest.raises(BudgetExceededError, match="all 1 sub-calls of this run"):
        reserve(run, "sub")
    assert around.refusal is None
    assert run.room_ahead() == 0


def test_run_ahead_is_bounded_by_what_is_left_to_the_job():
    around = job(max_calls=10)
    assert Ledger(ANY, PRICES, around=around).room_ahead() == 5
    assert Ledger(Limits(max_calls=4), PRICES, around=around).room_ahead() == 2
    assert Ledger(ANY, PRICES).room_ahead() is None
