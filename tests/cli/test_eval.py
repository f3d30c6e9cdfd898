"""``rlm eval``, against the expert over HTTP: figures, the page, and a process that is killed and started again."""

import json
import subprocess
import sys
import time

import pytest

from rlm_adapters.cli.evaluation import parse_size
from rlm_adapters.cli.main import app
from rlm_adapters.errors import InputError
from tests.evaluation.expert import play
from tests.runner import CliRunner


@pytest.fixture
def asked(model_server, tmp_path, monkeypatch):
    """Arguments of the command, for the expert on the server."""
    play(model_server)
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "RLM_MODEL", "RLM_SUB_MODEL"):
        monkeypatch.delenv(name, raising=False)
    models = ["--model", "openai:expert", "--sub-model", "openai:oracle", "--base-url", model_server.url]
    return ["eval", *models, "--families", "s_niah,oolong_counts", "--sizes", "10kB", "--samples", "2"]


def rlm(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_table_a_page_and_json(asked, tmp_path):
    result = rlm(*asked, "--settings", "direct,rlm-1", "--page", "page.html", "--traces", "traces")
    assert result.exit_code == 0, result.stderr
    assert "direct" in result.stdout
    assert "100.0 %  51 to 100 %" in result.stdout
    assert "oolong_counts  100.0 % (2/2)  100.0 % (2/2)" in result.stdout
    assert "8/8 right" in result.stderr
    assert "<svg" not in (tmp_path / "page.html").read_text()
    assert "oolong_counts" in (tmp_path / "page.html").read_text()
    assert len(list((tmp_path / "traces").glob("*.jsonl"))) == 8
    told = json.loads(rlm(*asked, "--settings", "direct,rlm-1", "--json", "-q").stdout)
    assert [one["accuracy"] for one in told["figures"]["all"]] == [1, 1]
    assert told["done"] == told["total"] == 8


def test_a_process_that_was_killed_goes_on_and_asks_nothing_twice(asked, model_server, tmp_path):
    play(model_server, latency=0.2)
    arguments = [*asked, "--samples", "4", "--settings", "rlm-1", "--parallel", "2"]
    process = subprocess.Popen([sys.executable, "-m", "rlm_adapters", *arguments], stderr=subprocess.DEVNULL)
    path = tmp_path / "eval.jsonl"
    try:
        while len(path.read_bytes().splitlines() if path.exists() else ()) < 3:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    before = path.read_bytes().splitlines()
    assert 3 <= len(before) < 9
    play(model_server)
    result = rlm(*arguments)
    assert result.exit_code == 0, result.stderr
    after = path.read_bytes().splitlines()
    assert after[: len(before) - 1] == before[:-1]
    tasks = [json.loads(line)["task"] for line in after[1:]]
    assert len(tasks) == len(set(tasks)) == 8
    assert result.stderr.count(" right ") == 9 - len(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "big"], "--sizes 'big': give bytes, such as 10kB, 1MB or 20000"),
        (["--settings", "rlm"], "setting 'rlm' is unknown"),
        (["--families", "x"], "family='x' is unknown"),
        (["--prompt", "gone.json"], "prompt file gone.json: No such file"),
        (["--model", ""], "the model is empty"),
        (["--page", "gone/x.html", "--families", "s_niah", "--samples", "1"], "--page gone/x.html: No such file"),
    ],
)
def test_bad_input_is_said_in_one_line(asked, arguments, message):
    result = rlm(*asked, "-q", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_budget_that_does_not_suffice_leaves_a_part(asked):
    result = rlm(*asked, "--budget", "0.000001", "--price", "expert=1,1", "--price", "oracle=1,1")
    assert result.exit_code == 3
    assert "the budget of $1e-06 does not suffice" in result.stderr


@pytest.mark.parametrize(
    ("text", "size"), [("10kB", 10_000), ("1.5 MB", 1_500_000), ("20000", 20_000), ("10KB", 10_000)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "10GB", "1e5", "kB"])
def test_no_sizes(text):
    with pytest.raises(InputError, match="give bytes"):
        parse_size(text)
