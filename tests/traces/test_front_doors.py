"""``trace=PATH`` at every front door: the run is in the file when the call returns."""

import json

import pytest
from blockbuster import blockbuster_ctx
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import ChatRLM, InputError, create_rlm_graph
from rlm_adapters.traces.reader import read_events
from rlm_adapters.traces.writer import TraceWriter
from tests.server import cell, never_answers, rate_limited

BIG = "x" * 100_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


@pytest.fixture
def models(model_server, chat):
    model_server.script("root", [cell("print(len(context))"), cell("SUBMIT(llm_query('p' * 5_000))")])
    model_server.script("sub", lambda messages, request: "s" * 5_000)
    return chat("root"), chat("sub")


def of(events, kind):
    return [event for event in events if event.type == kind]


def is_whole(events):
    """Whether these are all events of a run of `models`."""
    assert [event.data["prompt"] for event in of(events, "call_started")] == ["p" * 5_000]
    assert [event.data["answer"] for event in of(events, "call_finished")] == ["s" * 5_000]
    assert [event.type for event in events][-2:] == ["final", "run_finished"]
    return events[-1].data["finish_reason"] == "submitted"


def test_a_graph(models, sandbox, path):
    graph = create_rlm_graph(*models, sandbox=sandbox, trace=path)
    graph.invoke({"query": "q", "context": BIG})
    assert is_whole(list(read_events(path)))
    graph.invoke({"query": "again", "context": BIG})
    assert [event.data["query"] for event in of(list(read_events(path)), "run_started")] == ["q", "again"]


async def test_a_graph_on_an_event_loop_that_may_not_block(models, sandbox, path):
    with blockbuster_ctx():
        graph = create_rlm_graph(*models, sandbox=sandbox, trace=path, checkpointer=InMemorySaver())
        await graph.ainvoke({"query": "q", "context": BIG}, {"configurable": {"thread_id": "t"}})
    assert is_whole(list(read_events(path)))


def test_a_chat_model(models, sandbox, path):
    ChatRLM(*models, sandbox=sandbox, trace=path).invoke(BIG + "\n\nHow long is it?")
    assert is_whole(list(read_events(path)))


async def test_a_chat_model_that_streams_on_an_event_loop_that_may_not_block(models, sandbox, path):
    model = ChatRLM(*models, sandbox=sandbox, trace=str(path), direct_below=0)
    with blockbuster_ctx():
        chunks = [chunk async for chunk in model.astream(BIG + "\n\nHow long is it?")]
    assert "".join(chunk.text for chunk in chunks) == "s" * 5_000
    assert is_whole(list(read_events(path)))


async def _answer(model, form):
    if form == "invoke":
        return model.invoke("Hello?").text
    if form == "ainvoke":
        return (await model.ainvoke("Hello?")).text
    if form == "stream":
        return "".join(chunk.text for chunk in model.stream("Hello?"))
    return "".join([chunk.text async for chunk in model.astream("Hello?")])


@pytest.mark.parametrize("form", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_short_question_of_a_chat_model_is_a_run_of_one_call(model_server, chat, path, form):
    model_server.script("root", lambda messages, request: "Good morning to you.")
    answer = await _answer(ChatRLM(chat("root", stream_usage=True), trace=path, instructions="Be kind."), form)
    assert answer == "Good morning to you."
    events = list(read_events(path))
    assert [event.type for event in events] == [
        "run_started", "iteration_started", "root_replied", "final", "run_finished"
    ]  # fmt: skip
    started, asked, replied, final, ended = events
    assert started.data["query"] == "Hello?"
    assert [message["text"] for message in asked.data["messages"]] == ["Be kind.", "Hello?"]
    assert asked.id == replied.id
    assert (replied.data["reply"], final.data["answer"], ended.data["answer"]) == (answer,) * 3
    assert ended.data["finish_reason"] == "direct"
    assert replied.data["tokens"]["output"] == ended.data["usage"]["output_tokens"] > 0
    assert replied.data["seconds"] > 0


def test_a_short_question_that_fails_is_told_too(model_server, chat, path):
    model_server.script("root", lambda messages, request: rate_limited(0.0))
    model = ChatRLM(chat("root"), trace=path, max_retries=1)
    with pytest.raises(Exception, match="Rate limit"):
        model.invoke("Hello?")
    events = list(read_events(path))
    assert [event.type for event in events][2:] == ["warning", "root_replied", "run_finished"]
    assert "Rate limit" in events[-1].data["error"]


def test_a_direct_answer_of_the_graph_has_prompt_and_reply(model_server, chat, sandbox, path):
    model_server.script("root", lambda messages, request: "42")
    create_rlm_graph(chat("root"), sandbox=sandbox, trace=path, direct_below=1_000).invoke({"query": "q?"})
    (replied,) = of(list(read_events(path)), "root_replied")
    assert replied.data["reply"] == "42"


def test_a_dspy_module(model_server, path):
    dspy = pytest.importorskip("dspy")
    from rlm_adapters import RLM

    def root(messages, request):
        code = "```python\nSUBMIT(answer=llm_query('p' * 5_000))\n```"
        return f"[[ ## reasoning ## ]]\nI ask.\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"

    model_server.script("root", root)
    model_server.script("sub", lambda messages, request: "s" * 5_000)
    lm, sub = (
        dspy.LM(f"openai/{name}", api_base=model_server.url, api_key="x", cache=False) for name in ("root", "sub")
    )
    module = RLM("document: str, question: str -> answer: str", sub_lm=sub, trace=path)
    with dspy.context(lm=lm):
        module.deepcopy()(document=BIG, question="q")
    events = list(read_events(path))
    assert is_whole(events)
    (asked,) = of(events, "iteration_started")
    fields = {message["role"]: message["text"] for message in asked.data["messages"]}
    assert "SUBMIT" in fields["instructions"]
    assert "document" in fields["variables_info"]
    assert of(events, "root_replied")[0].data["tokens"]["input"] > 0


def test_a_run_that_times_out_tells_its_calls_in_flight_and_its_end(model_server, chat, sandbox, path):
    model_server.script("root", [cell("SUBMIT(llm_query_batched(['a', 'b']))"), cell("SUBMIT('never')")])
    model_server.script("sub", lambda messages, request: "a" if "a" in json.dumps(messages) else never_answers())
    limits = {"max_seconds": 1.5, "call_timeout": 60}
    create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, trace=path, limits=limits).invoke({"query": "q"})
    events = list(read_events(path))
    assert len(of(events, "call_started")) == 2
    assert of(events, "limit")[0].data["limit"] == "max_seconds"
    assert events[-1].data["finish_reason"] == "timeout"


def test_without_a_trace_nobody_makes_texts(models, sandbox, monkeypatch):
    def made(*_):
        raise AssertionError("a text was made")

    monkeypatch.setattr("rlm_adapters.graph.context.text_of", made)
    monkeypatch.setattr("rlm_adapters.graph.asking.messages_of", made)
    result = create_rlm_graph(*models, sandbox=sandbox).invoke({"query": "q", "context": "abc"})
    assert result["finish_reason"] == "submitted"


@pytest.mark.parametrize("door", ["graph", "chat", "short"])
def test_a_trace_that_cannot_be_written_is_said_before_any_model_is_called(model_server, chat, sandbox, tmp_path, door):
    path = tmp_path / "gone" / "run.jsonl"
    call = {
        "graph": lambda: create_rlm_graph(chat("root"), sandbox=sandbox, trace=path).invoke({"query": "q"}),
        "chat": lambda: ChatRLM(chat("root"), sandbox=sandbox, trace=path, direct_below=0).invoke("q"),
        "short": lambda: ChatRLM(chat("root"), sandbox=sandbox, trace=path).invoke("q"),
    }[door]
    with pytest.raises(InputError, match=r"run.jsonl: No such file or directory; give a file that can be written"):
        call()
    assert model_server.requests == []


def test_what_is_no_trace_is_refused(chat):
    for door in (create_rlm_graph, ChatRLM):
        with pytest.raises(InputError, match="trace=3: give the path"):
            door(chat("root"), trace=3)


def test_one_writer_serves_several_doors(models, sandbox, path):
    writer = TraceWriter(path)
    create_rlm_graph(*models, sandbox=sandbox, trace=writer).invoke({"query": "one", "context": BIG})
    ChatRLM(*models, sandbox=sandbox, trace=writer, direct_below=0).invoke("two")
    assert len(of(list(read_events(path)), "run_finished")) == 2
