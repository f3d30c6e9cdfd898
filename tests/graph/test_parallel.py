"""Plain loops through the whole graph, and the cures for bad decomposition."""

import pytest

from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.errors import InputError
from rlm_adapters.graph.context import RLMContext
from tests.server import cell, rate_limited

LOOP = "out = []\nfor c in range(40):\n    out.append(llm_query(f'item {c}').strip())\nSUBMIT(out)"


def upper(messages, request):
    return messages[-1]["content"].upper()


def listen():
    events = []
    return events, RLMContext(on_event=events.append)


def test_a_plain_loop_is_answered_in_a_few_waves(model_server, chat, sandbox, run):
    model_server.script("root", [cell(LOOP)])
    model_server.script("sub", upper, latency=0.02)
    events, context = listen()
    result = run(
        create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox), {"query": "q", "context": "x"}, context=context
    )
    assert result["answer"] == [f"ITEM {c}" for c in range(40)]
    usage = result["usage"]
    assert (usage["calls"], usage["ahead_calls"], usage["ahead_wasted"]) == (40, 38, 0)
    assert model_server.max_in_flight > 1
    started = [event.data for event in events if event.type == "calls_started"]
    assert [(data["count"], data["ahead"]) for data in started] == [(32, 31), (8, 7)]


def test_it_can_be_switched_off(model_server, chat, sandbox, run):
    model_server.script("root", [cell(LOOP)])
    model_server.script("sub", upper)
    graph = create_rlm_graph(chat("root"), chat("sub"), parallel="off", sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["answer"] == [f"ITEM {c}" for c in range(40)]
    assert model_server.max_in_flight == 1
    with pytest.raises(InputError, match="parallel"):
        create_rlm_graph(chat("root"), parallel="yes", sandbox=sandbox)


def test_waste_is_counted_told_and_stops_it_for_the_run(model_server, chat, sandbox, run):
    model_server.script("root", [cell("for c in range(60): int(llm_query(f'item {c}'))"), cell(LOOP)])
    model_server.script("sub", upper)
    events, context = listen()
    result = run(
        create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox), {"query": "q", "context": "x"}, context=context
    )
    assert result["usage"]["ahead_wasted"] == 31
    assert result["usage"]["calls"] == 32 + 40
    assert any("31 of 31" in event.data["message"] for event in events if event.type == "warning")
    assert [event.data["count"] for event in events if event.type == "calls_started"] == [32] + [1] * 40


def test_calls_made_ahead_leave_room_for_those_that_are_needed(model_server, chat, sandbox, run):
    """In a budget of 12 the first call leaves 12, of which half may go ahead, and so on: the loop gets its 12 answers."""
    model_server.script(
        "root", [cell("out = []\nfor c in range(40):\n    out.append(llm_query(f'{c}'))"), cell("SUBMIT(len(out))")]
    )
    model_server.script("sub", upper)
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=Limits(max_calls=12), sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["answer"] == 12
    assert len(model_server.requests_of("sub")) == 12


def test_a_call_made_ahead_that_was_rate_limited_is_made_again_at_its_turn(model_server, chat, sandbox, run):
    busy = {"left": 6}

    def crowded(messages, request):
        if model_server.in_flight > 4 and busy["left"]:
            busy["left"] -= 1
            return rate_limited()
        return upper(messages, request)

    model_server.script("root", [cell(LOOP)])
    model_server.script("sub", crowded, latency=0.02)
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=Limits(max_retries=0), sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["answer"] == [f"ITEM {c}" for c in range(40)]


def test_a_large_number_of_tiny_calls_is_told_with_what_would_fit(model_server, chat, sandbox, run):
    model_server.script(
        "root", [cell("answers = llm_query_batched([f'is {i} odd?' for i in range(150)])"), cell("SUBMIT(1)")]
    )
    model_server.script("sub", upper)
    events, context = listen()
    run(create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox), {"query": "q", "context": "x"}, context=context)
    warnings = [event for event in events if event.type == "warning"]
    assert len(warnings) == 1
    order = [event.type for event in events]
    assert order.index("warning") < order.index("call_finished"), "told before they are made"
    told = model_server.requests_of("root")[1].messages[-1]["content"]
    assert "150 sub-calls of about 10 characters" in told
    assert "About 100 such items fit into one prompt" in told


def test_the_telling_can_be_switched_off_and_long_prompts_are_none_of_its_business(model_server, chat, sandbox, run):
    model_server.script("root", [cell("llm_query_batched([f'{i} ' * 900 for i in range(110)])\nSUBMIT(1)")])
    model_server.script("sub", lambda messages, request: "x")
    events, context = listen()
    run(create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox), {"query": "q", "context": "x"}, context=context)
    model_server.script("root", [cell("llm_query_batched([f'{i}' for i in range(110)])\nSUBMIT(1)")])
    graph = create_rlm_graph(chat("root"), chat("sub"), warn_tiny_calls=0, sandbox=sandbox)
    run(graph, {"query": "q", "context": "x"}, context=context)
    assert not [event for event in events if event.type == "warning"]


def test_equal_prompts_are_asked_once_only_where_the_user_wants_that(model_server, chat, sandbox, run):
    code = "a = llm_query_batched(['same'] * 10)\nb = [llm_query('same') for _ in range(5)]\nSUBMIT(a + b)"
    for cached, asked in ((False, 15), (True, 1)):
        model_server.reset()
        model_server.script("root", [cell(code)])
        model_server.script("sub", upper, latency=0.01)
        events, context = listen()
        graph = create_rlm_graph(chat("root"), chat("sub"), cache_prompts=cached, sandbox=sandbox)
        result = run(graph, {"query": "q", "context": "x"}, context=context)
        assert result["answer"] == ["SAME"] * 15
        assert result["usage"]["calls"] == asked == len(model_server.requests_of("sub"))
        assert sum(event.data.get("cached", False) for event in events if event.type == "call_finished") == 15 - asked


def test_a_failed_call_is_not_kept_for_its_equals(model_server, chat, sandbox, run):
    failures = {"left": 1}

    def script(messages, request):
        if failures["left"]:
            failures["left"] -= 1
            return rate_limited()
        return "fine"

    model_server.script("root", [cell("SUBMIT([str(a or 'failed') for a in llm_query_batched(['same'] * 4)])")])
    model_server.script("sub", script)
    graph = create_rlm_graph(
        chat("root"), chat("sub"), cache_prompts=True, limits=Limits(max_retries=0), sandbox=sandbox
    )
    answer = run(graph, {"query": "q", "context": "x"})["answer"]
    assert sorted(answer) == ["failed", "fine", "fine", "fine"]


CHECK = cell("print('checked', 6 * 7)") + "\nFINAL(the vault code is 7319)"


def test_an_answer_that_is_only_confirmed_again_and_again_ends_the_run(model_server, chat, sandbox, run):
    model_server.script("root", [CHECK] * 20)
    events, context = listen()
    graph = create_rlm_graph(chat("root"), max_confirmations=2, sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"}, context=context)
    assert result["answer"] == "the vault code is 7319"
    assert result["finish_reason"] == "text"
    assert result["iterations"] == 3
    assert any("3 times unchanged" in event.data["message"] for event in events if event.type == "warning")


def test_an_answer_that_changes_is_not_confirmed(model_server, chat, sandbox, run):
    replies = [CHECK.replace("7319", str(number)) for number in range(5)]
    model_server.script("root", [*replies, cell("SUBMIT('done')")])
    graph = create_rlm_graph(chat("root"), max_confirmations=1, sandbox=sandbox)
    assert run(graph, {"query": "q", "context": "x"})["answer"] == "done"


def test_confirmations_can_go_on_for_ever_if_the_user_wants_that(model_server, chat, sandbox, run):
    model_server.script("root", [*[CHECK] * 6, cell("SUBMIT('done')")])
    graph = create_rlm_graph(chat("root"), max_confirmations=None, sandbox=sandbox)
    assert run(graph, {"query": "q", "context": "x"})["iterations"] == 7
