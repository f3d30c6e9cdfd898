"""States of every kind at the door of the graph, and other names for the keys of input and output."""

import base64
import operator
from dataclasses import dataclass, field
from typing import Annotated, Any

import jsonschema
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from rlm_adapters import InputError, create_rlm_graph
from tests.server import cell


class Model(BaseModel):
    query: str = ""
    context: Any = None
    answer: Any = None


@dataclass
class Record:
    query: str = ""
    context: Any = None
    answer: Any = None
    unset: int = field(init=False)


class Slots(BaseModel):
    question: str
    documents: list[str]
    report: Any = None
    usage: str = "mine"


@pytest.fixture
def graph_of(model_server, chat, sandbox):
    """Makes a graph whose root LM writes this one cell."""

    def make(code, **options):
        model_server.script("root", lambda messages, request: cell(code))
        return create_rlm_graph(chat("root"), sandbox=sandbox, **options)

    return make


def parent_of(graph, state, **options):
    builder = StateGraph(state)
    builder.add_node("rlm", graph)
    builder.add_edge(START, "rlm")
    return builder.compile(**options)


@pytest.mark.parametrize("state", [Model, Record])
def test_a_parents_state_may_be_a_pydantic_model_or_a_dataclass(graph_of, run, state):
    parent = parent_of(graph_of("SUBMIT(context + '!')"), state)
    assert run(parent, {"query": "q", "context": "abc"})["answer"] == "abc!"


@pytest.mark.parametrize("given", [Model(query="q", context="abc"), Record(query="q", context="abc")])
def test_a_node_hands_its_own_state_on(graph_of, run, given):
    graph = graph_of("SUBMIT(context + '!')")
    parent = parent_of(lambda state, config: {"answer": graph.invoke(state, config)["answer"]}, type(given))
    assert parent.invoke(given)["answer"] == "abc!"


def test_a_state_of_another_kind_is_refused(graph_of, run):
    for given in ("question", ["q"], 5, Model):
        with pytest.raises(InputError, match="the graph takes a dict with 'query' and 'context', or a pydantic model"):
            run(graph_of("SUBMIT(1)"), given)


NAMES = {"query": "question", "context": "documents", "answer": "report", "usage": "tokens"}


def test_other_names_in_a_parent(graph_of, run, model_server):
    parent = parent_of(graph_of("SUBMIT(context)", inputs=NAMES), Slots)
    result = run(parent, {"question": "What?", "documents": ["a", "b"], "usage": "mine"})
    assert (result["report"], result["usage"]) == (["a", "b"], "mine")
    assert "What?" in str(model_server.requests[0].messages)


def test_other_names_of_the_graph_itself(graph_of, run):
    graph = graph_of("SUBMIT(context)", inputs=NAMES)
    result = run(graph, {"question": "What?", "documents": ["a", "b"], "inputs": {"c": 1}})
    assert result["report"] == ["a", "b"]
    assert result["tokens"]["root_calls"] == 1
    assert not {"answer", "usage", "query"} & set(result)
    for given, message in (
        ({"query": "What?"}, "question=None: give the question as non-empty text under 'question'"),
        ({"question": "What?", "context": "x"}, "unknown key 'context': the graph takes question, documents, inputs"),
    ):
        with pytest.raises(InputError, match=message):
            run(graph, given)


def test_other_names_in_streams_and_schemas(graph_of):
    graph = graph_of("SUBMIT(context)", inputs=NAMES)
    given = {"question": "What?", "documents": ["a"]}
    last = list(graph.stream(given, stream_mode="values"))[-1]
    assert last["report"] == ["a"]
    several = [part for mode, part in graph.stream(given, stream_mode=["updates", "values"]) if mode == "values"]
    assert several[-1]["report"] == ["a"]
    within = [part for space, part in graph.stream(given, stream_mode="values", subgraphs=True) if not space]
    assert within[-1]["report"] == ["a"]
    typed = [part["data"] for part in graph.stream(given, stream_mode="values", version="v2")]
    assert typed[-1]["report"] == ["a"]
    assert graph.invoke(given, version="v2").value["report"] == ["a"]
    assert graph.invoke(given, output_keys="answer") == ["a"]
    shown = graph.get_input_jsonschema()
    jsonschema.Draft202012Validator(shown).validate(given)
    assert shown["required"] == ["question"]
    assert set(shown["properties"]) == {"question", "documents", "inputs", "files", "instructions"}
    assert {"report", "tokens"} <= set(graph.get_output_jsonschema()["properties"])


async def test_other_names_in_an_async_stream(graph_of):
    graph = graph_of("SUBMIT(context)", inputs=NAMES)
    given = {"question": "What?", "documents": ["a"]}
    parts = [part async for part in graph.astream(given, stream_mode="values")]
    assert parts[-1]["report"] == ["a"]


def test_child_runs_keep_the_graphs_own_names(model_server, chat, sandbox, run):
    def root(messages, request):
        return cell("SUBMIT(context)" if "child?" in str(messages) else "SUBMIT(rlm_query('child' + '?', 'for it'))")

    model_server.script("root", root)
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, limits={"max_depth": 2}, inputs=NAMES)
    assert run(graph, {"question": "What?", "documents": ["a"]})["report"] == "for it"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"question": "query"}, "the graph has no key 'question': it takes query, context"),
        ({"query": "context"}, "'query' and 'context' would both be 'context'"),
        ({"answer": "usage"}, "'answer' and 'usage' would both be 'usage'"),
        ({"query": "x", "inputs": "x"}, "'query' and 'inputs' would both be 'x'"),
        ({"query": ""}, "'query': '' is not a name of a key"),
        ({"query": ["x"]}, "is not a name of a key"),
        ({"answer": ["x", "y"]}, "is not a name of a key"),
        ({"described": "x"}, "the graph has no key 'described'"),
        (["query"], "give a dict such as"),
    ],
)
def test_names_that_cannot_be_are_refused(graph_of, inputs, message):
    with pytest.raises(InputError, match=message):
        graph_of("SUBMIT(1)", inputs=inputs)


class Notes(TypedDict, total=False):
    query: str
    context: Any
    answer: Annotated[list[Any], operator.add]
    answers: Annotated[list[Any], operator.add]
    documents: list[str]


@pytest.mark.parametrize(
    ("code", "answer"),
    [("SUBMIT('one')", ["old", "one"]), ("SUBMIT(['one', 'two'])", ["old", "one", "two"])],
)
def test_an_answer_lands_in_a_list_that_is_there(graph_of, run, code, answer):
    parent = parent_of(graph_of(code), Notes)
    assert run(parent, {"query": "q", "context": "x", "answer": ["old"]})["answer"] == answer
    assert run(parent, {"query": "q", "context": "x"})["answer"] == answer[1:], "the channel begins with a list"


def test_an_answer_for_each_document_lands_in_one_list(graph_of, run):
    rlm = graph_of("SUBMIT([context, len(context)])", inputs={"answer": ["answers"]})
    builder = StateGraph(Notes)
    builder.add_node("rlm", rlm)
    builder.add_conditional_edges(
        START, lambda state: [Send("rlm", {"query": "q", "context": one}) for one in state["documents"]], ["rlm"]
    )
    result = run(builder.compile(), {"documents": ["a", "bb", "ccc"]})
    assert sorted(result["answers"]) == [["a", 1], ["bb", 2], ["ccc", 3]]


def test_a_run_without_an_answer_is_an_entry_too(model_server, chat, sandbox, run):
    model_server.script("root", lambda messages, request: "")
    rlm = create_rlm_graph(chat("root"), sandbox=sandbox, limits={"max_repairs": 0}, inputs={"answer": ["answers"]})
    assert run(parent_of(rlm, Notes), {"query": "q", "context": "x"})["answers"] == [None]


CONVERSATION = [HumanMessage("Whose is the owl?"), AIMessage("Ann's."), HumanMessage("And the cat?")]


def test_messages_are_a_context_like_any_other(graph_of, run):
    class State(MessagesState):
        query: str
        answer: Any

    rlm = graph_of("SUBMIT([one['role'] + ': ' + one['content'] for one in context])", inputs={"context": "messages"})
    result = run(parent_of(rlm, State), {"query": "Who speaks?", "messages": CONVERSATION})
    assert result["answer"] == ["user: Whose is the owl?", "assistant: Ann's.", "user: And the cat?"]


BOTH = {"query": "messages", "answer": "messages"}


def test_a_conversation_is_asked_and_answered(graph_of, run, model_server):
    parent = parent_of(graph_of("SUBMIT(messages[1]['content'] + '?')", inputs=BOTH), MessagesState)
    result = run(parent, {"messages": CONVERSATION})
    assert [one.text for one in result["messages"]][2:] == ["And the cat?", "Ann's.?"]
    last = result["messages"][-1]
    assert isinstance(last, AIMessage)
    assert last.usage_metadata["total_tokens"] > 0
    told = str(model_server.requests[0].messages)
    assert "And the cat?" in told
    assert "a conversation of 2 messages" in told


def test_a_conversation_of_one_question_has_no_variable(graph_of, run):
    graph = graph_of("SUBMIT({'names': [name for name in ('messages',) if name in globals()]})", inputs=BOTH)
    result = run(graph, {"messages": [{"role": "user", "content": "q"}]})
    assert result["messages"][-1].text == '{"names": []}'


def test_all_messages_are_the_context_when_that_is_said(graph_of, run):
    graph = graph_of("SUBMIT(str(len(context)))", inputs={**BOTH, "context": "messages"})
    assert run(graph, {"messages": CONVERSATION})["messages"][-1].text == "3"
    assert set(graph.get_input_jsonschema()["properties"]) == {"messages", "inputs", "files", "instructions"}


def test_an_image_of_the_question_stays_with_the_messages(graph_of, run):
    image = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
    asked = HumanMessage([{"type": "text", "text": "What is this?"}, image])
    graph = graph_of("SUBMIT(str(len(messages[0]['content'])))", inputs=BOTH)
    assert run(graph, {"messages": [asked]})["messages"][-1].text == "2"


def test_a_conversation_without_a_question_is_refused(graph_of, run):
    graph = graph_of("SUBMIT(1)", inputs=BOTH)
    for given, message in (
        ([AIMessage("a")], "'messages' has no human message"),
        ([], "'messages' has no human message"),
        ([5], "give a list of messages"),
        ({"role": 5}, "give a list of messages|no human message|non-empty text"),
        ([HumanMessage("")], "non-empty text under 'messages'"),
    ):
        with pytest.raises(InputError, match=message):
            run(graph, {"messages": given})
    with pytest.raises(InputError, match="create_rlm_graph\\(inputs=\\{'query': 'messages'\\}\\)"):
        run(graph_of("SUBMIT(1)"), {"messages": CONVERSATION})


def test_a_run_that_ends_without_an_answer_says_so_in_its_message(model_server, chat, sandbox, run):
    model_server.script("root", lambda messages, request: "")
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, limits={"max_repairs": 0}, inputs=BOTH)
    assert "There is no answer" in run(graph, {"messages": CONVERSATION})["messages"][-1].text


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ({"content": "one\ntwo", "encoding": "utf-8", "created_at": "x", "modified_at": "x"}, "one\ntwo"),
        ({"content": ["one", "two"], "created_at": "x", "modified_at": "x"}, "one\ntwo"),
        ({"content": base64.b64encode(b"one\ntwo").decode(), "encoding": "base64"}, "one\ntwo"),
        ("one\ntwo", "one\ntwo"),
    ],
)
def test_files_of_deepagents_are_files_of_the_workspace(graph_of, run, file, text):
    class Deep(MessagesState):
        query: str
        answer: Any
        files: dict[str, Any]

    parent = parent_of(graph_of("SUBMIT(open('/notes/a.txt').read())"), Deep)
    given = {"query": "q", "messages": [], "files": {"/notes/a.txt": file, "/gone.txt": None}}
    result = run(parent, given)
    assert result["answer"] == text
    assert result["files"] == given["files"], "the parent's files are as they were"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"files": {"a": {"text": "x"}}}, "file 'a': a dict needs text or a list of lines as 'content'"),
        ({"files": {"a": {"content": [1]}}}, "file 'a': a dict needs text or a list of lines"),
        ({"files": {"a": {"content": "x", "encoding": "utf-16"}}}, "file 'a': a dict needs text or a list of lines"),
        ({"files": {"a": {"content": "!", "encoding": "base64"}}}, "is not base64"),
        ({"files": ["a"]}, "name another one: create_rlm_graph\\(inputs=\\{'files': 'rlm_files'\\}\\)"),
        ({"inputs": "x"}, "name another one: create_rlm_graph\\(inputs=\\{'inputs': 'rlm_inputs'\\}\\)"),
        ({"instructions": ["x"]}, "name another one: create_rlm_graph\\(inputs=\\{'instructions'"),
    ],
)
def test_keys_of_a_parent_that_are_something_else_are_named(graph_of, run, given, message):
    with pytest.raises(InputError, match=message):
        run(graph_of("SUBMIT(1)"), {"query": "q", **given})


def test_a_run_with_other_names_goes_on_after_an_interrupt(graph_of, run):
    def ask(question: str) -> str:
        """Ask the user."""
        return interrupt(question)

    rlm = graph_of("SUBMIT(ask('sure?') + context[0])", tools=[ask], inputs={**NAMES, "answer": ["report"]})
    for graph in (
        parent_of(rlm, Slots, checkpointer=InMemorySaver()),
        rlm.copy({"checkpointer": InMemorySaver()}),
    ):
        config = {"configurable": {"thread_id": "1"}}
        paused = run(graph, {"question": "What?", "documents": ["a"]}, config)
        assert paused["__interrupt__"][0].value == "sure?"
        assert run(graph, Command(resume="yes "), config)["report"] == ["yes a"]


def test_a_tool_may_change_what_is_not_the_runs_own_under_the_names_of_the_caller(graph_of, run):
    class State(TypedDict, total=False):
        question: str
        documents: list[str]
        report: Any
        answer: str

    def change(key: str) -> Command[Any]:
        """Change the state around."""
        return Command(update={key: "new", "messages": [ToolMessage("done", tool_call_id="1")]})

    parent = parent_of(graph_of("change('answer')\nSUBMIT('r')", tools=[change], inputs=NAMES), State)
    result = run(parent, {"question": "q", "documents": []})
    assert (result["report"], result["answer"]) == ("r", "new")
    parent = parent_of(
        graph_of(
            "try:\n    change('report')\nexcept ToolError as error:\n    SUBMIT(str(error))",
            tools=[change],
            inputs=NAMES,
        ),
        State,
    )
    assert "which is the run's own key" in run(parent, {"question": "q", "documents": []})["report"]


@pytest.mark.filterwarnings("ignore:This API is in beta")
def test_the_graph_is_a_tool(graph_of):
    tool = graph_of("SUBMIT(context)", inputs=NAMES).as_tool(name="reader", description="Reads.")
    assert tool.invoke({"question": "q", "documents": "abc"})["report"] == "abc"
    assert tool.args["question"]["description"] == "The question."
