"""Replies that DSPy cannot parse: charged like all others, bounded by the limits, and never a crash."""

import asyncio

import dspy
import pytest

from rlm_adapters import RLM, InputError, Limits
from tests.server import cell

ALWAYS_A_BLOCK = cell("print(1)\nSUBMIT(1)")
"""A model that never answers in DSPy's fields."""


@pytest.fixture
def lm(model_server):
    model_server.script("root", lambda messages, request: ALWAYS_A_BLOCK)
    return dspy.LM("openai/root", api_base=model_server.url, api_key="test", cache=False, num_retries=0)


@pytest.fixture(params=["sync", "async"])
def ask(request, lm):
    def ask(rlm, **inputs):
        inputs = inputs or {"context": "abc", "query": "q"}
        with dspy.context(lm=lm):
            if request.param == "sync":
                return rlm(**inputs)
            return asyncio.run(rlm.acall(**inputs))

    return ask


def prompt_tokens(model_server):
    return model_server.stats()["models"]["root"]["prompt_tokens"]


def test_every_token_that_the_server_counted_is_charged(ask, model_server):
    result = ask(RLM("context, query -> answer", max_iters=3))
    assert result.answer is None
    assert result.rlm["finish_reason"] == "max_iterations"
    assert result.rlm["usage"]["input_tokens"] == prompt_tokens(model_server)
    assert result.rlm["usage"]["root_calls"] == 3
    assert result.rlm["usage"]["by_model"]["openai/root"]["calls"] == 4  # with the one that extracts
    assert "could not be parsed" in result.rlm["error"]
    assert "print(1)" in result.rlm["error"]


def test_a_token_limit_ends_the_run(ask, model_server):
    limits = Limits(max_tokens=12_000, max_repairs=20, max_output_tokens=500)
    result = ask(RLM("context, query -> answer", limits=limits))
    assert result.rlm["finish_reason"] == "budget"
    assert result.rlm["usage"]["input_tokens"] == prompt_tokens(model_server)
    assert result.rlm["usage"]["input_tokens"] < 12_000


def test_a_cost_limit_ends_the_run(ask):
    limits = {"max_cost": 0.02, "max_repairs": 20, "max_output_tokens": 500}
    result = ask(RLM("context, query -> answer", limits=limits, prices={"openai/root": (2, 2)}))
    assert result.rlm["finish_reason"] == "budget"
    assert 0 < result.rlm["usage"]["cost"] <= 0.02


@pytest.mark.parametrize("repairs", [0, 1, 2])
def test_max_repairs_holds(ask, model_server, repairs):
    result = ask(RLM("context, query -> answer", limits=Limits(max_repairs=repairs)))
    assert result.answer is None
    assert result.rlm["finish_reason"] == "error"
    assert result.rlm["usage"]["root_calls"] == repairs + 1
    assert f"{repairs + 1} replies in a row" in result.rlm["error"]
    assert result.final_reasoning == result.rlm["error"], "no extraction was made, so none is claimed"


def test_a_run_of_a_program_goes_on_after_such_a_prediction(ask, lm):
    with dspy.context(lm=lm):
        score = dspy.Evaluate(
            devset=[dspy.Example(context="a", query="b", answer="c").with_inputs("context", "query")] * 2,
            metric=lambda example, prediction, trace=None: prediction.answer == example.answer,
            num_threads=2,
            max_errors=1,
        )(RLM("context, query -> answer", max_iters=2))
    assert score.score == 0


@pytest.mark.parametrize(
    ("arguments", "iterations", "calls"),
    [
        ({}, 20, 50),
        ({"max_iters": 3}, 3, 50),
        ({"limits": Limits(max_iterations=4)}, 4, 50),
        ({"limits": Limits(max_calls=7, max_tokens=100)}, 20, 7),
        ({"limits": {"max_calls": 500}}, 20, 500),
        ({"limits": {"max_iterations": 5}, "max_iters": 5}, 5, 50),
        ({"limits": Limits(max_tokens=100), "max_llm_calls": 9}, 20, 9),
    ],
)
def test_a_limit_may_be_given_as_an_argument_or_in_limits(arguments, iterations, calls):
    rlm = RLM("context, query -> answer", **arguments)
    assert (rlm.max_iters, rlm.max_llm_calls) == (iterations, calls)
    assert (rlm._limits.max_iterations, rlm._limits.max_calls) == (iterations, calls)


def test_a_limit_that_is_given_twice_is_refused():
    with pytest.raises(InputError, match=r"max_iters=3 and limits' max_iterations=4 differ"):
        RLM("context, query -> answer", max_iters=3, limits=Limits(max_iterations=4))


def test_calls_without_a_limit(ask):
    rlm = RLM("context, query -> answer", limits={"max_calls": None, "max_repairs": 0})
    assert rlm._limits.max_calls is None
    assert ask(rlm).rlm["finish_reason"] == "error"


def test_a_worded_sub_call_that_is_answered_without_fields_is_its_text_and_is_charged(lm, model_server):
    from tests.dspy.scripted import playing

    model_server.script("root", lambda messages, request: "just the answer")
    with dspy.context(lm=playing("SUBMIT(llm_query('say it'))")):
        result = RLM("query -> answer", sub_lm=lm, sub_call=True)(query="q")
    assert result.answer == "just the answer"
    assert result.rlm["usage"]["by_model"]["openai/root"]["input_tokens"] == prompt_tokens(model_server)
