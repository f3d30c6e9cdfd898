"""docs/seeing-a-run.md is true: each block runs in an empty file, beside the files that those before it wrote."""

import re
from pathlib import Path

import pytest

from rlm_adapters.cli.main import app
from rlm_adapters.traces.content import INLINE_CHARS
from rlm_adapters.views.page.page import MAX_PART
from tests.runner import CliRunner
from tests.server import cell
from tests.traces.runs import varied

TEXT = (Path(__file__).parent.parent / "docs" / "seeing-a-run.md").read_text()


@pytest.fixture
def world(openai_address, model_server, tmp_path):
    """The environment that the page supposes: a key, models, a book in the working directory."""
    (tmp_path / "book.txt").write_text("Anna finds the key under the lighthouse.\n" * 5_000)
    ask = "question = 'Who is it? ' + context[:2_000]\nSUBMIT(llm_query(question))"
    model_server.script("gpt-5", [cell("print(len(context))"), cell(ask)])
    model_server.script("gpt-5-mini", lambda messages, request: "Anna, anna@lighthouse.org")
    return tmp_path


def test_its_code_runs(world, capsys):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for block in blocks:
        exec(compile(block, "seeing-a-run.md", "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out
    assert "llm sub ok" in printed.replace("gpt-5-mini", "sub")
    assert "1 sub-calls" in printed
    assert "\nTrue None {'a': " in printed
    assert "[address]" in (world / "safe.jsonl").read_text()
    assert "anna@" not in (world / "safe.jsonl").read_text()
    assert "anna@" in (world / "run.jsonl").read_text()


def test_its_commands_run(model_server, chat, sandbox, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    varied(model_server, chat, sandbox, trace="run.jsonl")
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines():
        arguments = line.partition("#")[0].split()
        result = CliRunner().invoke(app, arguments[1:])
        assert (result.exit_code, result.stderr) == (0, "")
    assert "whale is known" in Path("run.jsonl.html").read_text()


def test_its_numbers_are_those_of_the_code():
    assert f"more than {INLINE_CHARS:,} characters" in TEXT
    assert f"more than {MAX_PART:,} characters" in TEXT
