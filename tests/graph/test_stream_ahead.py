"""Stream-ahead: sub-calls start while the root LM is still writing the cell that makes them."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import ChatRLM, Limits, Trajectory, create_rlm_graph
from rlm_adapters.errors import ModelCallError
from rlm_adapters.graph.context import RLMContext
from tests.server import Reply, cell, drops_connection, rate_limited, turn_of

LOOP = "out = []\nfor c in range(8):\n    out.append(llm_query(f'item {c}').strip())\nmany = len(out)\n# more\n"
REST = "# and more, so that it is on its way\nshown = [line for line in out if line]\nprint(len(shown))\nprint(shown[0])\nSUBMIT(out)"
ANSWER = [f"ITEM {c}" for c in range(8)]
GIVEN = {"query": "q", "context": "x"}


def upper(messages, request):
    return messages[-1]["content"].upper()


class Answered(BaseCallbackHandler):
    """Counts the calls of a model of which the client knows how they ended: the server knows that earlier."""

    run_inline = True

    def __init__(self):
        self.count = 0

    def on_llm_end(self, response, **kwargs):
        self.count += 1

    def on_llm_error(self, error, **kwargs):
        self.count += 1


@pytest.fixture
def answered():
    return Answered()


@pytest.fixture
def held(model_server, answered):
    """A reply with one cell, whose writing stops behind a text until so many sub-calls were answered (or asked)."""

    def make(code, calls=8, *, at="# more\n", asked_only=False):
        def ready():
            return (len(model_server.requests_of("sub")) if asked_only else answered.count) >= calls

        return Reply(cell(code), waits_at=at, waits_for=ready)

    return make


def listen():
    events = []
    return events, RLMContext(on_event=events.append)


def early_of(events):
    return [event.data.get("early") for event in events if event.type == "cell_output"]


@pytest.fixture
def arun():
    """Run a graph to its end by ``ainvoke``."""
    with asyncio.Runner() as runner:
        yield lambda graph, given, *args, **kwargs: runner.run(graph.ainvoke(given, *args, **kwargs))


@pytest.fixture
def graph(chat, sandbox, answered):
    with sandbox.open() as session:  # the first worker takes a while
        session.run("1")

    def make(**options):
        sub = chat("sub", callbacks=[answered])
        return create_rlm_graph(chat("root"), sub, **{"sandbox": sandbox, "parallel": "stream", **options})

    return make


def test_the_calls_of_a_loop_leave_before_the_reply_is_complete(model_server, graph, run, held):
    model_server.script("root", [held(LOOP + REST)])
    model_server.script("sub", upper, latency=0.02)
    events, context = listen()
    result = run(graph(), GIVEN, context=context)
    assert result["answer"] == ANSWER
    usage = result["usage"]
    assert (usage["calls"], usage["ahead_calls"], usage["ahead_wasted"], usage["root_calls"]) == (8, 8, 0, 1)
    root, subs = model_server.requests_of("root")[0], model_server.requests_of("sub")
    assert len(subs) == 8
    assert all(sub.time < root.time + root.seconds for sub in subs), "asked while the root LM was writing"
    (early,) = early_of(events)
    assert (early["calls"], early["used"]) == (8, 8)
    assert Trajectory.from_events(events).iterations[0].cells[0].early_seconds == early["seconds"]
    assert early["seconds"] > 0.01, "each call took longer, and the reply was held until all were answered"
    told = [event for event in events if event.type == "call_started"]
    code = next(event for event in events if event.type == "code")
    assert {event.data["early"] for event in told} == {True}
    assert all(event.time >= code.time > event.data["since"] for event in told), "told with the cell, as its calls"
    finished = [event.data for event in events if event.type == "call_finished"]
    assert all(data["seconds"] > 0.01 and data["tokens"]["output"] for data in finished)


def test_the_usage_of_a_streamed_reply_is_the_providers(model_server, graph, arun, held):
    model_server.script("root", [held(LOOP + REST)])
    model_server.script("sub", upper)
    streamed = arun(graph(), GIVEN)["usage"]["by_model"]["root"]
    plain = arun(graph(parallel="ahead"), GIVEN)["usage"]["by_model"]["root"]
    assert streamed == plain
    first, second = (record.body for record in model_server.requests_of("root"))
    assert first["stream"] is True
    assert first["stream_options"] == {"include_usage": True}
    assert "stream" not in second or second["stream"] is False
    assert "stream_usage" not in second


def test_a_call_that_needs_earlier_answers_leaves_when_they_are_there(model_server, graph, run, held):
    chain = "a = llm_query('one')\nb = llm_query(a + ' two')\n" + "# more\n" * 9 + "SUBMIT(b)"
    model_server.script("root", [held(chain, 2)])
    model_server.script("sub", upper, latency=0.01)
    result = run(graph(), GIVEN)
    assert result["answer"] == "ONE TWO"
    root, subs = model_server.requests_of("root")[0], model_server.requests_of("sub")
    assert [sub.messages[-1]["content"] for sub in subs] == ["one", "ONE two"]
    assert subs[1].time < root.time + root.seconds


def test_helpers_and_variables_of_earlier_cells_are_known(model_server, graph, arun, held):
    helper = "def ask(c):\n    return llm_query(f'item {c}').strip()\nnumbers = range(8)"
    model_server.script("root", [cell(helper), held("out = [ask(c) for c in numbers]\n# more\n" + REST)])
    model_server.script("sub", upper)
    events, context = listen()
    assert arun(graph(), GIVEN, context=context)["answer"] == ANSWER
    assert [early and early["used"] for early in early_of(events)] == [None, 8]


def test_what_is_still_under_way_when_the_cell_asks_is_waited_for(model_server, graph, arun, held):
    model_server.script("root", [held(LOOP + REST, asked_only=True)])
    model_server.script("sub", upper, latency=0.5)
    result = arun(graph(), GIVEN)
    assert result["answer"] == ANSWER
    assert len(model_server.requests_of("sub")) == 8, "nothing is asked twice"


def test_a_reply_that_cannot_be_run_wastes_what_was_asked_and_stops_it(model_server, graph, run, held):
    """The rest of the cell does not parse, so the root LM is asked again."""
    broken = held(LOOP + "print(len(out))\nif out:\nprint('x'\n" + "# and so on, at some length\n" * 5)
    model_server.script("root", [broken, cell(LOOP + "print(len(out))"), cell(LOOP + REST)])
    model_server.script("sub", upper)
    events, context = listen()
    result = run(graph(), GIVEN, context=context)
    assert result["answer"] == ANSWER
    usage = result["usage"]
    assert usage["calls"] == len(model_server.requests_of("sub")) == 24
    assert (usage["ahead_calls"], usage["ahead_wasted"]) == (8 + 7 + 7, 8)
    assert early_of(events) == [{"calls": 8, "used": 0, "seconds": 0.0}, None, None], "it stops; run-ahead goes on"
    warnings = [event.data["message"] for event in events if event.type == "warning"]
    assert len(warnings) == 1
    assert warnings[0].startswith("8 of 8 sub-calls made while the root LM was writing were never used")
    assert usage["output_tokens"] == sum(record.completion_tokens for record in model_server.requests)


def test_a_reply_of_which_nothing_is_run_wastes_likewise(model_server, graph, arun, held):
    """A thought whose opening mark was swallowed by a chat template: what stands before its end was never said."""
    thought = f"I could do this:\n{cell(LOOP + REST)}\nNo, rather not.\n</think>\nLet me think about it once more."
    model_server.script("root", [replace(held(""), text=thought), cell(LOOP + REST)])
    model_server.script("sub", upper)
    events, context = listen()
    result = arun(graph(), GIVEN, context=context)
    assert result["answer"] == ANSWER
    usage = result["usage"]
    assert usage["calls"] == len(model_server.requests_of("sub")) == 16
    assert (usage["ahead_calls"], usage["ahead_wasted"]) == (8 + 7, 8)
    assert [event.data["reason"] for event in events if event.type == "repair"] == ["no_code"]
    assert usage["output_tokens"] == sum(record.completion_tokens for record in model_server.requests)


def test_a_reply_without_sub_calls_and_one_with_a_tool_before_them_ask_nothing(model_server, graph, arun, held):
    def note(text: str) -> str:
        """Take a note."""
        return text

    model_server.script(
        "root",
        [cell("print(len(context))\nx = [1, 2]\nprint(x)\ny = 2"), cell("note('a')\n" + LOOP + REST)],
    )
    model_server.script("sub", upper)
    events, context = listen()
    assert arun(graph(tools=[note]), GIVEN, context=context)["answer"] == ANSWER
    assert early_of(events) == [None, None]
    root, subs = model_server.requests_of("root")[1], model_server.requests_of("sub")
    assert all(sub.time > root.time + root.seconds for sub in subs)


def test_it_listens_less_and_less_often_where_nothing_is_won(model_server, graph, arun):
    model_server.script("root", [*(f"```repl\nx = {i}\nprint(x)\n```" for i in range(7)), cell("SUBMIT(1)")])
    arun(graph(), GIVEN)
    streamed = [bool(record.body.get("stream")) for record in model_server.requests_of("root")]
    assert streamed == [True, True, False, True, False, False, False, False]


@pytest.mark.parametrize(
    "options", [{"approve": "cells"}, {"limits": Limits(max_depth=0)}, {"limits": Limits(max_calls=0)}]
)
def test_where_nothing_may_be_asked_ahead_the_root_lm_is_asked_as_ever(model_server, graph, arun, options, held):
    model_server.script("root", [cell("print(1)\nSUBMIT(2)")])
    arun(graph(checkpointer=InMemorySaver(), **options), GIVEN, {"configurable": {"thread_id": "t"}})
    assert not any(record.body.get("stream") for record in model_server.requests)


def test_a_budget_keeps_half_of_its_calls_for_those_that_are_needed(model_server, graph, arun, held):
    model_server.script("root", [held(LOOP + REST, 4), cell("SUBMIT(len(out))")])
    model_server.script("sub", upper)
    result = arun(graph(limits=Limits(max_calls=8)), GIVEN)
    assert result["answer"] == ANSWER
    root, subs = model_server.requests_of("root")[0], model_server.requests_of("sub")
    assert sum(sub.time < root.time + root.seconds for sub in subs) == 4
    assert len(subs) == 8


def test_a_root_call_that_breaks_off_is_asked_again_and_nothing_is_asked_twice(model_server, graph, arun, held):
    text = cell(LOOP + REST)

    def root(messages, request):
        if request.attempt == 0:
            return drops_connection(text + "# more" * 100)
        return held(LOOP + REST)

    model_server.script("root", root)
    model_server.script("sub", upper)
    result = arun(graph(), GIVEN)
    assert result["answer"] == ANSWER
    assert len(model_server.requests_of("sub")) == 8


def test_a_call_that_was_refused_for_now_is_made_at_its_turn(model_server, graph, arun, held):
    seen = set()

    def busy(messages, request):
        if len(seen) < 3 and request.attempt == 0:
            seen.add(request.index)
            return rate_limited()
        return upper(messages, request)

    model_server.script("root", [held(LOOP + REST)])
    model_server.script("sub", busy)
    result = arun(graph(limits=Limits(max_retries=0)), GIVEN)
    assert result["answer"] == ANSWER
    assert result["usage"]["failed_calls"] == 3


def test_a_call_that_fails_for_good_fails_in_the_cell(model_server, graph, arun, held):
    code = (
        "try:\n    a = llm_query('x')\nexcept SubCallError as error:\n    a = str(error)\n"
        "b = 1\n# more\n" + "# on\n" * 60 + "SUBMIT(a)"
    )
    model_server.script("root", [held(code, 1)])
    model_server.script("sub", lambda messages, request: Reply("no such thing", status=400))
    result = arun(graph(), GIVEN)
    assert "no such thing" in result["answer"]
    assert len(model_server.requests_of("sub")) == 1


def test_a_killed_run_keeps_nothing(model_server, chat, sandbox, graph, held):
    """Cancelled in the middle of the reply: no call, no worker, no session is left."""
    model_server.script("root", [held(LOOP + REST)])
    model_server.script("sub", upper, latency=30.0)
    made = graph()

    async def main():
        task = asyncio.create_task(made.ainvoke(GIVEN))
        while len(model_server.requests_of("sub")) < 8:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]

    left = asyncio.run(main())
    deadline = time.monotonic() + 30
    while (len(made.rlm.sessions) or model_server.in_flight) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(made.rlm.sessions) == 0
    assert model_server.in_flight == 0
    assert not [one for one in left if not one.cancelling() and not one.done()]


def test_a_run_whose_time_is_over_in_the_middle_of_the_reply_ends(model_server, graph, run, held):
    model_server.script("root", [held(LOOP + REST)])
    model_server.script("sub", upper, latency=60.0)
    made = graph(limits=Limits(max_seconds=1.0))
    started = time.monotonic()
    result = run(made, GIVEN)
    assert result["finish_reason"] == "timeout"
    assert time.monotonic() - started < 40, "it does not wait for the calls"
    assert len(made.rlm.sessions) == 0
    assert len(made.rlm.sandbox.thread_pool()) < 50
    assert sum(thread.name == "rlm-early" for thread in threading.enumerate()) <= 8


def test_a_saved_run_goes_on_with_the_answers_that_are_saved(model_server, graph, arun, held):
    """The second cell fails for good; its thread goes on where it stood, and the first cell's calls are not made again."""
    model_server.script("root", [held(LOOP + "# on\n" * 20 + "print(len(out))"), Reply("gone", status=400)])
    model_server.script("sub", upper)
    made, thread = graph(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "t"}}
    with pytest.raises(ModelCallError):
        arun(made, GIVEN, thread)
    model_server.script("root", [cell("1"), cell("SUBMIT(out)")])
    assert arun(made, None, thread)["answer"] == ANSWER
    assert len(model_server.requests_of("sub")) == 8


def test_chat_rlm_offers_it(model_server, chat, sandbox, held, answered):
    model_server.script("root", [held(LOOP + "# on\n" * 20 + "SUBMIT(', '.join(out))")])
    model_server.script("sub", upper)
    sub_model = chat("sub", callbacks=[answered])
    model = ChatRLM(chat("root"), sub_model, sandbox=sandbox, parallel="stream", direct_below=0)
    assert model.invoke("q").content == ", ".join(ANSWER)
    root, subs = model_server.requests_of("root")[0], model_server.requests_of("sub")
    assert all(sub.time < root.time + root.seconds for sub in subs)


def test_a_server_that_refuses_to_stream_is_asked_without(model_server, graph, arun):
    refusal = "Your organization must be verified to stream this model."

    def root(messages, request):
        if request.body.get("stream"):
            return Reply(refusal, status=400)
        return cell("SUBMIT(x)") if turn_of(messages) else cell("x = 1")

    model_server.script("root", root)
    events, context = listen()
    assert arun(graph(), GIVEN, context=context)["answer"] == 1
    assert [bool(record.body.get("stream")) for record in model_server.requests_of("root")] == [True, False, False]
    (warning,) = (event.data["message"] for event in events if event.type == "warning")
    assert "does not stream" in warning
    assert refusal in warning
    assert [event.id for event in events if event.type == "root_replied"] == ["lm-1", "lm-1-again", "lm-2"]


def test_a_refusal_for_another_reason_is_not_asked_again(model_server, graph, arun):
    model_server.script("root", lambda messages, request: Reply("temperature must be 1", status=400))
    with pytest.raises(ModelCallError, match="temperature"):
        arun(graph(), GIVEN)
    assert len(model_server.requests) == 1


def test_a_server_that_streams_without_usage_streams_once(model_server, graph, arun):
    def root(messages, request):
        return Reply(cell("SUBMIT(x)") if turn_of(messages) else cell("x = 1"), counts_streams=False)

    model_server.script("root", root)
    assert arun(graph(), GIVEN)["answer"] == 1
    assert [bool(record.body.get("stream")) for record in model_server.requests_of("root")] == [True, False]
