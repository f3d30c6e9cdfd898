"""Optimizers tune an RLM, and what they find drives the LangChain model: the example, against the test server."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.dspy.scripted import fields_text
from tests.server import question_text

RULE = "Count ticket by ticket, never words."
NAIVE = "SUBMIT(context.lower().count('delivery'))"
RIGHT = "tickets = context.splitlines()\nSUBMIT(sum('delivery' in ticket for ticket in tickets))"


def act(code):
    return fields_text({"reasoning": "I count.", "code": code})


def root(messages, request):
    """Answers right only when it was taught: by the instruction, or by a demo."""
    prompt = "\n".join(str(message.get("content")) for message in messages)
    learned = RULE in prompt or "for ticket in tickets" in prompt
    return act(RIGHT if learned else NAIVE)


def teacher(messages, request):
    """Solves the task, and proposes the instruction when an optimizer asks for one."""
    prompt = question_text(messages)
    if "new_instruction" in prompt:
        assert "Step 1" in prompt, "GEPA's reflection reads the trajectory"
        assert "is right." in prompt
        return json.dumps({"new_instruction": RULE})
    if "proposed_instruction" in prompt:
        return fields_text({"proposed_instruction": RULE})
    if "repl_history" in prompt and "[[ ## code ## ]]" in prompt:
        return act(RIGHT)
    # Everything else that optimizers ask (descriptions of program, data and modules) has one text field or several.
    fields = [line[6:-6] for line in prompt.splitlines() if line.startswith("[[ ## ") and line.endswith(" ## ]]")]
    return fields_text(dict.fromkeys(fields, "It counts tickets."))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_example_improves_with_every_optimizer_and_in_the_chain(model_server, monkeypatch, tmp_path):
    model_server.script("root", root)
    model_server.script("teacher", teacher)
    for name, value in {
        "OPENAI_BASE_URL": model_server.url, "OPENAI_API_KEY": "test", "RLM_MODEL": "root", "RLM_TEACHER": "teacher",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    path = Path(__file__).parents[2] / "examples" / "optimize_rlm.py"
    spec = importlib.util.spec_from_file_location("optimize_rlm", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    scores, file = example.main(tmp_path)
    assert file.exists()
    assert 0 < scores["before"] < 70
    assert scores["BootstrapFewShot"] == scores["MIPROv2"] == scores["GEPA"] == 100
    assert scores["chain before"] == scores["before"]
    assert scores["chain after"] == 100
    demos = json.loads((tmp_path / "BootstrapFewShot.json").read_text())["generate_action"]["demos"]
    assert demos
    assert all("SUBMIT" in demo["code"] for demo in demos), "demos are whole trajectories: their last steps"
    assert RULE in (tmp_path / "GEPA.json").read_text()
