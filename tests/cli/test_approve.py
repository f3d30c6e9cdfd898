"""``rlm ask --approve``: on a terminal of its own, as a user has it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.server import cell

ON_A_TERMINAL = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
"""Runs a command on a new terminal; what this process reads is typed there, what is shown there it writes."""


def asking(tmp_path: Path, model_server, typed: str, *options: str, **environment: str) -> tuple[int, str]:
    text = tmp_path / "notes.txt"
    text.write_text("some text")
    command = [sys.executable, "-m", "rlm_adapters", "ask", "q", str(text), "-m", "openai:root", *options]
    done = subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL, *command],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "OPENAI_BASE_URL": model_server.url, "OPENAI_API_KEY": "x", "COLUMNS": "100", **environment},
    )
    return done.returncode, done.stdout


def turns(*cells):
    return lambda messages, _: cell(cells[sum(one["role"] == "assistant" for one in messages)])


def test_a_cell_is_shown_and_runs_when_the_user_says_yes(tmp_path, model_server):
    model_server.script("root", turns("print(len(context))", "SUBMIT(llm_query('what?'))", "SUBMIT(1)"))
    code, shown = asking(tmp_path, model_server, "what\ny\ny\n", "--approve", "cells")
    assert code == 0, shown
    assert shown.count("run this cell?") == 2
    assert "It calls llm_query (line 1)" in shown
    assert shown.count("[y] run it") == 3, "an unknown key asks again"


def test_a_cell_that_is_refused_does_not_run_and_the_root_lm_reads_why(tmp_path, model_server):
    model_server.script("root", turns("SUBMIT(1)", "SUBMIT(2)", "SUBMIT(3)"))
    code, shown = asking(tmp_path, model_server, "n\nnot like this\na\n", "--approve", "all", "--json")
    assert code == 0, shown
    assert '"answer": 2' in shown
    assert "not like this" in model_server.requests_of("root")[1].prompt


def test_a_cell_can_be_edited_with_the_users_editor(tmp_path, model_server):
    editor = tmp_path / "editor.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/1/41/' \"$1\"\n")
    editor.chmod(0o755)
    model_server.script("root", turns("SUBMIT(1)", "SUBMIT(2)"))
    code, shown = asking(tmp_path, model_server, "e\n", "--approve", "cells", "--json", EDITOR=str(editor))
    assert code == 0, shown
    assert '"answer": 41' in shown


def test_without_a_terminal_it_says_so(tmp_path, model_server):
    model_server.script("root", turns("SUBMIT(1)"))
    text = tmp_path / "notes.txt"
    text.write_text("some text")
    command = [sys.executable, "-m", "rlm_adapters", "ask", "q", str(text), "-m", "openai:root", "--approve", "cells"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    assert done.returncode == 2
    assert "--approve needs a terminal, and there is none" in done.stderr
