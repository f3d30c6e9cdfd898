"""Each front door, against each way in which a model's server refuses for good, for the root LM and for the sub-LM."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import dspy
import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import RLM, ChatRLM, Limits, ModelCallError, create_rlm_graph
from rlm_adapters.cli.main import app
from tests.dspy.scripted import fields_text
from tests.runner import CliRunner
from tests.server import Reply, cell, text_of

REFUSED = "http://127.0.0.1:9/v1"
CODE = "a = llm_query_batched(['x', 'y'])\nSUBMIT('confident')"


@dataclass(frozen=True)
class Fault:
    reply: Reply
    kind: str
    words: tuple[str, ...]
    """What the message says: what happened, and the remedy."""
    requests: int = 1
    """How often the model is asked."""


def html() -> Reply:
    return Reply(raw_body="<html>welcome to nginx</html>", headers={"Content-Type": "text/html"})


RETRIES = 1
FAULTS = {
    "401": Fault(
        Reply("Incorrect API key", status=401, error_code="invalid_api_key"), "auth", ("Incorrect API", "key")
    ),
    "403": Fault(Reply("No access", status=403, error_code="forbidden"), "auth", ("No access", "check its API key")),
    "404": Fault(
        Reply("The model `x` does not exist", status=404, error_code="model_not_found"),
        "unknown_model",
        ("does not exist", "check the model's name"),
    ),
    "quota": Fault(
        Reply("You exceeded your current quota", status=429, error_code="insufficient_quota"),
        "quota",
        ("exceeded", "check plan and billing"),
    ),
    "html": Fault(html(), "address", ("a web page", "check the base URL"), requests=1 + RETRIES),
    "refused": Fault(Reply(), "address", ("no connection", "check the base URL"), requests=0),
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr("rlm_adapters.models.calling._FIRST_DELAY", 0.0)


@pytest.fixture(params=FAULTS)
def fault(request, model_server) -> Fault:
    """The fault, played by the model ``broken``."""
    found = FAULTS[request.param]
    model_server.script("broken", lambda messages, asked: found.reply)
    return found


@pytest.fixture(params=["root", "sub"])
def role(request, model_server) -> str:
    """Whose model is ``broken``; the other one is well."""
    model_server.script("root", lambda messages, asked: cell(CODE))
    model_server.script("sub", lambda messages, asked: "fine")
    return request.param


@pytest.fixture
def names(role) -> tuple[str, str]:
    return ("broken", "sub") if role == "root" else ("root", "broken")


@pytest.fixture
def url(model_server, fault):
    return lambda name: REFUSED if name == "broken" and not fault.requests else model_server.url


LIMITS = Limits(max_retries=RETRIES, max_iterations=3)


def check(error: ModelCallError, fault: Fault, role: str, url: str) -> None:
    message = str(error)
    assert isinstance(error, ModelCallError)
    assert (error.kind, error.permanent, error.model) == (fault.kind, True, "broken")
    assert message.startswith(f"{'root LM' if role == 'root' else 'sub-LM'} 'broken' at {url}")
    assert all(word in message for word in fault.words), message
    used = error.usage
    assert used["failed_calls"] >= 1
    assert used["root_calls"] == (role == "sub")
    assert used["by_model"]["broken"]["failed_calls"] == used["failed_calls"]


def ask(door: str, make: Any, graph_input: Any) -> Any:
    if door == "sync":
        return make().invoke(graph_input)
    return asyncio.run(make().ainvoke(graph_input))


@pytest.fixture
def models(names, url):
    root, sub = (ChatOpenAI(model=name, base_url=url(name), api_key="k", max_retries=0) for name in names)
    return root, sub


@pytest.mark.parametrize("form", ["sync", "async"])
def test_the_graph_raises(form, fault, role, models, url, sandbox, model_server):
    events = []
    graph = create_rlm_graph(*models, limits=LIMITS, sandbox=sandbox, on_event=events.append)
    with pytest.raises(ModelCallError) as error:
        ask(form, lambda: graph, {"query": "q", "context": "x"})
    check(error.value, fault, role, url("broken"))
    calls = 1 if role == "root" else error.value.usage["failed_calls"]
    assert calls <= len(model_server.requests_of("broken")) or not fault.requests
    assert len(model_server.requests_of("broken")) <= 2 * fault.requests, "what is permanent is not asked again"
    assert events[-1].type == "run_finished"
    assert events[-1].data["usage"]["failed_calls"] >= 1
    told = [event.data["retry"] for event in events if event.type == "warning"]
    assert bool(told) == (fault.requests != 1), "retries are told, and only they"
    assert all(retry["model"] == "broken" and retry["most"] == RETRIES for retry in told)


@pytest.mark.parametrize("form", ["sync", "async"])
def test_the_chat_model_raises(form, fault, role, models, url, sandbox):
    chat = ChatRLM(model=models[0], sub_model=models[1], limits=LIMITS, sandbox=sandbox, direct_below=0)
    with pytest.raises(ModelCallError) as error:
        ask(form, lambda: chat, "q")
    check(error.value, fault, role, url("broken"))


@pytest.mark.parametrize("form", ["sync", "async"])
def test_the_module_raises(form, fault, role, names, url, sandbox, model_server):
    def root(messages, asked):
        assert "code" in text_of(messages[-1])
        return fields_text({"reasoning": "r", "code": CODE})

    model_server.script("root", root)
    lms = [dspy.LM(f"openai/{n}", api_base=url(n), api_key="k", cache=False, num_retries=0) for n in names]
    module = RLM("text -> answer", sub_lm=lms[1], limits=LIMITS, sandbox=sandbox)
    with dspy.context(lm=lms[0]), pytest.raises(Exception) as error:  # noqa: PT011 - its class is checked below
        module(text="x") if form == "sync" else asyncio.run(module.acall(text="x"))
    if role == "sub":
        raised: Any = error.value
        assert isinstance(raised, ModelCallError)
        message = str(raised)
        assert raised.usage["failed_calls"] >= 1
    else:
        assert isinstance(error.value, dspy.LMError), "the root LM's own exception, as of any predictor"
        message = "\n".join(error.value.__notes__)
    assert message.startswith(f"{'root LM' if role == 'root' else 'sub-LM'} 'openai/broken' at {url('broken')}")
    assert f"({fault.kind})" in message


def test_the_command_fails_with_the_reason_and_the_usage(fault, role, names, url, tmp_path, monkeypatch):
    if not fault.requests and role == "sub":
        pytest.skip("the command has one address for both models")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    path = tmp_path / "a.txt"
    path.write_text("x")
    options = ["--model", f"openai:{names[0]}", "--sub-model", f"openai:{names[1]}", "--base-url", url("broken")]
    result = CliRunner().invoke(app, ["ask", "q", str(path), *options, "--json", "--quiet"])
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"rlm: {'root LM' if role == 'root' else 'sub-LM'} 'broken' at {url('broken')}")
    assert all(word in line for word in fault.words)
    printed = json.loads(result.stdout)
    assert (printed["answer"], printed["finish_reason"]) == (None, "error")
    assert printed["usage"]["failed_calls"] >= 1


# What another call may mend ends no run, and is not silent


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_server_error_of_a_sub_model_is_for_the_cell_and_stands_in_the_usage(form, model_server, chat, sandbox):
    model_server.script("root", lambda messages, asked: cell(CODE))
    model_server.script("sub", lambda messages, asked: Reply("oops", status=500))
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=LIMITS, sandbox=sandbox)
    result = ask(form, lambda: graph, {"query": "q", "context": "x"})
    assert (result["answer"], result["finish_reason"]) == ("confident", "submitted")
    assert (result["usage"]["failed_calls"], result["usage"]["calls"]) == (2, 0)


def test_the_command_says_that_calls_failed(model_server, tmp_path):
    model_server.script("root", lambda messages, asked: cell(CODE))
    model_server.script("sub", lambda messages, asked: Reply("oops", status=400))
    path = tmp_path / "a.txt"
    path.write_text("x")
    options = ["--model", "openai:root", "--sub-model", "openai:sub", "--base-url", model_server.url]
    result = CliRunner().invoke(app, ["ask", "q", str(path), *options, "--quiet"])
    assert (result.exit_code, result.stdout) == (0, "confident\n")
    assert "2 model calls failed" in result.stderr


def test_a_cell_does_not_see_the_address_of_a_model(model_server, chat, sandbox):
    model_server.script("root", lambda messages, asked: cell("SUBMIT(llm_query_batched(['x'])[0].message)"))
    model_server.script("sub", lambda messages, asked: Reply("oops", status=400))
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=LIMITS, sandbox=sandbox)
    answer = graph.invoke({"query": "q", "context": "x"})["answer"]
    assert "oops" in answer
    assert "127.0.0.1" not in answer


def test_a_server_that_went_away_in_the_middle_is_not_a_wrong_address(model_server, chat, sandbox):
    def sub(messages, asked):
        return "fine" if text_of(messages[-1]) == "first" else Reply(fault="drop")

    model_server.script("root", lambda messages, asked: cell("a = llm_query('first')\n" + CODE.replace("'x'", "a")))
    model_server.script("sub", sub)
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=LIMITS, sandbox=sandbox, parallel="off")
    result = graph.invoke({"query": "q", "context": "x"})
    assert result["answer"] == "confident"
    assert result["usage"]["failed_calls"] == 2


def test_a_permanent_failure_in_a_child_run_ends_the_whole_run(model_server, chat, sandbox):
    def root(messages, asked):
        inner = "INNER" in "\n".join(text_of(message) for message in messages)
        return cell("llm_query('x')" if inner else "SUBMIT(str(rlm_query('INNER question', context='c')))")

    model_server.script("root", root)
    model_server.script("sub", lambda messages, asked: FAULTS["401"].reply)
    limits = Limits(max_depth=2, max_retries=0, max_iterations=3)
    graph = create_rlm_graph(chat("root"), chat("sub"), limits=limits, sandbox=sandbox)
    with pytest.raises(ModelCallError) as error:
        graph.invoke({"query": "OUTER question", "context": "x"})
    assert (error.value.role, error.value.model, error.value.kind) == ("sub-LM", "sub", "auth")
    assert error.value.usage["root_calls"] == 1
    assert error.value.usage["calls"] == 1, "the child's turn"
