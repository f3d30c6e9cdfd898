"""The command ``rlm map``, against the model server over HTTP."""

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rlm_adapters.cli.main import app
from tests.runner import CliRunner
from tests.server import Reply, cell, question_text

ROOT = Path(__file__).parents[2]
QUESTION = "Which river is in {name}?"
HIDDEN = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "RLM_MODEL", "RLM_SUB_MODEL"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in HIDDEN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def files(tmp_path, model_server):
    """A data set, and where its answers go."""
    model_server.script("root", river)

    def make(count):
        rows = tmp_path / "rows.jsonl"
        rows.write_text("".join(json.dumps({"name": f"town-{n};", "text": f"river-{n}"}) + "\n" for n in range(count)))
        return rows, tmp_path / "out.jsonl"

    return make


def river(messages, request):
    return f"river-{re.search(r'town-([0-9]+);', question_text(messages)).group(1)}"


def arguments(server, rows, output, *more):
    models = ["--model", "openai:root", "--base-url", server.url, "--api-key", "k"]
    return ["map", QUESTION, str(rows), "-o", str(output), *models, "--direct-below", "1000", *more]


def invoke(*given, stdin=None):
    return CliRunner().invoke(app, arguments(*given), input=stdin)


def start(*given, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "rlm_adapters", *arguments(*given)],
        cwd=ROOT,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def records(output):
    """The whole lines."""
    return [json.loads(line) for line in output.read_text().split("\n")[:-1]] if output.exists() else []


def wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_job_that_is_killed_goes_on_and_asks_no_answered_row_twice(model_server, files):
    rows, output = files(300)
    model_server.script("root", lambda messages, request: Reply(river(messages, request), latency=0.02))
    first = start(model_server, rows, output)
    wait_for(lambda: output.exists() and output.read_bytes().count(b"\n") >= 120)
    first.kill()
    first.communicate()
    before = {record["id"]: record["answer"] for record in records(output)}
    answered = {re.search(r"[0-9]+", answer).group() for answer in before.values()}
    with output.open("ab") as file:
        file.write(b'{"id": "299-')  # as a kill in the middle of a write leaves it
    asked = len(model_server.requests)
    again = invoke(model_server, rows, output)
    assert again.exit_code == 0, again.stderr
    assert f"{300 - len(before)} answered, 0 failed, {len(before)} skipped" in again.stderr
    found = records(output)
    assert len(found) == len({record["id"] for record in found}) == 300
    assert {record["answer"] for record in found} == {f"river-{number}" for number in range(300)}
    second = [re.search(r"town-([0-9]+);", record.prompt).group(1) for record in model_server.requests[asked:]]
    assert not answered & set(second)
    times = Counter(re.search(r"town-([0-9]+);", record.prompt).group(1) for record in model_server.requests)
    assert sum(count - 1 for count in times.values()) <= 8  # those that were asked when it was killed


def test_a_second_process_is_refused_and_an_interrupted_one_keeps_its_rows(model_server, files):
    rows, output = files(12)

    def four(messages, request):
        return Reply(river(messages, request), latency=0 if request.index < 4 else 60)

    model_server.script("root", four)
    first = start(model_server, rows, output, "--concurrency", "2")
    wait_for(lambda: len(records(output)) == 4 and len(model_server.requests) == 6)
    refused = invoke(model_server, rows, output)
    assert refused.exit_code == 2
    assert "is being written by another process: wait until it has ended, or give another file" in refused.stderr
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "rlm: 4 answered, 0 failed" in said
    assert "interrupted; start again to continue" in said
    model_server.script("root", river)
    assert invoke(model_server, rows, output).exit_code == 0
    assert len(records(output)) == 12


def test_standard_input_and_output_take_part_in_a_pipe(model_server, files, tmp_path, monkeypatch, capfd):
    rows, _ = files(5)
    with rows.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(SystemExit) as ended:
            app(arguments(model_server, "-", "-", "--ordered", "-q"))
    answers, said = capfd.readouterr()
    assert (ended.value.code, said) == (0, "")
    assert [json.loads(line)["answer"] for line in answers.splitlines()] == [f"river-{number}" for number in range(5)]
    assert {one.name for one in tmp_path.iterdir()} == {"rows.jsonl"}


def test_another_question_or_model_on_the_same_file_is_refused(model_server, files):
    rows, output = files(2)
    assert invoke(model_server, rows, output, "--limit", "1").exit_code == 0
    model_server.script("other", river)
    for more, says in (
        (["--model", "openai:other"], "started with the model 'root', and now it is 'other'"),
        (["--field", "text"], "started with the field 'null', and now it is '[\"text\"]'"),
        (["--output-type", "int"], "started with the output type 'null'"),
        (["--id", "name"], "started with the id 'null'"),
    ):
        done = invoke(model_server, rows, output, *more)
        assert done.exit_code == 2, more
        assert says in done.stderr
    asked = arguments(model_server, rows, output)
    asked[1] = "Which lake is in {name}?"
    done = CliRunner().invoke(app, asked)
    assert (
        "started with the question 'Which river is in {name}?', and now it is 'Which lake is in {name}?'" in done.stderr
    )
    assert len(model_server.requests) == 1


def test_failed_rows_and_an_ended_budget_are_told_at_the_end(model_server, files):
    rows, output = files(6)

    def bad(messages, request):
        return Reply("hot", status=400) if "town-1;" in question_text(messages) else river(messages, request)

    model_server.script("root", bad)
    done = invoke(model_server, rows, output)
    assert done.exit_code == 3
    assert "rlm: 5 answered, 1 failed" in done.stderr
    assert "failed: 1 bad_request; --retry-failed asks them again" in done.stderr
    model_server.script("root", river)
    assert invoke(model_server, rows, output, "--retry-failed").exit_code == 0
    other = output.with_name("other.jsonl")
    done = invoke(model_server, rows, other, "--max-calls", "2")
    assert done.exit_code == 3
    assert "rlm: 2 answered" in done.stderr
    assert "stopped: " in done.stderr
    assert "model calls of the job" in done.stderr or "max_calls=2 of the job" in done.stderr
    done = invoke(model_server, rows, other, "--max-cost", "1", "--price", "root=1,1")
    assert done.exit_code == 0


def test_a_wrong_key_and_a_wrong_model_end_the_job_at_once(model_server, files):
    rows, output = files(100)
    model_server.api_key = "another"
    done = invoke(model_server, rows, output, "--concurrency", "1")
    assert done.exit_code == 1
    assert "check its API key" in done.stderr
    assert len(model_server.requests) == 0
    model_server.api_key = None
    done = invoke(model_server, rows, output.with_name("o"), "--model", "openai:none", "--concurrency", "1")
    assert done.exit_code == 1
    assert "check the model's name" in done.stderr
    assert len(model_server.requests) == 1


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        ("", [], "rows.jsonl has no rows"),
        ('{"name": "a"}\n{"name": \n', [], "rows.jsonl, line 2 is not JSON"),
        ('{"title": "a"}\n', [], "rows.jsonl, line 1 has no 'name': it has 'title'"),
        ('{"name": "a"}\n' * 2, ["--id", "name"], "line 2 has the id name='a', which an earlier row has"),
        ('{"name": "a"}\n', ["--concurrency", "0"], "concurrency=0"),
        ('{"name": "a"}\n', ["--max-cost", "1"], "the price of model 'root' is unknown"),
        ('{"name": "a"}\n', ["--output-type", "nothing"], "--output-type 'nothing' is not known"),
        ('{"name": "a"}\n', ["--model", ""], "the model is empty"),
    ],
)
def test_bad_input_is_told_before_anything_is_asked(model_server, files, content, more, says):
    rows, output = files(0)
    rows.write_text(content)
    done = invoke(model_server, rows, output, *more)
    assert done.exit_code == 2, done.stderr
    assert says in done.stderr
    assert not output.exists()
    assert not model_server.requests


def test_a_place_for_answers_that_cannot_be_written(model_server, files, tmp_path):
    rows, _ = files(20)
    assert "No such file or directory" in invoke(model_server, rows, tmp_path / "none" / "out.jsonl").stderr
    assert "Is a directory" in invoke(model_server, rows, tmp_path).stderr
    assert not model_server.requests
    full = invoke(model_server, rows, "/dev/full", "--concurrency", "1")
    assert full.exit_code == 1
    assert "No space left on device" in full.stderr
    assert len(model_server.requests) <= 2


def test_a_table_is_asked_by_its_columns(model_server, files):
    rows, output = files(0)
    table = rows.with_name("rows.csv")
    table.write_text(f"name,text\ntown-1;,river-1\ntown-2;,{'x' * 200_000}\n")
    model_server.script("root", [cell("SUBMIT(len(context))")])
    done = invoke(
        model_server,
        table,
        output,
        "--field",
        "text",
        "--id",
        "name",
        "--output-type",
        "int",
        "--ordered",
        "--direct-below",
        "0",
    )
    assert done.exit_code == 0, done.stderr
    assert [(record["id"], record["answer"]) for record in records(output)] == [("town-1;", 7), ("town-2;", 200_000)]
