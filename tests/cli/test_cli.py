"""The command ``rlm``, against the model server over HTTP."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from rlm_adapters.cli.main import app
from rlm_adapters.cli.options import parse_output_type, parse_price
from rlm_adapters.errors import InputError
from rlm_adapters.events import Event
from tests.runner import CliRunner
from tests.server import by_question, cell, never_answers, server_error
from tests.values.office import docx

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "tests" / "data" / "Origin-of-Species.pdf"

FOUNDING_QUESTION = (
    "In your workspace there is a PDF file called 'Origin-of-Species.pdf'. Open it using PyPDF2 and summarize the "
    "content on page 52."
)
FOUNDING_CELLS = [
    cell(
        """
import os
print(len(context))
print(os.listdir('.'))
print(os.path.isfile('Origin-of-Species.pdf'))
""",
        "Let me look at the workspace first.",
    ),
    cell(
        """
import PyPDF2

with open('Origin-of-Species.pdf', 'rb') as f:
    reader = PyPDF2.PdfReader(f)
    print(len(reader.pages))
    page_text = reader.pages[51].extract_text()
print(len(page_text))
print(page_text[:200])
"""
    ),
    cell(
        """
summary = llm_query(f"Summarize this page of Darwin's Origin of Species in two sentences:\\n\\n{page_text}")
print(summary)
"""
    ),
    "FINAL_VAR(summary)",
]
SUMMARY = "Every species would multiply without limit. Checks such as climate and enemies keep its numbers down."


@pytest.fixture
def invoke(model_server, monkeypatch):
    """Run the command in this process, with the model ``root`` of the server."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "RLM_MODEL", "RLM_SUB_MODEL"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments, stdin=None, model="openai:root"):
        models = ["--model", model] if model else []
        return CliRunner().invoke(
            app, ["ask", *models, "--base-url", model_server.url, *map(str, arguments)], input=stdin
        )

    return invoke


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("alpha\nbeta\ngamma\n")
    return path


def start(server, *arguments, **options):
    """Start the command in a process of its own."""
    hidden = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "RLM_MODEL", "RLM_SUB_MODEL"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.Popen(
        [sys.executable, "-m", "rlm_adapters", "ask", "--base-url", server.url, "--model", "openai:root", *arguments],
        cwd=ROOT,
        env=environment | options.pop("env", {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


# The founding example


def test_the_founding_example_reads_page_52_of_the_book(model_server):
    model_server.script("root", by_question({FOUNDING_QUESTION: FOUNDING_CELLS}))
    model_server.script("sub", lambda messages, request: SUMMARY)
    process = start(model_server, FOUNDING_QUESTION, str(BOOK), "--sub-model", "openai:sub")
    answer, trajectory = process.communicate()
    assert process.returncode == 0, trajectory
    assert answer == SUMMARY + "\n"
    for shown in (
        "377",
        "['Origin-of-Species.pdf']",
        "True",
        "import PyPDF2",
        "destruction inevitably falls",
        "submitted",
    ):
        assert shown in trajectory
    (sub_request,) = model_server.requests_of("sub")
    assert "ten thousand sharp wedges" in sub_request.prompt
    assert "What checks the natural tendency of each species to increase in number" in sub_request.prompt
    assert model_server.stats()["models"]["root"]["largest_prompt_bytes"] < 20_000


# Where the input comes from and where the answer goes


def test_the_answer_alone_is_on_standard_output(model_server, invoke, text):
    model_server.script("root", [cell("print(len(context.split()))"), cell("FINAL('three')")])
    result = invoke("How many words?", text)
    assert (result.exit_code, result.stdout) == (0, "three\n")
    assert "print(len(context.split()))" in result.stderr
    assert "2 iterations" in result.stderr


def test_json_prints_one_object_and_nothing_else(model_server, invoke, text):
    model_server.script("root", [cell("FINAL({'words': 3})")])
    result = invoke("How many words?", text, "--json")
    printed = json.loads(result.stdout)
    assert (printed["answer"], printed["finish_reason"], printed["iterations"]) == ({"words": 3}, "submitted", 1)
    assert printed["usage"]["root_calls"] == 1


def test_quiet_shows_no_trajectory(model_server, invoke, text):
    model_server.script("root", [cell("FINAL('three')")])
    result = invoke("How many words?", text, "--quiet")
    assert (result.stdout, result.stderr) == ("three\n", "")


@pytest.mark.parametrize("arguments", [["-"], []])
def test_a_pipe_is_read(model_server, invoke, arguments):
    model_server.script("root", [cell("FINAL(context.upper())")])
    assert invoke("Shout it", *arguments, stdin="piped text").stdout == "PIPED TEXT\n"


def test_several_files_are_one_dict(model_server, invoke, text, tmp_path):
    (tmp_path / "more.txt").write_text("delta")
    model_server.script("root", [cell("FINAL(', '.join(f'{k}={len(v)}' for k, v in context.items()))")])
    assert invoke("How long?", text, tmp_path / "more.txt").stdout == "notes.txt=17, more.txt=5\n"


def test_an_address_is_fetched_and_a_document_converted(model_server, invoke, tmp_path):
    model_server.script("root", [cell("SUBMIT(sorted(context.items()))")])
    letter = tmp_path / "letter.docx"
    letter.write_bytes(docx("Dear reader"))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    )
    (tmp_path / "page.html").write_text("<h1>Title</h1>")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        result = invoke("q", letter, f"http://127.0.0.1:{server.server_port}/page.html", "--json")
    finally:
        server.shutdown()
        server.server_close()
    answer = {name: text.strip() for name, text in json.loads(result.stdout)["answer"]}
    assert answer == {"letter.docx": "Dear reader", "page.html": "# Title"}


def test_a_guessed_encoding_is_noted(model_server, invoke, tmp_path):
    (tmp_path / "old.txt").write_bytes("Zürich".encode("latin-1"))
    model_server.script("root", [cell("FINAL(context)")])
    result = invoke("What?", tmp_path / "old.txt")
    assert result.stdout == "Zürich\n"
    assert "note: old.txt: not utf-8 (byte 1); read as latin-1" in result.stderr


def test_sub_calls_go_to_the_sub_model_and_are_summed_up(model_server, invoke, text):
    model_server.script("root", [cell("FINAL(' '.join(llm_query_batched([f'say {w}' for w in context.split()])))")])
    model_server.script("sub", lambda messages, request: messages[-1]["content"].split()[-1].upper())
    result = invoke("Shout each", text, "--sub-model", "openai:sub")
    assert result.stdout == "ALPHA BETA GAMMA\n"
    assert len(model_server.requests_of("sub")) == 3
    assert "3 llm_query calls" in result.stderr
    assert "4 model calls" in result.stderr


def test_a_trace_holds_every_event(model_server, invoke, text, tmp_path):
    model_server.script("root", [cell("print(1)"), cell("FINAL('x')")])
    invoke("q", text, "--trace", tmp_path / "trace.jsonl", "--quiet")
    events = [Event.from_json(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert [event.type for event in events] == [
        "run_started",
        *["iteration_started", "root_replied", "code", "cell_output"] * 2,
        "final",
        "run_finished",
    ]


def test_the_answer_has_the_type_that_was_asked_for(model_server, invoke, text):
    model_server.script("root", [cell("FINAL('three')"), cell("FINAL(3)")])
    result = invoke("How many words?", text, "--output-type", "int", "--json")
    assert json.loads(result.stdout)["answer"] == 3
    assert "asked again (invalid_answer)" in result.stderr


def test_a_prompt_file_takes_the_place_of_the_default_prompt(model_server, invoke, text, tmp_path):
    dspy = pytest.importorskip("dspy")
    program = dspy.RLM("context, query -> answer")
    program.generate_action.signature = program.generate_action.signature.with_instructions("Optimised instructions.")
    program.save(tmp_path / "optimised.json")
    code = "```python\nSUBMIT(answer=str(len(context.split())))\n```"
    model_server.script(
        "root", [f"[[ ## reasoning ## ]]\nI count.\n\n[[ ## code ## ]]\n{code}\n\n[[ ## completed ## ]]"]
    )
    result = invoke("How many words?", text, "--prompt", tmp_path / "optimised.json")
    assert (result.exit_code, result.stdout) == (0, "3\n")
    assert "Optimised instructions." in model_server.requests[0].prompt


# Ends


def test_a_limit_gives_a_partial_answer_and_its_exit_code(model_server, invoke, text):
    def root(messages, request):
        return "alpha, I think" if len(model_server.requests) > 2 else cell("print(context)")

    model_server.script("root", root)
    result = invoke("Which?", text, "--max-iterations", "2")
    assert (result.exit_code, result.stdout) == (3, "alpha, I think\n")
    assert "partial answer" in result.stderr
    assert "max_iterations" in result.stderr


def test_a_budget_ends_the_run(model_server, invoke, text):
    model_server.script("root", lambda messages, request: cell("print(context)"))
    result = invoke("Which?", text, "--max-cost", "0.02", "--price", "root=10,10", "--json")
    assert result.exit_code == 3
    printed = json.loads(result.stdout)
    assert printed["finish_reason"] == "budget"
    assert printed["usage"]["cost"] <= 0.02


def test_a_model_that_fails_for_good_is_an_error(model_server, invoke, text):
    model_server.script("root", lambda messages, request: server_error("model not loaded", status=400))
    result = invoke("q", text, "--json")
    assert result.exit_code == 1
    assert "model not loaded" in json.loads(result.stdout)["error"]
    assert result.stderr.splitlines()[-1].startswith("rlm: ")


def test_a_server_that_is_not_there_is_an_error(model_server, text, monkeypatch):
    monkeypatch.setattr("rlm_adapters.models.calling._FIRST_DELAY", 0.0)
    arguments = ["ask", "q", str(text), "--model", "openai:root", "--base-url", "http://127.0.0.1:9/v1", "--quiet"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "no connection to the model's server: Connect call failed ('127.0.0.1', 9)" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "{text}"], "the question is empty"),
        (["q", "gone.txt"], "gone.txt: no such file or directory"),
        (["q", "{empty}"], "is empty"),
        (["q", "{binary}"], "not text"),
        (["q", "{text}", "--max-iterations", "0"], "limit max_iterations=0 is too small"),
        (["q", "{text}", "--max-depth", "-1"], "limit max_depth=-1 is too small"),
        (["q", "{text}", "--concurrency", "0"], "limit max_concurrency=0 is too small"),
        (["q", "{text}", "--output-type", "integer"], "--output-type 'integer' is not known"),
        (["q", "{text}", "--output-type", "gone.json"], "--output-type gone.json: No such file"),
        (["q", "{text}", "--output-type", '{"type": "nonsense"}'], "not a valid JSON schema"),
        (["q", "{text}", "--price", "cheap"], "--price 'cheap': give MODEL=IN,OUT"),
        (
            ["q", "{text}", "--max-cost", "1", "--model", "openai:nobody-knows"],
            "price of model 'nobody-knows' is unknown",
        ),
        (["q", "{text}", "--prompt", "gone.json"], "prompt file 'gone.json': No such file or directory"),
        (["q", "{text}", "--trace", "/nowhere/x"], "--trace /nowhere/x: No such file or directory"),
        (["q", "{text}", "--model", "anthropic:claude"], "langchain-anthropic"),
        (["q", "{text}", "--model", ""], "the model is empty: give --model provider:name"),
    ],
)
def test_bad_input_is_one_line_before_any_model_is_called(
    model_server, invoke, text, tmp_path, monkeypatch, arguments, message
):
    if "anthropic:claude" in arguments:
        monkeypatch.setitem(sys.modules, "langchain_anthropic", None)
    model_server.script("root", ["never"])
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"\x89PNG\0")
    names = {"text": text, "empty": tmp_path / "empty.txt", "binary": tmp_path / "binary.txt"}
    arguments = [argument if "type" in argument else argument.format(**names) for argument in arguments]
    result = invoke(*arguments, model=None if "--model" in arguments else "openai:root")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert model_server.requests == []


def test_a_missing_key_is_named(text, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, ["ask", "q", str(text), "--model", "openai:gpt-5"])
    assert result.exit_code == 2
    assert "set OPENAI_API_KEY" in result.stderr


def test_an_unknown_provider_is_named(text):
    result = CliRunner().invoke(app, ["ask", "q", str(text), "--model", "nobody-knows"])
    assert result.exit_code == 2
    assert "give provider:name" in result.stderr


def test_nothing_to_read_is_said_on_a_terminal(monkeypatch):
    from rlm_adapters.cli import main as cli

    class Terminal:
        def isatty(self):
            return True

    with pytest.raises(InputError, match="name at least one FILE"):
        cli._default_paths(Terminal())


# Ctrl-C and SIGTERM


def parents():
    """Parent and start time of every process, by pid."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(path.parent.name)] = (int(fields[1]), fields[19])
    return found


def family(pid):
    """A process and all that it has started, directly or not, with their start times."""
    processes = parents()
    members = {pid}
    while more := {child for child, (parent, _) in processes.items() if parent in members} - members:
        members |= more
    return {(member, processes[member][1]) for member in members if member in processes}


def alive(members):
    now = parents()
    return {member for member in members if member[0] in now and now[member[0]][1] == member[1]}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("busy", "ending"),
    [
        ("while True: pass", signal.SIGINT),
        ("import time\ntime.sleep(1000)", signal.SIGINT),
        ("llm_query('never')", signal.SIGINT),
        (None, signal.SIGINT),
        ("while True: pass", signal.SIGTERM),
    ],
    ids=["endless-cell", "sleeping-cell", "sub-call", "root-call", "endless-cell-terminated"],
)
def test_an_interrupted_run_leaves_no_process_behind(model_server, text, busy, ending):
    model_server.script("sub", lambda messages, request: never_answers())
    # A cell does not wait for its sleep to end: the root LM is asked again, and does not answer.
    busy_reply = never_answers() if busy is None else cell(busy)
    model_server.script("root", [cell("print('started')"), busy_reply, never_answers()])
    process = start(model_server, "q", str(text), "--sub-model", "openai:sub", start_new_session=True)
    last = "[output of cell 1]" if busy is None else "[cell 2]"
    try:
        assert any(last in line for line in iter(process.stderr.readline, ""))
        end = time.monotonic() + 30
        while len(members := family(process.pid)) < 3 and time.monotonic() < end:
            time.sleep(0.02)
        assert len(members) >= 3  # the command, the fork server, the worker
        os.killpg(process.pid, ending)  # as the terminal does: to all processes of the group
        printed, shown = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, shown
    assert printed == ""
    assert "Traceback" not in shown
    assert alive(members) == set()


def test_an_interrupted_run_tells_what_it_has_used(model_server, text):
    model_server.script("sub", lambda messages, request: never_answers())
    model_server.script("root", [cell("llm_query('never')")])
    process = start(model_server, "q", str(text), "--sub-model", "openai:sub", "--json", start_new_session=True)
    try:
        assert any("[cell 1]" in line for line in iter(process.stderr.readline, ""))
        while not model_server.requests_of("sub"):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        printed, shown = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, shown
    told = json.loads(printed)
    assert told["finish_reason"] == "interrupted"
    assert told["usage"]["root_calls"] == 1
    assert told["usage"]["by_model"]["root"]["input_tokens"] > 0


@pytest.mark.parametrize("parallel", ["off", "ahead", "stream"])
def test_how_sub_calls_are_made_is_an_option(model_server, invoke, text, parallel):
    loop = "out = [llm_query(f'line {n}') for n in range(4)]\nprint(out)\nSUBMIT(len(out))"
    model_server.script("root", [cell(loop)])
    model_server.script("sub", lambda messages, request: "fine")
    result = invoke("q", text, "--sub-model", "openai:sub", "--json", "--parallel", parallel)
    assert result.exit_code == 0, result.stderr
    usage = json.loads(result.stdout)["usage"]
    assert usage["calls"] == 4
    assert (usage.get("ahead_calls", 0) > 0) == (parallel != "off")
    assert bool(model_server.requests_of("root")[0].body.get("stream")) == (parallel == "stream")


# Options


def test_version_and_help_are_printed():
    from rlm_adapters import __version__

    assert CliRunner().invoke(app, ["--version"]).stdout == f"rlm-adapters {__version__}\n"
    text = " ".join(CliRunner().invoke(app, ["ask", "--help"]).stdout.split())
    assert "3 partial answer" in text


def test_help_needs_neither_langgraph_nor_langchain():
    code = (
        "import sys\nfrom rlm_adapters.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(str([m for m in sys.modules if m.split('.')[0] in ('langgraph', 'langchain', 'openai', 'dspy')]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("int", int),
        (" list[str] ", list[str]),
        ("dict[str, list[float]]", dict[str, list[float]]),
        ('{"type": "integer"}', {"type": "integer"}),
    ],
)
def test_output_types_are_read(written, meant):
    assert parse_output_type(written) == meant


@pytest.mark.parametrize(
    "written", ["", "int(", "list[int, int]", "dict[str]", "__import__('os')", "set[int]", "list[open]", "{broken"]
)
def test_other_output_types_are_refused(written):
    with pytest.raises(InputError, match="--output-type"):
        parse_output_type(written)


def test_prices_are_read():
    assert parse_price("gpt-5=1.25,10") == ("gpt-5", (1.25, 10.0))
    assert parse_price("a=b=1,2") == ("a=b", (1.0, 2.0))


@pytest.mark.parametrize("written", ["gpt-5", "gpt-5=1", "=1,2", "gpt-5=1,2,3", "gpt-5=-1,2", "gpt-5=nan,1"])
def test_other_prices_are_refused(written):
    with pytest.raises(InputError, match="give MODEL=IN,OUT"):
        parse_price(written)
