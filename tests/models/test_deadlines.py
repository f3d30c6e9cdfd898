"""A limit holds at the moment when a call leaves, not when it was asked for: in both forms, in queues and in minutes."""

import asyncio
import threading

import pytest

from rlm_adapters import ChatRLM, Limits, NoAnswerError, create_rlm_graph
from rlm_adapters.effects import adrive, drive
from rlm_adapters.models.limiter import Limiter
from tests.graph.conftest import run  # noqa: F401 - a fixture
from tests.server import cell

BATCH = cell("SUBMIT(llm_query_batched(['p' + str(i) for i in range(200)]))")


def asked_of(model_server, model):
    return sum(request.body["model"] == model for request in model_server.requests)


@pytest.fixture
def slow(model_server):
    model_server.script("root", [BATCH])
    model_server.script("sub", lambda messages, request: "ok", latency=0.4)


def test_a_batch_ends_with_the_run_and_what_waited_was_never_asked(run, model_server, chat, slow):  # noqa: F811
    limits = Limits(max_seconds=6.0, max_concurrency=4)
    result = run(create_rlm_graph(chat("root"), chat("sub"), limits=limits), {"query": "q", "context": "x"})
    assert result["finish_reason"] == "timeout"
    # At four at once and 0.4 s each some 60 fit into the time; all 200 were asked when only the asking was timed.
    assert 0 < asked_of(model_server, "sub") < 120
    assert result["usage"]["calls"] <= asked_of(model_server, "sub")


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_chat_model_s_run_ends_as_well(form, model_server, chat, slow):
    model = ChatRLM(
        model=chat("root"), sub_model=chat("sub"), limits=Limits(max_seconds=6.0, max_concurrency=4), direct_below=0
    )
    with pytest.raises(NoAnswerError, match="timeout"):
        model.invoke("q") if form == "sync" else asyncio.run(model.ainvoke("q"))
    assert 0 < asked_of(model_server, "sub") < 120


def test_a_full_minute_ends_the_run_at_its_time_and_not_a_minute_later(run, model_server, chat):  # noqa: F811
    model_server.script("root", [BATCH])
    model_server.script("sub", lambda messages, request: "ok")
    limits = Limits(max_seconds=2, requests_per_minute=5)
    result = run(create_rlm_graph(chat("root"), chat("sub"), limits=limits), {"query": "q", "context": "x"})
    assert result["finish_reason"] == "timeout"
    assert asked_of(model_server, "sub") <= 4
    assert "2 seconds are over" in result["error"]


@pytest.mark.parametrize("form", [drive, lambda steps: asyncio.run(adrive(steps))], ids=["sync", "async"])
class TestWaitingForAPlace:
    def test_ends_with_the_time_and_leaves_no_trace(self, form):
        limiter = Limiter(1)
        release = form(limiter.slot("a", 1))
        with pytest.raises(TimeoutError):
            form(limiter.slot("b", 1, lambda: 0.05))
        release()
        form(limiter.slot("c", 1))()
        assert limiter._free == 1

    def test_gives_its_place_back_when_the_minute_is_full(self, form):
        limiter = Limiter(2, requests_per_minute=1)
        form(limiter.slot("a", 1))()
        with pytest.raises(TimeoutError):
            form(limiter.slot("b", 1, lambda: 1.0))
        assert limiter._free == 2

    def test_is_granted_in_time(self, form):
        limiter = Limiter(1)
        release = form(limiter.slot("a", 1))
        threading.Timer(0.05, release).start()
        form(limiter.slot("b", 1, lambda: 30.0))()
        assert limiter._free == 1


@pytest.mark.parametrize("calls", [8, 60])
def test_every_event_loop_after_the_first_survives_the_connections_of_the_one_before(calls, model_server, chat):
    model_server.script("root", lambda messages, request: cell(f"SUBMIT(len(llm_query_batched(['p'] * {calls})))"))
    model_server.script("sub", lambda messages, request: "ok")
    model = ChatRLM(model=chat("root"), sub_model=chat("sub"), direct_below=0)
    for _ in range(4):
        assert asyncio.run(model.ainvoke("q")).text == str(calls)
