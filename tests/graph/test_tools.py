"""Tools inside the loop: what LangGraph injects, what the caller's graph is told, what the root LM reads of them."""

import asyncio
from typing import Annotated, Any

import pytest
from langchain.tools import ToolRuntime
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from rlm_adapters import ChatRLM, InputError, create_rlm_graph
from tests.server import cell
from tests.server.scripts import question_text


class State(TypedDict, total=False):
    query: str
    context: Any
    tenant: str
    notes: Annotated[list[str], lambda left, right: [*left, *right]]
    seen: dict[str, int]
    answer: Any


def parent_of(rlm: Any, state: Any = State, **compiled: Any) -> Any:
    builder = StateGraph(state)
    builder.add_node("rlm", rlm)
    builder.add_edge(START, "rlm")
    return builder.compile(**compiled)


@tool
def from_runtime(key: str, runtime: ToolRuntime) -> str:
    """Tell what the runtime has."""
    runtime.stream_writer({"told": key})
    stored = runtime.store.get(("n",), key).value["v"]
    return f"{stored} {runtime.state['tenant']} {runtime.context['user']} {bool(runtime.tool_call_id)}"


@tool
def from_state(key: str, tenant: Annotated[str, InjectedState("tenant")], all_: Annotated[dict, InjectedState]) -> str:
    """Tell what the state has."""
    return f"{key} {tenant} {len(all_['context'])}"


@tool
def from_store(key: str, store: Annotated[BaseStore, InjectedStore()]) -> str:
    """Tell what the store has."""
    return str(store.get(("n",), key).value["v"])


@tool
def with_id(key: str, call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Tell whether there is an id."""
    return f"{key} {len(call_id) > 10}"


@tool
async def waits(key: str) -> dict:
    """Wait."""
    await asyncio.sleep(0)
    return {"key": key}


def plain(key: str, config: RunnableConfig) -> str:
    """A plain function that asks for the config."""
    return f"{key} {config['configurable']['user']} {'T' in config['tags']} {config['metadata']['M']}"


async def plain_async(key: str, runtime: ToolRuntime) -> str:
    """A plain coroutine function that asks for the runtime."""
    return f"{key} {runtime.context['user']}"


def asks_langgraph(key: str) -> str:
    """A plain function that asks LangGraph's own functions."""
    get_stream_writer()({"told": key})
    return f"{get_store().get(('n',), key).value['v']} {get_config()['configurable']['user']}"


TOOLS = [from_runtime, from_state, from_store, with_id, waits, plain, plain_async, asks_langgraph]
CALLS = {
    "from_runtime('k')": "stored acme ann True",
    "from_state('k')": "k acme 3",
    "from_store(key='k')": "stored",
    "with_id('k')": "k True",
    "waits('k')": {"key": "k"},
    "plain('k')": "k U True 1",
    "plain_async('k')": "k ann",
    "asks_langgraph('k')": "stored U",
}
CONFIG = {"configurable": {"user": "U"}, "tags": ["T"], "metadata": {"M": 1}}


@pytest.fixture
def store():
    store = InMemoryStore()
    store.put(("n",), "k", {"v": "stored"})
    return store


@pytest.mark.parametrize(("call", "answer"), CALLS.items(), ids=[call.partition("(")[0] for call in CALLS])
def test_a_tool_gets_what_langgraph_injects_from_the_graph_around(
    model_server, chat, sandbox, run, store, call, answer
):
    model_server.script("root", [cell(f"SUBMIT({call})")])
    graph = parent_of(create_rlm_graph(chat("root"), tools=TOOLS, sandbox=sandbox), store=store)
    given = {"query": "q", "context": "abc", "tenant": "acme"}
    assert run(graph, given, CONFIG, context={"user": "ann"})["answer"] == answer


@pytest.mark.parametrize("call", ["plain('k')", "asks_langgraph('k')", "from_store('k')", "waits('k')"])
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("form", ["sync", "async"])
def test_tools_of_a_chat_model_see_the_node_that_called_it(model_server, chat, sandbox, store, call, bound, form):
    model_server.script("root", [cell(f"SUBMIT({call})")])
    if bound:
        model = ChatRLM(model=chat("root"), sandbox=sandbox, tool_mode="repl").bind_tools(TOOLS)
    else:
        model = ChatRLM(model=chat("root"), sandbox=sandbox, tools=TOOLS)

    def node(state, config: RunnableConfig):
        return {"messages": [model.invoke(state["messages"], config)]}

    async def anode(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = parent_of(node if form == "sync" else anode, MessagesState, store=store)
    given = {"messages": [HumanMessage("q")]}
    result = graph.invoke(given, CONFIG) if form == "sync" else asyncio.run(graph.ainvoke(given, CONFIG))
    wanted = CALLS.get(call, CALLS.get(call.replace("('k')", "(key='k')")))
    assert result["messages"][-1].text in (wanted, '{"key": "k"}')


def test_tools_write_into_the_custom_stream_of_the_caller(model_server, chat, sandbox, store):
    model_server.script("root", [cell("SUBMIT(from_runtime('k'))")])
    graph = parent_of(create_rlm_graph(chat("root"), tools=TOOLS, sandbox=sandbox), store=store)
    given = {"query": "q", "context": "abc", "tenant": "acme"}
    parts = graph.stream(given, context={"user": "ann"}, stream_mode="custom", subgraphs=True)
    assert {"told": "k"} in [part for _, part in parts]


def test_a_cell_cannot_give_what_is_injected(model_server, chat, sandbox):
    model_server.script("root", [
        cell("from_state('k', tenant='evil')"), cell("from_state('k', 'evil')"), cell("SUBMIT(from_state('k'))"),
    ])  # fmt: skip
    graph = parent_of(create_rlm_graph(chat("root"), tools=TOOLS, sandbox=sandbox))
    assert graph.invoke({"query": "q", "context": "abc", "tenant": "acme"})["answer"] == "k acme 3"
    for request in model_server.requests[1:]:
        assert "TypeError" in request.messages[-1]["content"]


def test_a_worker_that_sends_injected_arguments_all_the_same_does_not_get_them_through():
    from langgraph.runtime import Runtime

    from rlm_adapters.graph.injection import Caller, ToolCall, inject, injected_arguments

    call = ToolCall.made_by(Caller(), "1", config={}, runtime=Runtime(), state={"tenant": "acme", "context": "abc"})
    given = inject(injected_arguments(from_state), {"key": "k", "tenant": "evil", "all_": {}}, call)
    assert (given["tenant"], given["all_"]["tenant"]) == ("acme", "acme")


def test_a_missing_store_or_key_is_an_error_that_says_what_to_do(model_server, chat, sandbox):
    catch = "try:\n    {}\nexcept Exception as error:\n    SUBMIT(str(error))"
    model_server.script("root", lambda messages, _: cell(catch.format(messages[1]["content"].split("!")[1])))
    graph = create_rlm_graph(chat("root"), tools=TOOLS, sandbox=sandbox)
    assert "compiled with one" in graph.invoke({"query": "!from_store('k')!"})["answer"]
    assert "'tenant' of the state" in graph.invoke({"query": "!from_state('k')!", "context": "c"})["answer"]


def test_the_state_is_there_again_when_another_process_goes_on(model_server, chat, sandbox):
    @tool
    def looks(key: str, state: Annotated[dict, InjectedState]) -> str:
        """Look at the state."""
        return f"{state['query']} {state['context']} {state['inputs']}"

    model_server.script("root", [cell("SUBMIT(looks('k'))")])
    thread = {"configurable": {"thread_id": "1"}}
    graph = create_rlm_graph(chat("root"), tools=[looks], sandbox=sandbox, checkpointer=InMemorySaver())
    graph.invoke({"query": "q", "context": "c", "inputs": {"a": 1}}, thread, interrupt_before=["recurse"])
    assert graph.invoke(None, thread)["answer"] == "q c {'a': 1}"


# -- results


def remember(note: str, call_id: Annotated[str, InjectedToolCallId]) -> Command:
    """Remember a note."""
    return Command(update={
        "notes": [note], "seen": {note: 1}, "messages": [ToolMessage(f"noted {note}", tool_call_id=call_id)],
    })  # fmt: skip


def test_a_command_changes_the_state_of_the_graph_around_and_the_cell_gets_its_message(
    model_server, chat, sandbox, run
):
    code = "a = remember('one')\nb = remember('two')\nSUBMIT([a, b])"
    model_server.script("root", [cell(code)])
    graph = parent_of(create_rlm_graph(chat("root"), tools=[remember], sandbox=sandbox))
    result = run(graph, {"query": "q", "notes": ["zero"]})
    assert result["answer"] == ["noted one", "noted two"]
    assert result["notes"] == ["zero", "one", "two"]
    assert result["seen"] == {"one": 1, "two": 1}


def test_commands_of_child_runs_come_through(model_server, chat, sandbox):
    from rlm_adapters import Limits

    def root(messages, _):
        return cell("SUBMIT(remember('deep'))" if "child" in messages[1]["content"] else "SUBMIT(rlm_query('child'))")

    model_server.script("root", root)
    rlm = create_rlm_graph(chat("root"), tools=[remember], sandbox=sandbox, limits=Limits(max_depth=2))
    result = parent_of(rlm).invoke({"query": "q"})
    assert (result["answer"], result["notes"]) == ("noted deep", ["deep"])


def test_a_chat_model_tells_what_its_tools_want_to_change(model_server, chat, sandbox):
    model_server.script("root", [cell("SUBMIT(remember('one'))")])
    message = ChatRLM(model=chat("root"), sandbox=sandbox, tools=[remember]).invoke("q")
    assert message.response_metadata["updates"] == {"notes": ["one"], "seen": {"one": 1}}


@pytest.mark.parametrize(("returned", "error"), [
    (Command(goto="elsewhere"), "no node to go to"),
    (Command(update={"answer": 1}), "the run's own key"),
])  # fmt: skip
def test_a_command_that_the_loop_cannot_follow_is_a_failure_that_the_cell_sees(
    model_server, chat, sandbox, returned, error
):
    def asks() -> Any:
        """Ask for something."""
        return returned

    model_server.script("root", [cell("try:\n    asks()\nexcept ToolError as error:\n    SUBMIT(str(error))")])
    assert error in create_rlm_graph(chat("root"), tools=[asks], sandbox=sandbox).invoke({"query": "q"})["answer"]


def mcp_tool(name: str, coroutine: Any) -> BaseTool:
    """A tool as langchain-mcp-adapters makes them: async alone, a JSON schema, content blocks and an artifact."""
    return StructuredTool(
        name=name,
        description=f"The tool {name}.\n\nWith more to say.",
        args_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        coroutine=coroutine,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


def test_an_mcp_tool_works_in_both_forms_its_text_is_text_and_its_failure_is_one(model_server, chat, sandbox, run):
    async def shout(text: str) -> Any:
        return [{"type": "text", "text": text.upper()}], {"raw": 1}

    async def refuse(text: str) -> Any:
        raise ToolException(f"refused {text}")

    code = "try:\n    refuse('it')\nexcept ToolError as error:\n    SUBMIT([shout('hi'), str(error)])"
    model_server.script("root", [cell(code)])
    tools = [mcp_tool("shout", shout), mcp_tool("refuse", refuse)]
    graph = create_rlm_graph(chat("root"), tools=tools, sandbox=sandbox)
    assert run(graph, {"query": "q"})["answer"] == ["HI", "refused it"]


def test_an_interrupt_in_an_async_tool_waits_and_goes_on(model_server, chat, sandbox):
    @tool
    async def ask(text: str) -> str:
        """Ask a person."""
        return interrupt({"ask": text})

    model_server.script("root", [cell("SUBMIT(ask('sure?'))")])
    graph = create_rlm_graph(chat("root"), tools=[ask], sandbox=sandbox, checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "1"}}
    assert graph.invoke({"query": "q"}, thread)["__interrupt__"][0].value == {"ask": "sure?"}
    assert graph.invoke(Command(resume="yes"), thread)["answer"] == "yes"


# -- the prompt


def test_the_root_lm_reads_the_whole_description_and_the_types(model_server, chat, sandbox):
    @tool
    def convert(mode: str, items: list[int], opt: bool = False) -> str:
        """Do complex things.

        Modes: 'fast' or 'slow'. Returns CSV with header a,b.
        """
        return "a,b"

    def bare(mode: str, items: list[int] | None = None):
        """Do plain things.

        Slowly.
        """

    model_server.script("root", [cell("SUBMIT(1)")])
    create_rlm_graph(chat("root"), tools=[convert, bare, *TOOLS], sandbox=sandbox).invoke({"query": "q"})
    told = question_text(model_server.requests[0].messages)
    assert (
        "`convert(mode, items, opt=..)`: Do complex things. Modes: 'fast' or 'slow'. Returns CSV with header a,b. "
        "Arguments: mode: str; items: list of int; opt: bool"
    ) in told
    assert "`bare(mode, items=..)`: Do plain things. Slowly. Arguments: mode: str; items: list of int or None" in told
    assert "`from_state(key)`" in told
    assert "runtime" not in told.partition("from_runtime")[2].partition("\n")[0].partition("Arguments")[2]


def test_a_function_with_injected_arguments_and_no_docstring_is_refused(chat):
    def silent(runtime: ToolRuntime) -> str:
        return ""

    with pytest.raises(InputError, match="no docstring"):
        create_rlm_graph(chat("root"), tools=[silent])
