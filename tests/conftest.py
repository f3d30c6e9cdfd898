"""Fixtures for all tests."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_adapters import Sandbox
from tests.postgres import find_program, postgres_server
from tests.server import ModelServer

# Else LiteLLM fetches prices in a thread, and warns at any moment, in the log of any test, that there is no network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes are named by their length: archives have the time in them, and each process makes them anew."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A model server of its own for the test: give it scripts, point clients at ``model_server.url``."""
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all runs: its zygote starts once."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def chat(model_server: ModelServer) -> Callable[..., Any]:
    """A chat model of the test server by name, without the client's own retries."""
    from langchain_openai import ChatOpenAI  # slow to import

    def make(name: str, **options: Any) -> ChatOpenAI:
        return ChatOpenAI(model=name, base_url=model_server.url, api_key="test", max_retries=0, **options)

    return make


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server for all tests that need one."""
    if find_program("postgres") is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres_server() as url:
        yield url


@pytest.fixture
def location(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty database for the saver of a ``kind``, which the test's module parametrizes."""
    if "sqlite" in kind:
        return str(tmp_path / "saved.db")
    import psycopg

    url, name = request.getfixturevalue("postgres_url"), f"t{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(url.replace("/postgres?", f"/{name}?"))


@pytest.fixture
def openai_address(monkeypatch: pytest.MonkeyPatch, model_server: ModelServer, tmp_path: Path) -> ModelServer:
    """The environment that pages of the documentation suppose: a key, a server, an empty working directory."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.setenv("OPENAI_API_BASE", model_server.url)
    monkeypatch.chdir(tmp_path)
    return model_server
