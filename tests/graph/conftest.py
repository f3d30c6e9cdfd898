"""A root and a sub-LM on the test server, and a way to run a graph in either form."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import Sandbox
from tests.server import ModelServer

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all graphs: its zygote starts once."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def chat(model_server: ModelServer) -> Callable[..., ChatOpenAI]:
    """A chat model of the test server by name, without the client's own retries."""

    def make(name: str, **options: Any) -> ChatOpenAI:
        return ChatOpenAI(model=name, base_url=model_server.url, api_key="test", max_retries=0, **options)

    return make


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a graph to its end, once by ``invoke`` and once by ``ainvoke``.

    All calls of a test share one event loop, as the connections of their HTTP client do.
    """
    if request.param == "sync":
        yield lambda graph, given, *args, **kwargs: graph.invoke(given, *args, **kwargs)
        return
    with asyncio.Runner() as runner:
        yield lambda graph, given, *args, **kwargs: runner.run(graph.ainvoke(given, *args, **kwargs))
