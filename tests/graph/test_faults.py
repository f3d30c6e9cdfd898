"""Cells that hang, crash or fail, models that fail, limits that end a run."""

import time
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import InputError, Limits, ModelCallError, Sandbox, SandboxLimits, create_rlm_graph
from tests.server import Reply, by_question, cell, flaky, rate_limited, server_error


@pytest.fixture(scope="module")
def strict_sandbox():
    limits = SandboxLimits(cpu_seconds=1.0, wall_seconds=6.0, memory_bytes=400 << 20)
    with Sandbox(limits=limits) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    "bad",
    [
        "while True: pass",
        "hog = []\nwhile True: hog.append('x' * 10_000_000)",
        "import os\nos._exit(1)",
        "raise ValueError('by the cell')",
    ],
    ids=["endless loop", "memory", "exit", "exception"],
)
def test_the_run_goes_on_after_a_bad_cell_with_earlier_variables(bad, model_server, chat, strict_sandbox, run):
    model_server.script("root", [cell("kept = len(context)"), cell(bad), cell("SUBMIT(kept)")])
    result = run(create_rlm_graph(chat("root"), sandbox=strict_sandbox), {"query": "q", "context": "abcdefg"})
    assert result["answer"] == 7
    assert "Error" in model_server.requests[2].messages[-1]["content"]


def test_a_sub_call_that_fails_once_is_retried(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT(llm_query_batched(['a', 'b', 'c']))")])
    model_server.script("sub", flaky(rate_limited(0.01), lambda messages, request: messages[-1]["content"] * 2))
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    assert run(graph, {"query": "q", "context": "x"})["answer"] == ["aa", "bb", "cc"]


def test_a_failed_element_stands_in_its_place_in_a_batch(model_server, chat, sandbox, run):
    model_server.script(
        "root",
        [cell("r = llm_query_batched(['good', 'bad', 'good'])\nSUBMIT([bool(r[0]), bool(r[1]), r[1].kind, r[2]])")],
    )
    fault = server_error("never", status=400)
    model_server.script("sub", by_question({"bad": lambda m, r: fault, "good": lambda m, r: "fine"}))
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    assert run(graph, {"query": "q", "context": "x"})["answer"] == [True, False, "bad_request", "fine"]


def test_a_root_model_that_cannot_be_reached_is_an_exception_never_an_answer(model_server, chat, sandbox, run):
    model_server.script("root", lambda messages, request: server_error("no such key", status=401))
    with pytest.raises(ModelCallError, match="no such key"):
        run(create_rlm_graph(chat("root"), sandbox=sandbox), {"query": "q", "context": "x"})


def test_a_batch_that_does_not_fit_the_budget_runs_the_part_that_does(model_server, chat, sandbox, run):
    code = "r = llm_query_batched([f'p{i}' for i in range(30)])\nSUBMIT([bool(x) for x in r])"
    model_server.script("root", [cell(code)])
    model_server.script("sub", lambda messages, request: "ok")
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=Limits(max_calls=10), sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert sum(result["answer"]) == 10
    assert len([record for record in model_server.requests if record.model == "sub"]) == 10


def test_when_iterations_run_out_the_best_answer_is_asked_for_and_labelled(model_server, chat, sandbox, run):
    def root(messages, request):
        if "no more code will be run" in str(messages[-1]["content"]):
            return "It is probably 41."
        return cell("print(41)")

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), limits=Limits(max_iterations=3), sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["finish_reason"] == "max_iterations"
    assert result["answer"] == "It is probably 41."
    assert result["iterations"] == 3


def test_a_token_budget_is_never_overshot(model_server, chat, sandbox, run):
    code = "r = [bool(x) for x in llm_query_batched(['word ' * 200 + str(i) for i in range(100)])]\nprint(sum(r))"
    model_server.script("root", lambda messages, request: cell(code))
    model_server.script("sub", lambda messages, request: "answer " * 50)
    graph = create_rlm_graph(
        chat("root"), chat("sub"), limits=Limits(max_tokens=20_000, max_output_tokens=500), sandbox=sandbox
    )
    result = run(graph, {"query": "q", "context": "x"})
    used = sum(len(record.prompt) // 4 + record.completion_tokens for record in model_server.requests)
    assert result["finish_reason"] == "budget"
    assert 10_000 < used <= 20_000


def test_wall_time_ends_a_run_in_the_middle_of_a_cell(model_server, chat, sandbox, run):
    model_server.script("root", [cell("x = 1"), cell("while True: pass")])
    graph = create_rlm_graph(chat("root"), limits=Limits(max_seconds=2.0), sandbox=sandbox)
    result = run(graph, {"query": "q", "context": "x"})
    assert result["finish_reason"] == "timeout"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"query": "  ", "context": "x"}, "non-empty text"),
        ({"context": "x"}, "query"),
        ({"query": "q", "context": "x", "contxt": "y"}, "unknown key 'contxt'"),
        ({"query": "q", "inputs": {"llm_query": "x"}}, "REPL defines"),
        ({"query": "q", "inputs": {"two words": "x"}}, "Python name"),
        ({"query": "q", "context": object()}, "cannot be stored"),
        ({"query": "q", "files": {"a.txt": Path("/does/not/exist")}}, "cannot read"),
    ],
)
def test_bad_input_is_refused_before_any_model_call(given, message, model_server, chat, sandbox, run):
    with pytest.raises(InputError, match=message):
        run(create_rlm_graph(chat("root"), sandbox=sandbox), given)
    assert not model_server.requests


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iterations": 0}, "max_iterations"),
        ({"max_calls": -1}, "max_calls"),
        ({"max_seconds": "soon"}, "max_seconds"),
        ({"max_depth": 1.5}, "max_depth"),
    ],
)
def test_nonsense_limits_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Limits(**options)


def test_a_cost_limit_needs_a_price(chat):
    with pytest.raises(InputError, match="price of model 'root' is unknown"):
        create_rlm_graph(chat("root"), limits=Limits(max_cost=1.0))


def test_tools_that_clash_are_refused(chat, sandbox):
    def llm_query(x: str) -> str:
        return x

    with pytest.raises(InputError, match="REPL defines"):
        create_rlm_graph(chat("root"), tools=[llm_query], sandbox=sandbox)


def test_a_run_out_of_tokens_still_gives_its_best_answer(model_server, chat, sandbox, run):
    def root(messages, request):
        if "no more code will be run" in str(messages[-1]["content"]):
            return "Best so far: 17."
        return cell("print('word ' * 300)")

    model_server.script("root", root)
    limits = Limits(max_tokens=30_000, max_output_tokens=500, max_iterations=100)
    result = run(create_rlm_graph(chat("root"), limits=limits, sandbox=sandbox), {"query": "q", "context": "x"})
    assert (result["finish_reason"], result["answer"]) == ("budget", "Best so far: 17.")
    used = sum(len(record.prompt) // 4 + record.completion_tokens for record in model_server.requests)
    assert used <= 30_000


def test_the_events_of_a_failed_run_end_with_its_failure(model_server, chat, sandbox, run):
    model_server.script("root", [cell("a = 1", thought="First a look."), lambda m, r: server_error("gone", status=403)])
    events = []
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, on_event=events.append)
    with pytest.raises(ModelCallError):
        run(graph, {"query": "q", "context": "x"})
    assert events[-1].type == "run_finished"
    assert events[-1].data["finish_reason"] == "error"
    assert "gone" in events[-1].data["error"]
    assert next(event for event in events if event.type == "code").data["reasoning"] == "First a look."


def test_nothing_is_told_of_a_run_after_its_end(model_server, chat, sandbox):
    """A sub-LM fails for good while a thread still asks another one, which fails later and would be asked again."""

    def sub(messages, _):
        return server_error("no such key", 401) if "one" in str(messages) else Reply(status=500, latency=0.5)

    model_server.script("root", [cell("llm_query_batched(['one', 'two'])")])
    model_server.script("sub", sub)
    events = []
    graph = create_rlm_graph(
        chat("root"), chat("sub"), sandbox=sandbox, limits=Limits(max_retries=1), on_event=events.append
    )
    with pytest.raises(ModelCallError):
        graph.invoke({"query": "q", "context": "x"})
    time.sleep(1.5)
    assert events[-1].type == "run_finished"


class _Full(InMemorySaver):
    """A saver whose disk is full, while a child run writes."""

    full = True

    def put(self, config: Any, *args: Any) -> Any:
        if self.full and config["configurable"]["checkpoint_ns"]:
            raise OSError(28, "No space left on device")
        return super().put(config, *args)


def test_a_saver_that_fails_in_a_child_ends_the_run_and_is_no_answer_to_the_cell(model_server, chat, sandbox):
    model_server.script(
        "root",
        by_question(
            {"PARENT": [cell("x = rlm_query('CHILD?')\nSUBMIT(x)")], "CHILD": [cell("SUBMIT('of the child')")]}
        ),
    )
    saver = _Full()
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=saver, limits=Limits(max_depth=2))
    thread = {"configurable": {"thread_id": "t"}}
    with pytest.raises(OSError, match="No space left"):
        graph.invoke({"query": "PARENT?"}, thread)
    saver.full = False
    assert graph.invoke(None, thread)["answer"] == "of the child"
