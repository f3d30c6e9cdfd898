"""A thread remembers: a second question finds what the first one left."""

import re
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from rlm_adapters import Limits, create_rlm_graph
from tests.server import cell
from tests.server.scripts import text_of

THREAD: Any = {"configurable": {"thread_id": "1"}}
LONG = "word " * 100_000


@pytest.fixture
def make(chat, sandbox):
    def make(**options: Any) -> Any:
        options.setdefault("checkpointer", InMemorySaver())
        return create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, **options)

    return make


def asking(server, **cells):
    """A root LM that writes these cells, by the first word of the question."""

    def root(messages, _):
        word = re.match(r"Question: (\w+)", text_of(messages[1])).group(1)
        return cell(cells[word][sum(message["role"] == "assistant" for message in messages)])

    server.script("root", root)


def opening(server, number=-1):
    """The first message of a request of the root LM."""
    return text_of(server.requests_of("root")[number].messages[1])


def test_inputs_variables_functions_and_files_stay(model_server, make, run):
    asking(
        model_server,
        first=["n = len(context)\ndef twice(x): return 2 * x\nopen('notes.txt', 'w').write('seen')\nSUBMIT(n)"],
        second=["SUBMIT([n, twice(n), len(context), open('notes.txt').read(), open('given.txt').read()])"],
    )
    graph = make()
    given = {"query": "first?", "context": LONG, "files": {"given.txt": "a file"}}
    assert run(graph, given, THREAD)["answer"] == 500_000
    assert run(graph, {"query": "second?"}, THREAD)["answer"] == [500_000, 1_000_000, 500_000, "seen", "a file"]


def test_the_root_lm_is_told_what_was_asked_and_answered_and_what_there_is(model_server, make, run):
    asking(
        model_server,
        first=["n = llm_query('count')\ndef twice(x): return 2 * x\nSUBMIT(n)"],
        second=["SUBMIT(1)"],
        third=["SUBMIT(2)"],
    )
    model_server.script("sub", lambda messages, _: "forty-two")
    graph = make()
    run(graph, {"query": "first: how many?", "context": "abc"}, THREAD)
    run(graph, {"query": "second: and why?"}, THREAD)
    run(graph, {"query": "third: and when?"}, THREAD)
    said = opening(model_server)
    assert "- Question: first: how many?\n  Answer: forty-two\n- Question: second: and why?\n  Answer: 1" in said
    assert "Variables and functions of their blocks still exist: n, twice" in said
    assert "`context`: str, 3 characters" in said
    assert len(model_server.requests_of("root")[-1].messages) == 2, "earlier turns are folded"
    assert len(model_server.requests_of("sub")) == 1, "nothing is paid again"


def test_new_inputs_replace_by_name_and_earlier_cells_keep_theirs(model_server, make, run):
    asking(
        model_server,
        first=["start = context[:3]\nSUBMIT(start)"],
        second=["SUBMIT([start, context[:3], len(other)])"],
        third=["SUBMIT([start, context[:3], len(other), open('a.txt').read()])"],
    )
    graph = make()
    run(graph, {"query": "first?", "context": "one" + LONG, "inputs": {"other": [1]}, "files": {"a.txt": "A"}}, THREAD)
    assert run(graph, {"query": "second?", "context": "two" + LONG}, THREAD)["answer"] == ["one", "two", 1]
    third = {"query": "third?", "inputs": {"other": [1, 2]}, "files": {"a.txt": "B"}}
    assert run(graph, third, THREAD)["answer"] == ["one", "two", 2, "B"]
    assert "`context`: str, 500,003 characters" in opening(model_server)


def test_limits_count_by_question(model_server, make, run):
    asking(model_server, first=["x = llm_query('a')\nSUBMIT(x)"], second=["y = llm_query('b')\nSUBMIT(x + y)"])
    model_server.script("sub", lambda messages, _: text_of(messages[-1]))
    graph = make(limits=Limits(max_calls=1, max_iterations=1))
    run(graph, {"query": "first?"}, THREAD)
    result = run(graph, {"query": "second?"}, THREAD)
    assert (result["answer"], result["finish_reason"], result["usage"]["calls"]) == ("ab", "submitted", 1)


def test_a_question_that_failed_is_told_with_its_reason(model_server, make, run):
    asking(model_server, first=["x = 5\nprint(x)", "print(6)"], second=["SUBMIT(x)"])
    graph = make(limits=Limits(max_iterations=1))
    assert run(graph, {"query": "first?"}, THREAD)["finish_reason"] == "max_iterations"
    assert run(graph, {"query": "second?"}, THREAD)["answer"] == 5
    assert "- Question: first?\n  Answer (max_iterations): " in opening(model_server)


def test_only_the_last_questions_are_told_in_full(model_server, make, run):
    model_server.script("root", lambda messages, _: cell("SUBMIT(1)"))
    graph = make()
    for number in range(8):
        run(graph, {"query": f"question {number}"}, THREAD)
    said = opening(model_server)
    assert "(2 before these)" in said
    assert "question 1" not in said
    assert "- Question: question 2\n" in said


def test_another_process_goes_on_with_the_thread(model_server, make, tmp_path):
    asking(
        model_server,
        first=["class Point:\n    x = 3\nn = len(context)\nSUBMIT(n)"],
        second=["SUBMIT(n + Point.x + len(context))"],
    )
    with SqliteSaver.from_conn_string(str(tmp_path / "db.sqlite")) as saver:
        first = make(checkpointer=saver)
        first.invoke({"query": "first?", "context": LONG}, THREAD)
        second = make(checkpointer=saver, store=first.rlm.store)
        assert second.invoke({"query": "second?", "context": "ab"}, THREAD)["answer"] == 500_005


def test_a_fork_remembers_up_to_where_it_begins(model_server, make):
    asking(model_server, first=["x = 1\nSUBMIT(x)"], second=["x = x + 1\nSUBMIT(x)"], other=["SUBMIT(x * 100)"])
    graph = make()
    graph.invoke({"query": "first?"}, THREAD)
    after_first = graph.get_state(THREAD).config
    assert graph.invoke({"query": "second?"}, THREAD)["answer"] == 2
    assert graph.invoke({"query": "other?"}, after_first)["answer"] == 100


def test_a_run_that_waits_is_resumed_with_what_it_had(model_server, make, run):
    asking(model_server, first=["n = 1\nSUBMIT(n)"], second=["n = n + len(context)\nSUBMIT(n)"])
    graph = make(approve="cells")
    run(graph, {"query": "first?", "context": "abc"}, THREAD)
    run(graph, Command(resume="approve"), THREAD)
    run(graph, {"query": "second?"}, THREAD)
    graph.rlm.sessions.close()  # as in another process
    assert run(graph, Command(resume="approve"), THREAD)["answer"] == 4


def test_a_question_that_was_given_up_leaves_its_finished_cells(model_server, make, run):
    asking(model_server, first=["x = 1", "while True: pass"], second=["SUBMIT(x)"])
    graph = make()
    given = {"query": "first?"}
    graph.invoke(given, THREAD, interrupt_before=["check_final"])
    assert run(graph, {"query": "second?"}, THREAD)["answer"] == 1
    assert "Answer (not finished): none" in opening(model_server)


def test_without_memory_each_question_begins_anew(model_server, make, run):
    asking(
        model_server,
        first=["x = 1\nSUBMIT(x)"],
        second=["SUBMIT([name for name in ('x', 'context') if name in globals()])"],
    )
    graph = make(remember=False)
    run(graph, {"query": "first?", "context": "abc"}, THREAD)
    assert run(graph, {"query": "second?"}, THREAD)["answer"] == []
    assert "Earlier questions" not in opening(model_server)


def test_a_short_second_question_is_no_plain_call(model_server, make, run):
    model_server.script("root", ["plain answer"])
    graph = make(direct_below=10_000)
    assert run(graph, {"query": "first?", "context": "abc"}, THREAD)["finish_reason"] == "direct"
    asking(model_server, second=["SUBMIT(context)"])
    assert run(graph, {"query": "second?"}, THREAD)["answer"] == "abc"
