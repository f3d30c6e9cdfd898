"""Pages for people who use the package: each block runs pasted into an empty file, and the tables are complete.

Models are played by the test server. The address of a local server in a block becomes that of the test server; nothing
else is changed.
"""

import inspect
import re
import shlex
from dataclasses import fields
from typing import get_args

import pytest

from rlm_adapters import Limits, create_rlm_graph, errors
from rlm_adapters.cli.main import app
from rlm_adapters.cli.output import exit_code_of
from rlm_adapters.graph.state import FinishReason
from rlm_adapters.models import failures
from tests.runner import CliRunner
from tests.server import cell, question_text, turn_of
from tests.test_readme import FIND, ROOT

NAMES = (
    "index",
    "when-to-use",
    "models-and-costs",
    "limits-and-endings",
    "troubleshooting",
    "migrating",
    "glossary",
    "dspy",
    "langchain",
    "parallel",
    "testing",
)
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in NAMES}
LOCAL = re.compile(r"http://localhost:\d+/v1")
BLOCKS = [
    pytest.param(block, id=f"{name} {number}")
    for name, text in PAGES.items()
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL), 1)
]
COMMANDS = [
    pytest.param(block, id=f"{name} {number}")
    for name, text in PAGES.items()
    for number, block in enumerate(re.findall(r"```sh\n(.*?)```", text, re.DOTALL), 1)
    if "rlm ask" in block
]
TURNS = {
    "Which of them contradict": [cell("SUBMIT(f'{len(context)} documents do')")],
    "Who finds the key": [cell(FIND)],
    "Who is named": [cell("SUBMIT(['Anna'])")],
    "Which line is odd": [cell("print(len(context))"), cell("print(set(context.split()))"), "I saw 1000 equal lines"],
}
DSPY = {
    "Who finds the key": "SUBMIT(answer=context[:18])",
    "Which pages name": "SUBMIT(answer=document[:18], pages=[3])",
}


def root(messages, request):
    """A root LM that knows the questions of the pages, in the words of LangChain and of DSPy."""
    told = question_text(messages)
    if "[[ ## " in told:
        code = next(code for question, code in DSPY.items() if question in told)
        if "pages" not in told.partition("[[ ## completed")[0].split("output fields", 1)[-1]:
            code = code.replace(", pages=[3]", "")
        return f"[[ ## reasoning ## ]]\nSearch.\n\n[[ ## code ## ]]\n```python\n{code}\n```\n\n[[ ## completed ## ]]"
    return next(turns for question, turns in TURNS.items() if question in told)[turn_of(messages)]


@pytest.fixture
def world(openai_address, model_server, tmp_path):
    """The environment that the pages suppose: keys, models, a book in the working directory."""
    (tmp_path / "book.txt").write_text("Anna finds the key under the lighthouse.\n" * 5_000)
    for name in ("gpt-5", "qwen3:8b", "Qwen/Qwen3-Coder-30B-A3B-Instruct"):
        model_server.script(name, root)
    model_server.script("gpt-5-mini", lambda messages, request: "yes")
    return model_server


@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_of_the_page_runs_in_an_empty_file_and_prints_what_it_says(block, world, capsys):
    exec(compile(LOCAL.sub(world.url, block), "page.md", "exec"), {"__name__": "page"})
    printed = capsys.readouterr().out
    said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
    for line in said:
        assert line in printed.splitlines()
    assert printed.strip() or not re.search(r"^ *print\(", block, re.MULTILINE)


@pytest.mark.parametrize("block", COMMANDS)
def test_the_commands_of_the_page_run(block, world):
    for line in block.replace("\\\n", "").splitlines():
        words = shlex.split(LOCAL.sub(world.url, line))
        if words[0] == "rlm":
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code == 0, result.output
            assert "Anna finds the key" in result.output or words[1] != "ask"


def cells_of(text: str, column: int = 0) -> set[str]:
    """The words in code of a column of the tables of a page."""
    rows = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("| ")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row[column + 1])}


def test_each_exception_and_each_kind_of_failure_has_an_entry():
    entries = cells_of(PAGES["troubleshooting"])
    classes = {name for name, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, errors.RLMError)}
    assert len(classes) >= 10
    assert classes - entries == set()
    kinds = set(re.findall(r'kind="(\w+)"', inspect.getsource(failures)))
    kinds |= {
        kind for pair in re.findall(r'kind="(\w+)" if .* else "(\w+)"', inspect.getsource(failures)) for kind in pair
    }
    assert kinds >= errors.PERMANENT
    assert kinds - entries == set()


def test_each_finish_reason_and_each_limit_has_an_entry_that_is_true():
    reasons, _, limits = PAGES["limits-and-endings"].partition("## Limits")
    for reason in get_args(FinishReason):
        (row,) = [line for line in reasons.splitlines() if line.startswith(f"| `{reason}` |")]
        assert row.endswith(f"| {exit_code_of(reason).value} |"), row
    for field in fields(Limits):
        (row,) = [line for line in limits.splitlines() if line.startswith(f"| `{field.name}` |")]
        given = row.split("|")[2].strip().replace(",", "")
        assert given == ("none" if field.default is None else f"{field.default:g}"), row


def test_the_providers_of_the_table_are_known_to_langchain_and_dspy(monkeypatch):
    import dspy
    from langchain.chat_models import base

    rows = [line.split("|") for line in PAGES["models-and-costs"].splitlines() if re.match(r"\| \S.* \| `\w+:", line)]
    assert len(rows) == 7
    for row in rows:
        name, package, other = row[2].strip(" `"), row[3].strip(" `"), row[4].strip(" `")
        module = base._BUILTIN_PROVIDERS[name.partition(":")[0]][0]
        assert module.replace("_", "-") == package or package == "rlm-adapters[openai]"
        if "/" in other:
            assert dspy.LM(other).model == other


def test_a_message_of_the_table_is_one_that_the_package_writes():
    """The quoted part of each row, between its gaps, stands somewhere in the package."""
    sources = "".join(path.read_text() for path in (ROOT / "rlm_adapters").rglob("*.py"))
    sources = re.sub(r"\{[^{}]*\}", "~", re.sub(r'"\s*\n\s*f?"', "", sources))
    table = PAGES["troubleshooting"].partition("## Messages")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) >= 9
    for row in rows:
        message = re.match(r"\| `([^`]+)`", row)[1]
        message = message.replace("max_iterations=20", "~=~").replace("OPENAI_API_KEY", "~")
        parts = [part.strip() for part in re.split(r"\.\.\.|\bN\b|\bM\b|\d+|\(last: cut_off\)|\(last:", message)]
        for part in parts:
            assert part.strip(" ,)~") in sources, (row, part)


def test_the_cost_of_the_example_is_right():
    from rlm_adapters.models.prices import PriceTable

    prices = PriceTable()
    sub, turns = prices.cost("gpt-5-mini", 1_000_000, 100 * 200), prices.cost("gpt-5", 30_000, 3_000)
    assert (round(sub, 4), round(turns, 4), round(sub + turns, 2)) == (0.29, 0.0675, 0.36)
    assert inspect.signature(create_rlm_graph).parameters["max_confirmations"].default == 3
