"""A run that waits can be edited at any step, and goes on: with `update_state`, in a fork, inside a larger graph."""

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.graph.routing import AfterCheck, AfterExecute
from tests.server import cell
from tests.server.scripts import question_text, text_of

THREAD = {"configurable": {"thread_id": "1"}}
STEPS = ("generate_code", "execute", "recurse", "check_final")


def counting(messages, _):
    """Two turns: one with a call, one that submits what is there."""
    turn = sum(message["role"] == "assistant" for message in messages)
    return cell(["x = llm_query('what?')\nprint('x is', x)", "SUBMIT(x)"][turn])


def run_until(graph: Any, node: str, given: Any = None, config: Any = THREAD) -> Any:
    graph.invoke(given, config, interrupt_before=[node])
    state = graph.get_state(config)
    assert state.next
    assert set(state.next) == {node}
    return state


@pytest.mark.parametrize("node", STEPS)
@pytest.mark.parametrize("form", ["sync", "async"])
async def test_an_edit_before_any_step_leaves_the_run_where_it_is(model_server, chat, sandbox, node, form):
    model_server.script("root", counting)
    model_server.script("sub", ["gold"])
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=InMemorySaver())
    run_until(graph, node, {"query": "q", "context": "c"})
    if form == "sync":
        graph.update_state(THREAD, {"instructions": "be brief"})
        assert set(graph.get_state(THREAD).next) == {node}
        result = graph.invoke(None, THREAD)
    else:
        await graph.aupdate_state(THREAD, {"instructions": "be brief"})
        assert set((await graph.aget_state(THREAD)).next) == {node}
        result = await graph.ainvoke(None, THREAD)
    assert (result["answer"], result["finish_reason"]) == ("gold", "submitted")
    assert len(model_server.requests_of("sub")) == 1


def test_an_edit_before_the_last_question_of_a_run_that_a_limit_ends(model_server, chat, sandbox):
    model_server.script("root", [cell("print(1)"), "the best is 7"])
    graph = create_rlm_graph(
        chat("root"), sandbox=sandbox, checkpointer=InMemorySaver(), limits=Limits(max_iterations=1)
    )
    run_until(graph, "extract", {"query": "q"})
    graph.update_state(THREAD, {"candidate": "6"})
    assert graph.get_state(THREAD).next == ("extract",)
    assert graph.invoke(None, THREAD)["answer"] == "the best is 7"
    assert "noted on the way: 6" in text_of(model_server.requests[-1].messages[-1])


def test_an_edited_cell_runs_and_the_root_lm_sees_what_ran(model_server, chat, sandbox, run):
    model_server.script("root", [cell("x = 1\nprint(x)", "I set x."), cell("SUBMIT(x)")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=InMemorySaver())
    state = run_until(graph, "execute", {"query": "q"})
    assert state.values["queue"] == ["x = 1\nprint(x)"]
    graph.update_state(THREAD, {"queue": ["x = 2\nprint(x * 10)"]})
    assert run(graph, None, THREAD)["answer"] == 2
    said = model_server.requests[-1].messages
    assert text_of(said[2]) == "```repl\nx = 2\nprint(x * 10)\n```"
    assert "20" in text_of(said[3])
    assert "edited by a person" in text_of(said[3])
    assert "x = 1" not in "".join(map(text_of, said))


def test_a_cell_put_in_place_of_a_reply_without_one_runs(model_server, chat, sandbox):
    model_server.script("root", ["Sorry, I cannot do that.", cell("SUBMIT(x)")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=InMemorySaver())
    run_until(graph, "execute", {"query": "q"})
    graph.update_state(THREAD, {"queue": ["x = 5"]})
    assert graph.invoke(None, THREAD)["answer"] == 5


def test_a_cell_that_ran_as_it_was_written_is_told_as_it_was_written(model_server, chat, sandbox):
    model_server.script("root", [cell("x = 1", "I set x."), cell("SUBMIT(x)")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=InMemorySaver())
    run_until(graph, "check_final", {"query": "q"})
    graph.update_state(THREAD, {"instructions": "be brief"})
    assert graph.invoke(None, THREAD)["answer"] == 1
    assert text_of(model_server.requests[-1].messages[2]).startswith("I set x.")
    assert "edited" not in question_text(model_server.requests[-1].messages)


def test_a_cell_edited_while_it_waits_begins_again_with_the_answers_it_has(model_server, chat, sandbox):
    model_server.script("root", [cell("a = llm_query('one')\nSUBMIT(a)")])
    model_server.script("sub", ["1"])
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=InMemorySaver())
    run_until(graph, "recurse", {"query": "q"})
    run_until(graph, "execute")  # it was answered
    graph.update_state(THREAD, {"queue": ["a = llm_query('one')\nSUBMIT(a * 3)"]})
    assert graph.invoke(None, THREAD)["answer"] == "111"
    assert len(model_server.requests_of("sub")) == 1


def test_a_call_can_be_answered_by_hand(model_server, chat, sandbox):
    model_server.script("root", [cell("SUBMIT(llm_query('one'))")])
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=InMemorySaver())
    pending = run_until(graph, "recurse", {"query": "q"}).values["pending"]
    graph.update_state(THREAD, {"answers": {pending[0]["id"]: {"value": "mine"}}}, as_node="recurse")
    assert graph.get_state(THREAD).next == ("execute",)
    assert graph.invoke(None, THREAD)["answer"] == "mine"
    assert len(model_server.requests_of("sub")) == 0


def test_what_a_cell_printed_can_be_edited_before_the_root_lm_sees_it(model_server, chat, sandbox):
    model_server.script("root", [cell("print('secret 42')"), cell("SUBMIT('ok')")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=InMemorySaver())
    output = run_until(graph, "check_final", {"query": "q"}).values["outputs"][0]
    graph.update_state(THREAD, {"outputs": [{**output, "stdout": "[removed]"}]})
    assert graph.invoke(None, THREAD)["answer"] == "ok"
    assert "[removed]" in question_text(model_server.requests[-1].messages)
    assert "secret" not in str(model_server.requests[-1].messages[2:][1])


def test_a_fork_of_an_earlier_step_goes_on_with_its_own_edit(model_server, chat, sandbox, tmp_path):
    model_server.script("root", [cell("x = 1"), cell("y = x + 1"), cell("SUBMIT([x, y])")])
    with SqliteSaver.from_conn_string(str(tmp_path / "runs.db")) as saver:
        graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=saver)
        assert graph.invoke({"query": "q"}, THREAD)["answer"] == [1, 2]
        second = next(
            state
            for state in graph.get_state_history(THREAD)
            if state.next == ("execute",) and state.values["iterations"] == 2
        )
        fork = graph.update_state(second.config, {"queue": ["y = x + 100"]})
        assert graph.invoke(None, fork)["answer"] == [1, 101]


class Parent(TypedDict, total=False):
    query: str
    context: Any
    answer: Any


def test_a_run_inside_a_larger_graph_is_edited_there(model_server, chat, sandbox):
    model_server.script("root", [cell("x = 1"), cell("SUBMIT(x)")])
    rlm = create_rlm_graph(chat("root"), sandbox=sandbox)
    rlm.interrupt_before_nodes = ["execute"]
    builder = StateGraph(Parent)
    builder.add_node("rlm", rlm)
    builder.add_edge(START, "rlm")
    graph = builder.compile(checkpointer=InMemorySaver())
    graph.invoke({"query": "q"}, THREAD)
    inner = graph.get_state(THREAD, subgraphs=True).tasks[0].state
    assert inner.next == ("execute",)
    graph.update_state(inner.config, {"queue": ["x = 2"]})
    graph.invoke(None, THREAD)  # stops before the second cell
    assert graph.invoke(None, THREAD)["answer"] == 2


def test_the_edges_read_their_own_few_keys(model_server, chat, sandbox):
    branches = create_rlm_graph(chat("root"), sandbox=sandbox).builder.branches
    assert branches["execute"]["after_execute"].input_schema is AfterExecute
    assert branches["check_final"]["after_check"].input_schema is AfterCheck


def test_updates_in_a_stream_are_plain_values(model_server, chat, sandbox):
    model_server.script("root", counting)
    model_server.script("sub", ["gold"])
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, checkpointer=InMemorySaver())
    for question in ("first", "second"):
        updates = list(graph.stream({"query": question, "context": "c"}, THREAD, stream_mode="updates"))
        assert "Overwrite" not in repr(updates)
        values = graph.get_state(THREAD).values
        assert len(values["turns"]) == 2
        assert values["usage"]["calls"] == 1
        assert values["usage"]["root_calls"] == 2
