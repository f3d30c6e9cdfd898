"""A ChatRLM over models of the test server."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters import ChatRLM, Sandbox


@pytest.fixture
def rlm(chat: Callable[..., ChatOpenAI], sandbox: Sandbox) -> Callable[..., ChatRLM]:
    """A ChatRLM whose root LM is the server's model ``root``; short questions are answered by a run as well."""

    def make(**options: Any) -> ChatRLM:
        return ChatRLM(**{"model": chat("root"), "sandbox": sandbox, "direct_below": 0, **options})

    return make
