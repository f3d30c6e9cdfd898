"""graphs/ as LangGraph's server takes them: through langgraph.json."""

import importlib.util
import json
from pathlib import Path

import pytest

from graphs import rlm
from tests.server import cell

ROOT = Path(__file__).parent.parent


async def load(name: str):
    """Import a graph by its entry in langgraph.json, as the server does, and make it."""
    path, _, attribute = json.loads((ROOT / "langgraph.json").read_text())["graphs"][name].partition(":")
    spec = importlib.util.spec_from_file_location(f"served_{name}", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return await getattr(module, attribute)()


@pytest.fixture
def environment(monkeypatch, model_server, tmp_path):
    monkeypatch.setattr("graphs.rlm._deployment", type(rlm._deployment)())
    monkeypatch.setenv("RLM_CONTENT_STORE", str(tmp_path / "content"))
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.setenv("RLM_MODEL", "openai:root")
    return model_server


async def test_the_served_graph_answers(environment):
    environment.script("root", [cell("print(len(context))"), cell("SUBMIT(context[:5])")])
    graph = await load("rlm")
    result = await graph.ainvoke({"query": "How does it begin?", "context": "Once upon a time"})
    assert result["answer"] == "Once "
    assert set(graph.get_input_jsonschema()["properties"]) == {"query", "context", "inputs", "files", "instructions"}


async def test_the_larger_graph_contains_the_rlm_as_a_node(environment):
    environment.script("root", [cell("SUBMIT(f'{len(context)} sources')")])
    result = await (await load("research")).ainvoke({"topic": "Owls", "sources": ["a", "b", "c"]})
    assert result["report"] == "# Owls\n\n3 sources"
    assert "cells" not in result
