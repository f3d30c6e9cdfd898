"""Every Python block of docs/langgraph.md and docs/approval.md runs, one after the other, against the test server."""

import re

import pytest

from tests.server import by_question, cell
from tests.test_readme import ROOT

COUNTING = {"Count the words": [cell("words = context.split()\nSUBMIT(len(words))")]}
PAGES = {
    "langgraph": {
        "Which is the longest": [cell("SUBMIT(max(words, key=len))")],
        "Which document is longest": [cell("SUBMIT(max(context, key=len))")],
        "How long is it": [cell("SUBMIT(len(context))")],
    }
    | COUNTING
    | {"What does page 3 say": [cell("text = page(3)\nnote('read page 3')\nSUBMIT(text)")]},
    "approval": {
        "Count the words": [
            cell("words = context.split()\nif len(words) > 9: llm_query('which?')\nSUBMIT(len(words))")
        ],
        "Pay 500": [cell("try:\n    pay(500)\nexcept ToolError as error:\n    SUBMIT(str(error))")],
    },
}
"""By page: what the root LM writes for each question of it."""


@pytest.fixture
def world(openai_address, model_server):
    """The environment that the pages suppose: a key and models."""
    model_server.script("gpt-5-mini", by_question({"Count the words": [cell("SUBMIT(len(context.split()))")]}))
    return model_server


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs_and_prints_what_it_says(world, capsys, page):
    world.script("gpt-5", by_question(PAGES[page]))
    names = {"__name__": "page"}
    text = (ROOT / "docs" / f"{page}.md").read_text()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1):
        exec(compile(block, f"docs/{page}.md block {number}", "exec"), names)
        printed = capsys.readouterr().out.splitlines()
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        for given, wanted in zip(printed, said, strict=False):
            assert given.replace("'", '"') == wanted.replace("'", '"'), block
        assert len(printed) >= len(said), block
