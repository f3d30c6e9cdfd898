"""The router: a short question is one plain call of the inner model, within the limits of a run."""

import asyncio
import math
import threading

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from rlm_adapters import Limits, ModelCallError, NoAnswerError, context_block
from tests.langchain.test_calls import CONTEXT_CELL, collect
from tests.server import (
    Reply,
    ToolCall,
    cell,
    content_filtered,
    cut_off,
    drops_connection,
    flaky,
    rate_limited,
    refused,
    server_error,
)


def test_a_short_question_goes_straight_to_the_inner_model(model_server, rlm):
    model_server.script("root", lambda m, r: f"plain {len(m)}")
    message = rlm(direct_below=1_000).invoke([("system", "s"), ("human", "hello")])
    assert message.text == "plain 2"
    assert message.response_metadata["finish_reason"] == "direct"
    assert message.response_metadata["usage_by_model"]["root"]["calls"] == 1
    assert model_server.requests[0].messages[1]["content"] == "hello"


@pytest.mark.parametrize("long", ["text", "context", "block"])
def test_anything_long_or_explicit_does_not(model_server, rlm, long):
    model_server.script("root", lambda m, r: CONTEXT_CELL)
    model = rlm(direct_below=1_000)
    message = {
        "text": lambda: model.invoke("x" * 30_000),
        "context": lambda: model.bind(context="abc").invoke("q"),
        "block": lambda: model.invoke([HumanMessage([context_block("abc"), "q"])]),
    }[long]()
    assert message.text.startswith("str ")


@pytest.mark.parametrize("form", ["sync", "async"])
def test_the_tokens_of_a_direct_answer_are_streamed_as_they_come(model_server, rlm, chat, form):
    model_server.script("root", lambda m, r: "word " * 100)
    model = rlm(model=chat("root", stream_usage=True), direct_below=1_000)
    chunks = list(model.stream("hello")) if form == "sync" else asyncio.run(collect(model.astream("hello")))
    assert len(chunks) > 15
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    assert total.text == "word " * 100
    assert total.usage_metadata["output_tokens"] == 125
    assert total.response_metadata["finish_reason"] == "direct"
    assert total.response_metadata["model_name"] == "rlm:root"


def test_a_direct_call_has_the_tools_of_the_caller(model_server, rlm):
    def weather(city: str) -> str:
        """Weather."""

    model_server.script("root", [Reply(tool_calls=(ToolCall("weather", {"city": "Bern"}),)), "It rains."])
    model = rlm(direct_below=1_000).bind_tools([weather], tool_choice="any")
    first = model.invoke("q")
    assert first.tool_calls[0]["args"] == {"city": "Bern"}
    assert model_server.requests[0].body["tool_choice"] == "required"
    back = {"role": "tool", "tool_call_id": first.tool_calls[0]["id"], "content": "rain"}
    assert model.invoke([HumanMessage("q"), first, back]).text == "It rains."


def test_a_direct_answer_that_does_not_fit_is_mended_by_a_run(model_server, rlm):
    class Age(BaseModel):
        years: int

    def root(messages, request):
        if request.body.get("tools"):
            return Reply(tool_calls=(ToolCall("Age", {"years": "many"}),))
        return cell("SUBMIT(years=5)")

    model_server.script("root", root)
    assert rlm(direct_below=1_000).with_structured_output(Age).invoke("q") == Age(years=5)


def test_a_direct_call_beyond_the_window_becomes_a_run(model_server, rlm):
    model_server.script("root", lambda m, r: cell("SUBMIT('run')"), context_length=2_000)
    assert rlm(direct_below=1_000_000, context_threshold=1_000).invoke("x" * 20_000).text == "run"


# ------------------------------------------------------------------------------------------------ limits and failures


@pytest.fixture(params=["invoke", "ainvoke", "stream", "astream"])
def ask(request):
    """Call a model in each form; gives the whole message."""

    def call(model, question):
        if request.param == "invoke":
            return model.invoke(question)
        if request.param == "ainvoke":
            return asyncio.run(model.ainvoke(question))
        chunks = (
            list(model.stream(question)) if request.param == "stream" else asyncio.run(collect(model.astream(question)))
        )
        return sum(chunks[1:], start=chunks[0])

    return call


@pytest.mark.parametrize("fault", [server_error(), rate_limited(0.01), drops_connection()])
def test_a_fault_before_the_first_token_is_retried(model_server, rlm, ask, fault):
    model_server.script("root", flaky(fault, lambda m, r: "all is well"))
    message = ask(rlm(direct_below=1_000), "hello")
    assert (message.text, message.response_metadata["calls"]) == ("all is well", 0)
    assert message.response_metadata["usage_by_model"]["root"]["calls"] == 1
    assert len(model_server.requests) == 2


def test_retries_end(model_server, rlm, ask):
    model_server.script("root", lambda m, r: server_error("broken"))
    with pytest.raises(ModelCallError, match="broken"):
        ask(rlm(direct_below=1_000, max_retries=1), "hello")
    assert len(model_server.requests) == 2


def test_a_late_first_token_is_a_time_out_and_retried(model_server, rlm, ask):
    model_server.script("root", lambda m, r: Reply("here", latency=4 if r.attempt == 0 else 0))
    assert ask(rlm(direct_below=1_000, timeout=1.0), "hello").text == "here"


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_stream_that_breaks_off_is_an_error_and_not_retried(model_server, rlm, form):
    model_server.script("root", lambda m, r: drops_connection("word " * 100))
    model = rlm(direct_below=1_000)
    with pytest.raises(ModelCallError):
        list(model.stream("hello")) if form == "sync" else asyncio.run(collect(model.astream("hello")))
    assert len(model_server.requests) == 1


def test_limits_cap_the_answer_and_refuse_what_does_not_fit(model_server, rlm, ask):
    model_server.script("root", lambda m, r: "well")
    ask(rlm(direct_below=1_000, limits=Limits(max_tokens=100)), "hello")
    body = model_server.requests[0].body
    assert 16 <= (body.get("max_completion_tokens") or body["max_tokens"]) < 100
    with pytest.raises(NoAnswerError, match="does not fit") as caught:
        ask(rlm(direct_below=1_000, limits=Limits(max_tokens=20)), "hello")
    assert caught.value.finish_reason == "budget"
    assert len(model_server.requests) == 1


def test_usage_and_cost_are_booked(model_server, rlm, chat, ask):
    model_server.script("root", lambda m, r: "word " * 40)
    model = rlm(model=chat("root", stream_usage=True), direct_below=1_000, prices={"root": (1.0, 10.0)})
    message = ask(model, "hello")
    used = message.response_metadata["usage_by_model"]["root"]
    counted = model_server.stats()["models"]["root"]
    assert used["input_tokens"] == message.usage_metadata["input_tokens"] == counted["prompt_tokens"]
    assert used["output_tokens"] == message.usage_metadata["output_tokens"] == counted["completion_tokens"]
    cost = (used["input_tokens"] + 10 * used["output_tokens"]) / 1e6
    assert message.response_metadata["cost"] == used["cost"] == pytest.approx(cost)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_an_answer_that_outlasts_the_run_ends_where_it_is(model_server, rlm, form):
    model_server.script("root", lambda m, r: Reply("word " * 1_000, chunk_latency=0.01))
    model = rlm(direct_below=1_000, limits=Limits(max_seconds=1.5))
    chunks = list(model.stream("hello")) if form == "sync" else asyncio.run(collect(model.astream("hello")))
    message = sum(chunks[1:], start=chunks[0])
    assert message.text.startswith("word word")
    assert message.response_metadata["finish_reason"] == "timeout"
    assert "max_seconds" in message.response_metadata["error"]


class Stalling(FakeListChatModel):
    """Writes one token, then nothing more until the test is over."""

    over: threading.Event

    def _stream(self, *args, **kwargs):
        yield ChatGenerationChunk(message=AIMessageChunk("word"))
        self.over.wait()

    async def _astream(self, *args, **kwargs):
        yield ChatGenerationChunk(message=AIMessageChunk("word"))
        await asyncio.sleep(3_600)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_stream_that_stalls_is_given_up(rlm, form):
    over = threading.Event()
    model = rlm(model=Stalling(responses=[""], over=over), direct_below=1_000, timeout=0.5)
    try:
        with pytest.raises(ModelCallError, match=r"more than 0\.5 s"):
            list(model.stream("hello")) if form == "sync" else asyncio.run(collect(model.astream("hello")))
    finally:
        over.set()


def test_no_time_out_is_no_time_out(model_server, rlm, ask):
    model_server.script("root", lambda m, r: "well")
    assert ask(rlm(direct_below=1_000, limits=Limits(call_timeout=math.inf)), "hello").text == "well"


# ------------------------------------------------------------------------------------------------ handed to a run


def test_a_question_beyond_the_window_becomes_a_run_in_every_form(model_server, rlm, ask):
    model_server.script("root", lambda m, r: cell("SUBMIT('run')"), context_length=2_000)
    message = ask(rlm(direct_below=1_000_000, context_threshold=1_000), "x" * 20_000)
    assert (message.text, message.response_metadata["finish_reason"]) == ("run", "submitted")
    assert len(model_server.requests) == 2


def test_what_was_tried_before_a_run_counts(model_server, rlm):
    class Age(BaseModel):
        years: int

    def root(messages, request):
        if request.body.get("tools"):
            return Reply(tool_calls=(ToolCall("Age", {"years": "many"}),))
        return cell("SUBMIT(years=5)")

    model_server.script("root", root)
    raw = rlm(direct_below=1_000).with_structured_output(Age, include_raw=True).invoke("q")["raw"]
    assert raw.response_metadata["usage_by_model"]["root"]["calls"] == 2
    assert raw.usage_metadata["input_tokens"] == model_server.stats()["models"]["root"]["prompt_tokens"]


# ------------------------------------------------------------------------------------------------ as the inner model


@pytest.mark.parametrize(
    ("reply", "reason"), [(cut_off("half an"), "length"), (content_filtered("no"), "content_filter"), ("all", "stop")]
)
def test_it_is_told_why_the_inner_model_stopped(model_server, rlm, ask, reply, reason):
    model_server.script("root", lambda m, r: reply)
    metadata = ask(rlm(direct_below=1_000), "hello").response_metadata
    assert (metadata["finish_reason"], metadata["inner_finish_reason"]) == ("direct", reason)


def test_a_refusal_is_handed_on(model_server, rlm):
    model_server.script("root", lambda m, r: refused("I will not."))
    assert rlm(direct_below=1_000).invoke("hello").additional_kwargs["refusal"] == "I will not."


@pytest.mark.parametrize("is_async", [False, True])
def test_a_graph_streams_a_direct_answer_while_the_inner_model_writes(model_server, rlm, chat, is_async):
    model_server.script("root", lambda m, r: Reply("word " * 50, chunk_latency=0.01))
    model = rlm(model=chat("root", stream_usage=True), direct_below=1_000)

    def node(state):
        return {"messages": [model.invoke(state["messages"])]}

    async def anode(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", anode if is_async else node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    graph, flying, parts = builder.compile(), [], []

    def see(part):
        flying.append(model_server.in_flight)
        parts.append(part)

    async def aread():
        async for part in graph.astream({"messages": [HumanMessage("hello")]}, stream_mode="messages"):
            see(part)

    if is_async:
        asyncio.run(aread())
    else:
        for part in graph.stream({"messages": [HumanMessage("hello")]}, stream_mode="messages"):
            see(part)
    assert "".join(message.text for message, _ in parts) == "word " * 50
    assert len({message.id for message, _ in parts}) == 1
    assert flying[0] == 1, "the first token came before the last was written"
