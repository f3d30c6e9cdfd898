"""Each token counts once, whichever level a handler, a tracer or a caller reads, and what the tokens were is kept."""

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler, get_usage_metadata_callback
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.messages.ai import add_usage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.context import register_configure_hook
from langgraph.graph import START, MessagesState, StateGraph

from rlm_adapters import ChatRLM, create_rlm_graph
from tests.server import Reply, cell
from tests.server.protocol import tokens

QUESTION = [HumanMessage("q " * 50_000 + "\n\nHow many?")]
SHORT = [HumanMessage("How many?")]


def root(messages, request):
    if len(messages) > 1:
        return Reply(
            cell("SUBMIT(' '.join(llm_query(str(n)) for n in range(3)))"), cached_tokens=40, reasoning_tokens=7
        )
    return Reply("direct", cached_tokens=2, reasoning_tokens=1)


@pytest.fixture
def models(model_server, chat, sandbox):
    model_server.script("root", root)
    model_server.script("sub", lambda messages, request: Reply("yes", cached_tokens=5))
    return {"model": chat("root", stream_usage=True), "sub_model": chat("sub", stream_usage=True), "sandbox": sandbox}


def spent(server) -> dict[str, Any]:
    """What the server charged for, by model."""
    by_model: dict[str, Any] = {}
    for record in server.requests:
        name, prompt = record.model, tokens(record.prompt)
        cached, thought = (5, 0) if name == "sub" else ((2, 1) if len(record.messages) == 1 else (40, 7))
        usage = {
            "input_tokens": prompt,
            "output_tokens": record.completion_tokens,
            "total_tokens": prompt + record.completion_tokens,
            "input_token_details": {"cache_read": cached},
            **({"output_token_details": {"reasoning": thought}} if thought else {}),
        }
        by_model[name] = add_usage(by_model.get(name), usage) if name in by_model else usage
    return by_model


def plain(by_model: Any) -> dict[str, Any]:
    """Without groups that say nothing."""
    return {name: {key: value for key, value in one.items() if value} for name, one in by_model.items()}


def total(by_model: Any) -> Any:
    summed = None
    for one in by_model.values():
        summed = add_usage(summed, one)
    return summed


def ask(model, form, messages=QUESTION, config=None) -> Any:
    """The message, in each of the forms of a call."""

    async def astreamed():
        whole = None
        async for chunk in model.astream(messages, config):
            whole = chunk if whole is None else whole + chunk
        return whole

    if form == "invoke":
        return model.invoke(messages, config)
    if form == "ainvoke":
        return asyncio.run(model.ainvoke(messages, config))
    if form == "astream":
        return asyncio.run(astreamed())
    whole = None
    for chunk in model.stream(messages, config):
        whole = chunk if whole is None else whole + chunk
    return whole


FORMS = ["invoke", "ainvoke", "stream", "astream"]


@pytest.mark.parametrize("messages", [QUESTION, SHORT], ids=["run", "direct"])
@pytest.mark.parametrize("form", FORMS)
def test_a_handler_that_sums_counts_each_token_once_by_the_inner_models(models, model_server, form, messages):
    handed = UsageMetadataCallbackHandler()
    with get_usage_metadata_callback() as ambient:
        message = ask(ChatRLM(**models), form, messages, {"callbacks": [handed]})
    wanted = plain(spent(model_server))
    assert len(model_server.requests) == (4 if messages is QUESTION else 1)
    assert plain(ambient.usage_metadata) == wanted
    assert plain(handed.usage_metadata) == wanted
    assert plain({"": message.usage_metadata})[""] == plain({"": total(wanted)})[""], "and the message has the sum"


@pytest.mark.parametrize("messages", [QUESTION, SHORT], ids=["run", "direct"])
@pytest.mark.parametrize("form", ["invoke", "ainvoke"])
def test_a_handler_of_the_chat_model_alone_reads_the_sum(models, model_server, form, messages):
    own = UsageMetadataCallbackHandler()
    with get_usage_metadata_callback() as ambient:
        ask(ChatRLM(**models, callbacks=[own]), form, messages)
    assert plain(own.usage_metadata) == plain({"rlm:root": total(spent(model_server))})
    assert plain(ambient.usage_metadata) == plain(spent(model_server))


@pytest.mark.parametrize("form", FORMS)
def test_so_does_a_handler_of_an_inner_model(models, model_server, chat, form):
    own = UsageMetadataCallbackHandler()
    models["sub_model"] = chat("sub", callbacks=[own])
    ask(ChatRLM(**models), form)
    assert plain(own.usage_metadata) == plain({"sub": spent(model_server)["sub"]})


@pytest.mark.parametrize("messages", [QUESTION, SHORT], ids=["run", "direct"])
@pytest.mark.parametrize("form", FORMS)
def test_without_inner_traces_the_call_itself_has_the_sum(models, model_server, form, messages):
    handed = UsageMetadataCallbackHandler()
    with get_usage_metadata_callback() as ambient:
        ask(ChatRLM(**models, trace_inner=False), form, messages, {"callbacks": [handed]})
    wanted = plain({"rlm:root": total(spent(model_server))})
    assert plain(handed.usage_metadata) == wanted
    assert plain(ambient.usage_metadata) == wanted


def test_a_handler_that_every_run_has_but_none_hands_on_counts_once(models, model_server):
    from contextvars import ContextVar

    own = UsageMetadataCallbackHandler()
    variable: ContextVar[Any] = ContextVar("a_handler_of_a_test", default=None)
    register_configure_hook(variable, inheritable=False)
    token = variable.set(own)
    try:
        ChatRLM(**models).invoke(QUESTION)
    finally:
        variable.reset(token)
    assert plain(own.usage_metadata) == plain(spent(model_server))


async def test_the_events_of_a_call_have_the_sum(models, model_server):
    async def node(question, config):
        return await ChatRLM(**models).ainvoke(QUESTION, config)

    found = [
        event["data"]["output"].usage_metadata
        async for event in RunnableLambda(node).astream_events("q", version="v2")
        if event["event"] == "on_chat_model_end"
    ]
    assert [plain({"": one})[""] for one in found] == [plain({"": total(spent(model_server))})[""]]


@pytest.mark.parametrize("form", ["invoke", "stream"])
def test_messages_of_a_langgraph_node_have_the_sum_in_the_state_and_in_the_stream(models, model_server, form):
    model = ChatRLM(**models)

    def node(state):
        return {"messages": [ask(model, form, state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("rlm", node)
    builder.add_edge(START, "rlm")
    graph = builder.compile()
    streamed = None
    with get_usage_metadata_callback() as ambient:
        for chunk, _ in graph.stream({"messages": QUESTION}, stream_mode="messages"):
            if isinstance(chunk, AIMessage):
                streamed = add_usage(streamed, chunk.usage_metadata)
    wanted = total(spent(model_server))
    assert plain({"": streamed}) == plain({"": wanted})
    assert plain(ambient.usage_metadata) == plain(spent(model_server))
    model_server.requests.clear()
    last = graph.invoke({"messages": QUESTION})["messages"][-1]
    assert plain({"": last.usage_metadata}) == plain({"": total(spent(model_server))})


def test_a_graph_tells_each_token_once(models, model_server):
    graph = create_rlm_graph(models["model"], models["sub_model"], sandbox=models["sandbox"])
    with get_usage_metadata_callback() as ambient:
        usage = graph.invoke({"query": "How many?", "context": "q " * 50_000})["usage"]
    assert plain(ambient.usage_metadata) == plain(spent(model_server))
    summed = total(spent(model_server))
    assert usage["input_tokens"] == summed["input_tokens"]
    assert usage["output_tokens"] == summed["output_tokens"]
    assert (usage["cache_read_tokens"], usage["reasoning_tokens"]) == (40 + 3 * 5, 7)
    assert usage["by_model"]["sub"]["cache_read_tokens"] == 15
    assert "reasoning_tokens" not in usage["by_model"]["sub"]
    assert "output_audio_tokens" not in usage


class Ends(BaseCallbackHandler):
    """What the end of each call told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_llm_end(self, response, **kwargs) -> None:
        self.told.append(response.generations[0][0].message)


@pytest.mark.parametrize("form", FORMS)
def test_the_end_of_the_call_itself_is_as_it_was_but_for_the_tokens(models, form):
    ends = Ends()
    message = ask(ChatRLM(**models), form, config={"callbacks": [ends]})
    last = ends.told[-1]
    assert (last.text, last.usage_metadata) == (message.text, None)
    assert last.response_metadata["usage_by_model"] == message.response_metadata["usage_by_model"]
    assert message.response_metadata["usage_by_model"]["root"]["reasoning_tokens"] == 7
