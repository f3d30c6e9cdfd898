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


def run(*arguments, typed=None, **environment):
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        input=typed,
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


# LangGraph: approve, edit, ask again, fan out


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one two three")
    return path


def played(model_server, root):
    """What an example needs of the environment, with a model that plays ``root``."""
    model_server.script("gpt-5", root)
    return {"OPENAI_BASE_URL": model_server.url, "OPENAI_API_KEY": "test"}


def by_turn(*codes):
    return lambda messages, request: cell(codes[sum(one["role"] == "assistant" for one in messages)])


def test_cells_are_reviewed_one_by_one(model_server, words):
    environment = played(model_server, by_turn("print(context)", "import os", "n = 1", "SUBMIT(n)"))
    typed = "y\nn\nnot needed\ne\nn = 42\na\n"
    done = run("examples/review_cells.py", words, "How many?", typed=typed, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\n42\n")
    assert "not needed" in model_server.requests[2].prompt


def test_a_run_is_forked_with_an_edited_cell(model_server, words):
    environment = played(model_server, by_turn("n = len(context.split())", "SUBMIT(n)"))
    done = run("examples/fork_and_edit.py", words, "How many?", "len(context", "100 + len(context", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "As it was: 3\nEdited: 103\n"


def test_a_second_question_finds_the_work_of_the_first(model_server, words):
    def root(messages, request):
        first = "Which" not in text_of(messages[1]).splitlines()[0]
        return cell("ws = context.split()\nSUBMIT(llm_query('count'))" if first else "SUBMIT(max(ws, key=len))")

    environment = played(model_server, lambda m, r: "3" if len(m) == 1 else root(m, r))
    done = run("examples/two_questions.py", words, "How many words?", "Which is the longest?", **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3  (1 sub-calls)\nthree  (0 sub-calls)\n"


def test_documents_are_read_by_an_rlm_each_at_the_same_time(model_server, tmp_path):
    paths = [tmp_path / f"{name}.txt" for name in "abc"]
    for number, path in enumerate(paths):
        path.write_text("word " * (number + 1))

    def root(messages, request):
        if len(messages) == 1:
            return f"{text_of(messages[0]).count('.txt: ')} documents"
        return cell("SUBMIT(len(context.split()))")

    environment = played(model_server, root)
    done = run("examples/documents_in_parallel.py", "How many words?", *paths, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a.txt: 1\nb.txt: 2\nc.txt: 3\n3 documents\n"
