"""What a run tells: ids that make a tree, prompts and answers, times, tokens and cost of each call."""

import json

import pytest

from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.events import HEAD_CHARS, Event
from rlm_adapters.graph import RLMContext
from tests.server import Reply, cell, flaky, rate_limited

LONG = "Who speaks here? " * 100


def told(graph, question="q", **given):
    """The events of a run of the graph."""
    events = []
    graph.invoke({"query": question, **given}, context=RLMContext(on_event=events.append))
    return events


def of(events, kind):
    return [event for event in events if event.type == kind]


def test_each_call_of_the_root_lm_has_its_prompt_reply_time_tokens_and_cost(model_server, chat, sandbox):
    model_server.script("root", [Reply(cell("print(len(context))"), cached_tokens=100), cell("SUBMIT(1)")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, prices={"root": (2, 8)})
    events = told(graph, context="abc")
    start, end = of(events, "iteration_started")[0], of(events, "root_replied")[0]
    assert start.id == end.id == "lm-1"
    assert start.parent == end.parent == start.run_id
    sent = [message["content"] for message in model_server.requests[0].messages]
    assert [message["text"] for message in start.data["messages"]] == sent
    assert [message["role"] for message in start.data["messages"]] == ["system", "user"]
    assert end.data["reply"] == cell("print(len(context))")
    assert end.data["model"] == start.data["model"] == "root"
    tokens = end.data["tokens"]
    assert tokens["input"] > tokens["cached"] == 100
    assert end.data["cost"] == pytest.approx((tokens["input"] * 2 + tokens["output"] * 8) / 1e6)
    assert start.time <= end.data["start"] <= end.time
    assert 0 < end.data["seconds"] < 60
    assert end.data["attempts"] == 1


def test_each_sub_call_has_one_id_at_its_start_and_its_end_and_the_cell_as_parent(model_server, chat, sandbox):
    model_server.script("root", [cell(f"SUBMIT(llm_query_batched([{LONG!r} + str(i) for i in range(3)]))")])
    model_server.script("sub", lambda messages, request: messages[-1]["content"][-1] * 1_000)
    events = told(create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox))
    (code,) = of(events, "code")
    started = {event.id: event for event in of(events, "call_started")}
    finished = {event.id: event for event in of(events, "call_finished")}
    assert started.keys() == finished.keys()
    assert len(started) == 3
    for number, (start, end) in enumerate(
        (started[one], finished[one]) for one in sorted(started, key=_order(started))
    ):
        assert start.parent == end.parent == code.id == "cell-0"
        assert (start.data["prompt"], start.data["prompt_chars"]) == (LONG + str(number), len(LONG) + 1)
        assert (end.data["answer"], end.data["answer_chars"]) == (str(number) * 1_000, 1_000)
        assert (end.data["kind"], end.data["model"], end.data["attempts"]) == ("llm", "sub", 1)
        assert end.data["tokens"]["input"] > 0
        assert end.data["start"] >= start.time - 0.001
    (output,) = of(events, "cell_output")
    assert output.id == code.id
    assert output.parent == code.parent == "lm-1"
    assert output.data["wall"] > 0


def _order(started):
    return lambda one: started[one].data["prompt"]


def test_a_child_s_events_name_the_call_that_it_answers(model_server, chat, sandbox):
    def root(messages, request):
        child = "inner?" in json.dumps(messages[1])
        return cell("SUBMIT(llm_query('deep'))") if child else cell("SUBMIT(rlm_query('inner?', 'some text'))")

    model_server.script("root", root)
    model_server.script("sub", lambda messages, request: "found")
    events = told(create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, limits=Limits(max_depth=2)))
    (call,) = [event for event in of(events, "call_started") if event.data["function"] == "rlm_query"]
    (child,) = [event for event in of(events, "run_started") if event.depth == 1]
    (begun,) = of(events, "child_started")
    assert begun.id == call.id == child.parent
    assert child.parent_run_id == call.run_id
    assert child.id == child.run_id
    (end,) = [event for event in of(events, "run_finished") if event.depth == 1]
    assert (end.id, end.parent) == (child.run_id, call.id)
    (answered,) = [event for event in of(events, "call_finished") if event.id == call.id]
    assert (answered.data["kind"], answered.data["answer"]) == ("child", "found")
    assert answered.data["tokens"]["input"] == end.data["usage"]["input_tokens"]


def test_a_tool_is_told_with_its_arguments_and_its_result(model_server, chat, sandbox):
    def lookup(word: str, times: int = 1) -> dict:
        """Look a word up."""
        return {"word": word * times}

    model_server.script("root", [cell("SUBMIT(str(lookup('ab', times=2)))")])
    events = told(create_rlm_graph(chat("root"), sandbox=sandbox, tools=[lookup]))
    (start,), (end,) = of(events, "call_started"), of(events, "call_finished")
    assert (start.data["kind"], json.loads(start.data["prompt"])) == ("tool", ["ab", 2])
    assert json.loads(end.data["answer"]) == {"word": "abab"}
    assert "tokens" not in end.data


def test_retries_and_repairs_of_a_call_carry_its_id(model_server, chat, sandbox):
    model_server.script("root", [cell("SUBMIT(llm_query('a number', returns={'type': 'integer'}))")])

    def sub(messages, request):
        return "7" if "does not fit" in messages[-1]["content"] else "seven"

    model_server.script("sub", flaky(rate_limited(0.01), sub))
    events = told(create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox))
    (call,) = of(events, "call_started")
    retries = [event for event in of(events, "warning") if "retry" in event.data]
    assert {event.parent for event in retries} == {call.id}
    assert retries[0].id == f"{call.id}/retry-1"
    (repair,) = of(events, "repair")
    assert (repair.parent, repair.data["reply"], repair.data["call"]) == (call.id, "seven", call.id)
    (end,) = of(events, "call_finished")
    assert (end.data["answer"], end.data["attempts"]) == ("7", 2 + len(retries))


def test_the_call_for_a_last_answer_and_the_limit_are_told(model_server, chat, sandbox):
    model_server.script("root", lambda messages, request: cell("print(1)"))
    events = told(create_rlm_graph(chat("root"), sandbox=sandbox, limits=Limits(max_iterations=1)))
    (limit,), (start,) = of(events, "limit"), of(events, "extract_started")
    assert limit.data["limit"] == "max_iterations"
    assert of(events, "root_replied")[-1].id == start.id == "lm-last"
    assert start.data["messages"]


def test_a_call_that_fails_for_good_ends_with_the_reason(model_server, chat, sandbox):
    model_server.script("root", lambda messages, request: rate_limited(0.0))
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, limits=Limits(max_retries=0))
    events = []
    with pytest.raises(Exception, match="Rate limit"):
        graph.invoke({"query": "q"}, context=RLMContext(on_event=events.append))
    (end,) = of(events, "root_replied")
    assert (end.data["reply"], end.data["attempts"]) == ("", 1)
    assert "rate limit" in end.data["error"].lower()


def test_the_custom_stream_and_listeners_without_texts_get_heads(model_server, chat, sandbox):
    class Short:
        heads_only = True

        def __init__(self):
            self.events = []

        def __call__(self, event):
            self.events.append(event)

    model_server.script("root", [cell(f"SUBMIT(llm_query({LONG!r}))")])
    model_server.script("sub", lambda messages, request: "y" * 5_000)
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    short = Short()
    streamed = [
        Event.from_dict(part)
        for part in graph.stream({"query": "q"}, stream_mode="custom", context=RLMContext(on_event=short))
    ]
    assert [event.type for event in streamed] == [event.type for event in short.events]
    for events in (streamed, short.events):
        (start,), (end,) = of(events, "call_started"), of(events, "call_finished")
        assert (start.data["prompt"], start.data["prompt_chars"]) == (LONG[:HEAD_CHARS], len(LONG))
        assert (end.data["answer"], end.data["answer_chars"]) == ("y" * HEAD_CHARS, 5_000)
        assert not any("messages" in event.data for event in events)
