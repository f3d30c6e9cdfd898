"""Workers of different versions of this package on one thread: what a later one has saved stays as it is."""

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import RLMError, create_rlm_graph
from rlm_adapters.graph.state import FORM
from tests.graph.leasing import THREAD
from tests.server import cell, question_text, turn_of

REFUSED = rf"saved by another version of rlm-adapters \(form {FORM + 1} of the state, this version has {FORM}\): finish"


def root(messages, _):
    if "And now?" in question_text(messages):
        return cell("SUBMIT(x + 1)")
    return cell(["x = 41\nprint(x)", "SUBMIT(x)"][min(turn_of(messages), 1)])


@pytest.fixture
def graph(model_server, chat, sandbox):
    model_server.script("root", root)
    return create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=InMemorySaver())


def saved(graph):
    """What is saved of the run, but for its form."""
    values = graph.get_state(THREAD).values
    return {key: values[key] for key in ("turns", "cells", "questions", "iterations", "answer")}


def test_a_run_of_a_later_version_is_refused_and_goes_on_there(graph, run):
    run(graph, {"query": "q"}, THREAD, interrupt_after=["execute"])
    graph.update_state(THREAD, {"form": FORM + 1})
    before, history = saved(graph), len(list(graph.get_state_history(THREAD)))
    for _ in "12":
        with pytest.raises(RLMError, match=REFUSED):
            run(graph, None, THREAD)
    assert (saved(graph), len(list(graph.get_state_history(THREAD)))) == (before, history)
    graph.update_state(THREAD, {"form": FORM})
    assert run(graph, None, THREAD)["answer"] == 41


def test_a_second_question_does_not_wipe_what_a_later_version_remembers(graph, run):
    run(graph, {"query": "q"}, THREAD)
    graph.update_state(THREAD, {"form": FORM + 1})
    before = saved(graph)
    with pytest.raises(RLMError, match=REFUSED):
        run(graph, {"query": "And now?"}, THREAD)
    assert saved(graph) == before
    graph.update_state(THREAD, {"form": FORM}, as_node="check_final")
    assert run(graph, {"query": "And now?"}, THREAD)["answer"] == 42
