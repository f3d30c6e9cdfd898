"""What a cell, a worker that it has taken over, or a client puts into a call: only the arguments that were offered."""

from typing import Annotated, Any

import pytest
from langchain_core.tools import InjectedToolArg, InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import Runtime

from rlm_adapters import create_rlm_graph
from rlm_adapters.effects import drive
from rlm_adapters.errors import InputError
from rlm_adapters.graph.injection import ToolCall
from tests.server import cell

MINE = {"configurable": {"thread_id": "mine"}}
CALL = ToolCall("1:a:1", {}, Runtime(), None)


@pytest.fixture
def paid():
    """A tool that acts for a user, whom its author fills in; and for whom it did."""
    users: list[str] = []

    @tool
    def pay(
        amount: int,
        user: Annotated[str, InjectedToolArg] = "nobody",
        call: Annotated[str, InjectedToolCallId] = "none",
    ) -> str:
        """Pay."""
        users.append(user)
        return f"{amount} as {user}"

    return pay, users


ARGUMENTS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "an injected argument": ([1], {"user": "admin"}),
    "an injected argument alone": ([], {"amount": 1, "user": "admin"}),
    "an injected call id": ([], {"amount": 1, "call": "x"}),
    "a tool call": ([], {"type": "tool_call", "name": "pay", "id": "x", "args": {"amount": 1, "user": "admin"}}),
    "by position": ([1, "admin"], {}),
    "twice": ([1], {"amount": 2}),
    "a config": ([1], {"config": {"configurable": {"user": "admin"}}}),
    "self": ([1], {"self": "admin"}),
}
attack = pytest.mark.parametrize(("args", "kwargs"), ARGUMENTS.values(), ids=ARGUMENTS)


@attack
def test_a_worker_s_request_cannot_fill_in_what_the_author_fills_in(args, kwargs, paid, chat):
    pay, users = paid
    graph = create_rlm_graph(chat("root"), tools=[pay])
    with pytest.raises(InputError, match=r"pay\(\) takes amount"):
        drive(graph.rlm.tools["pay"].call(args, kwargs, CALL))
    assert users == []


@attack
def test_a_client_s_edit_of_what_is_pending_cannot_either(args, kwargs, paid, model_server, chat, sandbox):
    pay, users = paid
    model_server.script("root", [cell("SUBMIT(pay(1))"), cell("SUBMIT('none')")])
    graph = create_rlm_graph(chat("root"), tools=[pay], sandbox=sandbox, checkpointer=InMemorySaver())
    graph.invoke({"query": "q"}, MINE, interrupt_before=["recurse"])
    (request,) = graph.get_state(MINE).values["pending"]
    edited = {**request, "args": args, "kwargs": kwargs}
    graph.update_state(MINE, {"pending": [edited]}, as_node="execute")
    graph.invoke(None, MINE)
    assert users == []


def test_a_function_of_one_s_own_takes_only_what_it_names(chat):
    seen: list[Any] = []

    def look(key: str, deep: bool = False) -> str:
        """Look."""
        seen.append((key, deep))
        return "ok"

    graph = create_rlm_graph(chat("root"), tools=[look])
    assert drive(graph.rlm.tools["look"].call(["a"], {"deep": True}, CALL)).value == "ok"
    with pytest.raises(InputError):
        drive(graph.rlm.tools["look"].call(["a"], {"other": 1}, CALL))
    assert seen == [("a", True)]


FILES = {
    "a file address": {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    "a file address in capitals": {"type": "image_url", "image_url": {"url": " FILE:///etc/passwd"}},
    "a path": {"type": "image_url", "image_url": {"url": "/etc/passwd"}},
    "a path up": {"type": "image_url", "image_url": "../../etc/passwd"},
    "a path of home": {"type": "image", "url": "~/.ssh/id_rsa"},
    "a local path": {"type": "file", "path": "/etc/passwd"},
    "a file path": {"type": "file", "file": {"file_path": "/etc/passwd"}},
    "a uri": {"type": "media", "file_uri": "/proc/self/environ", "mime_type": "text/plain"},
    "a scheme of code": {"type": "image_url", "image_url": {"url": "jar:file:///etc/passwd!/"}},
    "a broken address": {"type": "image_url", "image_url": {"url": "http://[::1"}},
    "deep inside": {"type": "x", "content": [{"a": [{"source": {"url": "/etc/passwd"}}]}]},
}


@pytest.mark.parametrize("block", FILES.values(), ids=FILES)
def test_a_content_block_names_no_file_of_the_host(block, model_server, chat, sandbox):
    code = f"try:\n    a = llm_query(['what is it?', {block!r}])\nexcept Exception as e:\n    a = str(e)\nSUBMIT(a)"
    model_server.script("root", [cell(code)])
    model_server.script("sub", lambda messages, request: "seen")
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    assert "names no address that a provider can fetch" in graph.invoke({"query": "q"})["answer"]
    assert all(request.model == "root" for request in model_server.requests)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "text", "text": "look at /etc/passwd"},
    ],
    ids=["an address", "data", "text"],
)
def test_blocks_that_a_provider_can_read_go_through(block, model_server, chat, sandbox):
    model_server.script("root", [cell(f"SUBMIT(llm_query(['what is it?', {block!r}]))")])
    model_server.script("sub", lambda messages, request: "seen")
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    assert graph.invoke({"query": "q"})["answer"] == "seen"
