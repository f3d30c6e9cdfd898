"""The examples are run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import by_question, cell, text_of

ROOT = Path(__file__).parents[1]
NAMES = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "RLM_MODEL"}


def run(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_quickstart_answers_and_is_short(model_server, tmp_path):
    path = ROOT / "examples" / "quickstart.py"
    assert len(path.read_text().splitlines()) < 15
    (tmp_path / "words.txt").write_text("one two three")
    model_server.script("gpt-5", [cell("FINAL(llm_query(f'How many? {context}'))")])
    model_server.script("gpt-5-mini", lambda messages, request: f"{len(text_of(messages[-1]).split()) - 2} words")
    done = run(path, tmp_path / "words.txt", "How many words?", OPENAI_BASE_URL=model_server.url, OPENAI_API_KEY="test")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 words\n"


def test_the_demo_runs_without_a_key_and_keeps_the_prompt_small():
    done = run("examples/demo.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Scripted model" in done.stdout
    assert "asyncio/base_events.py" in done.stdout
    size = int(re.search(r"Largest root prompt: ([\d,]+) bytes", done.stdout).group(1).replace(",", ""))
    assert 1_000 < size < 20_000
    assert "it names all five" in done.stdout


@pytest.mark.parametrize("key", ["test", ""])
def test_the_demo_uses_the_model_of_the_environment(model_server, key):
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from demo import CELLS, QUESTION
    finally:
        sys.path.remove(str(ROOT / "examples"))
    purposes = {"what is the Python module": lambda messages, request: "It is for coroutines."}
    model_server.script("local", by_question({QUESTION: list(CELLS), **purposes}))
    done = run("examples/demo.py", OPENAI_BASE_URL=model_server.url, OPENAI_API_KEY=key, RLM_MODEL="openai:local")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Scripted model" not in done.stdout
    assert "It is for coroutines." in done.stdout
    assert len(model_server.requests) == 8
