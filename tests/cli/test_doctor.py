"""The command ``rlm doctor``, against the model server over HTTP."""

import pytest

from rlm_adapters.cli import doctor
from rlm_adapters.cli.main import app
from tests.runner import CliRunner
from tests.server import Reply


@pytest.fixture
def examine(model_server, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "RLM_MODEL", "RLM_SUB_MODEL"):
        monkeypatch.delenv(name, raising=False)

    def examine(*arguments, url=None):
        return CliRunner().invoke(app, ["doctor", "--base-url", url or model_server.url, *arguments])

    return examine


def test_all_is_well(model_server, examine):
    model_server.script("root", lambda messages, asked: "OK")
    model_server.script("sub", lambda messages, asked: "OK.")
    result = examine("--model", "openai:root", "--sub-model", "openai:sub")
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    assert any(line.startswith("ok      model: openai:root at " + model_server.url) for line in lines)
    assert any(line.startswith("ok      sub-model: openai:sub at " + model_server.url) for line in lines)
    assert any("sandbox: isolation" in line for line in lines)
    assert any("extra openai: installed" in line for line in lines)
    assert len(model_server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "said", "remedy"),
    [
        (Reply("no such key", status=401, error_code="invalid_api_key"), "(auth): ", "check its API key"),
        (Reply("no such model", status=404, error_code="model_not_found"), "(unknown_model): ", "the model's name"),
        (Reply("quota", status=429, error_code="insufficient_quota"), "(quota): ", "check plan and billing"),
        (Reply("oops", status=500), "(server): ", ""),
    ],
)
@pytest.mark.parametrize("what", ["model", "sub-model"])
def test_a_model_that_refuses_is_a_problem_with_its_remedy(what, reply, said, remedy, model_server, examine):
    model_server.script("broken", lambda messages, asked: reply)
    model_server.script("root", lambda messages, asked: "OK")
    names = ("broken", "root") if what == "model" else ("root", "broken")
    result = examine("--model", f"openai:{names[0]}", "--sub-model", f"openai:{names[1]}")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("problem")]
    assert line.startswith(f"problem {what}: ")
    assert said in line
    assert remedy in result.stdout
    assert len(model_server.requests_of("broken")) == 1


def test_a_server_that_is_not_there_and_an_address_without_v1_are_told(model_server, examine):
    model_server.script("root", lambda messages, asked: "OK")
    result = examine("--model", "openai:root", url="http://127.0.0.1:9/v1")
    assert result.exit_code == 1
    assert "no connection to the model's server" in result.stdout
    bare = model_server.url.removesuffix("/v1")
    result = examine("--model", "openai:root", url=bare)
    assert result.exit_code == 1
    assert f"OpenAI-compatible servers mostly want {bare}/v1" in result.stdout


def test_a_missing_model_key_and_package_are_told(model_server, examine, monkeypatch):
    result = examine()
    assert result.exit_code == 1
    assert "give --model provider:name, or set RLM_MODEL" in result.stdout
    result = CliRunner().invoke(app, ["doctor", "--model", "openai:gpt-5"])
    assert result.exit_code == 1
    assert "set OPENAI_API_KEY" in result.stdout
    monkeypatch.setitem(doctor._EXTRAS, "pdf", ("no_such_module.at_all", "PDF files"))
    assert "note    extra pdf: not installed" in examine().stdout
    assert "pip install 'rlm-adapters[pdf]'" in examine().stdout


def test_a_key_is_never_shown(model_server, examine):
    model_server.script("root", lambda messages, asked: Reply("no", status=401))
    url = model_server.url.replace("http://", "http://user:secret-word@")
    result = examine("--model", "openai:root", "--api-key", "sk-secret-word", url=url + "?key=secret-word")
    assert result.exit_code == 1
    assert "secret-word" not in result.stdout
