"""The example notebooks in a Jupyter kernel, and the deep agent, which the locked environment has not."""

import json
import runpy
import sys

import pytest

from tests.server import Reply, ToolCall, cell, text_of, turn_of
from tests.test_examples_alone import BOOK, EXAMPLES, LABEL, RUNS, first_bar_is_taller, kinds_of

pytestmark = pytest.mark.notebook

BEES = "hits = context.split('bee')\nSUBMIT(len(hits) - 1)"
PLAYED = {
    "a_book": ([BEES, BEES], None, [f"{len(BOOK):,}", f"{BOOK.count('bee')}\\n", "SUBMIT", f"{BOOK.count('bee')}\\n"]),
    "tickets": ([LABEL], lambda messages: kinds_of(text_of(messages[-1])), ["submitted", "off by 0 of 300 tickets"]),
    "pictures": (RUNS["images.py"][0], first_bar_is_taller, ["image/png", "Lisbon", "rises"]),
    "stop_and_go_on": (
        ["SUBMIT(context.count('pigeon'))", "SUBMIT(len(context.split()))"],
        None,
        [
            "context.count('pigeon')",
            str(BOOK.count("pigeon")),
            str(BOOK.count("bee")),
            str(len(BOOK.split())),
            "text/html",
        ],
    ),
}
"""By notebook: the cells that the root LM writes, what the sub-LM answers, and what stands in the outputs, in order."""


def played(codes, sub):
    def play(messages, request):
        if "```repl" not in text_of(messages[0]):
            return sub(messages)
        asked = sum(text_of(one).count("Question:") for one in messages if one["role"] == "user") - 1
        return cell(codes[min(max(asked, turn_of(messages)), len(codes) - 1)])

    return play


@pytest.mark.parametrize("name", PLAYED)
def test_the_notebook_runs_from_top_to_bottom(name, model_server, monkeypatch, tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    codes, sub, expected = PLAYED[name]
    model_server.script("gpt-5-mini", played(codes, sub))
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.delenv("RLM_MODEL", raising=False)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for needed in ("data", "sample_data.py"):
        (tmp_path / needed).symlink_to(EXAMPLES / needed)
    notebook = nbformat.read(EXAMPLES / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    seen = json.dumps([one.get("outputs") for one in notebook.cells])
    for part in expected:
        _, found, seen = seen.partition(part)
        assert found, f"{part} in {seen[:3_000]}"


def test_a_deep_agent_gets_from_its_reader_what_stands_in_a_book(model_server, monkeypatch, capsys):
    pytest.importorskip("deepagents")

    def play(messages, request):
        if "```repl" in text_of(messages[0]):
            return cell(
                "import re\nSUBMIT(re.findall('slave-making', context)[0] + f' in {len(context):,} characters')"
            )
        if messages[-1]["role"] == "tool":
            return f"The reader found: {text_of(messages[-1])}"
        task = {"description": "What is said about ants?", "subagent_type": "reader"}
        return Reply(tool_calls=(ToolCall("task", task),))

    model_server.script("gpt-5-mini", play)
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.delenv("RLM_MODEL", raising=False)
    monkeypatch.setattr(sys, "argv", ["deep_agent.py"])
    runpy.run_path(str(EXAMPLES / "deep_agent.py"), run_name="__main__")
    assert f"ai: The reader found: slave-making in {len(BOOK):,} characters" in capsys.readouterr().out
    assert max(len(record.prompt) for record in model_server.requests) < 30_000
