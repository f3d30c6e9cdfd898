"""What a newcomer looks at first: names, help, reprs, the package's page; with and without the extras."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rlm_adapters import ChatRLM, Limits

ROOT = Path(__file__).parent.parent
WITHOUT_DSPY = """
import builtins, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dspy":
            raise ModuleNotFoundError("No module named 'dspy'", name="dspy")
sys.meta_path.insert(0, Hidden())
"""


@pytest.mark.parametrize("hidden", ["", WITHOUT_DSPY], ids=["all extras", "no dspy"])
def test_looking_at_the_package_works(hidden):
    code = (
        hidden
        + """
from rlm_adapters import *
import inspect, pydoc, rlm_adapters
assert hasattr(rlm_adapters, "RLM") and not hasattr(rlm_adapters, "nothing")
names = {name for name, _ in inspect.getmembers(rlm_adapters)}
assert set(rlm_adapters.__all__) <= names, set(rlm_adapters.__all__) - names
assert "create_rlm_graph" in pydoc.plain(pydoc.render_doc(rlm_adapters))
assert inspect.isclass(RLM) and RLM.__doc__
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_using_a_name_whose_extra_is_missing_says_what_to_install():
    code = (
        WITHOUT_DSPY
        + """
from rlm_adapters import RLM, gepa_metric, InputError
for use in (lambda: RLM("a -> b"), lambda: gepa_metric(1), lambda: RLM.load):
    try:
        use()
    except (ImportError, AttributeError) as error:
        assert "pip install 'rlm-adapters[dspy]'" in str(error), error
    else:
        raise SystemExit("no error")
"""
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_repr_of_a_chat_model_is_a_line_and_shows_no_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-secret-key")
    model = ChatRLM(
        model="openai:gpt-5", sub_model="openai:gpt-5-mini", instructions="Answer in French. " * 50, api_key="sk-other"
    )
    shown = repr(model)
    assert shown.startswith("ChatRLM(model='gpt-5', sub_model='gpt-5-mini', instructions='Answer in French.")
    assert len(shown) < 160
    assert "\n" not in shown
    for text in (shown, str(model), repr(ChatRLM(model="openai:gpt-5", limits=Limits(max_calls=3)))):
        assert "sk-" not in text
        assert len(text) < 160


def test_the_package_s_page_has_what_people_look_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"Documentation", "Source", "Issues", "Changelog"} <= set(project["urls"])
    assert any("3.13" in classifier for classifier in project["classifiers"])


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5, 1.0, 1.5])
def test_ctrl_c_while_the_command_starts_ends_it_without_a_traceback(seconds, tmp_path):
    import signal
    import time

    (tmp_path / "text").write_text("text")
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nprint('up', flush=True)\n"
    command = "import sys; sys.argv = ['rlm', 'ask', 'q', sys.argv[1], '-m', 'openai:x', '--base-url', 'http://127.0.0.1:9/v1']\n"
    run = "from rlm_adapters.__main__ import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code + command + run, str(tmp_path / "text")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "up\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if seconds > 0.05:  # before that it may be Python's own start that is interrupted
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
