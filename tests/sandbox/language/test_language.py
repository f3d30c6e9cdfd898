"""Ordinary Python runs in a cell and prints what it prints in plain Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_adapters.sandbox.language.policy import compile_cell
from tests.corpus.env import make_env
from tests.sandbox.language.cell_repl import ScriptedHost, make_repl, plain_python, printed, run
from tests.sandbox.language.language_cells import CELLS

CORPUS = Path(__file__).parents[2] / "corpus"
CORPUS_CELLS = {
    f"{cell['id']} {cell['tag']}": cell["src"] for cell in json.loads((CORPUS / "cells.json").read_text("utf-8"))
}
REAL_CELLS = {cell["id"]: cell["src"] for cell in json.loads((CORPUS / "real_cells.json").read_text("utf-8"))}
DISPLAYED = {"c32 bare-expr": "[1, 2, 3]\n"}
"""What is printed in addition: the value of a bare last expression."""


@pytest.mark.parametrize("name", CORPUS_CELLS)
def test_a_corpus_cell_prints_what_plain_python_prints(name, tmp_path):
    names = make_env()
    expected = plain_python(CORPUS_CELLS[name], make_env(), tmp_path) + DISPLAYED.get(name, "")
    repl = make_repl(ScriptedHost(lambda call: names["llm_query"](call.args[0])))
    for variable in ("context", "docs", "ctx"):
        repl.set_variable(variable, names[variable])
    assert name != "c07 final-var" or run(CORPUS_CELLS[name], repl).final is not None
    assert printed(CORPUS_CELLS[name], repl) == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CELLS)
def test_python_runs_as_usual(name, tmp_path):
    source = CELLS[name]
    assert printed(source) == plain_python(source, {}, tmp_path)


@pytest.mark.parametrize("name", REAL_CELLS)
def test_a_cell_from_a_real_run_compiles(name):
    compile_cell(REAL_CELLS[name], "<cell>")


def test_the_idioms_of_real_runs_work_together():
    context = "\n".join(
        f"Date: 2023-01-{1 + i % 28:02d} || User: {100 + i % 7} || Instance: a kind of thing number {i}"
        for i in range(120)
    )
    kinds = ("animal", "location", "person")
    answer = ScriptedHost(lambda call: "\n".join(f"{i + 1}: {kinds[i % 3]}" for i in range(120)))
    repl = make_repl(answer)
    repl.set_variable("context", context)
    repl.set_variable("answer", {"content": "", "ready": False})
    for name in ("r02", "r08", "r09", "r18", "r20"):
        outcome = run(REAL_CELLS[name], repl)
        assert outcome.error is None, (name, outcome.error)
    assert outcome.final is not None
    assert outcome.final.function == "answer"
    assert outcome.final.value.splitlines()[0] == "(100, 101)"


def test_real_cells_search_text_and_parse_python():
    repl = make_repl()
    repl.set_variable("context", "=== FILE a.py\nasync def f(): pass\n=== FILE b.py\ndef g(: bad\n")
    assert "TOTAL 1 bad [('b.py'" in printed(REAL_CELLS["r11"], repl)
    assert "async def: 1" in printed(REAL_CELLS["r05"], repl)


def test_the_founding_example_reads_a_page_of_a_pdf():
    repl = make_repl()
    repl.add_file("Origin-of-Species.pdf", (CORPUS.parent / "data" / "Origin-of-Species.pdf").read_bytes())
    repl.set_variable("context", "x" * 10)
    assert printed("len(context)", repl) == "10\n"
    assert printed("import os\nprint(os.listdir('.'))", repl) == "['Origin-of-Species.pdf']\n"
    assert printed("os.path.isfile('Origin-of-Species.pdf')", repl) == "True\n"
    reading = """
import PyPDF2
with open('Origin-of-Species.pdf', 'rb') as f:
    reader = PyPDF2.PdfReader(f)
    text = reader.pages[51].extract_text()
print(len(reader.pages), len(reader.pages[:3]), reader.metadata.title, reader.metadata['/Author'])
from pypdf import PdfReader
assert PdfReader('Origin-of-Species.pdf').pages[51].extract_text() == text
"""
    assert printed(reading, repl) == "377 3 On the Origin of Species anonymous\n"
    assert (
        printed("print(text.splitlines()[0])", repl)
        == "destruction inevitably falls either on the young or old, during each\n"
    )
    error = run("reader.pages[999]", repl).error
    assert error is not None
    assert "377 pages" in error.message


def test_a_hint_says_how_to_get_pdf_support(monkeypatch):
    from rlm_adapters.sandbox.language.facades import pdf

    pdf.load_pypdf.cache_clear()
    monkeypatch.setitem(sys.modules, "pypdf", None)
    error = run("import pypdf").error
    pdf.load_pypdf.cache_clear()
    assert error is not None
    assert "pip install rlm-adapters[pdf]" in error.message


def test_nothing_is_imported_once_a_cell_runs():
    """A confined worker can open no file: everything that the cells need must be loaded before."""
    program = """
import sys
from tests.sandbox.language.language_cells import CELLS
from tests.sandbox.language.cell_repl import make_repl

class Refuse:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"imported too late: {name}")

pdf = open("tests/data/Origin-of-Species.pdf", "rb").read()
repl = make_repl()
repl.expect([pdf])
repl.add_file("x.pdf", pdf)
sys.meta_path.insert(0, Refuse())
sources = [*CELLS.values(), "import pypdf\\nprint(len(pypdf.PdfReader('x.pdf').pages[3].extract_text()))"]
failed = [outcome.error.traceback for outcome in map(repl.run, sources) if outcome.error]
sys.exit("\\n".join(failed) or None)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_repl_imports_no_framework():
    program = (
        "import sys, rlm_adapters.sandbox.repl.repl\n"
        "heavy = {'pydantic', 'langchain_core', 'langgraph', 'asyncio', 'ssl', 'socket', 'pypdf', 'dspy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_allowed_modules_are_the_real_ones():
    repl = make_repl(allow_modules=["colorsys"])
    assert printed("import colorsys\nprint(colorsys.rgb_to_hls(1, 0, 0)[0])", repl) == "0.0\n"
    assert run("import colorsys").error is not None


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("print(__import__('re').findall('a', 'aba'))", "['a', 'a']\n"),
        ("print(__import__('os.path').path.join('a', 'b'))", "a/b\n"),
        ("print(__import__('os.path', fromlist=['join']).join('a', 'b'))", "a/b\n"),
        ("print(__import__('collections', globals(), locals(), ['Counter'], 0).Counter('aa'))", "Counter({'a': 2})\n"),
        ("mods = [__import__(name) for name in ('json', 'math')]\nprint(mods[0].dumps(mods[1].floor(2.5)))", "2\n"),
        ("load = __import__\nprint(load('json').dumps(1), load.__name__)", "1 __import__\n"),
    ],
)
def test_import_as_a_function_imports_what_a_statement_could(source, output):
    assert printed(source) == output


@pytest.mark.parametrize(
    "arguments",
    [
        "'subprocess'", "'importlib'", "'builtins'", "'_io'", "'_thread'", "'os._wrap_close'", "'os', fromlist=['sys']",
        "'json', fromlist=['_default_decoder']", "'os', fromlist=['*']", "''", "'.os'", "'os', level=1", "7", "None",
        "S('re')", "'os', fromlist=[S('path')]", "'__main__'", "'os.'",
    ],
)  # fmt: skip
def test_import_as_a_function_opens_nothing_else(arguments):
    outcome = run(f"class S(str): pass\nmodule = __import__({arguments})\nprint(module)")
    assert outcome.stdout == ""
    assert outcome.error is not None
    assert outcome.error.type in ("ImportError", "ModuleNotFoundError", "TypeError")


def test_time_zones():
    source = """
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones
berlin = ZoneInfo("Europe/Berlin")
summer = datetime(2024, 7, 1, 12, tzinfo=berlin)
print(summer.utcoffset(), summer.tzname(), summer.isoformat(), berlin, berlin.key, repr(berlin))
print(summer.astimezone(ZoneInfo("America/New_York")).isoformat(), summer.astimezone(timezone.utc).isoformat())
print((datetime(2024, 4, 1, tzinfo=berlin) - datetime(2024, 3, 31, tzinfo=berlin)), ZoneInfo("Europe/Berlin") is berlin)
print(isinstance(berlin, ZoneInfo), type(berlin) is ZoneInfo, "Asia/Tokyo" in available_timezones())
try:
    ZoneInfo("Europe/Atlantis")
except ZoneInfoNotFoundError as error:
    print(error, isinstance(error, KeyError))
"""
    assert printed(source) == (
        "2:00:00 CEST 2024-07-01T12:00:00+02:00 Europe/Berlin Europe/Berlin ZoneInfo(key='Europe/Berlin')\n"
        "2024-07-01T06:00:00-04:00 2024-07-01T10:00:00+00:00\n"
        "1 day, 0:00:00 True\n"
        "True True True\n"
        "'No time zone found with key Europe/Atlantis' True\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        "ZoneInfo('/etc/passwd')", "ZoneInfo('../../../etc/passwd')", "ZoneInfo(key=b'UTC')", "ZoneInfo.no_cache('UTC')",
        "ZoneInfo.from_file(open('x', 'wb+'))", "ZoneInfo('UTC').from_file", "type(ZoneInfo('UTC')).no_cache('UTC')",
        "ZoneInfo('UTC').__reduce__()", "ZoneInfo.clear_cache()", "class Z(ZoneInfo): pass",
        "ZoneInfo('UTC').__class__.__base__", "ZoneInfo.__new__(ZoneInfo, 'UTC')", "ZoneInfo.extra = 1",
    ],
)  # fmt: skip
def test_time_zones_open_no_file(source):
    outcome = run(f"from zoneinfo import ZoneInfo\n{source}\nprint('reached')")
    assert outcome.error is not None
    assert outcome.stdout == ""
