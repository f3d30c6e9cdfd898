"""Consecutive requests to the root LM begin alike, byte for byte, so that a provider's prompt cache finds them."""

import itertools
import json

from rlm_adapters import Limits, create_rlm_graph
from tests.server import cell, text_of


def bodies(model_server):
    return [record.messages for record in model_server.requests_of("root")]


def test_each_request_is_the_one_before_and_more(model_server, chat, sandbox):
    """Over outputs, an error, a reply that had to be written again, and the last question when a limit ends the run."""
    replies = [cell("print(len(context))"), cell("print(1 / 0)"), "Let me think.", cell("x = 2\nprint(x)"), "It is 2."]
    model_server.script("root", [*replies, "2"])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, limits=Limits(max_iterations=5))
    graph.invoke({"query": "What is x?", "context": "long " * 1_000})
    asked = bodies(model_server)
    assert len(asked) >= 5
    for before, after in itertools.pairwise(asked):
        assert len(after) > len(before)
        assert json.dumps(after[: len(before)]) == json.dumps(before)
    assert [message["role"] for message in asked[0]] == ["system", "user"]


def test_runs_of_one_graph_share_the_system_prompt(model_server, chat, sandbox):
    """It holds no question, no date and no id."""
    model_server.script("root", lambda messages, request: cell("SUBMIT(1)"))
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    for query in ("one", "two"):
        graph.invoke({"query": query, "context": query * 500})
    first, second = bodies(model_server)
    assert first[0] == second[0]
    assert first[0]["role"] == "system"
    assert first[1] != second[1]


def test_the_cached_tokens_of_a_provider_are_told(model_server, chat, sandbox):
    from tests.server import Reply

    model_server.script("root", [cell("print(1)"), Reply(cell("SUBMIT(1)"), cached_tokens=640)])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    result = graph.invoke({"query": "q", "context": "x"})
    assert result["usage"]["cache_read_tokens"] == 640
    assert text_of(bodies(model_server)[1][-1]).endswith("Question: q")
