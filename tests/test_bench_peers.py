"""The comparison with other packages: what its page says follows from what was measured, and nothing hangs it."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import __main__ as program
from benchmarks.peers import report, run, script
from benchmarks.peers.driver import NAMES, load
from benchmarks.peers.environments import Environment
from benchmarks.peers.scenarios import QUICK, SCENARIOS, Plan, Scenario, in_rounds, marked


@pytest.fixture
def floor():
    """The floor needs the openai client only, which is installed here."""
    return Environment("exec", Path(sys.prefix), importlib.metadata.version("openai"))


@pytest.mark.parametrize("peer", NAMES)
def test_every_peer_has_cells_for_every_scenario(peer):
    dialect = load(peer).DIALECT
    for scenario in SCENARIOS.values():
        plan = scenario.plan(dialect)
        assert plan is None or all(f"BENCHSTEP{number}" in cell for number, cell in enumerate(plan.cells, 1))
        for cell in [] if plan is None or "await" in "".join(plan.cells) else plan.cells:
            compile(cell, "cell", "exec")


def test_a_run_is_measured_and_its_requests_are_counted(floor, tmp_path):
    line = run.run(floor, SCENARIOS["runs-2"], 0, tmp_path)
    assert (line.outcome, line.peer, line.scenario) == ("ok", "exec", "runs-2")
    assert (line.measures["roots"], line.measures["own"] + line.measures["foreign"] >= 2) == (10, True)
    assert line.measures["wall"] >= 0.5  # five answers of 100 ms
    assert 0 < line.measures["base"] <= line.measures["peak"]
    assert 0.5 < line.measures["cached"] < 1
    assert run.Line(**json.loads(line.to_json())) == line


def test_what_does_not_end_is_ended_and_shown_as_such(floor, tmp_path):
    plan = Plan(cells=(marked(1, "while True:\n    pass"),), expect=None, seconds=0.5)
    line = run.run(floor, Scenario("hang", 1, lambda _: plan), 0, tmp_path)
    assert line.outcome == "not over after 0 s"
    assert "not over after 0 s" in report.tables([line])


def test_a_second_start_asks_only_what_has_no_result(floor, tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    asked = []

    def fake(environment, scenario, number, logs):
        asked.append((scenario.name, number))
        return line_of(scenario.name, round=number, outcome="ok" if scenario.name == "loop" else "process died")

    monkeypatch.setattr(program, "run", fake)
    environment = replace(floor, version="1")
    program.measure([environment], ["loop", "killed"], path, once=False)
    assert asked == [("loop", 0), ("killed", 0), ("loop", 1), ("loop", 2)]
    path.write_text(path.read_text()[:-10])  # a process that was killed while it wrote
    program.measure([environment], ["loop", "killed"], path, once=False)
    assert asked[4:] == [("loop", 2)]
    assert len(program.read(path)) == 4
    program.measure([environment], ["loop", "killed"], path, once=False)
    assert len(asked) == 5


def line_of(scenario="start", **changes):
    known = {"peer": "exec", "version": "1", "date": "2026-01-01", "load": 1.0, "spin": 20.0, "outcome": "ok"}
    return run.Line(**known | {"scenario": scenario, "round": 0} | changes)


def test_the_page_says_first_what_a_peer_does_better():
    lines = [
        line_of(peer="graph", measures={"import": 0.5, "iteration": 0.010}),
        line_of(peer="graph", round=1, measures={"import": 0.7, "iteration": 0.012}),
        line_of(peer="rlms", measures={"import": 0.1, "iteration": 0.030}),
        line_of(peer="exec", measures={"import": 0.3, "iteration": 0.004}),
        line_of("hang", peer="rlms", outcome="not over after 30 s"),
        line_of("hang", peer="graph", measures={"wall": 6.0}),
    ]
    page = report.page(lines, {})
    assert page.index("## Where another package is better") < page.index("## How it was measured")
    assert "| import | 600 ms (ours: graph) | rlms 100 ms |" in page
    assert "| iteration |" not in page.split("## How it was measured")[0]
    assert "600 ms [500 ms to 700 ms] (2.00x)" in page
    assert "goes on (6 s)" in page
    assert "not over after 30 s" in page


def test_the_share_that_a_cache_would_hit_is_that_of_consecutive_prompts():
    assert script.cached_share(["abcd", "abcdefgh"]) == pytest.approx(4 / 12)
    assert script.cached_share(["xbcd", "abcdefgh"]) == 0
    assert script.common_prefix("abc", "abd") == 2


def test_the_short_form_is_of_known_scenarios_and_rounds_go_over_all():
    assert [one.name for one, _ in in_rounds(list(QUICK), once=True)] == list(QUICK)
    rounds = [(one.name, number) for one, number in in_rounds(["start", "hang"], once=False)]
    assert rounds == [("start", 0), ("hang", 0), *(("start", number) for number in range(1, 5))]


def test_an_unknown_peer_is_refused(capsys):
    with pytest.raises(SystemExit):
        program.main(["--peers", "nobody"])
    assert "there is no peer 'nobody': there are graph, chat" in capsys.readouterr().err
