"""The graph as a part of larger ones, and over time: streaming, checkpoints, resuming."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from rlm_adapters import ContentStore, create_rlm_graph
from tests.server import cell


class Parent(TypedDict, total=False):
    topic: str
    query: str
    context: str
    answer: Any
    report: str


def parent_graph(rlm: Any) -> Any:
    builder = StateGraph(Parent)
    builder.add_node("ask", lambda state: {"query": f"How long is {state['topic']}?", "context": "x" * 50_000})
    builder.add_node("rlm", rlm)
    builder.add_node("write", lambda state: {"report": f"Report: {state['answer']}"})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "rlm")
    builder.add_edge("rlm", "write")
    builder.add_edge("write", END)
    return builder.compile()


def test_a_parent_graph_sees_the_answer_and_nothing_of_the_journal(model_server, chat, sandbox, run):
    model_server.script("root", [cell("n = len(context)"), cell("SUBMIT(n)")])
    graph = parent_graph(create_rlm_graph(chat("root"), sandbox=sandbox))
    result = run(graph, {"topic": "it"})
    assert result["report"] == "Report: 50000"
    assert set(result) == {"topic", "query", "context", "answer", "report"}


def test_a_parent_streams_the_steps_of_the_rlm_under_clear_names(model_server, chat, sandbox):
    model_server.script("root", [cell("n = len(context)"), cell("SUBMIT(n)")])
    graph = parent_graph(create_rlm_graph(chat("root"), sandbox=sandbox))
    steps = [
        (bool(namespace), name)
        for namespace, update in graph.stream({"topic": "it"}, stream_mode="updates", subgraphs=True)
        for name in update
    ]
    inside = [name for nested, name in steps if nested]
    assert inside == ["prepare", *["generate_code", "execute", "check_final"] * 2]
    assert [name for nested, name in steps if not nested] == ["ask", "rlm", "write"]


async def test_progress_comes_as_custom_events(model_server, chat, sandbox):
    model_server.script("root", [cell("SUBMIT(llm_query('a'))")])
    model_server.script("sub", ["b"])
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    kinds = [part["type"] async for part in graph.astream({"query": "q", "context": "x"}, stream_mode="custom")]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_finished"
    assert {"iteration_started", "code", "calls_started", "call_finished", "cell_output", "final"} <= set(kinds)


def test_it_runs_inside_a_runnable_with_its_small_ambient_recursion_limit(model_server, chat, sandbox):
    from langchain_core.runnables import RunnableLambda

    model_server.script("root", [*[cell(f"print({i})") for i in range(15)], cell("SUBMIT('done')")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    chain = RunnableLambda(lambda question: graph.invoke({"query": question, "context": "x"})["answer"])
    assert chain.invoke("q") == "done"


def test_big_values_stay_out_of_the_checkpoints(model_server, chat, sandbox, tmp_path, run):
    model_server.script("root", [cell("a = context.upper()"), cell("SUBMIT(len(llm_query(a[:100_000])))")])
    model_server.script("sub", lambda messages, request: "y" * 70_000)
    saver = InMemorySaver()
    graph = create_rlm_graph(
        chat("root"), chat("sub"), sandbox=sandbox, checkpointer=saver, store=ContentStore(tmp_path)
    )
    config = {"configurable": {"thread_id": "1"}}
    result = run(graph, {"query": "q", "context": "x" * 3_000_000}, config)
    assert result["answer"] == 70_000
    saved = sum(len(str(item)) for item in saver.list(config))
    assert saved < 400_000
    assert max(len(str(item.checkpoint)) for item in saver.list(config)) < 30_000


def test_a_run_whose_workers_were_killed_goes_on_without_paying_again(model_server, chat, sandbox, tmp_path, run):
    calls = []

    def ask_user(question: str) -> str:
        """Ask the user."""
        return interrupt(question)

    def sub(messages, request):
        calls.append(messages[-1]["content"])
        return "sub " + messages[-1]["content"]

    code = "a = llm_query('one')\nb = ask_user('sure?')\nc = llm_query('two ' + b)\nprint(a, b, c)"
    model_server.script("root", [cell("start = 1"), cell(code), cell("SUBMIT([start, a, b, c])")])
    model_server.script("sub", sub)
    saver, store = InMemorySaver(), ContentStore(tmp_path)

    def make() -> Any:
        return create_rlm_graph(
            chat("root"), chat("sub"), tools=[ask_user], sandbox=sandbox, checkpointer=saver, store=store
        )

    config = {"configurable": {"thread_id": "1"}}
    paused = run(make(), {"query": "q", "context": "x"}, config)
    assert paused["__interrupt__"][0].value == "sure?"
    result = run(make(), Command(resume="yes"), config)  # another graph: it has no live worker
    assert result["answer"] == [1, "sub one", "yes", "sub two yes"]
    assert calls == ["one", "two yes"]
    assert result["usage"]["calls"] == 2


def test_an_interrupted_run_resumes_with_its_live_worker(model_server, chat, sandbox, run):
    def ask_user(question: str) -> str:
        """Ask the user."""
        return interrupt(question)

    model_server.script("root", [cell("x = ask_user('name?')\nSUBMIT(x * 2)")])
    graph = create_rlm_graph(chat("root"), tools=[ask_user], sandbox=sandbox, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    run(graph, {"query": "q", "context": "x"}, config)
    assert len(graph.rlm.sessions) == 1
    assert run(graph, Command(resume="ab"), config)["answer"] == "abab"
    assert len(graph.rlm.sessions) == 0


def test_a_thread_can_be_asked_again(model_server, chat, sandbox, run):
    model_server.script("root", lambda messages, request: cell("SUBMIT(context)"))
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    assert run(graph, {"query": "q", "context": "pelican"}, config)["answer"] == "pelican"
    second = run(graph, {"query": "q", "context": "ostrich"}, config)
    assert (second["answer"], second["iterations"], second["usage"]["root_calls"]) == ("ostrich", 1, 1)
    prompts = [str(request.messages) for request in model_server.requests]
    assert ["`context`: str, 7 characters\\n  'pelican'" in prompt for prompt in prompts] == [True, False]
    assert "`context`: str, 7 characters\\n  'ostrich'" in prompts[1]


def test_an_error_leaves_no_worker_behind(model_server, chat, sandbox, run):
    from rlm_adapters import ModelCallError
    from tests.server import server_error

    model_server.script("root", [cell("a = 1"), lambda m, r: server_error("gone", status=403)])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    with pytest.raises(ModelCallError):
        run(graph, {"query": "q", "context": "x"})
    assert len(graph.rlm.sessions) == 0


async def test_cancelling_ends_the_workers(model_server, chat, sandbox):
    import asyncio

    from tests.server import Reply

    model_server.script("root", [cell("a = 1"), cell("SUBMIT(llm_query('slow'))")])
    model_server.script("sub", lambda messages, request: Reply("late", latency=30))
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    task = asyncio.create_task(graph.ainvoke({"query": "q", "context": "x"}))
    while not any(record.model == "sub" for record in model_server.requests):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(graph.rlm.sessions) == 0


def end(pid: int) -> None:
    """Kill a process and wait until it is dead: a moment before, it could still be handed the next cell."""
    os.kill(pid, signal.SIGKILL)
    status = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.001)


def test_a_killed_worker_between_two_cells_is_rebuilt(model_server, chat, sandbox, run):
    events = []
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, on_event=events.append)

    def kill_then_answer(messages, request):
        for kept in graph.rlm.sessions._kept.values():
            end(kept.session._slot.worker.pid)
        return cell("SUBMIT(a + 1)")

    model_server.script("root", [cell("a = 41"), kill_then_answer])
    assert run(graph, {"query": "q", "context": "x"})["answer"] == 42
