"""Whatever a client writes into the state of its run, the run goes on or says what was edited; it neither hangs nor pays."""

import contextlib
import json
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import Limits, RLMError, create_rlm_graph
from tests.server import cell, turn_of

POINTS = {"generate_code": "prepare", "execute": "generate_code", "recurse": "execute", "check_final": "execute"}
"""Where a run is stopped, and the node as which the state is edited there."""

KEYS = (
    "query", "instructions", "run_id", "seed", "epoch", "variables", "files", "file_sizes", "turns", "cells", "folded",
    "names", "reply", "queue", "pending", "answers", "asked", "outputs", "submitted", "iterations", "repairs", "usage",
    "seconds", "candidate", "confirmations", "stop", "answer", "finish_reason", "error",
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, "text", -7, float("inf"), ["a"], [{}], [None], {"a": {}}, {"value": 1}, {"__overwrite__": []},
    {"__overwrite__": {"calls": -1e9}},
)  # fmt: skip


@pytest.fixture
def graph(model_server, chat, sandbox):
    def root(messages, request):
        return cell("x = llm_query('hi')\nprint(x)" if turn_of(messages) == 0 else "SUBMIT(str(v)[:20])")

    model_server.script("root", root)
    model_server.script("sub", lambda messages, request: "ho")
    limits = Limits(max_iterations=4, max_seconds=20, max_calls=50)
    return create_rlm_graph(
        chat("root"), chat("sub"), checkpointer=InMemorySaver(), limits=limits, sandbox=sandbox, max_confirmations=3
    )


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("point", POINTS)
def test_an_edited_key_is_taken_or_named(key, point, graph, model_server):
    for number, value in enumerate(VALUES):
        mine = {"configurable": {"thread_id": f"{key} {number}"}}
        graph.invoke({"query": "q", "inputs": {"v": "a value"}}, mine, interrupt_before=[point])
        asked = len(model_server.requests)
        try:
            graph.update_state(mine, {key: value}, as_node=POINTS[point])
        except Exception:
            continue  # LangGraph's own checks, and our edges, refuse some at once
        with contextlib.suppress(RLMError):
            json.dumps(graph.invoke(None, mine))
        assert len(model_server.requests) - asked < 20


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("answer", "error")])
def test_an_object_in_place_of_a_value_is_refused_by_its_name(key, graph):
    mine = {"configurable": {"thread_id": key}}
    graph.invoke({"query": "q", "inputs": {"v": "a value"}}, mine, interrupt_before=["execute"])
    value = {"__overwrite__": 7.5} if key in ("turns", "cells", "answers", "usage") else {"a": 7.5}
    if key in ("variables", "files"):
        value = [7.5]
    if key == "seconds":
        value = -1.0

    def edit_and_go_on():
        graph.update_state(mine, {key: value}, as_node="generate_code")
        graph.invoke(None, mine)

    with pytest.raises(RLMError, match=key):
        edit_and_go_on()


@pytest.mark.parametrize("stop", ["__class__", "describe", "max_nothing", "/etc/passwd"])
def test_a_limit_that_is_none_names_no_attribute(stop, graph):
    mine = {"configurable": {"thread_id": "mine"}}
    graph.invoke({"query": "q", "inputs": {"v": "a value"}}, mine, interrupt_before=["execute"])
    graph.update_state(mine, {"stop": stop}, as_node="check_final")
    with pytest.raises(RLMError, match="'stop' cannot be used: it is None, or one of"):
        graph.invoke(None, mine)


def test_a_queue_that_was_emptied_ends_the_turn_and_pays_for_nothing(graph, model_server):
    mine = {"configurable": {"thread_id": "mine"}}
    graph.invoke({"query": "q", "inputs": {"v": "a value"}}, mine, interrupt_before=["recurse"])
    graph.update_state(mine, {"queue": []}, as_node="execute")
    assert graph.invoke(None, mine)["answer"] == "a value"
    assert len(model_server.requests_of("sub")) <= 1
