"""A ChatRLM over models of the test server."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import ChatRLM, Sandbox


@pytest.fixture
def rlm(chat: Callable[..., ChatOpenAI], sandbox: Sandbox) -> Callable[..., ChatRLM]:
    """A ChatRLM whose root LM is the server's model ``root``."""

    def make(**options: Any) -> ChatRLM:
        return ChatRLM(**{"model": chat("root"), "sandbox": sandbox, **options})

    return make
