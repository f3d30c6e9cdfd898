"""Errors read like Python's own, and refusals say what to do instead."""

from __future__ import annotations

import pytest

from tests.sandbox.language.cell_repl import make_repl, printed, run


def failure(source, repl=None):
    outcome = run(source, repl)
    assert outcome.error is not None, outcome.stdout
    return outcome.error


def test_a_traceback_shows_the_lines_of_the_cells_only():
    repl = make_repl()
    run("def ratio(a, b):\n    return a / b\n", repl)
    error = failure("import functools\n\nprint(functools.reduce(ratio, [1, 0]))", repl)
    assert (error.kind, error.type, error.message, error.line) == (
        "exception",
        "ZeroDivisionError",
        "division by zero",
        3,
    )
    assert error.traceback == (
        "Traceback (most recent call last):\n"
        '  File "<cell 2>", line 3, in <module>\n'
        "    print(functools.reduce(ratio, [1, 0]))\n"
        '  File "<cell 1>", line 2, in ratio\n'
        "    return a / b\n"
        "ZeroDivisionError: division by zero\n"
    )


def test_a_syntax_error_points_at_the_place():
    error = failure("x = 1\ny = = 2\n")
    assert (error.kind, error.type, error.line) == ("syntax", "SyntaxError", 2)
    assert "    y = = 2\n        ^\n" in error.traceback


def test_output_before_an_error_is_kept():
    outcome = run("print('before')\n1/0")
    assert outcome.stdout == "before\n"


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("exec('x = 1')", "write the code directly"),
        ("print(eval('1 + 1'))", "ast.literal_eval"),
        ("import requests", "no network"),
        ("from urllib.request import urlopen", "no network"),
        ("import subprocess", "programs cannot be started"),
        ("import openai", "llm_query"),
        ("import pandas as pd", "plain Python"),
        ("import pickle", "json"),
        ("input('name?')", "nobody can answer"),
        ("open('missing.txt')", "the input is in variables"),
        ("().__class__.__bases__", "not available here"),
        ("!pip install x", "notebook magics"),
        ("from os import *", "import the names that you need"),
        ("class M(type): pass", "cannot be subclassed"),
        ("type('X', (), {})", "class statement"),
        ("async def f(): pass\nclass A(metaclass=f): pass", "abc.ABCMeta"),
    ],
)
def test_a_refusal_says_what_to_do_instead(source, advice):
    error = failure(source)
    assert advice in error.traceback


def test_a_refused_cell_does_not_run_at_all():
    repl = make_repl()
    error = failure("x = 1\nprint(x.__class__.__mro__)", repl)
    assert (error.kind, error.line) == ("policy", 2)
    assert "    print(x.__class__.__mro__)\n" in error.traceback
    assert error.traceback.endswith("Nothing of this block ran: it was checked as a whole first.\n")
    assert failure("x", repl).type == "NameError"


def test_a_syntax_error_says_that_nothing_ran():
    assert "Nothing of this block ran" in failure("print(1)\ny = = 2").traceback


@pytest.mark.parametrize("source", ["int('x')", "import ast\nast.literal_eval('= 1')", "exec('y = = 2')"])
def test_an_error_at_run_time_does_not_say_it(source):
    assert "Nothing of this block ran" not in failure(source).traceback


@pytest.mark.parametrize("call", ["exec('y = 1')", "eval('1')", "compile('1', '', 'eval')", "breakpoint()"])
def test_what_can_only_fail_when_it_is_reached_fails_then(call):
    assert printed(f"if False:\n    {call}\nprint('on')") == "on\n"
    outcome = run(f"print('before')\n{call}\nprint('after')")
    assert outcome.stdout == "before\n"
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.type, outcome.error.line) == ("exception", "RuntimeError", 2)
    assert outcome.error.traceback.count(outcome.error.message) == 1


@pytest.mark.parametrize(
    "source", ["x = '' + ().__mro__[0] + ().__mro__[0]", "__loader__ = __loader__", "print(f'{_x_}')"]
)
def test_one_mistake_is_told_once(source):
    error = failure(source)
    assert error.traceback.count(error.message) == 1


def test_a_function_of_the_cells_own_may_be_called_eval():
    assert printed("def eval(x):\n    return x * 2\nprint(eval(4))") == "8\n"


def test_an_attribute_error_of_a_module_names_the_module():
    assert "module 'json'" in failure("import json\njson.nope").message


def test_a_deep_recursion_is_shown_shortened():
    error = failure("def f(n):\n    return f(n + 1)\nf(0)")
    assert error.type == "RecursionError"
    assert len(error.traceback) < 3_000
    assert "frames omitted" in error.traceback


@pytest.mark.parametrize(
    "source",
    [
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E()",
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E()",
        "class E(Exception):\n    def __str__(self): return 5\nraise E()",
        "class E(Exception):\n    def __repr__(self): raise E\nraise KeyError(E())",
        "class A:\n    def __repr__(self): raise ValueError('no')\nA()",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "import sys\nsys.exit('failed')",
        "class E(BaseException): pass\nraise E('x')",
        "\ud800 = 1",
        "x = '\x00'",
        "(" * 500 + ")" * 500,
        "x = " + "[" * 3000 + "]" * 3000,
        "x = " + "-" * 30000 + "1",
        "",
        "# nothing",
    ],
)
def test_whatever_a_cell_does_run_returns(source):
    repl = make_repl()
    run(source, repl)
    assert printed("print(1 + 1)", repl) == "2\n"


def test_leaving_by_exit_is_no_error():
    assert run("print('a')\nexit()\nprint('b')").stdout == "a\n"
    assert run("import sys\nsys.exit(0)").error is None
