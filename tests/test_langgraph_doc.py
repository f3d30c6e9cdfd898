"""Every Python block of docs/langgraph.md runs, one after the other, against the test server."""

import re

import pytest

from tests.server import by_question, cell
from tests.test_readme import ROOT

PAGE = (ROOT / "docs" / "langgraph.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def world(monkeypatch, model_server, tmp_path):
    """The environment that the page supposes: a key and models."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.chdir(tmp_path)
    root = by_question({
        "Count the words": [cell("words = context.split()\nSUBMIT(len(words))")],
        "Which document is longest": [cell("SUBMIT(max(context, key=len))")],
        "How long is it": [cell("SUBMIT(len(context))")],
        "What does page 3 say": [cell("text = page(3)\nnote('read page 3')\nSUBMIT(text)")],
    })  # fmt: skip
    model_server.script("gpt-5", root)
    model_server.script("gpt-5-mini", by_question({"Count the words": [cell("SUBMIT(len(context.split()))")]}))
    return model_server


def test_the_code_of_the_page_runs_and_prints_what_it_says(world, capsys):
    names = {"__name__": "page"}
    for number, block in enumerate(BLOCKS, 1):
        exec(compile(block, f"docs/langgraph.md block {number}", "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert [line.replace("'", '"') for line in printed[: len(said)]] == [line.replace("'", '"') for line in said], (
            block
        )
