"""``rlm show``, ``rlm report``, ``rlm diff``: traces in the terminal and as a page, finished, killed, or going on."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from rlm_adapters import create_rlm_graph
from rlm_adapters.cli.main import app
from rlm_adapters.events import Event
from rlm_adapters.traces.writer import TraceWriter
from tests.runner import CliRunner
from tests.server import cell


@pytest.fixture
def trace(model_server, chat, sandbox, tmp_path):
    """A trace of two runs."""
    code = "answers = llm_query_batched([f'Who is {name}? ' + 'x' * 2_000 for name in ('Ann', 'Bob')])\nSUBMIT(answers)"
    model_server.script("root", ["First I look.\n" + cell("print(len(context))"), cell(code)])
    model_server.script("sub", lambda messages, request: messages[-1]["content"][7:10].upper())
    path = tmp_path / "run.jsonl"
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, trace=path)
    for question in ("Who is there?", "Who is here?"):
        graph.invoke({"query": question, "context": "abc"})
    return path


def rlm(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_run_is_shown_as_it_was_seen(trace):
    result = rlm("show", trace)
    assert result.exit_code == 0
    for part in ("Who is here?", "First I look.", "[cell 1]", "[output of cell 1]", "2 llm_query calls", '"ANN"'):
        assert part in result.stdout
    assert "Who is there?" not in result.stdout
    assert result.stderr == ""


def test_another_run_is_shown_by_its_number_or_id(trace):
    known = json.loads(trace.read_text().splitlines()[0])["run_id"]
    for run in ("0", "-2", known[:9]):
        assert "Who is there?" in rlm("show", trace, "--run", run).stdout
    result = rlm("show", trace, "--run", "7")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "run=7: there are 2 runs" in result.stderr


def test_verbose_has_a_line_for_each_reply_and_sub_call(trace):
    shown = rlm("show", trace, "-v").stdout
    assert "root LM root, sub-LM sub, max_iterations 20" in shown
    assert re.search(r"root LM root: \d+\.\d s, [\d,]+ \+ \d+ tokens", shown)
    assert re.search(r"llm_query sub, \d+\.\d s, [\d,]+ \+ \d+ tokens: Who is Ann\? x+\.\.\. -> ANN\n", shown)
    assert "Who is Ann" not in rlm("show", trace).stdout.replace("f'Who is {name}?", "")


def test_a_killed_run_is_shown_up_to_its_last_event(trace):
    lines = trace.read_text().splitlines(keepends=True)
    trace.write_text("".join(lines[:-2]) + lines[-2][:50])
    result = rlm("show", trace)
    assert result.exit_code == 0
    assert "2 llm_query calls" in result.stdout
    assert "the run had not ended" in result.stderr
    assert "1 line of the trace could not be read" in result.stderr


def test_a_run_is_followed_to_its_end(trace):
    lines = trace.read_text().splitlines(keepends=True)
    half = len(lines) - 6
    trace.write_text("".join(lines[:half]))
    command = [sys.executable, "-m", "rlm_adapters", "show", str(trace), "--follow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert any("[cell 2]" in line for line in iter(process.stdout.readline, ""))
        assert process.poll() is None
        with trace.open("a") as file:
            for line in lines[half:]:
                file.write(line)
                file.flush()
                time.sleep(0.05)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert '"ANN"' in rest
    assert (process.returncode, errors) == (0, "")


@pytest.mark.skipif(not hasattr(signal, "SIGINT"), reason="needs signals")
def test_following_waits_for_a_run_to_begin_and_ctrl_c_ends_it(tmp_path):
    path = tmp_path / "later.jsonl"
    command = [sys.executable, "-m", "rlm_adapters", "show", str(path), "-f"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        writer = TraceWriter(path)
        writer(Event(type="run_started", run_id="r", data={"query": "Who comes?", "inputs": []}))
        writer.settle()
        assert any("Who comes?" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130


def test_what_a_cell_printed_cannot_reach_the_terminal(tmp_path):
    path = tmp_path / "run.jsonl"
    writer = TraceWriter(path)
    evil = "\x1b]0;owned\x07\x1b[2J"
    writer(Event(type="run_started", run_id="r", data={"query": evil, "inputs": [{"name": evil}], "model": evil}))
    writer(Event(type="call_started", run_id="r", id="1", data={"prompt": evil, "function": evil}))
    writer(Event(type="call_finished", run_id="r", id="1", data={"answer": evil, "function": evil, "model": evil}))
    writer.settle()
    shown = rlm("show", path, "-v")
    assert "\x1b" not in shown.stdout
    assert "\\x1b" in shown.stdout


def test_a_trace_with_values_of_any_type_is_shown(trace):
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    wrong = [None, 3, "x", [], {"a": 1}, True]
    for number, line in enumerate(lines):
        for place, key in enumerate(sorted(line["data"])):
            line["data"][key] = wrong[(number + place) % len(wrong)]
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for arguments in (("show", trace, "-v"), ("report", trace), ("diff", trace, trace)):
        assert rlm(*arguments).exit_code == 0


def test_a_report_is_one_page_of_all_texts(trace, tmp_path):
    page = tmp_path / "page.html"
    result = rlm("report", trace, "-o", page)
    assert (result.exit_code, result.stdout) == (0, f"{page}\n")
    text = page.read_text()
    for part in ("Who is here?", "First I look.", "Who is Ann? xxx", "ANN"):
        assert part in text
    assert page.stat().st_mode & 0o777 == 0o600
    assert rlm("report", trace).stdout == f"{trace}.html\n"
    assert rlm("report", trace, "-o", "-").stdout == text


def parted(trace):
    """The same trace, but in its last run one sub-LM answered otherwise, and took 2 s longer."""
    other = trace.with_name("other.jsonl")
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    answers = [line for line in lines if line["type"] == "call_finished" and line["data"]["answer"] == "BOB"]
    answers[-1]["data"] |= {"answer": "\x1b[2JBOB?", "seconds": 2.5}
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (trace.parent / "other.jsonl.content").symlink_to(trace.parent / "run.jsonl.content")
    return other


@pytest.mark.parametrize("columns", [80, 40])
def test_two_runs_are_compared(trace, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    result = rlm("diff", trace, parted(trace))
    assert (result.exit_code, result.stderr) == (1, "")
    shown = result.stdout
    assert "They part in iteration 2, cell 1, call 2 (llm_query): answer" in " ".join(shown.split())
    assert "- BOB\n" in shown
    assert "+ \\x1b[2JBOB?\n" in shown
    assert "\x1b" not in shown
    assert re.search(r"^sub-calls +2 +2 *$", shown, re.MULTILINE)
    assert re.search(r"^ *2 +other answer +2 \| 2 ", shown, re.MULTILINE)
    files = shown.partition("They part")[0]
    assert all(len(line) <= columns for line in shown.replace(files, "").splitlines())


def test_the_exit_status_of_diff_is_that_of_diff(trace):
    assert rlm("diff", trace, trace).exit_code == 0
    assert "The same questions" in rlm("diff", trace, trace).stdout
    result = rlm("diff", trace, trace, "--run", "0", "--run", "-1")
    assert result.exit_code == 1
    assert "They part in the run: question\n- Who is there?\n+ Who is here?\n" in result.stdout
    assert rlm("diff", trace, trace, "--run", "0").exit_code == 0


def test_a_comparison_is_told_as_json(trace):
    result = rlm("diff", trace, parted(trace), "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["same"]) == (1, False)
    assert told["parting"]["where"] == ["iteration 2", "cell 1", "call 2 (llm_query)"]
    assert (told["parting"]["a"], told["parting"]["b"]) == ("BOB", "\x1b[2JBOB?")
    assert told["figures"]["sub-calls"] == {"a": 2, "b": 2, "change": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "{folder}/gone.jsonl"], "gone.jsonl: there is no such file"),
        (["report", "{folder}/gone.jsonl"], "gone.jsonl: there is no such file"),
        (["report", "{folder}"], "there is no such file"),
        (["show", "{folder}/text.txt"], "has no event of a run"),
        (["report", "{trace}", "-o", "{folder}/gone/x.html"], "gone/x.html: No such file or directory"),
        (["report", "{trace}", "-o", "{trace}"], "is the trace itself"),
        (["diff", "{trace}", "{folder}/gone.jsonl"], "gone.jsonl: there is no such file"),
        (["diff", "{trace}", "{trace}", "--run", "9"], "run=9: there are 2 runs"),
        (["diff", "{trace}", "{trace}", *["--run", "0"] * 3], "two runs are compared"),
    ],
)
def test_bad_input_is_one_line(trace, arguments, message):
    (trace.parent / "text.txt").write_text("hello\n")
    given = [one.format(folder=trace.parent, trace=trace) for one in arguments]
    before = trace.read_bytes()
    result = rlm(*given)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
    assert trace.read_bytes() == before
