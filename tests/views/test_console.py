import io
import re
import sys
import threading
import time

import pytest
from rich.console import Console

from rlm_adapters.events import EVENT_TYPES, Event
from rlm_adapters.views.console import ConsoleView
from rlm_adapters.views.text import answer_text, clipped, describe_usage, safe


class Screen:
    """A view, what it wrote, and a short way to make events."""

    def __init__(self, *, terminal, **options):
        self.file = io.StringIO()
        self.view = ConsoleView(Console(file=self.file, force_terminal=terminal, width=100), **options)

    def show(self, event_type, iteration=None, run="root", parent=None, depth=0, **data):
        self.view.handle(
            Event(type=event_type, run_id=run, parent_run_id=parent, depth=depth, iteration=iteration, data=data)
        )

    @property
    def text(self):
        self.view.close()
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", self.file.getvalue())


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def screen(request):
    screen = Screen(terminal=request.param)
    yield screen
    screen.view.close()


def trajectory(screen):
    screen.show("run_started", query="How many?", inputs=[{"name": "context", "type": "str", "size": 10_000_000}])
    screen.show("iteration_started", 1)
    screen.show("code", 1, code="parts = split(context)\nprint(len(parts))", reasoning="I look first.")
    screen.show("calls_started", 1, count=100, function="llm_query")
    for done in range(100):
        error = "rate limit reached" if done == 7 else None
        screen.show("call_finished", 1, done=done + 1, total=100, usage={"input_tokens": 10}, error=error)
    screen.show("cell_output", 1, stdout="100 parts", error=None)
    screen.show("final", 1, answer="forty-two")
    usage = {"calls": 100, "root_calls": 1, "input_tokens": 12_345, "output_tokens": 678, "cost": 0.0123}
    screen.show("run_finished", finish_reason="submitted", iterations=1, seconds=1.25, usage=usage)


def test_a_trajectory_is_shown_from_question_to_cost(screen):
    trajectory(screen)
    text = screen.text
    shown = [
        "How many?",
        "context: str, 10,000,000 characters",
        "I look first.",
        "print(len(parts))",
        "100 llm_query calls, 1,000 tokens, 1 failed (rate limit reached)",
        "100 parts",
        "forty-two",
        "submitted | 1 iteration | 101 model calls, 12,345 + 678 tokens, $0.0123 | 1.2 s",
    ]
    positions = [text.index(part) for part in shown]
    assert positions == sorted(positions)


def test_a_pipe_gets_no_control_sequences():
    screen = Screen(terminal=False)
    trajectory(screen)
    assert "\x1b" not in screen.file.getvalue()
    assert "╭" not in screen.file.getvalue()


def test_a_batch_has_a_progress_line_on_a_terminal():
    screen = Screen(terminal=True)
    screen.show("calls_started", 1, count=40, function="llm_query")
    for done in range(10):
        screen.show("call_finished", 1, done=done + 1, total=40)
    screen.view._screen._progress.refresh()
    assert re.search(r"llm_query .* 10/40", screen.text)


def test_calls_one_by_one_are_counted_without_a_total():
    screen = Screen(terminal=True)
    for _ in range(7):
        screen.show("calls_started", 1, count=1, function="llm_query")
        screen.show("call_finished", 1, total=1)
    screen.view._screen._progress.refresh()
    assert re.search(r"llm_query .* 7 done", screen.text)


def test_waves_of_one_cell_add_up(screen):
    screen.show("code", 1, code="x")
    for _ in range(3):
        screen.show("calls_started", 1, count=1, function="llm_query")
        screen.show("call_finished", 1, done=1, total=1)
    screen.show("cell_output", 1, stdout="")
    screen.show("code", 2, code="y")
    screen.show("cell_output", 2, stdout="")
    text = screen.text
    assert text.count("3 llm_query calls") == 1
    assert "cell 1 printed nothing" in text
    assert "cell 2 printed nothing" in text


def test_a_run_that_ends_in_the_middle_of_a_cell_leaves_no_line_that_moves():
    screen = Screen(terminal=True)
    out, err = sys.stdout, sys.stderr
    screen.show("run_started", query="q")
    screen.show("iteration_started", 1)
    screen.show("code", 1, code="while True: pass")
    assert (sys.stdout, sys.stderr) == (out, err), "they belong to the whole process"
    screen.show("run_finished", finish_reason="error", error="cancelled", usage={})
    ended = len(screen.file.getvalue())
    time.sleep(0.25)  # a line is drawn ten times a second
    assert screen.file.getvalue()[ended:] == ""
    screen.show("run_started", query="the next one")
    screen.show("iteration_started", 1)
    assert "the root LM writes cell 1" in screen.file.getvalue()[ended:]


def test_a_child_is_labelled_and_indented():
    screen = Screen(terminal=False)
    screen.show("run_started", query="whole")
    screen.show("child_started", 1, child_run_id="c1", query="part")
    screen.show("run_started", run="c1", parent="root", depth=1, query="part")
    screen.show("final", 1, run="c1", parent="root", depth=1, answer="x")
    screen.show("run_finished", run="c1", parent="root", depth=1, finish_reason="text", usage={})
    assert "  [child 1: question]\n    part\n  [child 1: answer]\n    x\n  child 1: text |" in screen.text


def test_an_error_of_a_cell_shows_its_traceback_and_what_was_printed_before(screen):
    screen.show("cell_output", 2, stdout="before", error="Traceback\nValueError: bad")
    text = screen.text
    assert text.index("error in cell 2") < text.index("before") < text.index("ValueError: bad")


def test_repairs_and_warnings_are_shown(screen):
    screen.show("repair", 1, reason="no_code", message="Write a block of code.")
    screen.show("warning", 1, message="a.txt: read as latin-1")
    assert "asked again (no_code): Write a block of code." in screen.text
    assert "warning: a.txt: read as latin-1" in screen.text


def test_a_reply_that_cannot_be_used_is_shown(screen):
    screen.show("repair", 2, reason="no_code", message="Write a block of code.", reply="It is\x1b[2J seven.")
    assert "reply 2" in screen.text
    assert "It is\\x1b[2J seven." in screen.text


def test_a_partial_answer_says_what_ended_the_run(screen):
    screen.show("run_finished", finish_reason="max_iterations", answer="best guess", usage={}, iterations=20)
    text = screen.text
    assert "best guess" in text
    assert "ended by max_iterations | 20 iterations" in text


def test_an_error_that_ended_the_run_is_shown(screen):
    screen.show("run_finished", finish_reason="error", usage={}, error="401: wrong key")
    assert "error: 401: wrong key" in screen.text


def test_the_answer_is_left_to_the_caller_on_demand():
    screen = Screen(terminal=False, show_answer=False)
    screen.show("final", 1, answer="secret")
    screen.show("run_finished", finish_reason="submitted", answer="secret", usage={})
    assert "secret" not in screen.text


def test_escape_sequences_of_a_cell_do_not_reach_the_terminal(screen):
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\rhidden"
    screen.show("run_started", query=evil, inputs=[{"name": evil, "type": "str", "size": 1}])
    screen.show("code", 1, code=evil, reasoning=evil)
    screen.show("calls_started", 1, count=1, function="llm_query")
    screen.show("call_finished", 1, done=1, total=1, error=evil)
    screen.show("cell_output", 1, stdout=evil, error=evil)
    screen.show("repair", 1, reason=evil, message=evil)
    screen.show("warning", 1, message=evil)
    screen.show("final", 1, answer={evil: evil})
    screen.show("run_finished", finish_reason="error", usage={}, error=evil)
    written = screen.file.getvalue()
    for sequence in ("\x1b]0;", "\x07", "\x1b[2J", "\x9b", "\rhidden"):
        assert sequence not in written


def test_every_event_type_can_be_shown_without_data(screen):
    for event_type in sorted(EVENT_TYPES):
        screen.show(event_type)


def test_events_from_many_threads_are_shown_whole():
    screen = Screen(terminal=False)

    def run(number):
        for _ in range(50):
            screen.show("warning", 1, run=f"r{number}", message=f"<{number}{'x' * 50}{number}>")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = screen.text.splitlines()
    assert len(lines) == 400
    assert all(re.fullmatch(r"warning: <(\d)x{50}\1>", line) for line in lines)


def test_long_texts_keep_head_and_tail():
    lines = clipped("\n".join(map(str, range(1000)))).splitlines()
    assert len(lines) == 31
    assert (lines[0], lines[20], lines[-1]) == ("0", "... 970 lines ...", "999")
    assert len(clipped("x" * 1_000_000)) < 700
    assert clipped("short\n") == "short"


def test_an_answer_is_text_or_json():
    assert answer_text("plain") == "plain"
    assert answer_text({"a": "ü"}) == '{\n  "a": "ü"\n}'
    assert answer_text(None) == "null"


def test_usage_in_one_line():
    assert describe_usage({}) == "0 model calls, 0 + 0 tokens"
    assert "2 run ahead but not used" in describe_usage({"calls": 1, "ahead_wasted": 2})


def test_safe_text_keeps_tabs_and_lines():
    assert safe("a\tb\r\nc\x00é漢") == "a\tb\nc\\x00é漢"


def test_an_unknown_cost_is_said_and_so_are_calls_that_failed():
    usage = {"calls": 3, "root_calls": 2, "extract_calls": 1, "failed_calls": 4, "cost": None}
    assert describe_usage(usage) == "6 model calls, 4 failed, 0 + 0 tokens, cost unknown"


def test_the_running_total_is_shown_with_each_turn(screen):
    screen.show("iteration_started", 1, used={})
    screen.show("iteration_started", 2, used={"calls": 9, "root_calls": 1, "input_tokens": 1200, "cost": 0.5})
    assert screen.text.count("so far") == 1
    assert "so far: 10 model calls, 1,200 + 0 tokens, $0.5000" in screen.text


def test_retries_are_shown_when_they_are_made_and_summed_up(screen):
    retry = {"model": "sub", "kind": "rate_limit", "attempt": 1}
    for number in range(12):
        screen.show("warning", 1, message=f"sub-LM 'sub' failed: slow down {number}", retry=retry)
    assert "slow down 0" in screen.text
    assert "slow down 1" not in screen.text
    screen.show("iteration_started", 2)
    assert "12 retries of sub (rate_limit)" in screen.text


def batch(view, seconds, total=2_000, function="llm_query"):
    """A batch whose calls are answered one each tenth of a second, up to a time."""
    view.handle(event("calls_started", 0, count=total, function=function))
    for done in range(seconds * 10):
        view.handle(event("call_finished", (done + 1) / 10, total=total))


def event(kind, seconds, **data):
    return Event(type=kind, run_id="root", iteration=1, time=1_000.0 + seconds, data=data)


@pytest.mark.parametrize("width", [80, 40])
def test_a_batch_shows_its_count_its_rate_and_the_time_left(width):
    file = io.StringIO()
    view = ConsoleView(Console(file=file, force_terminal=True, width=width))
    view.handle(event("code", 0, code="pass"))
    batch(view, 60)
    view._screen._progress.refresh()
    view.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", file.getvalue())
    assert "llm_query" in text
    assert "600/2,000 10.0/s, 2:20 left" in text
    assert all(len(line) <= width for line in re.split("[\r\n]", text))


def test_a_log_has_a_line_of_a_long_batch_each_half_minute():
    screen = Screen(terminal=False)
    screen.view.handle(event("code", 0, code="pass"))
    batch(screen.view, 95)
    screen.view.handle(event("cell_output", 95, stdout=""))
    lines = [line for line in screen.text.splitlines() if "/s" in line]
    assert lines == [
        "llm_query: 300/2,000 10.0/s, 2:50 left",
        "llm_query: 600/2,000 10.0/s, 2:20 left",
        "llm_query: 900/2,000 10.0/s, 1:50 left",
    ]
    short = Screen(terminal=False)
    batch(short.view, 20, total=200)
    assert "/s" not in short.text


def test_slow_batches_are_told_by_the_minute():
    screen = Screen(terminal=False)
    screen.view.handle(event("calls_started", 0, count=100, function="rlm_query"))
    screen.view.handle(event("call_finished", 40, total=100))
    assert "rlm_query: 1/100 1.5/min, 1:06:00 left" in screen.text
