"""A ChatRLM over models of the test server."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import ChatRLM, Sandbox
from tests.server import ModelServer


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all models: its zygote starts once."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def chat(model_server: ModelServer) -> Callable[..., ChatOpenAI]:
    """A chat model of the test server by name, without the client's own retries."""

    def make(name: str, **options: Any) -> ChatOpenAI:
        return ChatOpenAI(model=name, base_url=model_server.url, api_key="test", max_retries=0, **options)

    return make


@pytest.fixture
def rlm(chat: Callable[..., ChatOpenAI], sandbox: Sandbox) -> Callable[..., ChatRLM]:
    """A ChatRLM whose root LM is the server's model ``root``."""

    def make(**options: Any) -> ChatRLM:
        return ChatRLM(**{"model": chat("root"), "sandbox": sandbox, **options})

    return make
