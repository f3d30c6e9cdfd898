"""docs/map.md is true: its command runs, and each block in an empty file, beside the files that those before it wrote."""

import json
import re
import shlex
from pathlib import Path

import pytest

from rlm_adapters.cli.main import app
from tests.runner import CliRunner
from tests.server import by_question, cell
from tests.test_readme import ROOT

TEXT = (ROOT / "docs" / "map.md").read_text()
STEP = """[[ ## reasoning ## ]]
Count.

[[ ## code ## ]]
```python
words = text.split()
SUBMIT(words=len(words), last=words[-1])
```

[[ ## completed ## ]]"""


@pytest.fixture
def world(openai_address, model_server, tmp_path):
    """The environment that the page supposes: a key, models, data."""
    (tmp_path / "towns.jsonl").write_text('{"name": "Lübeck", "text": "Founded in 1143."}\n')
    (tmp_path / "pages.jsonl").write_text('{"page": 1, "text": "word"}\n{"page": 2, "text": "two words"}\n')
    model_server.script("gpt-5-mini", [cell("SUBMIT(int(context['text'][-5:-1]))")])
    count = [cell("SUBMIT(len(context.split()))")]
    model_server.script("gpt-5", by_question({"How many words": count}, default=lambda messages, request: STEP))
    return model_server


def test_its_command_runs(world):
    (command,) = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    done = CliRunner().invoke(app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.stderr
    answer = json.loads(Path("years.jsonl").read_text())
    (shown,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert set(json.loads(shown)) == set(answer)
    assert answer["answer"] == json.loads(shown)["answer"]


def test_its_code_runs_and_prints_what_it_says(world, capsys):
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "docs/map.md", "exec"), {})
        printed = capsys.readouterr().out.splitlines()
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert [one.replace("'", '"') for one in printed] == said, (
            f"{block}\n{[path.read_text() for path in Path().glob('*s.jsonl')]}"
        )


def test_every_option_it_names_is_one_of_the_command():
    named = set(re.findall(r"`(--[a-z-]+)", TEXT))
    helped = CliRunner().invoke(app, ["map", "--help"], env={"COLUMNS": "200"}).stdout
    assert named
    assert {option for option in named if option not in helped} == set()
