"""`ChatRLM(approve=...)`: the node around the chat model asks, and the run inside goes on where it stood."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from rlm_adapters import ChatRLM, InputError
from tests.langchain.savers import Dying, Killed
from tests.server import cell
from tests.server.scripts import text_of

THREAD: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture
def make(chat, sandbox):
    def make(**options: Any) -> ChatRLM:
        return ChatRLM(model=chat("root"), sub_model=chat("sub"), sandbox=sandbox, direct_below=0, **options)

    return make


def turns(*cells):
    return lambda messages, _: cell(cells[sum(one["role"] == "assistant" for one in messages)])


def around(model: ChatRLM, *, saver: Any = True) -> Any:
    """A graph whose one node calls the model."""

    def call(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def acall(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    from langchain_core.runnables import RunnableLambda

    builder = StateGraph(MessagesState)
    builder.add_node("model", RunnableLambda(call, acall))
    builder.add_edge(START, "model")
    return builder.compile(checkpointer=InMemorySaver() if saver else None)


async def stepping(form: str, graph: Any, given: Any) -> Any:
    return graph.invoke(given, THREAD) if form == "sync" else await graph.ainvoke(given, THREAD)


QUESTION = {"messages": [HumanMessage("q")]}


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("size", [10, 300_000])
async def test_each_cell_is_asked_for_and_nothing_is_paid_twice(model_server, make, form, size):
    model_server.script("root", turns("x = llm_query('what?')", "x = x + str(len(context))", "SUBMIT(x)"))
    model_server.script("sub", ["gold"])
    graph = around(make(approve="cells", context="c" * size))
    result = await stepping(form, graph, QUESTION)
    asked = []
    while "__interrupt__" in result:
        (one,) = result["__interrupt__"]
        asked.append(one.value["action_requests"][0]["args"]["code"])
        result = await stepping(form, graph, Command(resume="approve"))
    assert asked == ["x = llm_query('what?')", "x = x + str(len(context))", "SUBMIT(x)"]
    answer = result["messages"][-1]
    assert answer.content == f"gold{size}"
    assert (len(model_server.requests_of("root")), len(model_server.requests_of("sub"))) == (3, 1)
    assert answer.usage_metadata["output_tokens"] == sum(one.completion_tokens for one in model_server.requests)


def test_a_run_that_is_killed_between_any_two_writes_asks_on_from_there(model_server, make):
    model_server.script("root", turns("x = llm_query('what?')", "x = x + '!'", "SUBMIT(x)"))
    model_server.script("sub", lambda messages, _: "gold")
    for writes in range(50):
        saver, killed = Dying(), False
        graph, before = around(make(approve="cells", checkpointer=saver)), len(model_server.requests)
        result = graph.invoke(QUESTION, THREAD)
        asked = []
        while "__interrupt__" in result:
            asked.append(result["__interrupt__"][0].value["action_requests"][0]["args"]["code"])
            saver.left = writes if len(asked) == 2 and not killed else None
            try:
                result = graph.invoke(Command(resume="approve"), THREAD)
            except Killed:
                killed, saver.left = True, None
                result = graph.invoke(None, THREAD)
        assert asked == ["x = llm_query('what?')", "x = x + '!'", "SUBMIT(x)"], writes
        assert result["messages"][-1].content == "gold!"
        # The next question to the root LM may have been under way while the saver still wrote.
        assert len(model_server.requests) - before in (4, 5), f"paid twice after {writes} writes"
        if not killed:
            break
    assert writes > 3
    assert not killed


async def test_the_rest_can_be_approved_or_a_cell_rejected(model_server, make):
    model_server.script("root", turns("print(open('/etc/passwd'))", "x = 1", "SUBMIT(x)"))
    graph = around(make(approve="cells"))
    await stepping("async", graph, QUESTION)
    await stepping("async", graph, Command(resume={"type": "reject", "message": "not that file"}))
    result = await stepping("async", graph, Command(resume="approve_all"))
    assert result["messages"][-1].content == "1"
    assert "not that file" in text_of(model_server.requests_of("root")[1].messages[-1])


def test_an_agent_whose_tools_leave_asks_for_cells_too(model_server, make):
    model_server.script("root", turns("x = lookup('a')", "SUBMIT(x + '!')"))

    def lookup(key: str) -> str:
        """Look up."""
        return f"value of {key}"

    agent = create_agent(make(approve="cells"), [lookup], checkpointer=InMemorySaver())
    result = agent.invoke(QUESTION, THREAD)
    asked = 0
    while "__interrupt__" in result:
        asked += 1
        result = agent.invoke(Command(resume="approve"), THREAD)
    assert result["messages"][-1].content == "value of a!"
    assert asked == 2
    assert len(model_server.requests_of("root")) == 2
    told = [one.usage_metadata["output_tokens"] for one in result["messages"] if isinstance(one, AIMessage)]
    assert sum(told) == sum(one.completion_tokens for one in model_server.requests)


def test_a_function_decides_without_any_graph(model_server, make):
    model_server.script("root", turns("import os", "SUBMIT(2)"))
    model = make(approve=lambda request: "import" not in request.code)
    assert model.invoke("q").content == "2"


def test_where_nobody_can_be_asked_it_says_so(model_server, make):
    model_server.script("root", turns("SUBMIT(1)"))
    with pytest.raises(InputError, match="nothing saves it"):
        make(approve="cells").invoke("q")
    with pytest.raises(InputError, match="nothing saves it"):
        around(make(approve="cells"), saver=False).invoke(QUESTION, THREAD)
    with pytest.raises(InputError, match="which cannot be answered here"):
        make(approve="cells").bind_tools([{"name": "f", "description": "d", "parameters": {}}]).invoke("q")
    with pytest.raises(InputError, match="approve='celles' is unknown: use \"cells\""):
        make(approve="celles")
