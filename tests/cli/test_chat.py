"""``rlm chat``: a conversation over the same inputs."""

import os
import re
import subprocess
import sys
import time

import pytest

from tests.cli.test_approve import ON_A_TERMINAL
from tests.server import cell
from tests.server.scripts import text_of


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("one two three")
    return path


@pytest.fixture
def played(model_server):
    """A root LM that plays by the number in the question."""

    def root(messages, _):
        number = int(re.match(r"Question: question (\d)", text_of(messages[1])).group(1))
        return cell(CELLS[number])

    model_server.script("root", root)
    return model_server


CELLS = {
    1: "words = context.split()\nSUBMIT(len(words))",
    2: "SUBMIT(max(words, key=len))",
    3: "while True: pass",
    4: "raise ValueError('no')",
}


def command(model_server, *arguments):
    command = [sys.executable, "-m", "rlm_adapters", "chat", "-m", "openai:root", *map(str, arguments)]
    return command, {**os.environ, "OPENAI_BASE_URL": model_server.url, "OPENAI_API_KEY": "x", "COLUMNS": "100"}


def talk(model_server, typed, *arguments):
    line, environment = command(model_server, *arguments)
    return subprocess.run(line, input=typed, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_a_question_finds_the_work_of_the_one_before(played, notes):
    done = talk(played, "question 1\n\nquestion 2\n", notes, "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3\nthree\n"
    assert "in all 1 model call" in done.stderr
    assert "in all 2 model calls" in done.stderr


def test_the_trajectory_is_shown_unless_it_is_quiet(played, notes):
    done = talk(played, "question 1\n/exit\nquestion 2\n", notes)
    assert "words = context.split()" in done.stderr
    assert done.stdout == "3\n"


def test_a_question_that_fails_does_not_end_the_conversation(played, notes):
    asked = "Question: question 4"
    played.script(
        "root", lambda messages, _: "no code at all" if text_of(messages[1]).startswith(asked) else cell("SUBMIT(7)")
    )
    done = talk(played, "question 4\nquestion 1\n", notes, "--quiet", "--max-iterations", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("7\n")


def test_without_files_it_is_a_conversation_with_a_repl(played):
    played.script("root", lambda messages, _: cell("SUBMIT(6 * 7)"))
    assert talk(played, "question 1\n", "--quiet").stdout == "42\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.txt"], "missing.txt"),
        (["-"], "- is standard input, from which the questions are read"),
        (["{notes}", "--model", ""], "the model is empty"),
    ],
)
def test_what_cannot_work_says_so(played, notes, arguments, words):
    done = talk(played, "question 1\n", *[one.format(notes=notes) for one in arguments])
    assert done.returncode == 2
    assert words in done.stderr


def test_ctrl_c_ends_a_question_and_not_the_conversation(played, notes):
    line, environment = command(played, notes)
    terminal = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *line],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    terminal.stdin.write("question 3\n")
    terminal.stdin.flush()
    deadline = time.monotonic() + 120
    while not played.requests and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    terminal.stdin.write(chr(3))  # the terminal makes a SIGINT of it
    terminal.stdin.flush()
    time.sleep(1)
    terminal.stdin.write("question 1\n/exit\n")
    terminal.stdin.flush()
    shown, _ = terminal.communicate(timeout=120)
    assert terminal.returncode == 0, shown
    assert "interrupted" in shown
    assert "│ 3" in re.sub(r"\x1b\[[0-9;]*m", "", shown)
