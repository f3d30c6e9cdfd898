"""Prices under the names that clients give to models."""

import datetime as dt
import json

import pytest

from rlm_adapters.models import prices
from rlm_adapters.models.prices import BUNDLED, ModelPrice, PriceTable

GPT_5 = ModelPrice(input=1.25, output=10.0)
SONNET = ModelPrice(input=3.0, output=15.0)


@pytest.fixture(params=["bundled", "litellm"])
def price_list(request, monkeypatch):
    """The public list: ours, or that of litellm."""
    if request.param == "bundled":
        monkeypatch.setattr(prices, "_litellm_file", lambda: None)
    else:
        pytest.importorskip("litellm")
    prices._public_prices.cache_clear()
    yield request.param
    prices._public_prices.cache_clear()


@pytest.mark.parametrize(
    ("name", "price"),
    [
        ("gpt-5", GPT_5),
        ("openai/gpt-5", GPT_5),
        ("openrouter/openai/gpt-5", GPT_5),
        ("litellm_proxy/openai/gpt-5", GPT_5),
        ("azure/gpt-5", GPT_5),
        ("langchain/gpt-5", GPT_5),
        ("gpt-5-2025-08-07", GPT_5),
        ("openai/gpt-5-2031-01-01", GPT_5),
        ("OpenAI/GPT-5", GPT_5),
        ("claude-sonnet-4-5", SONNET),
        ("anthropic/claude-sonnet-4-5", SONNET),
        ("claude-sonnet-4-5-20250929", SONNET),
        ("openrouter/anthropic/claude-sonnet-4.5", SONNET),
        ("vertex_ai/claude-sonnet-4-5@20250929", SONNET),
        ("gemini/gemini-2.5-flash", ModelPrice(input=0.3, output=2.5)),
        ("models/gemini-2.5-flash", ModelPrice(input=0.3, output=2.5)),
    ],
)
def test_a_common_model_is_known_by_the_names_that_clients_give_it(name, price, price_list):
    assert PriceTable().find(name) == price


@pytest.mark.parametrize(
    "name",
    [
        "my-gpt-5",
        "gpt-5-tuned-by-me",
        "hosted_vllm/openai/gpt-5",
        "lm_studio/gpt-5",
        "together_ai/openai/gpt-5",
        "",
        "/",
    ],
)
def test_a_model_of_ones_own_or_of_a_host_with_other_prices_is_unknown(name, price_list):
    assert PriceTable().find(name) is None
    assert PriceTable().cost(name, 1, 1) is None


def test_prices_of_the_user_come_first_and_know_providers_too():
    table = PriceTable({"gpt-5": (1.0, 2.0), "azure/gpt-5": (3.0, 4.0)})
    assert table.find("openai/gpt-5").input == 1.0
    assert table.find("azure/gpt-5").input == 3.0


def test_the_bundled_list_has_a_date_and_a_source():
    record = json.loads(BUNDLED.read_text())
    assert dt.date.fromisoformat(record["date"]) >= dt.date(2026, 11, 26)
    assert "litellm" in record["source"]
    assert len(record["prices"]) > 200
    assert all(given >= 0 and made >= 0 for given, made in record["prices"].values())


def test_where_prices_come_from_is_told(price_list):
    wanted = "litellm" if price_list == "litellm" else json.loads(BUNDLED.read_text())["date"]
    assert wanted in prices.prices_source()
