"""What a run has made is gone when it ends: nothing of it waits for Python's search for cycles."""

import asyncio
import gc
from collections import Counter

import pytest

from rlm_adapters import ChatRLM, create_rlm_graph
from tests.server import cell, question_text, turn_of

CONTEXT = "abc " * 1_000
CELLS = [
    cell("answers = llm_query_batched([f'item {i}' for i in range(4)])\nprint(answers, note('x'))"),
    cell("part = rlm_query('Which?', context=context[:100])"),
    cell("1 / 0"),
    cell("SUBMIT('done')"),
]


def note(text: str) -> str:
    """Take a note."""
    return f"noted: {text}"


def graph_of(model, sub_model, sandbox):
    graph = create_rlm_graph(model, sub_model, sandbox=sandbox, tools=[note])
    given = {"query": "What?", "context": CONTEXT}

    async def begun():
        return (await graph.ainvoke(given))["answer"]

    return lambda: graph.invoke(given)["answer"], begun


def chat_model_of(model, sub_model, sandbox):
    rlm = ChatRLM(model=model, sub_model=sub_model, sandbox=sandbox, tools=[note], direct_below=0)
    asked = rlm.bind(context=CONTEXT)

    async def begun():
        return (await asked.ainvoke("What?")).text

    return lambda: asked.invoke("What?").text, begun


def root(messages, _request):
    return cell("SUBMIT('child')") if "Which?" in question_text(messages) else CELLS[turn_of(messages)]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("door", [graph_of, chat_model_of])
def test_nothing_of_a_run_is_left_for_the_garbage_collector(door, is_async, model_server, chat, sandbox):
    model_server.script("root", root)
    model_server.script("sub", "ok")
    sync, begun = door(chat("root"), chat("sub"), sandbox)

    def once():
        return asyncio.run(begun()) if is_async else sync()

    assert once() == "done"  # it also makes what is kept
    assert len(model_server.requests) == len(CELLS) + 4 + 1
    gc.collect()
    gc.disable()
    try:
        once()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert {kind: count for kind, count in left.items() if kind.startswith(("rlm_adapters", "langchain_openai"))} == {}
