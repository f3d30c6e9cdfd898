"""What a caller's streams hold: the answer's tokens and progress, and nothing of the inner models."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Annotated

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from tests.server import Reply, cell

ANSWER = "The answer is forty-two, after a long look at everything. " * 5
CODE = f"secret = llm_query('sub secret')\nprint(len(secret))\nSUBMIT({ANSWER!r})"


@pytest.fixture
def model(model_server, rlm, chat):
    model_server.script("root", lambda m, r: cell(CODE))
    model_server.script("sub", ["inner words"])
    return rlm(model=chat("root", streaming=True), sub_model=chat("sub", streaming=True))


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def graph_around(model, *, is_async=False, saver=None):
    builder = StateGraph(State)

    def ask(state):
        return {"messages": [model.invoke(state["messages"])]}

    async def aask(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder.add_node("ask", aask if is_async else ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


GIVEN = {"messages": [HumanMessage("q")]}


def test_a_chain_streams_the_answer_in_pieces(model):
    chain = ChatPromptTemplate.from_messages([("human", "{q}")]) | model | StrOutputParser()
    pieces = [piece for piece in chain.stream({"q": "why?"}) if piece]
    assert len(pieces) > 5
    assert "".join(pieces) == ANSWER


async def test_the_events_are_those_of_one_chat_model_and_progress(model):
    events = [event async for event in model.astream_events("q", version="v2")]
    assert {event["name"] for event in events} == {"ChatRLM", "rlm"}
    tokens = "".join(event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream")
    assert tokens == ANSWER
    assert events[0]["event"] == "on_chat_model_start"
    assert events[-1]["event"] == "on_chat_model_end"
    progress = [event["data"] for event in events if event["event"] == "on_custom_event"]
    kinds = [told["type"] for told in progress]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_finished"
    assert {"iteration_started", "code", "calls_started", "call_finished", "cell_output"} <= set(kinds)
    last = progress[-1]["progress"]
    assert (last["iterations"], last["calls_started"], last["calls_finished"]) == (1, 1, 1)
    assert last["cost"] is None, "nobody knows the prices of scripted models"


async def test_a_chain_around_it_streams_nothing_of_the_inner_models(model):
    chain = ChatPromptTemplate.from_messages([("human", "{q}")]) | model | StrOutputParser()
    events = [event async for event in chain.astream_events({"q": "x"}, version="v2")]
    assert {event["name"] for event in events if "chat_model" in event["event"]} == {"ChatRLM"}
    assert "inner words" not in str([event for event in events if event["event"] != "on_custom_event"])


@pytest.mark.parametrize("is_async", [False, True])
def test_a_graph_streams_the_answer_as_messages_and_progress_as_custom(model, is_async):
    graph = graph_around(model, is_async=is_async)

    async def collect():
        return [part async for part in graph.astream(GIVEN, stream_mode=["messages", "custom", "updates"])]

    parts = (
        asyncio.run(collect()) if is_async else list(graph.stream(GIVEN, stream_mode=["messages", "custom", "updates"]))
    )
    messages = [part for mode, part in parts if mode == "messages"]
    assert "".join(message.text for message, _ in messages) == ANSWER
    assert {metadata["langgraph_node"] for _, metadata in messages} == {"ask"}
    assert len({message.id for message, _ in messages}) == 1
    assert len(messages) > 5
    progress = [part for mode, part in parts if mode == "custom"]
    assert progress[0]["type"] == "run_started"
    assert progress[-1]["progress"]["calls_finished"] == 1
    assert [list(part) for mode, part in parts if mode == "updates"] == [["ask"]]


def test_a_graph_with_subgraphs_shown_shows_none_of_ours(model):
    parts = list(graph_around(model).stream(GIVEN, stream_mode=["messages", "updates"], subgraphs=True))
    assert {namespace for namespace, *_ in parts} == {()}


def test_a_checkpointed_graph_around_it_saves_its_own_steps_only(model):
    saver = InMemorySaver()
    config = {"configurable": {"thread_id": "1"}}
    graph_around(model, saver=saver).invoke(GIVEN, config)
    namespaces = {saved.config["configurable"]["checkpoint_ns"] for saved in saver.list(None)}
    assert namespaces == {""}


def test_v3_of_a_graph_streams_the_answer(model):
    stream = graph_around(model).stream_events(GIVEN, version="v3")
    texts = [str(message.text) for message in stream.messages]
    assert texts == [ANSWER]


def test_tokens_of_invoke_are_told_when_streaming_is_on(model_server, rlm):
    from tests.langchain.test_calls import Tree

    model_server.script("root", lambda m, r: cell(CODE))
    for streaming, told in ((True, ANSWER), (None, "")):
        tree = Tree()
        rlm(streaming=streaming).invoke("q", {"callbacks": [tree]})
        assert "".join(token for token, _ in tree.tokens) == told


@pytest.mark.parametrize("is_async", [False, True])
def test_more_cells_than_the_ambient_recursion_limit_allows(model_server, rlm, is_async):
    model_server.script("root", [*[cell(f"print({i})") for i in range(18)], cell("SUBMIT('done')")])
    graph = graph_around(rlm(), is_async=is_async)
    state = asyncio.run(graph.ainvoke(GIVEN)) if is_async else graph.invoke(GIVEN)
    assert state["messages"][-1].text == "done"


async def test_cancelling_ends_model_calls_and_workers(model_server, rlm, chat):
    model_server.script("root", lambda m, r: cell("SUBMIT(llm_query('slow'))"))
    model_server.script("sub", lambda m, r: Reply("late", latency=60))
    model = rlm(sub_model=chat("sub"))
    task = asyncio.create_task(model.ainvoke("q"))
    while not model_server.requests_of("sub"):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while model_server.in_flight:
        await asyncio.sleep(0.01)
    assert len(model._runs.graph.rlm.sessions) == 0


def descendants():
    """Ids of all processes below this one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_cancelling_a_busy_cell_leaves_no_worker(model_server, rlm):
    model_server.script("root", lambda m, r: cell("while True: pass" if "busy" in m[1]["content"] else "SUBMIT(1)"))
    started, loop = asyncio.Event(), asyncio.get_running_loop()
    model = rlm(on_event=lambda event: loop.call_soon_threadsafe(started.set) if event.type == "code" else None)
    await model.ainvoke("a short one, so that the worker's parent is there")
    before = descendants()
    started.clear()
    task = asyncio.create_task(model.ainvoke("keep busy"))
    await started.wait()
    while not descendants() - before:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while descendants() - before:
        await asyncio.sleep(0.01)
    assert len(model_server.requests) == 2


async def test_a_reader_that_leaves_the_events_early_ends_the_run(model_server, rlm, chat):
    model_server.script("root", lambda m, r: cell("SUBMIT(llm_query('slow'))"))
    model_server.script("sub", lambda m, r: Reply("late", latency=60))
    model = rlm(sub_model=chat("sub"))
    events = model.astream_events("q", version="v2")
    async for event in events:
        if event["event"] == "on_custom_event" and event["data"]["type"] == "calls_started":
            break
    await events.aclose()
    while model_server.in_flight:
        await asyncio.sleep(0.01)
    assert len(model._runs.graph.rlm.sessions) == 0


async def test_a_consumer_that_stops_reading_a_direct_stream_ends_the_request(model_server, rlm):
    model_server.script("root", lambda m, r: Reply("word " * 500, chunk_latency=0.02))
    stream = rlm(direct_below=1_000).astream("hello")
    await anext(stream)
    await stream.aclose()
    while model_server.in_flight:
        await asyncio.sleep(0.01)


# ------------------------------------------------------------------------------------------------ places


async def test_a_notebook_can_call_it_sync_inside_its_running_loop(model_server, rlm):
    model_server.script("root", lambda m, r: cell("SUBMIT(slow_double(21))"))

    async def slow_double(x: int) -> int:
        """An async tool, called from sync code."""
        await asyncio.sleep(0)
        return 2 * x

    assert asyncio.get_running_loop().is_running()
    assert rlm(tools=[slow_double]).invoke("q").text == "42"
    assert next(rlm(tools=[slow_double]).stream("q")).text == "42"


async def test_a_fastapi_handler_answers_and_streams(model_server, rlm):
    fastapi = pytest.importorskip("fastapi")
    import httpx

    model_server.script("root", lambda m, r: cell(f"SUBMIT({ANSWER!r})"))
    model = rlm()
    app = fastapi.FastAPI()

    @app.get("/ask")
    async def ask(question: str) -> dict:
        return {"answer": (await model.ainvoke(question)).text}

    @app.get("/stream")
    async def stream(question: str):
        async def pieces():
            async for chunk in model.astream(question):
                yield chunk.text

        return fastapi.responses.StreamingResponse(pieces())

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        several = await asyncio.gather(*(client.get("/ask", params={"question": "q"}) for _ in range(5)))
        assert [reply.json() for reply in several] == [{"answer": ANSWER}] * 5
        assert (await client.get("/stream", params={"question": "q"})).text == ANSWER


async def test_a_client_that_hangs_up_on_fastapi_ends_the_run(model_server, rlm, chat):
    fastapi = pytest.importorskip("fastapi")
    model_server.script("root", lambda m, r: cell("SUBMIT(llm_query('slow'))"))
    model_server.script("sub", lambda m, r: Reply("late", latency=60))
    model = rlm(sub_model=chat("sub"))
    app = fastapi.FastAPI()

    @app.get("/progress")
    async def progress():
        async def lines():
            async for event in model.astream_events("q", version="v2"):
                if event["event"] == "on_custom_event":
                    yield event["data"]["type"] + "\n"

        return fastapi.responses.StreamingResponse(lines())

    asking, sent = asyncio.Event(), []

    async def receive():
        await asking.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message.get("body", b""))
        if b"calls_started\n" in sent:
            asking.set()

    scope = {"type": "http", "method": "GET", "path": "/progress", "query_string": b"", "headers": []}
    await app({**scope, "asgi": {"spec_version": "2.3", "version": "3.0"}}, receive, send)
    while model_server.in_flight:
        await asyncio.sleep(0.01)
    assert len(model._runs.graph.rlm.sessions) == 0


async def test_a_plain_fastapi_handler_in_a_thread_answers(model_server, rlm):
    fastapi = pytest.importorskip("fastapi")
    import httpx

    model_server.script("root", lambda m, r: cell("SUBMIT('ok')"))
    model, app = rlm(), fastapi.FastAPI()

    @app.get("/ask")
    def ask() -> str:
        return model.invoke("q").text

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        several = await asyncio.gather(*(client.get("/ask") for _ in range(5)))
    assert [reply.json() for reply in several] == ["ok"] * 5


# ------------------------------------------------------------------------------------------------ many at once


async def test_a_hundred_at_once_keep_answers_usage_and_parents_apart(model_server, rlm, chat):
    from tests.langchain.test_calls import Tree

    def root(messages, request):
        number = int(messages[1]["content"].split("number ")[1].split(";")[0])
        return cell(f"SUBMIT(llm_query('say {number}') + str(len(context)))")

    model_server.script("root", root)
    model_server.script("sub", lambda m, r: m[-1]["content"].upper() + " ")
    model = rlm(sub_model=chat("sub"))
    trees = [Tree() for _ in range(100)]

    async def ask(number):
        bound = model.bind(context="x" * (30_000 + number))
        return await bound.ainvoke(f"number {number};", {"callbacks": [trees[number]], "run_name": f"run {number}"})

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert [answer.text for answer in answers] == [f"SAY {n} {30_000 + n}" for n in range(100)]
    assert all(answer.response_metadata["calls"] == 1 for answer in answers)
    stats = model_server.stats()["models"]
    for key, counted in (("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens")):
        assert sum(a.usage_metadata[key] for a in answers) == stats["root"][counted] + stats["sub"][counted]
    for number, tree in enumerate(trees):
        assert {path[0] for path in tree.paths()} == {f"run {number}"}
        models = [path for path in tree.paths() if path[-1] == "ChatOpenAI"]
        assert sorted(models) == [
            (f"run {number}", "rlm", "generate_code", "ChatOpenAI"),
            (f"run {number}", "rlm", "recurse", "ChatOpenAI"),
        ]
