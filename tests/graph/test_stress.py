"""Whole trees under stress: three levels, faults, budgets that run out in the middle, many runs at once."""

import asyncio
import re
import threading
from collections import Counter

import pytest

from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.graph.context import RLMContext
from rlm_adapters.models.prices import ModelPrice
from tests.server import ModelServer, cell, question_text, rate_limited, server_error, text_of, turn_of

MIDDLES, LEAVES = 10, 20
TOP = f"""
parts = rlm_query_batched([f'MIDDLE {{m}}' for m in range({MIDDLES})])
SUBMIT([part if part else None for part in parts])
"""
MIDDLE = f"""
found = []
for leaf in range({LEAVES}):
    try:
        found.append(llm_query(f'LEAF {{NUMBER}}.{{leaf}}').strip())
    except SubCallError as error:
        found.append(None)
SUBMIT(found)
"""


def asked(messages) -> str:
    return question_text(messages)


def root(messages, request):
    """The RLM of the top asks ten children, each of which asks 20 leaves in a plain loop."""
    middle = re.search(r"MIDDLE (\d+)", asked(messages))
    if middle is None:
        return cell(TOP) if not turn_of(messages) else cell("SUBMIT(None)")
    return cell(MIDDLE.replace("NUMBER", middle[1])) if not turn_of(messages) else cell("SUBMIT(None)")


def leaf(messages, request):
    return f" answer to {text_of(messages[-1])} "


def faulty(share: float):
    """Faults by what is asked and how often: the same in every run."""

    def script(messages, request):
        dice = hash_of(text_of(messages[-1]), request.attempt)
        if dice < share:
            return rate_limited(retry_after=0) if dice < share / 2 else server_error()
        return leaf(messages, request)

    return script


def hash_of(text: str, attempt: int) -> float:
    import hashlib

    return int(hashlib.sha256(f"{text} {attempt}".encode()).hexdigest()[:6], 16) / 0xFFFFFF


def places(answer) -> None:
    """Every answer that is there stands where it belongs."""
    for number, part in enumerate(answer or []):
        for index, text in enumerate(part or []):
            assert text in (None, f"answer to LEAF {number}.{index}")


def alive() -> int:
    return sum(thread.name.startswith("rlm-wait") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    from rlm_adapters.models import calling as models

    monkeypatch.setattr(models, "_FIRST_DELAY", 0.01)


def test_200_leaves_on_three_levels_with_faults_all_come_back(model_server, chat, sandbox, run):
    model_server.script("root", root)
    model_server.script("sub", faulty(0.2), latency=0.005)
    limits = Limits(max_depth=2, max_concurrency=16, max_retries=8)
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=limits, sandbox=sandbox)
    result = run(graph, {"query": "TOP", "context": "x"})
    assert [len(part) for part in result["answer"]] == [LEAVES] * MIDDLES
    assert not any(text is None for part in result["answer"] for text in part)
    places(result["answer"])
    assert result["usage"]["calls"] == MIDDLES * LEAVES + MIDDLES
    assert model_server._gauges["sub"].highest <= 16
    assert model_server.in_flight == 0
    assert len(graph.rlm.sessions) == 0


@pytest.mark.parametrize("parallel", ["ahead", "off"])
@pytest.mark.parametrize(
    "limits",
    [
        {"max_calls": 90},
        {"max_tokens": 7_500, "max_output_tokens": 200},
        {"max_cost": 0.009, "max_output_tokens": 200},
    ],
    ids=["calls", "tokens", "cost"],
)
def test_a_budget_that_runs_out_in_the_middle_is_never_overshot(limits, parallel, model_server, chat, sandbox):
    model_server.script("root", root)
    model_server.script("sub", faulty(0.1), latency=0.002)
    bounds = Limits(max_depth=2, max_concurrency=16, max_iterations=3, **limits)
    prices = {"root": ModelPrice(1.0, 2.0), "sub": ModelPrice(1.0, 2.0)}
    graph = create_rlm_graph(
        chat("root"), chat("sub"), limits=bounds, prices=prices, parallel=parallel, sandbox=sandbox
    )

    async def within():
        async with asyncio.timeout(120):
            return await graph.ainvoke({"query": "TOP", "context": "x"})

    result = asyncio.run(within())
    usage = result["usage"]
    assert usage["calls"] < MIDDLES * LEAVES, "the budget did not run out: it is not being tested"
    answered = [record for record in model_server.requests if record.status == 200]
    assert sum(model["calls"] for model in usage["by_model"].values()) == len(answered), "every paid call is booked"
    if bounds.max_calls is not None:
        assert usage["calls"] <= bounds.max_calls
    if bounds.max_tokens is not None:
        assert usage["input_tokens"] + usage["output_tokens"] <= bounds.max_tokens
    if bounds.max_cost is not None:
        assert usage["cost"] <= bounds.max_cost
    places(result["answer"] if isinstance(result["answer"], list) else None)
    assert len(graph.rlm.sessions) == 0
    assert model_server.in_flight == 0
    assert not alive()


async def test_100_runs_at_once_do_not_see_each_other(sandbox):
    """Each with its own listener, variables, ledger, and answers that name the run."""
    from langchain_openai import ChatOpenAI

    def script(messages, request):
        number = re.search(r"RUN (\d+)\b", asked(messages))[1]
        if turn_of(messages) == 0:
            return cell(f"mine = context + ' {number}'\nout = [llm_query(f'{{mine}} {{i}}').strip() for i in range(4)]")
        return cell("SUBMIT([mine, *out])")

    with ModelServer() as server:
        server.script("root", script)
        server.script("sub", lambda messages, request: f" re: {text_of(messages[-1])} ", latency=0.005)
        root_model, sub_model = (
            ChatOpenAI(model=name, base_url=server.url, api_key="test", max_retries=0) for name in ("root", "sub")
        )
        graph = create_rlm_graph(root_model, sub_model, limits=Limits(max_calls=4), sandbox=sandbox)
        heard: dict[int, list[str]] = {}

        async def one(number: int) -> None:
            events = heard.setdefault(number, [])
            result = await graph.ainvoke(
                {"query": f"RUN {number}", "context": f"context of {number}"},
                context=RLMContext(on_event=lambda event: events.append(event.run_id)),
            )
            mine = f"context of {number} {number}"
            assert result["answer"] == [mine, *(f"re: {mine} {i}" for i in range(4))]
            assert result["usage"]["calls"] == 4

        async with asyncio.timeout(300):
            await asyncio.gather(*(one(number) for number in range(100)))
        assert len({run for events in heard.values() for run in events}) == 100
        assert all(len(set(events)) == 1 for events in heard.values())
        assert Counter(record.model for record in server.requests) == {"root": 200, "sub": 400}
        assert len(graph.rlm.sessions) == 0


async def test_cancelling_the_top_ends_all_below_it(model_server, chat, sandbox):
    model_server.script("root", root)
    model_server.script("sub", leaf, latency=30.0)
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=Limits(max_depth=2), sandbox=sandbox)
    task = asyncio.create_task(graph.ainvoke({"query": "TOP", "context": "x"}))
    while len(model_server.requests_of("sub")) < 20:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(250):
        if not model_server.in_flight and not len(graph.rlm.sessions):
            break
        await asyncio.sleep(0.02)
    assert (model_server.in_flight, len(graph.rlm.sessions)) == (0, 0)
