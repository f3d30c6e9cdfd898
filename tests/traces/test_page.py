"""A trajectory as a page: everything that happened is an entry, at its time, under what it belongs to."""

import pytest

from rlm_adapters import Trajectory
from rlm_adapters.events import Event
from rlm_adapters.traces.page import page_of
from rlm_adapters.views.page.page import render
from tests.traces.runs import QUESTION, varied
from tests.views.page_samples import ATTACKS
from tests.views.test_page import data_of


@pytest.fixture
def events(model_server, chat, sandbox):
    return varied(model_server, chat, sandbox)


def test_the_entries_are_what_happened(events):
    page = page_of(Trajectory.from_events(events))
    assert [(entry.kind, entry.depth) for entry in page.entries] == [
        ("root", 0), ("cell", 0), ("root", 0), ("cell", 0), *[("call", 0)] * 4, ("tool", 0), ("child", 0),
        ("root", 1), ("cell", 1), ("call", 1),
    ]  # fmt: skip
    kinds = {index: entry.kind for index, entry in enumerate(page.entries)}
    assert [kinds.get(entry.parent) for entry in page.entries] == [
        None, None, None, None, *["cell"] * 6, "child", "child", "cell"
    ]  # fmt: skip
    assert [entry.status for entry in page.entries].count("failed") == 1
    assert page.question == QUESTION
    assert (page.answer.text, page.answer.title, page.answer.good) == ("found7found", "Answer (submitted)", True)


def test_times_lie_within_what_they_belong_to(events):
    page = page_of(Trajectory.from_events(events))
    for entry in page.entries:
        assert 0 <= entry.start <= entry.end <= page.seconds + 0.01
        if entry.parent is not None:
            assert entry.start >= page.entries[entry.parent].start - 0.01
    batch = [entry for entry in page.entries if entry.kind == "call"][:3]
    assert max(entry.start for entry in batch) < min(entry.end for entry in batch), "they ran at the same time"


def test_figures_and_troubles_are_told(events):
    trajectory = Trajectory.from_events(events)
    page = page_of(trajectory)
    facts, total = dict(page.facts), trajectory.totals()
    assert facts["sub-calls"] == "5"
    assert facts["tokens"] == f"{total.input_tokens:,} in, {total.output_tokens:,} out"
    assert facts["cost"] == f"${total.cost:.4f}"
    assert "max_depth=2" in facts["limits"]
    models, inputs = page.tables
    assert [row[0] for row in models.rows] == ["root", "sub"]
    assert inputs.rows == [["context", "str", "3"]]
    number = [entry for entry in page.entries if entry.kind == "call"][3]
    assert number.attempt == 4
    assert {part.name for part in number.parts} == {"Prompt", "Answer", "Retries", "Not used"}
    sums = [sum(getattr(entry, name) for entry in page.entries) for name in ("input_tokens", "output_tokens")]
    assert sums == [total.input_tokens, total.output_tokens]


def test_what_the_root_lm_was_sent_is_shown_once(events):
    page = page_of(Trajectory.from_events(events))
    first, second = [entry for entry in page.entries if entry.kind == "root" and entry.depth == 0]
    assert [part.name for part in first.parts] == ["Sent (system)", "Sent (user)", "Reply"]
    assert [part.name for part in second.parts] == ["Sent (assistant)", "Sent (user)", "Reply"]
    assert dict(second.facts)["messages"] == "4, of which 2 are shown before"


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if "\ud800" not in attack])  # no client sends these
def test_what_models_tools_and_cells_say_is_data(model_server, chat, sandbox, attack):
    plain = Trajectory.from_events(varied(model_server, chat, sandbox)).to_html()
    attacked = Trajectory.from_events(varied(model_server, chat, sandbox, said=attack)).to_html()
    attacked.encode()
    assert attacked.count("<") == plain.count("<")
    assert attacked.count("<script") == 2
    assert any("deep" in node["title"] for node in data_of(attacked)["nodes"])


def test_a_run_that_was_cut_off_anywhere_has_a_page(events):
    for end in range(1, len(events)):
        page = page_of(Trajectory.from_events(events[:end]))
        render(page)
        assert page.answer.title == "Not finished"
        assert not page.answer.good
    running = [entry for entry in page_of(Trajectory.from_events(events[:-8])).entries if entry.end is None]
    assert running
    assert {entry.status for entry in running} == {"running"}


def test_a_run_without_answer_says_why():
    ended = Event(type="run_finished", run_id="r", data={"finish_reason": "error", "error": "it broke", "answer": None})
    page = page_of(Trajectory.from_events([Event(type="run_started", run_id="r"), ended]))
    assert (page.answer.title, page.answer.text, page.answer.good) == ("No answer (error)", "it broke", False)


def test_warnings_stand_where_they_came(events):
    events.insert(
        5, Event(type="warning", run_id=events[0].run_id, time=events[0].time + 0.5, data={"message": "mind"})
    )
    (note,) = [entry for entry in page_of(Trajectory.from_events(events)).entries if entry.kind == "note"]
    assert (note.title, note.start) == ("mind", pytest.approx(0.5, abs=0.01))
