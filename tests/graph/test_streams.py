"""What LangGraph's streams carry: tokens of the root LM when they are wanted, and plain updates."""

import asyncio

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Overwrite
from typing_extensions import TypedDict

from rlm_adapters import ChatRLM, create_rlm_graph
from tests.server import cell

CELL = "child = rlm_query('child' + '?')\nSUBMIT(llm_query('say ' + child))"
GIVEN = {"query": "q", "context": "abc"}


class State(TypedDict, total=False):
    query: str
    context: str
    answer: str


def parent_of(graph):
    builder = StateGraph(State)
    builder.add_node("rlm", graph)
    builder.add_edge(START, "rlm")
    return builder.compile()


@pytest.fixture
def graph_of(model_server, chat, sandbox):
    def make(**options):
        model_server.script("root", lambda m, r: cell("SUBMIT('it')") if "child?" in str(m) else cell(CELL))
        model_server.script("sub", lambda messages, request: "words of the sub-LM")
        limits = {"max_depth": 2}
        return create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, limits=limits, **options)

    return make


def tokens(graph, form, **options):
    """The texts of a ``messages`` stream by node, and the tags that go with them."""

    async def astreamed():
        return [part async for part in graph.astream(GIVEN, stream_mode="messages", **options)]

    parts = list(graph.stream(GIVEN, stream_mode="messages", **options))
    if form == "async":
        parts = asyncio.run(astreamed())
    parts = [part[1] if options.get("subgraphs") else part for part in parts]
    texts: dict[str, str] = {}
    for message, metadata in parts:
        texts[metadata["langgraph_node"]] = texts.get(metadata["langgraph_node"], "") + message.text
    return texts, len(parts), {tag for _, metadata in parts for tag in metadata.get("tags") or ()}


@pytest.mark.parametrize("form", ["sync", "async"])
def test_tokens_of_the_root_lm_are_streamed_when_that_is_wanted(graph_of, form):
    texts, count, tags = tokens(graph_of(stream_tokens=True), form)
    assert texts == {"generate_code": cell(CELL)}, "its own, and nothing of child runs and sub-LMs"
    assert count > 3, "piece by piece"
    assert tags == {"rlm:root"}


@pytest.mark.parametrize("form", ["sync", "async"])
def test_they_reach_the_stream_of_a_parent(graph_of, form):
    texts, count, _ = tokens(parent_of(graph_of(stream_tokens=True)), form, subgraphs=True)
    assert texts == {"generate_code": cell(CELL)}
    assert count > 3


@pytest.mark.parametrize("form", ["sync", "async"])
def test_nothing_is_streamed_by_default(graph_of, form):
    assert tokens(graph_of(), form)[1] == 0


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_last_answer_and_a_direct_one_are_the_root_lms_too(model_server, chat, sandbox, form):
    model_server.script("root", lambda m, r: "the last answer" if "The run ends here" in str(m[-1]) else cell("1"))
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, limits={"max_iterations": 1}, stream_tokens=True)
    assert tokens(graph, form)[0] == {"generate_code": cell("1"), "extract": "the last answer"}
    model_server.script("root", lambda m, r: "a direct answer")
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, direct_below=1_000, stream_tokens=True)
    assert tokens(graph, form)[0] == {"generate_code": "a direct answer"}


def test_a_chat_model_streams_its_answer_alone(model_server, chat, sandbox):
    model_server.script("root", lambda messages, request: cell("SUBMIT('the answer')"))
    model = ChatRLM(model=chat("root"), sandbox=sandbox, direct_below=0)
    graph = parent_of(lambda state: {"answer": model.invoke(state["query"]).text})
    assert tokens(graph, "sync")[0] == {"rlm": "the answer"}


def test_updates_are_plain_values(graph_of):
    updates = list(graph_of().stream(GIVEN, stream_mode="updates"))
    assert len(updates) > 3
    assert "Overwrite" not in str(updates)
    assert not [one for part in updates for one in part.values() for value in one.values() if type(value) is Overwrite]
