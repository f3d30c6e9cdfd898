"""docs/ray.md is true: its code runs, and prints what it says; each argument that it names is one."""

import inspect
import re
import subprocess
import sys

import pytest

pytest.importorskip("ray")

from rlm_adapters import RaySandbox
from tests.dspy.scripted import fields_text
from tests.server import by_question, cell
from tests.test_readme import ROOT

pytestmark = pytest.mark.ray
TEXT = (ROOT / "docs" / "ray.md").read_text()


def test_its_code_runs_in_a_process_of_its_own_and_prints_what_it_says(openai_address, tmp_path):
    count = fields_text({"reasoning": "I count.", "code": "SUBMIT(count=len(text.split()))"})
    openai_address.script("gpt-5", by_question({"[[ ## code ## ]]": [count]}, [cell("SUBMIT(len(context.split()))")]))
    openai_address.script("gpt-5-mini", [cell("SUBMIT(int(context['text'][-5:-1]))")])
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)):
        script = tmp_path / f"block{number}.py"
        script.write_text(block)
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
        said = re.findall(r"^ *print\(.*\)  # (.*)$", block, re.MULTILINE)
        assert done.stdout.splitlines() == said, done.stderr[-4000:]


def test_every_argument_in_its_table_is_one():
    (table,) = re.findall(r"## How many, and where\n\n(.*?)\n\n", TEXT, re.DOTALL)
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_]+)`", row.split("|")[1])}
    assert len(named) > 8
    assert named <= set(inspect.signature(RaySandbox).parameters)
