"""Each Python block of docs/langgraph.md and docs/approval.md runs in an empty file, against the test server."""

import re

import pytest

from tests.server import by_question, cell
from tests.test_readme import FIND, ROOT

COUNTING = {"Count the words": [cell("words = context.split()\nSUBMIT(len(words))")]}
PAGES = {
    "langgraph": {
        "Who finds the key": [cell(FIND)],
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
def world(openai_address, model_server, tmp_path):
    """The environment that the pages suppose: a key, models, a book in the working directory."""
    (tmp_path / "book.txt").write_text("Anna finds the key under the lighthouse.\n" * 5_000)
    model_server.script("gpt-5-mini", by_question({"Count the words": [cell("SUBMIT(len(context.split()))")]}))
    return model_server


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_page_runs_and_prints_what_it_says(world, capsys, page):
    world.script("gpt-5", by_question(PAGES[page]))
    text = (ROOT / "docs" / f"{page}.md").read_text()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1):
        exec(compile(block, f"docs/{page}.md block {number}", "exec"), {"__name__": "page"})
        printed = capsys.readouterr().out.splitlines()
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        for given, wanted in zip(printed, said, strict=False):
            assert given.replace("'", '"') == wanted.replace("'", '"'), block
        assert len(printed) >= len(said), block
