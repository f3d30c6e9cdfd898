"""What a caller sets for a run: ``context=`` of the graph itself, or of a graph around it."""

import json
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from rlm_adapters import InputError, Limits, RLMOptions, create_rlm_graph
from tests.server import cell

GIVEN = {"query": "q", "context": "abc"}


def told(server: Any, turn: int = 0) -> str:
    """Everything that the root LM was told."""
    return json.dumps(server.requests[turn].messages)


@pytest.fixture
def graph(model_server, chat, sandbox):
    """A graph that offers the models "fast" and "strong"; each says in its answer who wrote the cell."""

    def cell_of(name):
        return lambda messages, request: cell(f"SUBMIT('{name} ' + llm_query('hi'))")

    for name in ("root", "fast", "strong"):
        model_server.script(name, cell_of(name))
    model_server.script("sub", lambda messages, request: "from sub")
    offered = {"fast": chat("fast"), "strong": chat("strong")}
    return create_rlm_graph(chat("root"), chat("sub"), models=offered, sandbox=sandbox, instructions="Be brief.")


def test_a_model_is_chosen_by_a_name_that_the_graph_offers(graph, run, model_server):
    assert run(graph, GIVEN, context={"model": "fast"})["answer"] == "fast from sub"
    model_server.script("strong", lambda messages, request: "from strong")
    chosen = run(graph, GIVEN, context={"model": "fast", "sub_model": "strong"})
    assert chosen["answer"] == "fast from strong"
    assert set(chosen["usage"]["by_model"]) == {"fast", "strong"}
    assert run(graph, GIVEN)["answer"] == "root from sub", "the graph itself is as it was"


def test_without_a_sub_model_sub_calls_go_to_the_root_lm_that_was_chosen(model_server, chat, sandbox, run):
    def fast(messages, request):
        return "fast too" if messages[-1]["content"] == "hi" else cell("SUBMIT(llm_query('hi'))")

    model_server.script("fast", fast)
    graph = create_rlm_graph(chat("root"), models={"fast": chat("fast")}, sandbox=sandbox)
    assert run(graph, GIVEN, context={"model": "fast"})["answer"] == "fast too"


def test_limits_instructions_and_the_type_of_the_answer(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT('three')"), cell("SUBMIT(3)")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, instructions="Be brief.")
    options = {"limits": {"max_iterations": 2, "max_cost": None}, "instructions": "Be kind.", "output_type": "int"}
    result = run(graph, {**GIVEN, "instructions": "Be quick."}, context=options)
    assert (result["answer"], result["finish_reason"]) == (3, "submitted")
    assert "Be brief.\\nBe kind.\\nBe quick." in told(model_server)
    assert "At most 2 blocks" in told(model_server)
    assert "three" in told(model_server, 1)


def test_a_json_schema_is_the_type_of_the_answer(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT(1)"), cell("SUBMIT(pages=[1, 2])")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"pages": {"type": "array", "items": {"type": "integer"}}},
        "required": ["pages"],
    }
    assert run(graph, GIVEN, context={"output_type": schema})["answer"] == {"pages": [1, 2]}


def test_calls_are_made_one_after_the_other_when_the_caller_says_so(model_server, chat, sandbox, run):
    code = "found = []\nfor n in range(6):\n    found.append(llm_query(str(n)))\nSUBMIT(found)"
    model_server.script("root", lambda messages, request: cell(code))
    model_server.script("sub", lambda messages, request: messages[-1]["content"])
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    assert run(graph, GIVEN)["usage"]["ahead_calls"] > 0
    assert run(graph, GIVEN, context={"parallel": "off"})["usage"]["ahead_calls"] == 0


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"limit": {}}, "'limit' is no option of this graph: did you mean limits"),
        ({"max_calls": 3}, "give it as limits={'max_calls': 3}"),
        ({"tenant": "acme"}, "create_rlm_graph(context_schema=...)"),
        ({"limits": {"max_iteration": 3}}, "did you mean max_iterations"),
        (
            {"limits": {"max_iterations": 21}},
            "limits.max_iterations=21 is more than this graph allows: give at most 20",
        ),
        ({"limits": {"max_calls": 10**9}}, "give at most 500"),
        ({"limits": {"max_seconds": 61.0}}, "give at most 60"),
        ({"limits": {"call_timeout": float("inf")}}, "give at most 300"),
        ({"limits": {"max_iterations": "3"}}, "max_iterations='3': give an integer"),
        ({"limits": {"max_iterations": True}}, "max_iterations=True: give an integer"),
        ({"limits": {"max_iterations": float("nan")}}, "max_iterations=nan: give an integer"),
        ({"limits": {"max_iterations": 0}}, "give at least 1"),
        ({"limits": [3]}, "limits='[3]'"),
        ({"limits": {"max_cost": 1.0}}, "the price of model 'root' is unknown"),
        ({"model": "openai:gpt-5"}, "it offers 'fast', 'strong'"),
        ({"model": "__class__"}, "it offers 'fast', 'strong'"),
        ({"model": {"base_url": "http://evil"}}, "input should be a valid string"),
        ({"sub_model": "langchain_openai.ChatOpenAI"}, "sub_model='langchain_openai.ChatOpenAI' is not a model"),
        ({"instructions": ["x"]}, "input should be a valid string"),
        ({"parallel": "always"}, "input should be 'ahead', 'stream' or 'off'"),
        ({"output_type": "os.system"}, "output_type='os.system' is not known"),
        ({"output_type": "(" * 100_000}, "is not known"),
        ({"output_type": {"type": "text"}}, "output_type is not a valid JSON schema"),
        ({"output_type": {"$ref": "file:///etc/passwd"}}, "is outside of the schema"),
        ({"output_type": {"patternProperties": {"(a+)+$": {}}}}, "'patternProperties' is not supported here"),
        ({"output_type": {"enum": ["x" * 30_000]}}, "at most 20,000"),
        ("fast", "context='fast': give a dict with some of model, sub_model, limits"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_remedy(model_server, chat, sandbox, run, context, message):
    offered = {"fast": chat("fast"), "strong": chat("strong")}
    graph = create_rlm_graph(chat("root"), models=offered, sandbox=sandbox, limits=Limits(max_seconds=60))
    with pytest.raises(InputError) as caught:
        run(graph, GIVEN, context=context)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600
    assert not model_server.requests


def test_a_pattern_of_a_client_is_not_run_in_the_host(model_server, chat, sandbox, run):
    model_server.script("root", [cell("SUBMIT('a' * 60 + '!')")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    options = {"output_type": {"type": "string", "pattern": "^(a+)+$"}}
    assert run(graph, GIVEN, context=options)["answer"] == "a" * 60 + "!"


class State(TypedDict, total=False):
    query: str
    context: str
    answer: Any


def parent_of(rlm: Any, schema: Any = None) -> Any:
    builder = StateGraph(State, context_schema=schema)
    builder.add_node("rlm", rlm)
    builder.add_edge(START, "rlm")
    return builder.compile()


class Tenant(RLMOptions):
    """Keys of a parent beside ours."""

    tenant: str = ""


@dataclass
class Holder:
    """A parent's own context, with a part for the RLM."""

    tenant: str
    rlm: dict[str, Any] | None = None


@pytest.mark.parametrize(
    ("schema", "context"),
    [
        (RLMOptions, {"model": "fast"}),
        (Tenant, {"model": "fast", "tenant": "acme"}),
        (None, {"tenant": "acme", "rlm": {"model": "fast"}}),
        (Holder, {"tenant": "acme", "rlm": {"model": "fast"}}),
        (None, {"rlm": RLMOptions(model="fast")}),
    ],
)
def test_the_context_of_a_parent_sets_them(graph, run, schema, context):
    assert run(parent_of(graph, schema), GIVEN, context=context)["answer"] == "fast from sub"


@pytest.mark.parametrize(
    ("schema", "context"),
    [(None, {"model": "gpt-5", "limits": "none", "tenant": "acme"}), (Holder, {"tenant": "acme"}), (None, None)],
)
def test_a_context_of_the_parents_own_is_left_alone(graph, run, schema, context):
    assert run(parent_of(graph, schema), GIVEN, context=context)["answer"] == "root from sub"


def test_a_parent_is_told_what_is_wrong_with_the_part_for_the_rlm(graph, run):
    with pytest.raises(InputError, match=r"limits\.max_iterations=50 is more than this graph allows"):
        run(parent_of(graph), GIVEN, context={"rlm": {"limits": {"max_iterations": 50}}})


def test_a_node_that_calls_the_graph_gives_the_options_itself(graph):
    parent = parent_of(lambda state: {"answer": graph.invoke(GIVEN, context={"model": "fast"})["answer"]})
    assert parent.invoke(GIVEN, context={"rlm": {"model": "strong"}})["answer"] == "fast from sub"


def test_keys_of_a_hosts_own_reach_the_tools(model_server, chat, sandbox, run):
    from langchain.tools import ToolRuntime

    def whose(runtime: ToolRuntime[Tenant, Any]) -> str:
        """Whose data this is."""
        return runtime.context.tenant

    model_server.script("root", lambda messages, request: cell("SUBMIT(whose())"))
    graph = create_rlm_graph(chat("root"), tools=[whose], sandbox=sandbox, context_schema=Tenant)
    assert run(graph, GIVEN, context={"tenant": "acme"})["answer"] == "acme"
    assert "tenant" in graph.get_context_jsonschema()["properties"]
    with pytest.raises(InputError, match="give a subclass of RLMOptions"):
        create_rlm_graph(chat("root"), sandbox=sandbox, context_schema=Holder)


def test_the_schema_of_the_context_names_models_and_limits(model_server, chat, sandbox):
    offered = {"fast": chat("fast"), "strong": chat("strong")}
    limits = Limits(max_iterations=7, max_tokens=1_000, call_timeout=float("inf"))
    schema = create_rlm_graph(chat("root"), models=offered, sandbox=sandbox, limits=limits).get_context_jsonschema()
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema, allow_nan=False)
    assert set(schema["properties"]) == set(RLMOptions.model_fields)
    assert all(one["description"] for one in schema["properties"].values())
    check = jsonschema.Draft202012Validator(schema).is_valid
    assert check({"model": "fast", "limits": {"max_iterations": 7, "max_cost": None}, "output_type": "int"})
    assert check({})
    assert not check({"model": "other"})
    assert not check({"tenant": "acme"})
    assert not check({"limits": {"max_iterations": 8}})
    assert not check({"limits": {"max_tokens": 2_000}})
    assert not check({"limits": {"max_iteration": 1}})
    shown = schema["properties"]["limits"]["anyOf"][0]["properties"]
    assert set(shown) == set(Limits.__slots__)
    assert all(one["description"] for one in shown.values())


def test_a_graph_without_further_models_offers_none(chat, sandbox, model_server):
    schema = create_rlm_graph(chat("root"), sandbox=sandbox).get_context_jsonschema()
    assert "model" not in schema["properties"]


def test_the_schema_of_the_input_describes_each_key_and_its_type(chat, sandbox, model_server):
    schema = create_rlm_graph(chat("root"), sandbox=sandbox).get_input_jsonschema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {"query", "context", "inputs", "files", "instructions"}
    for key, one in schema["properties"].items():
        assert one["description"], key
        assert one.get("type") or one.get("anyOf"), key
    check = jsonschema.Draft202012Validator(schema).is_valid
    assert check({"query": "q", "context": "text", "inputs": {"rates": {"eur": 1.1}}, "files": {"a.txt": "text"}})
    assert check({"query": "q", "context": ["a", {"b": 1}]})
    assert not check({"context": "text"})
    assert not check({"query": "q", "files": {"a.txt": 5}})
