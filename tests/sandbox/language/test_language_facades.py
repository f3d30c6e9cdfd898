"""What the facade modules hand out: no module, no metaclass, no unchecked function of the standard library."""

from __future__ import annotations

import types

import pytest

from rlm_adapters.sandbox.language.classes import Classes
from rlm_adapters.sandbox.language.facade import Facade, names_in
from rlm_adapters.sandbox.language.facades import BUILDERS
from rlm_adapters.sandbox.language.names import Access, classify_attribute
from tests.sandbox.language.cell_repl import make_repl, printed, run

REVIEWED = {
    "collections.abc": "their functions only use subscripts, iteration and the methods of what they are called with",
    "numbers": "their properties only do arithmetic",
    "typing": "their functions are abstract",
    "typing_extensions": "as typing",
    "io": "the function refuses",
}
"""Modules whose classes may have plain functions, and why."""


def exported(module):
    """The names of a facade and what they are."""
    repl = make_repl()
    facade = repl._modules.load(module)
    return repl, {name: getattr(facade, name) for name in names_in(facade)}


@pytest.mark.parametrize("module", BUILDERS)
def test_a_facade_holds_neither_modules_nor_metaclasses(module):
    _, names = exported(module)
    for name, value in names.items():
        assert not isinstance(value, types.ModuleType), name
        assert not (isinstance(value, type) and issubclass(value, type)), name
        assert value is not object, name


@pytest.mark.parametrize("module", sorted(BUILDERS.keys() - REVIEWED.keys()))
def test_classes_of_the_standard_library_have_no_unchecked_functions(module):
    repl, names = exported(module)
    own = repl._environment.classes.own
    for name, cls in names.items():
        if not isinstance(cls, type) or cls in own:
            continue
        for attribute in dir(cls):
            if attribute.startswith("_"):
                continue
            found = next(vars(base)[attribute] for base in cls.__mro__ if attribute in vars(base))
            if isinstance(found, types.FunctionType):
                assert found.__code__.co_name == "checked", f"{name}.{attribute}"


def test_plain_bases_bring_no_private_names_that_cells_could_read():
    for base in Classes()._plain_bases:
        for cls in base.__mro__:
            for name in vars(cls):
                assert classify_attribute(name) is not Access.PRIVATE, f"{base}.{name}"


def test_a_facade_cannot_be_changed():
    for source in ("import json\njson.dumps = 1", "import json\ndel json.dumps", "import json\nsetattr(json, 'x', 1)"):
        error = run(source).error
        assert error is not None
        assert error.type in ("TypeError", "AttributeError")
    facade = Facade("m", {"a": 1})
    with pytest.raises(TypeError):
        facade.a = 2


def test_random_values_clocks_and_identities_repeat():
    source = """
import random, uuid, time, secrets, os
from datetime import datetime, date
class A: pass
a = A()
print(random.random(), random.Random().random(), uuid.uuid4(), secrets.token_hex(4), os.urandom(3))
print(time.time(), datetime.now(), datetime.utcnow(), date.today(), datetime.today(), id(a), id(a) == id(a), id([]))
print(a, A.__init__, print, lambda: 0)
"""
    options = {"seed": 7, "epoch": 1_700_000_000.0}
    first = printed(source, make_repl(**options))
    assert printed(source, make_repl(**options)) == first
    assert "2023-11-14" in first
    assert printed(source, make_repl(seed=8)) != first


def test_sleeping_moves_the_clock_and_takes_no_time():
    source = "import time\nbefore = time.time()\ntime.sleep(1e6)\nprint(round(time.time() - before))"
    assert printed(source) == "1000000\n"


def test_decompression_is_bounded(monkeypatch):
    from rlm_adapters.sandbox.language.facades import compression

    monkeypatch.setattr(compression, "MAX_OUTPUT", 10_000)
    for module in ("zlib", "gzip", "bz2", "lzma"):
        error = run(f"import {module}\n{module}.decompress({module}.compress(bytes(1_000_000)))").error
        assert error is not None
        assert "larger than 10,000 bytes" in error.message


def test_files_have_a_quota_and_inputs_are_read_only():
    repl = make_repl(file_bytes=10_000)
    repl.add_file("data/in.txt", b"given")
    error = run("open('x', 'w').write('x' * 20_000)", repl).error
    assert error is not None
    assert "cells can write 10,000 bytes" in error.message
    assert run("for i in range(1000): open(f'f{i}', 'w').close()", repl).error is not None
    for mode in ("w", "a", "r+", "x"):
        error = run(f"open('data/in.txt', {mode!r})", repl).error
        assert error is not None
        assert error.type == "PermissionError"
    assert printed("print(open('data/in.txt').read())", repl) == "given\n"
    printed(
        "import os\nfor f in os.listdir('.'):\n    if f != 'data': os.remove(f)\nopen('out.txt', 'w').write('mine')",
        repl,
    )
    assert repl.files_written() == {"out.txt": b"mine"}


def test_long_output_keeps_its_head_and_its_tail():
    outcome = run("for i in range(10_000): print(i)", make_repl(output_chars=1_000))
    assert outcome.stdout.startswith("0\n1\n2\n")
    assert outcome.stdout.endswith("9998\n9999\n")
    assert "characters omitted" in outcome.stdout
    assert outcome.stdout_chars == sum(len(f"{i}\n") for i in range(10_000))
    assert len(outcome.stdout) < 1_100


def test_what_a_cell_prints_to_standard_error_is_shown_too():
    source = "import sys, warnings, logging\nprint('e', file=sys.stderr)\nwarnings.warn('w')\nlogging.warning('l')"
    assert printed(source) == "e\nUserWarning: w\nWARNING:root:l\n"


OWN = "class tools:\n    limit = 3\n    def twice(x): return 2 * x\n"


def test_a_class_of_the_session_serves_as_a_module_of_its_name():
    cell = OWN + "import tools as t\nfrom tools import limit, twice\nprint(t is tools, twice(limit))"
    assert printed(cell) == "True 6\n"


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("from tools import missing", "missing"),
        ("from tools import mro", "mro"),
        ("from tools import __subclasses__", "__subclasses__"),
        ("import tools.limit", "No module named"),
        ("import other", "No module named"),
    ],
)
def test_from_a_class_comes_what_a_cell_could_read_of_it_and_nothing_else(statement, message):
    result = run(OWN + "other = tools\n" + statement)
    assert message in result.error.message


def test_a_real_facade_goes_before_a_class_of_its_name():
    assert printed("class json: pass\nimport json\nprint(json.dumps([1]))") == "[1]\n"
