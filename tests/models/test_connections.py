"""A second `asyncio.run` pays for no call twice: connections of the first loop are dropped, not tried."""

import asyncio
from types import SimpleNamespace

import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import ChatRLM, create_rlm_graph
from rlm_adapters.models.connections import drop_stale_connections
from tests.server import cell

BATCH = "print(len(llm_query_batched([str(i) for i in range(12)])))"


@pytest.fixture
def models(model_server):
    model_server.script("root", lambda messages, _: cell("SUBMIT('x')" if len(messages) > 3 else BATCH))
    model_server.script("sub", lambda messages, _: "a")
    # A pool of its own: LangChain shares one between all models of an address and a time-out.
    return [
        ChatOpenAI(model=name, base_url=model_server.url, api_key="k", max_retries=0, timeout=41.5 + number)
        for number, name in enumerate(("root", "sub"))
    ]


def test_a_graph_in_several_event_loops_asks_each_call_once(models, model_server, sandbox):
    graph = create_rlm_graph(*models, sandbox=sandbox)
    for run in range(1, 4):
        result = asyncio.run(graph.ainvoke({"query": "q", "context": "c"}))
        assert (result["usage"]["calls"], result["usage"]["failed_calls"]) == (12, 0)
        assert len(model_server.requests) == run * 14


@pytest.mark.parametrize("form", ["ainvoke", "astream"])
def test_direct_answers_in_several_event_loops_are_asked_once(models, model_server, sandbox, form):
    model = ChatRLM(model=models[1], sandbox=sandbox)

    async def ask():
        if form == "ainvoke":
            await asyncio.gather(*(model.ainvoke("hello") for _ in range(5)))
        else:
            assert [one.content async for one in model.astream("hello")]

    for _ in range(3):
        asyncio.run(ask())
    assert len(model_server.requests) == 3 * (5 if form == "ainvoke" else 1)


def test_connections_of_this_loop_and_those_in_use_stay(models, model_server):
    async def twice():
        await asyncio.gather(*(models[1].ainvoke("q") for _ in range(4)))
        return drop_stale_connections(models[1])

    assert asyncio.run(twice()) == 0
    assert drop_stale_connections(models[1]) == 4
    assert drop_stale_connections(models[1]) == 0


def test_proxies_and_tls_are_looked_through():
    def connection(*, closed, idle=True):
        loop = SimpleNamespace(call_soon=print, is_closed=lambda: closed)
        socket = SimpleNamespace(_transport=SimpleNamespace(_loop=loop))
        tls = SimpleNamespace(transport_stream=SimpleNamespace(transport_stream=socket))
        inner = SimpleNamespace(_network_stream=SimpleNamespace(_stream=tls))
        return SimpleNamespace(_connection=SimpleNamespace(_connection=inner), is_idle=lambda: idle)

    kept = [connection(closed=False), connection(closed=True, idle=False)]
    pool = SimpleNamespace(_connections=[connection(closed=True), *kept])
    mounted = SimpleNamespace(_connections=[connection(closed=True)])
    client = SimpleNamespace(
        _transport=SimpleNamespace(_pool=pool), _mounts={"https://": SimpleNamespace(_pool=mounted), "http://": None}
    )
    assert drop_stale_connections(SimpleNamespace(_async_client=SimpleNamespace(_client=client))) == 2
    assert pool._connections == kept


@pytest.mark.parametrize("strange", [None, 3, object(), SimpleNamespace(_client=SimpleNamespace(_transport=7))])
def test_what_has_no_pool_has_nothing_to_drop(strange):
    assert drop_stale_connections(strange) == 0
