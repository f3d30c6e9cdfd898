"""Two runs are compared: where they part, and what each took."""

import json
import random

import pytest

from rlm_adapters import InputError, Trajectory
from tests.traces.runs import varied, varied_once


@pytest.fixture(scope="module")
def given(sandbox):
    """A run with everything in it, as a dict."""
    return Trajectory.from_events(varied_once(sandbox)).to_dict()


def changed(given, change):
    other = json.loads(json.dumps(given))
    change(other)
    return Trajectory.from_dict(given).diff(Trajectory.from_dict(other))


def test_two_runs_of_the_same_are_the_same_whatever_they_took(model_server, chat, sandbox, tmp_path):
    for name in "ab":
        varied(model_server, chat, sandbox, trace=tmp_path / f"{name}.jsonl")
    a, b = (Trajectory.from_trace(tmp_path / f"{name}.jsonl") for name in "ab")
    difference = a.diff(b)
    assert difference.parting is None
    assert difference.same
    assert [pair.state for pair in difference.iterations] == ["same", "same"]
    assert a.run_id != b.run_id
    # Texts by reference in one and whole in the other are the same.
    assert a.diff(Trajectory.from_dict(b.to_dict())).same


def second(run):
    return run["iterations"][1]["cells"][0]


CHANGES = {
    "question": (lambda run: run.update(question="Who else?"), "the run", "question"),
    "inputs": (lambda run: run["inputs"][0].update(size=9), "the run", "inputs"),
    "prompt": (lambda run: run["iterations"][0]["messages"][0].update(text="Be kind."), "iteration 1, system", "prompt"),
    "reply": (lambda run: run["iterations"][0].update(reply="Hm. " + run["iterations"][0]["reply"]), "iteration 1", "reply"),
    "code": (lambda run: second(run).update(code=second(run)["code"] + "# done"), "iteration 2, cell 1", "code"),
    "output": (lambda run: run["iterations"][0]["cells"][0].update(output="4\n"), "iteration 1, cell 1", "output"),
    "error": (lambda run: run["iterations"][0]["cells"][0].update(error="KeyError"), "iteration 1, cell 1", "error"),
    "prompt of a call": (
        lambda run: second(run)["calls"][1].update(prompt="other"), "iteration 2, cell 1, call 2 (llm_query)", "prompt",
    ),
    "answer of a call": (
        lambda run: second(run)["calls"][3].update(answer="8"), "iteration 2, cell 1, call 4 (llm_query)", "answer",
    ),
    "failed call": (
        lambda run: second(run)["calls"][3].update(answer=None, error="refused"),
        "iteration 2, cell 1, call 4 (llm_query)", "error",
    ),
    "call that is gone": (lambda run: second(run)["calls"].pop(4), "iteration 2, cell 1, call 5 (lookup)", "missing"),
    "call that is new": (
        lambda run: second(run)["calls"].append({"id": "x", "function": "lookup", "prompt": "{}", "answer": "1"}),
        "iteration 2, cell 1, call 7 (lookup)", "missing",
    ),
    "child": (
        lambda run: second(run)["calls"][5]["child"]["iterations"][0]["cells"][0].update(code="pass"),
        "iteration 2, cell 1, call 6 (rlm_query), iteration 1, cell 1", "code",
    ),
    "cell that is gone": (lambda run: run["iterations"][0].pop("cells"), "iteration 1, cell 1", "missing"),
    "iteration that is gone": (lambda run: run["iterations"].pop(), "iteration 2", "missing"),
    "answer": (lambda run: run.update(answer="nobody"), "the run", "answer"),
    "end": (lambda run: run.update(finish_reason="max_iterations"), "the run", "end"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_it_tells_the_first_place_where_they_part(given, name):
    change, place, what = CHANGES[name]
    difference = changed(given, change)
    assert not difference.same
    assert (difference.parting.place, difference.parting.what) == (place, what)
    back = changed(given, lambda run: None)
    assert back.parting is None


def test_what_happened_first_is_told_first(given):
    def change(run):
        run["answer"] = "nobody"
        second(run)["code"] = "pass"
        run["iterations"][0]["cells"][0]["output"] = "4\n"

    difference = changed(given, change)
    assert (difference.parting.place, difference.parting.what) == ("iteration 1, cell 1", "output")
    assert (difference.parting.a, difference.parting.b, difference.parting.at) == ("3\n", "4\n", 0)
    assert [pair.state for pair in difference.iterations] == ["output", "code"]


def test_the_order_of_a_batch_and_calls_given_up_part_nothing(given):
    def change(run):
        random.Random(4).shuffle(second(run)["calls"])
        second(run)["calls"].insert(2, {"id": "y", "function": "llm_query", "prompt": "p", "dropped": "run ahead"})

    assert changed(given, change).same


def test_models_and_limits_are_told_apart_from_the_content(given):
    difference = changed(given, lambda run: run.update(model="better", limits={**run["limits"], "max_depth": 7}))
    assert difference.parting is None
    assert not difference.same
    assert [(one.name, one.a, one.b) for one in difference.settings] == [
        ("model", "root", "better"),
        ("max_depth", 2, 7),
    ]


def test_it_has_the_figures_of_both(given):
    def change(run):
        for call in second(run)["calls"]:
            call["input_tokens"] = call.get("input_tokens", 0) + 10
        second(run)["calls"].pop(0)
        run["end"] += 5

    difference = changed(given, change)
    figures = {one.name: one for one in difference.figures}
    assert (figures["sub-calls"].a, figures["sub-calls"].b, figures["sub-calls"].change) == (5, 4, -1)
    assert figures["seconds"].change == pytest.approx(5)
    assert figures["child runs"].change == 0
    assert figures["cost"].a > 0
    assert (difference.iterations[1].calls.a, difference.iterations[1].calls.b) == (6, 5)
    unknown = changed(given, lambda run: second(run)["calls"][0].pop("cost"))
    assert {one.name: one.change for one in unknown.figures}["cost"] is None


def test_long_texts_are_told_around_the_first_character_that_differs(given):
    long = "line of text\n" * 50_000
    a = Trajectory.from_dict({**given, "question": long + "Who speaks?"})
    b = Trajectory.from_dict({**given, "question": long + "Who sings?" + "z" * 9_000})
    found = a.diff(b).parting
    assert found.at == len(long) + len("Who s")
    assert (found.a, found.b[:10], found.begin) == ("Who speaks?", "Who sings?", len(long))
    assert (found.a_chars, found.b_chars) == (len(long) + 11, len(long) + 9_010)
    assert len(found.b) < 2_000


def test_its_dict_is_json(given):
    difference = changed(given, lambda run: second(run).update(code="pass"))
    told = json.loads(json.dumps(difference.to_dict()))
    assert told["same"] is False
    assert told["parting"]["where"] == ["iteration 2", "cell 1"]
    assert told["parting"]["b"] == "pass"
    assert told["figures"]["iterations"] == {"a": 2, "b": 2, "change": 0}
    assert [pair["state"] for pair in told["iterations"]] == ["same", "code"]


def test_something_else_is_refused(given):
    with pytest.raises(InputError, match=r"diff\(dict\): give another Trajectory"):
        Trajectory.from_dict(given).diff(given)
