"""The outline of a run that a notebook shows: all of it told, nothing of it run, small."""

import json
import re
import sys
import threading
import time
from html.parser import HTMLParser

import pytest

from rlm_adapters import NotebookView, Trajectory, create_rlm_graph
from rlm_adapters.events import Event
from rlm_adapters.views.outline import MAX_TEXT, MAX_TEXTS
from tests.server import cell
from tests.traces.runs import QUESTION, varied_once
from tests.views.page_samples import ATTACKS

TAGS = {"div", "style", "pre", "span", "b", "code", "details", "summary"}
ATTRIBUTES = {"class", "style", "open"}
SAID = " ".join(ATTACKS)


class Reader(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.styles, self.text, self.depth = set(), set(), [], "", 0
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.styles += [value for name, value in attributes if name == "style"]
        self.depth += 1

    def handle_endtag(self, tag):
        self.depth -= 1

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def attacked(sandbox):
    return Trajectory.from_events(varied_once(sandbox, said=SAID.replace("\ud800", "").replace("\udfff", "")))


def test_everything_that_cells_and_models_wrote_is_text_in_it(attacked):
    page = attacked._repr_html_()
    page.encode()
    found = Reader(page)
    assert found.tags == TAGS
    assert found.attributes == ATTRIBUTES
    assert found.depth == 0
    assert all(re.fullmatch(r"margin-left:\d+\.\d\d%;width:\d+\.\d\d%", one) for one in found.styles)
    for part in (
        QUESTION,
        "iteration 2",
        "lookup",
        "whale is known",
        "ZeroDivisionError",
        "inner?",
        "deep",
        "Not used",
    ):
        assert part in found.text
    for attack in ATTACKS[:5]:
        assert found.text.count(attack) >= 4  # question, answer of a sub-LM, prompt of the child's, answer
    assert not re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", page)


def test_lone_surrogates_and_wrong_figures_do_no_harm():
    run = {"form": 1, "question": "\ud800<b>", "iterations": [{"cells": [{"code": "\udfff" + SAID}], "seconds": 1e300}]}
    trajectory = Trajectory.from_dict({**run, "start": 5.0, "end": 4.0, "limits": {SAID: SAID}, "finish_reason": SAID})
    page = trajectory._repr_html_()
    page.encode()
    assert Reader(page).tags <= TAGS


def test_its_style_touches_nothing_but_itself(attacked):
    style = re.search("<style>(.*?)</style>", attacked._repr_html_(), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    rules = re.findall(r"([^{}]+)\{[^{}]*\}", re.sub(r"@media print \{(.*)\}", r"\1", style))
    selectors = [one.strip() for rule in rules for one in rule.split(",")]
    assert len(selectors) > 20
    assert [one for one in selectors if ".rlm-run" not in one] == []


def test_many_calls_and_long_texts_stay_small_and_failures_are_there():
    long = "word " * 10_000
    calls = [{"id": str(n), "function": "llm_query", "prompt": f"p{n} {long}", "answer": long} for n in range(2_000)]
    calls[1_700] |= {"answer": None, "error": "refused by the provider"}
    run = {"form": 1, "question": long, "finish_reason": "submitted", "answer": long,
           "iterations": [{"number": 1, "reply": "r", "cells": [{"code": "c", "calls": calls, "output": "o"}]}]}  # fmt: skip
    page = Trajectory.from_dict(run)._repr_html_()
    assert len(page) < 2 * MAX_TEXTS
    text = Reader(page).text
    assert "refused by the provider" in text
    assert f"... {len(long) - MAX_TEXT:,} more characters" in text
    assert "1,970 more calls" in text
    many = {**run, "iterations": [{"number": n, "reply": "r"} for n in range(1, 101)]}
    text = Reader(Trajectory.from_dict(many)._repr_html_()).text
    assert "60 iterations before these" in text
    assert "iteration 100" in text


def test_its_plain_form_is_short_and_harmless_to_a_terminal(attacked):
    class Printer:
        said = ""

        def text(self, text):
            self.said += text

    printer = Printer()
    attacked._repr_pretty_(printer, cycle=False)
    assert printer.said.startswith(QUESTION)
    assert "iteration 2:" in printer.said
    assert "cell failed" not in printer.said
    assert not re.search("[\x00-\x08\x0b-\x1f]", printer.said)
    assert re.fullmatch(
        r"<Trajectory [0-9a-f]{8}: 'Who speaks\?[^\n]{0,200}, 2 iterations, 6 calls, submitted>", repr(attacked)
    )


def test_a_run_that_goes_on_is_open_at_its_last_iteration(attacked):
    events = attacked.to_events()
    half = next(index for index, event in enumerate(events) if event.type == "call_finished")
    page = Trajectory.from_events(events[: half + 1])._repr_html_()
    assert "Not finished" in page
    assert page.count('<details class="rlm-root" open>') == 1
    assert '<details class="rlm-root" open>' not in attacked._repr_html_()


# While a run goes on: what a kernel shows is tested in tests/notebook


def test_without_ipython_a_view_takes_events_and_shows_nothing(model_server, chat, sandbox, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    model_server.script("root", [cell("SUBMIT(llm_query('a'))")])
    model_server.script("sub", lambda messages, request: "b")
    view = NotebookView()
    assert view.trajectory is None
    create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, on_event=view).invoke({"query": "Who?"})
    assert (view.trajectory.answer, view.trajectory.status) == ("b", "ok")
    assert capsys.readouterr() == ("", "")


def test_a_view_takes_an_event_at_once_and_its_thread_ends(monkeypatch):
    monkeypatch.setattr("rlm_adapters.traces.notebook._IDLE_SECONDS", 0.05)
    view = NotebookView()
    sent = []
    monkeypatch.setattr(view, "_send", lambda *, update: (time.sleep(0.02), sent.append(update)))
    for number in range(2_000):
        view(Event(type="run_started", run_id="r", data={"query": str(number)}))
    thread = view._thread
    view.settle()
    assert str(view.trajectory.question) == "1999"
    assert len(sent) <= 3  # 2,000 events within a moment
    deadline = time.monotonic() + 10
    while view._thread is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threading.enumerate().count(thread)
    view(Event(type="final", run_id="r", data={"answer": "again"}))
    view.settle()
    assert view.trajectory.answer == "again"


def test_a_graph_is_drawn_without_a_network(chat, monkeypatch):
    monkeypatch.setattr("socket.create_connection", None)
    graph = create_rlm_graph(chat("root"), name="mine")
    bundle = graph._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/plain"].startswith("<RLMGraph mine: __start__, prepare, generate_code")
    page = bundle["text/html"]
    drawn = graph.get_graph()
    assert page.count("<rect") == len(drawn.nodes)
    assert page.count("stroke-dasharray") == sum(edge.conditional for edge in drawn.edges)
    assert page.count("<path") == 2 * len(drawn.edges)
    assert "__start__ --&gt; prepare" in page
    assert json.dumps(bundle)
