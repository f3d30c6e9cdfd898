"""What newcomers give by mistake, at all three front doors: it works where the meaning is plain, else one line says so.

Each row of the table is a call and what comes of it: the answer, or the text of the error. No row may be a TypeError,
an AttributeError, or a message of several lines.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pandas as pd
import polars as pl
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from rlm_adapters import (
    RLM,
    ChatRLM,
    Limits,
    ModelCallError,
    Sandbox,
    context_block,
    create_rlm_graph,
)
from tests.server import Reply, cell

warnings.filterwarnings("ignore", category=UserWarning)


@dataclass
class World:
    """What the rows work with."""

    url: str
    sandbox: Sandbox

    def chat(self, name="count"):
        return ChatOpenAI(model=name, base_url=self.url, api_key="test", max_retries=0)

    @property
    def lm(self):
        return dspy.LM("openai/count", api_base=self.url, api_key="test", cache=False, num_retries=0)

    def graph(self, **options):
        return create_rlm_graph(options.pop("model", self.chat()), self.chat("sub"), sandbox=self.sandbox, **options)

    def ask(self, context=None, *, given=None, **options):
        """The answer of a graph: the model submits ``len(context)``, -1 where there is none."""
        given = {"query": "q", "context": context} if given is None else given
        return self.graph(**options).invoke(given)["answer"]

    def chat_rlm(self, **options):
        return ChatRLM(**{"model": self.chat(), "sub_model": self.chat("sub"), "sandbox": self.sandbox, **options})

    def rlm(self, signature="context, query -> answer", lm=None, /, *args, given=None, **options):
        with dspy.context(lm=self.lm if lm is None else lm):
            rlm = RLM(signature, sandbox=self.sandbox, **options)
            return rlm(*args, **({"context": "abc", "query": "q"} if given is None else given))


@pytest.fixture
def world(model_server, sandbox, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    model_server.script("count", lambda messages, request: cell("SUBMIT(len(context) if context is not None else -1)"))
    model_server.script("none", lambda messages, request: cell("SUBMIT('context' in SHOW_VARS())"))
    model_server.script("sub", lambda messages, request: "short")
    model_server.script(
        "m401", lambda messages, request: Reply("Incorrect API key: sk-x", status=401, error_code="invalid_api_key")
    )
    model_server.script("prose", lambda messages, request: "The capital is Paris.")
    return World(model_server.url, sandbox)


def named(name, parameter="x"):
    """A function with a name of our choice."""

    def function(x: str) -> str:
        return x

    function.__name__ = name
    return function


@tool
def langchain_tool(x: str) -> str:
    """A tool."""
    return x


async def coroutine(x: str) -> str:
    return x


def raises(event):
    raise ValueError("boom in my handler")


WORKS = {
    # create_rlm_graph: models, tools, limits
    "graph_string_model": (lambda w: create_rlm_graph("openai:count").invoke(QA)["answer"], 3),
    "graph_string_models": (lambda w: w.ask("abc", models={"other": "openai:sub"}), 3),
    "limits_dict": (lambda w: w.ask("abc", limits={"max_iterations": 3}), 3),
    "limits_none": (lambda w: w.ask("abc", limits=None), 3),
    "output_type_str": (lambda w: w.ask("abc", output_type="int"), 3),
    "output_type_list": (lambda w: w.ask("abc", output_type="list[int]", limits={"max_repairs": 0}), None),
    "tool_notlist": (lambda w: w.ask("abc", tools=named("f")), 3),
    "tool_single": (lambda w: w.ask("abc", tools=langchain_tool), 3),
    "tool_none_at_all": (lambda w: w.ask("abc", tools=None), 3),
    "tool_coroutine_sync": (lambda w: w.ask("abc", tools=[coroutine]), 3),
    "tool_nodoc": (lambda w: w.ask("abc", tools=[named("f")]), 3),
    "on_event_raises": (lambda w: w.ask("abc", on_event=raises), 3),
    # contexts
    "graph_no_context": (lambda w: w.ask(given={"query": "q"}, model=w.chat("none")), False),
    "graph_none_context": (lambda w: w.ask(None, model=w.chat("none")), False),
    "graph_empty_context": (lambda w: w.ask(""), 0),
    "graph_empty_list": (lambda w: w.ask([]), 0),
    "graph_empty_dict": (lambda w: w.ask({}), 0),
    "graph_set_context": (lambda w: w.ask({1, 2, 3}), 3),
    "graph_range_context": (lambda w: w.ask(range(4)), 4),
    "graph_path_context": (lambda w: w.ask(w.file), 8),
    "graph_empty_file": (lambda w: w.ask(w.empty), 0),
    "graph_str_path": (lambda w: w.ask("report.pdf"), 10),
    "graph_dataframe_context": (lambda w: w.ask(pd.DataFrame({"a": [1, 2]})), 2),
    "graph_polars_context": (lambda w: w.ask(pl.DataFrame({"a": [1, 2]})), 2),
    "graph_numpy_context": (lambda w: w.ask(np.array([1, 2, 3])), 3),
    "graph_nan_context": (lambda w: w.ask([float("nan")]), 1),
    "graph_intkeys": (lambda w: w.ask({1: "a", 2: "b"}), 2),
    "graph_message_context": (lambda w: w.ask([HumanMessage("hi"), AIMessage("yes")]), 2),
    # ChatRLM
    "chat_limits_dict": (
        lambda w: w.chat_rlm(limits={"max_iterations": 3}, tools=None).invoke("hi", context="abc").text,
        "3",
    ),
    # A model that cannot write cells: its plain answer is better than none, and labelled.
    "chat_prose": (
        lambda w: w.chat_rlm(model=w.chat("prose"), direct_below=0).invoke("hi").text,
        "The capital is Paris.",
    ),
    "chat_positional": (lambda w: ChatRLM("openai:count", sandbox=w.sandbox).invoke("hi", context="abc").text, "3"),
    "chat_two_positional": (lambda w: ChatRLM("openai:count", "openai:sub").sub_model.model_name, "sub"),
    "chat_api_key_only": (lambda w: ChatRLM("openai:gpt-5").model_name, "rlm:gpt-5"),
    "chat_named_models": (lambda w: w.chat_rlm(models={"x": "openai:sub"}).models["x"].model_name, "sub"),
    "chat_onlysystem": (lambda w: w.chat_rlm().invoke([SystemMessage("be good")], context="abc").text, "3"),
    "chat_empty_context": (lambda w: w.chat_rlm().invoke("hi", context="").text, "0"),
    "chat_dataframe": (lambda w: w.chat_rlm().invoke("hi", context=pd.DataFrame({"a": [1, 2]})).text, "2"),
    "chat_bind_one_tool": (lambda w: w.chat_rlm().bind_tools(langchain_tool).invoke("hi", context="abc").text, "3"),
    # RLM: the scripted model never answers in DSPy's fields, so a run ends labelled
    "rlm_sub_lm_string": (lambda w: w.rlm(sub_lm="openai/gpt-5").rlm["finish_reason"], "error"),
    "rlm_sub_lm_chatopenai": (lambda w: w.rlm(sub_lm=w.chat("sub")).rlm["finish_reason"], "error"),
    "rlm_none_input": (lambda w: w.rlm(given={"context": None, "query": "q"}).answer, None),
    "rlm_dataframe": (lambda w: w.rlm(given={"context": pd.DataFrame({"a": [1]}), "query": "q"}).answer, None),
    "rlm_unknown_kw": (lambda w: RLM("context, query -> answer", max_iters=5).max_iters, 5),
    "rlm_limits_dict": (lambda w: w.rlm(limits={"max_calls": 1}).rlm["finish_reason"], "error"),
    "rlm_tool_single": (lambda w: list(RLM("context -> answer", tools=named("f")).tools), ["f"]),
    "rlm_langchain_tool": (lambda w: list(RLM("context -> answer", tools=[langchain_tool]).tools), ["langchain_tool"]),
}

QA = {"query": "q", "context": "abc"}

REFUSED = {
    "graph_none_model": (lambda w: create_rlm_graph(None), "model=None: give a LangChain chat model"),
    "graph_class_model": (lambda w: create_rlm_graph(ChatOpenAI), "give a LangChain chat model"),
    "graph_no_model": (lambda w: create_rlm_graph(), "missing a required argument: 'model'"),
    "graph_dspy_lm": (lambda w: create_rlm_graph(w.lm), r"model=LM\('openai/count'\) is a DSPy LM: give ChatDSPy"),
    "graph_typo_model": (lambda w: create_rlm_graph("gpt5mini"), "its provider is unknown: give provider:name"),
    "graph_no_query": (lambda w: w.ask(given={"context": "abc"}), "query=None: give the question"),
    "graph_none_query": (lambda w: w.ask(given={"query": None, "context": "abc"}), "query=None: give the question"),
    "graph_empty_query": (lambda w: w.ask(given={"query": "  ", "context": "abc"}), "query='  ': give the question"),
    "graph_query_int": (lambda w: w.ask(given={"query": 5, "context": "abc"}), "query=5: give the question"),
    "graph_typo_key": (lambda w: w.ask(given={"question": "q", "contxt": "abc"}), "further keys are 'question'"),
    "graph_unknown_key": (lambda w: w.ask(given={"query": "q", "document": "x"}), r"inputs=\{'document': \.\.\.\}"),
    "graph_str_input": (lambda w: w.ask(given="what is it"), "or a pydantic model or dataclass, not str"),
    "graph_messages_input": (lambda w: w.ask(given={"messages": [HumanMessage("hi")]}), "or to ChatRLM"),
    "graph_object_context": (lambda w: w.ask(object()), "input 'context': .* of type object"),
    "graph_generator": (lambda w: w.ask(x for x in "abc"), "input 'context': a generator .* give list"),
    "graph_lazyframe": (lambda w: w.ask(pl.DataFrame({"a": [1]}).lazy()), r"give frame\.collect\(\)"),
    "graph_no_file": (lambda w: w.ask(Path("nosuch.txt")), "nosuch.txt: no such file"),
    "limits_bad": (lambda w: Limits(max_iterations=-1), "max_iterations=-1 is too small"),
    "limits_str": (lambda w: Limits(max_iterations="10"), "max_iterations='10': give an integer"),
    "limits_unknown": (lambda w: Limits(max_iters=3), r"no argument max_iters=3: did you mean max_iterations\?"),
    "limits_positional": (lambda w: Limits(3), r"Limits\(\): too many positional arguments"),
    "limits_number": (lambda w: w.graph(limits=3), r"limits=3: give Limits\(max_iterations"),
    "limits_dict_unknown": (lambda w: w.graph(limits={"max_iters": 3}), "did you mean max_iterations"),
    "limits_max_cost_no_price": (lambda w: w.graph(limits=Limits(max_cost=1.0)), "price of .*'count' is unknown"),
    "output_type_code": (lambda w: w.graph(output_type="__import__('os').getcwd()"), "output_type=.* is not known"),
    "output_type_instance": (lambda w: w.graph(output_type=[1, 2]), r"output_type=\[1, 2\] cannot be validated"),
    "output_type_module": (lambda w: w.graph(output_type=json), "cannot be validated"),
    "output_type_function": (lambda w: w.graph(output_type=lambda x: x), "is a function: give the type"),
    "tool_clash_llm_query": (lambda w: w.graph(tools=[named("llm_query")]), "'llm_query' is a name that the REPL"),
    "tool_clash_context": (lambda w: w.ask("abc", tools=[named("context")]), "'context' has the name of a tool"),
    "tool_clash_builtin": (lambda w: w.graph(tools=[named("print")]), "'print' is a name that the REPL"),
    "tool_duplicate": (lambda w: w.graph(tools=[named("f"), named("f")]), "two tools are called 'f'"),
    "tool_lambda": (lambda w: w.graph(tools=[lambda x: x]), "a lambda has no name"),
    "tool_string": (lambda w: w.graph(tools=["search"]), "tool 'search': give a LangChain tool or a function"),
    "tools_string": (lambda w: w.graph(tools="search"), "tools='search': give a list"),
    "tool_none": (lambda w: w.graph(tools=[None]), "tool None: give a LangChain tool or a function"),
    "tool_coroutine_object": (lambda w: w.graph(tools=[w.awaited]), "tool <coroutine object"),
    "kw_unknown": (lambda w: w.graph(max_iterations=5), r"give limits=Limits\(max_iterations=5\)"),
    "kw_misspelt": (lambda w: w.graph(instruction="x"), "did you mean instructions"),
    "sandbox_unknown": (lambda w: create_rlm_graph(w.chat(), sandbox="docker"), "sandbox='docker' is unknown"),
    "parallel_unknown": (lambda w: w.graph(parallel=True), "parallel=True is unknown"),
    "prompt_missing": (lambda w: w.graph(prompt="nosuch.json"), "prompt file 'nosuch.json': No such file"),
    "prompt_text": (lambda w: w.graph(prompt="You are a pirate."), r"use instructions=\.\.\."),
    "prices_bad": (lambda w: w.graph(prices={"count": 5}), r"prices\['count'\]=5: give a pair"),
    "prices_list": (lambda w: w.graph(prices=[1, 2]), r"prices=\[1, 2\]: give a dict"),
    "on_event_notcallable": (lambda w: w.graph(on_event="print"), "on_event='print': give a function"),
    # ChatRLM
    "chat_noarg": (lambda w: ChatRLM(), "needs a model"),
    "chat_unknown_model": (lambda w: ChatRLM(model="foo:bar"), "model 'foo:bar' cannot be used: its provider"),
    "chat_typo_model": (lambda w: ChatRLM(model="gpt5mini"), "model 'gpt5mini' cannot be used: its provider"),
    "chat_dspylm": (lambda w: ChatRLM(model=w.lm), "is a DSPy LM"),
    "chat_three_models": (lambda w: ChatRLM("openai:a", "openai:b", "openai:c"), r"others as models=\{\.\.\.\}"),
    "chat_unknown_kw": (lambda w: w.chat_rlm(max_iterations=4), r"give limits=Limits\(max_iterations=4\)"),
    "chat_misspelt": (lambda w: w.chat_rlm(toolmode="repl"), "did you mean tool_mode"),
    "chat_tool_mode": (lambda w: w.chat_rlm(tool_mode="foo"), "tool_mode='foo': input should be 'caller' or 'repl'"),
    "chat_wrong_types": (
        lambda w: w.chat_rlm(direct_below="x", max_suspended=0),
        "direct_below='x': .*; max_suspended",
    ),
    "chat_empty": (lambda w: w.chat_rlm().invoke(""), "has no text: ask a question"),
    "chat_nomessages": (lambda w: w.chat_rlm().invoke([]), "no messages"),
    "chat_none": (lambda w: w.chat_rlm().invoke(None), "Must be a PromptValue, str, or list"),
    "chat_context_block_bad": (
        lambda w: w.chat_rlm().invoke([HumanMessage([context_block(object()), {"type": "text", "text": "q"}])]),
        "of type object",
    ),
    "chat_bind_tools_bad": (lambda w: w.chat_rlm().bind_tools(["x"]), "tool 'x': give a LangChain tool"),
    "chat_structured_bad": (
        lambda w: w.chat_rlm().with_structured_output(int),
        "schema <class 'int'>: give a pydantic",
    ),
    "chat_401": (lambda w: w.chat_rlm(model=w.chat("m401")).invoke("hi"), "Incorrect API key"),
    # RLM
    "rlm_no_lm": (lambda w: RLM("context, query -> answer")(context="abc", query="q"), "No LM is loaded"),
    "rlm_lm_string": (lambda w: RLM("context -> answer", sub_lm="openai/gpt-5")(context="abc"), "No LM is loaded"),
    "rlm_bad_sig": (lambda w: RLM("context query answer"), "must contain exactly one '->'"),
    "rlm_none_sig": (lambda w: RLM(None), "signature=None: give 'context, query -> answer'"),
    "rlm_no_sig": (lambda w: RLM(), "missing a required argument: 'signature'"),
    "rlm_chatopenai": (lambda w: w.rlm("context, query -> answer", w.chat()), "lm_from_chat_model"),
    "rlm_lm_str_context": (lambda w: w.rlm("context, query -> answer", "openai/count"), r"dspy\.LM\("),
    "rlm_sub_lm_number": (lambda w: RLM("context -> answer", sub_lm=5), r"sub_lm=5: give a dspy\.LM"),
    "rlm_missing_input": (lambda w: w.rlm(given={"context": "abc"}), r"Missing required inputs: \['query'\]"),
    "rlm_extra_input": (lambda w: w.rlm(given={"context": "", "query": "", "foo": 1}), r"declared .*: \['foo'\]"),
    "rlm_positional": (lambda w: RLM("context, query -> answer")("abc", "q"), r"by name: rlm\(context=\.\.\., query"),
    "rlm_one_positional": (lambda w: RLM("context -> answer")("abc"), "give inputs by name"),
    "rlm_object_input": (lambda w: w.rlm(given={"context": object(), "query": "q"}), "'context' of type object"),
    "rlm_bad_iter": (lambda w: RLM("context -> answer", max_iterations=0), "give max_iters=0"),
    "rlm_no_iter": (lambda w: RLM("context -> answer", max_iters=0), "max_iterations=0 is too small"),
    "rlm_misspelt": (lambda w: RLM("context -> answer", sublm=None), "did you mean sub_lm"),
    "rlm_limit": (lambda w: RLM("context -> answer", max_tokens=5), r"give limits=Limits\(max_tokens=5\)"),
    "rlm_tool_clash": (lambda w: RLM("context -> answer", tools=[named("llm_query")]), "'llm_query' conflicts"),
    "rlm_tool_string": (lambda w: RLM("context -> answer", tools=["x"]), "tool 'x': give a function"),
    "rlm_parallel": (lambda w: RLM("context -> answer", parallel="yes"), "parallel='yes' is unknown"),
    "rlm_on_event": (lambda w: RLM("context -> answer", on_event=3), "on_event=3: give a function"),
    "rlm_output_reserved": (lambda w: RLM("context, print -> answer"), r"conflict .*\['print'\]"),
}


@pytest.mark.parametrize("name", WORKS)
def test_what_is_plain_works(name, world, tmp_path):
    call, expected = WORKS[name]
    world.file, world.empty = tmp_path / "a.txt", tmp_path / "empty.txt"
    world.file.write_text("hello a\n")
    world.empty.touch()
    assert call(world) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_is_refused_in_one_line(name, world, request):
    call, text = REFUSED[name]
    world.awaited = coroutine("a")
    request.addfinalizer(world.awaited.close)
    with dspy.context(lm=None), pytest.raises(MODELS_FAULT.get(name, ValueError), match=text) as caught:
        call(world)
    assert not isinstance(caught.value, TypeError | AttributeError)
    assert "\n" not in str(caught.value).strip()


MODELS_FAULT = {"chat_401": ModelCallError}
"""The rows in which the model fails, not the caller."""


def test_a_listener_that_raises_is_told_once_and_in_one_line(world, caplog):
    with caplog.at_level(logging.WARNING, "rlm_adapters"):
        assert world.ask("abc", on_event=raises) == 3
    (record,) = caplog.records
    assert "boom in my handler" in record.getMessage()
    assert "test_misuse.py" in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("text", ["/etc/passwd", "report.pdf", "./notes", "C:\\x\\y.docx", "https://example.org/a"])
def test_a_text_that_looks_like_a_path_is_text_with_a_hint(world, caplog, text):
    with caplog.at_level(logging.WARNING, "rlm_adapters"):
        assert world.ask(text) == len(text)
    assert f"context={text!r} is taken as text: to read" in caplog.text


@pytest.mark.parametrize("text", ["Call me Ishmael.", "see report.pdf for more", "a/b", "", "1.5", "# x.py\n1"])
def test_a_text_that_does_not_gets_none(world, caplog, text):
    with caplog.at_level(logging.WARNING, "rlm_adapters"):
        assert world.ask(text) == len(text)
    assert caplog.text == ""


def test_a_state_with_further_keys_is_no_mistake_inside_another_graph(world):
    from langgraph.graph import START, StateGraph
    from typing_extensions import TypedDict

    class State(TypedDict, total=False):
        query: str
        context: Any
        answer: Any
        notes: str

    builder = StateGraph(State)
    builder.add_node("rlm", world.graph())
    builder.add_edge(START, "rlm")
    assert builder.compile().invoke({"query": "q", "context": "abcd", "notes": "mine"})["answer"] == 4
