"""docs/evaluation.md is true: its command and its code run as they stand, and its tables name all that there is."""

import re
import shlex
from pathlib import Path

import pytest

from rlm_adapters.cli.main import app
from rlm_adapters.evaluation import DATASETS, FAMILIES, setting_of
from rlm_adapters.evaluation.tasks import LEAST, MOST
from tests.dspy.conftest import own_cache, own_lm
from tests.dspy.scripted import fields_text
from tests.evaluation.expert import expert, play
from tests.runner import CliRunner
from tests.server import question_text

__all__ = ["own_cache", "own_lm"]  # fixtures

TEXT = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text()


def root(messages, request):
    """The expert, in DSPy's form where it is asked in that."""
    if "[[ ## " not in question_text(messages):
        return expert(messages, request)
    city = re.findall(r"magic number for (\w+) ", question_text(messages))[-1]
    code = f"import re\nSUBMIT(re.findall(r'magic numbers for {city} is: (\\d+)', context)[0])"
    return fields_text({"reasoning": "I search.", "code": code})


@pytest.fixture
def world(openai_address, model_server, tmp_path):
    """The environment that the page supposes: a key and models."""
    play(model_server, "gpt-5", "gpt-5-mini")
    model_server.script("gpt-5", root)
    return tmp_path


def test_its_command_runs(world):
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    result = CliRunner().invoke(app, shlex.split(block.replace("\\\n", ""))[1:])
    assert result.exit_code == 0, result.stderr
    assert re.search(r"rlm-1 +8 +100.0 %", result.stdout)
    assert "<svg" in (world / "eval.html").read_text()
    assert len(list((world / "traces").glob("*.jsonl"))) == 16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_its_code_runs(world, capsys):
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        names = {"__name__": "page"}
        exec(compile(block, "evaluation.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "direct: 4 of 4, 51% to 100%\nrlm-1: 4 of 4, 51% to 100%\n" in printed
    assert "0.6666666666666666\n" in printed
    assert names["found"].complete
    assert all(one.correct for one in names["found"].results)


def rows_of(title):
    """First cells of the table of a section."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return re.findall(r"^\| `([\w+-]+)`", section, re.MULTILINE)


def test_its_tables_name_all_families_data_and_settings():
    assert rows_of("Tasks") == list(FAMILIES)
    assert rows_of("Public data") == list(DATASETS)
    settings = rows_of("Settings")
    assert [setting_of(one).name for one in settings] == settings
    assert (LEAST, MOST) == (4_000, 100_000_000)
    assert "from 4 kB to 100 MB" in TEXT
