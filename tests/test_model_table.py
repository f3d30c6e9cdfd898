"""`make model-table`: one command evaluates models and writes their table, against the scripted expert."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.evaluation.expert import play
from tests.server import Reply

spec = importlib.util.spec_from_file_location("model_table", Path(__file__).parent.parent / "tools" / "model_table.py")
model_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model_table)


@pytest.fixture
def make(openai_address, tmp_path):
    """Run the command with few tasks."""

    def run(*models, **options):
        given = {"families": "s_niah,oolong_counts", "sizes": "10kB,20kB", "samples": 1, "settings": "direct,rlm-1"}
        given |= {"results": tmp_path / "models", "page": tmp_path / "models.md"} | options
        return model_table.main([*models, *(f"--{name}={value}" for name, value in given.items())])

    return run


def test_the_command_writes_a_page_and_goes_on_where_it_stopped(make, model_server, tmp_path):
    play(model_server)
    model_server.script("bad", lambda messages, _: "Answer: 1")
    assert make("openai:expert=openai:oracle,openai:bad", settings="direct") == 0
    page = (tmp_path / "models.md").read_text()
    assert "| expert | oracle | direct | 4/4 | 100.0 % |" in page
    assert "| bad | bad | direct | 0/4 | 0.0 % |" in page
    assert "| oolong_counts | 100.0 % | 0.0 % |" in page
    asked = len(model_server.requests_of("expert"))
    assert make("openai:expert=openai:oracle") == 0
    page = (tmp_path / "models.md").read_text()
    assert "| expert | oracle | rlm-1 | 4/4 | 100.0 % |" in page
    told = json.loads((tmp_path / "models" / "models.json").read_text())
    assert told["openai:expert=openai:oracle"]["done"] == 8
    direct = [one for one in model_server.requests_of("expert")[asked:] if "REPL" not in one.prompt]
    assert direct == []  # what had a result is not asked again


def test_a_wrong_key_is_said(make, model_server, capsys):
    model_server.script("m", lambda messages, _: Reply("no", status=401, error_code="invalid_api_key"))
    assert make("openai:m") == 1
    assert "model table: " in capsys.readouterr().err
