"""The ledger: what is reserved, settled, refused."""

from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from rlm_adapters import InputError, Limits, ModelPrice
from rlm_adapters.errors import BudgetExceededError
from rlm_adapters.models.budget import Ledger
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.tokens import estimate_tokens
from rlm_adapters.models.usage import (
    add_usage,
    check_usage,
    details_of,
    empty_usage,
    subtract_usage,
    usage_metadata,
)


def reserve(ledger: Ledger, tokens: int = 10, kind: str = "sub"):
    return ledger.try_reserve("m", kind, tokens)


def test_calls_are_counted_when_they_are_reserved():
    ledger = Ledger(Limits(max_calls=2))
    first, second = reserve(ledger), reserve(ledger)
    with pytest.raises(BudgetExceededError) as refused:
        reserve(ledger)
    assert refused.value.limit == "max_calls"
    ledger.release(first)
    ledger.settle(second, 5, 5)
    assert ledger.balance().calls == 1


def test_root_calls_do_not_use_up_sub_calls():
    ledger = Ledger(Limits(max_calls=0))
    assert not isinstance(reserve(ledger, kind="root"), Future)


def test_a_call_that_would_fit_once_others_are_settled_waits_for_them():
    ledger = Ledger(Limits(max_tokens=1000, max_output_tokens=900))
    first = reserve(ledger)
    waiting = reserve(ledger)
    assert isinstance(waiting, Future)
    assert not waiting.done()
    ledger.settle(first, 10, 20)
    assert waiting.done()
    second = reserve(ledger)
    assert second.output_tokens == 900
    assert second.tokens <= 1000 - 30


def test_a_call_that_can_never_fit_is_refused_at_once():
    ledger = Ledger(Limits(max_tokens=1000))
    with pytest.raises(BudgetExceededError, match="does not fit into the 1,000"):
        reserve(ledger, tokens=2000)


def test_the_output_of_a_call_is_capped_by_what_is_left():
    ledger = Ledger(Limits(max_tokens=1000, max_output_tokens=8000))
    assert reserve(ledger, tokens=400).output_tokens == 600


def test_without_token_or_cost_limits_outputs_are_not_capped():
    assert reserve(Ledger(Limits())).output_tokens is None


def test_cost_is_reserved_at_the_price_of_input_and_output():
    prices = PriceTable({"m": ModelPrice(input=1_000_000, output=2_000_000)})  # $1 and $2 a token
    ledger = Ledger(Limits(max_cost=100.0), prices)
    assert reserve(ledger, tokens=10).output_tokens == 45


def test_no_interleaving_of_threads_overshoots():
    ledger = Ledger(Limits(max_calls=50, max_tokens=30_000, max_output_tokens=400))
    done = []

    def call(_: int) -> None:
        try:
            while isinstance(place := reserve(ledger, tokens=300), Future):
                place.result(10)
        except BudgetExceededError:
            return
        done.append(ledger.settle(place, 300, place.output_tokens))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(200)))
    used = ledger.used
    assert used["calls"] == len(done) <= 50
    assert used["input_tokens"] + used["output_tokens"] <= 30_000
    assert len(done) == 43, "the last one is capped at what is left"


def test_time_is_counted_over_a_resume():
    now = [100.0]
    ledger = Ledger(Limits(max_seconds=10), clock=lambda: now[0])
    ledger.restore_time(8)
    now[0] += 1
    assert ledger.seconds_left("extract") == pytest.approx(1.0)
    assert ledger.seconds_left() == pytest.approx(0.0), "a tenth is kept for the last answer"
    now[0] += 2
    with pytest.raises(BudgetExceededError, match="seconds are over"):
        reserve(ledger)


def test_prices_are_found_by_name_then_by_the_longest_prefix():
    table = PriceTable({"gpt": (1, 2), "gpt-5": (3, 4), "gpt-5-mini-2026": (5, 6)})
    assert table.find("gpt-5-mini").input == 3
    assert table.find("gpt-5-mini-2026").input == 5
    with pytest.raises(InputError, match="unknown"):
        PriceTable().require("nobody-knows-this-model")


def test_usages_add_up_by_model():
    ledger = Ledger(Limits())
    one = ledger.settle(ledger.try_reserve("a", "sub", 1), 10, 1)
    two = ledger.settle(ledger.try_reserve("b", "root", 1), 20, 2)
    total = add_usage(add_usage({}, one), two)
    assert (total["calls"], total["root_calls"], total["input_tokens"]) == (1, 1, 30)
    assert total["by_model"]["b"]["output_tokens"] == 2
    assert ledger.used == {**empty_usage(), **total}
    assert total["cost"] is None, "nobody knows the prices"


def test_what_the_tokens_were_is_added_up_where_it_was_told():
    ledger = Ledger(Limits())
    one = ledger.settle(ledger.try_reserve("a", "sub", 1), 10, 1, {"cache_read_tokens": 4})
    two = ledger.settle(ledger.try_reserve("a", "sub", 1), 20, 2)
    three = ledger.settle(ledger.try_reserve("b", "root", 1), 20, 9, {"cache_read_tokens": 5, "reasoning_tokens": 7})
    total = add_usage(add_usage(one, two), three)
    assert (total["cache_read_tokens"], total["reasoning_tokens"]) == (9, 7)
    assert total["by_model"]["a"]["cache_read_tokens"] == 4
    assert "reasoning_tokens" not in total["by_model"]["a"]
    assert ledger.used == {**empty_usage(), **total}
    check_usage(total)
    assert usage_metadata(total) == {
        "input_tokens": 50,
        "output_tokens": 12,
        "total_tokens": 62,
        "input_token_details": {"cache_read": 9},
        "output_token_details": {"reasoning": 7},
    }
    assert details_of(usage_metadata(total)) == {"cache_read_tokens": 9, "reasoning_tokens": 7}
    rest = subtract_usage(total, one)
    assert (rest["cache_read_tokens"], rest["by_model"]["a"]["cache_read_tokens"]) == (5, 0)


@pytest.mark.parametrize("told", [{"cache_read": -3}, {"cache_read": "9"}, {"cache_read": None}, {"other": 4}, None])
def test_details_that_are_no_counts_are_left_out(told):
    assert details_of({"input_token_details": told}) == {}


def test_estimates_are_upper_bounds_for_text_of_any_script():
    assert estimate_tokens("word " * 100) >= 100
    assert estimate_tokens("漢字" * 50) >= 100


def used(ledger, model, kind="sub", tokens=(10, 10)):
    return ledger.settle(ledger.try_reserve(model, kind, tokens[0]), *tokens)


def test_a_cost_is_unknown_as_soon_as_one_model_has_no_price():
    ledger = Ledger(Limits(), PriceTable({"known": (1.0, 1.0)}))
    known = used(ledger, "known")
    assert ledger.used["cost"] == known["cost"] == pytest.approx(2e-5)
    unknown = used(ledger, "nobody-knows")
    assert unknown["cost"] is None
    assert ledger.used["cost"] is None
    assert ledger.used["by_model"]["known"]["cost"] == known["cost"]
    assert ledger.used["by_model"]["nobody-knows"]["cost"] is None


def test_what_came_on_top_is_known_where_only_the_part_before_is_not():
    ledger = Ledger(Limits(), PriceTable({"known": (1.0, 1.0)}))
    before = used(ledger, "nobody-knows")
    same = subtract_usage(ledger.used, before)
    assert same["cost"] == 0
    used(ledger, "known")
    assert subtract_usage(ledger.used, before)["cost"] == pytest.approx(2e-5)
    used(ledger, "nobody-knows")
    assert subtract_usage(ledger.used, before)["cost"] is None


def test_a_cost_limit_counts_on_where_an_earlier_model_had_no_price():
    ledger = Ledger(Limits(max_cost=1.0), PriceTable({"m": (1.0, 1.0)}))
    ledger.book({"cost": None, "by_model": {"m": {"cost": 0.75}, "nobody-knows": {"cost": None}}})
    assert ledger.balance().cost == pytest.approx(0.25)


def test_failed_and_last_calls_have_counts_of_their_own():
    ledger = Ledger(Limits(max_calls=1))
    failed = ledger.fail(reserve(ledger))
    used(ledger, "m", "extract")
    total = ledger.used
    assert (total["failed_calls"], total["extract_calls"], total["calls"], total["root_calls"]) == (1, 1, 0, 0)
    assert total["by_model"]["m"]["failed_calls"] == failed["by_model"]["m"]["failed_calls"] == 1
    assert subtract_usage(total, failed)["failed_calls"] == 0
