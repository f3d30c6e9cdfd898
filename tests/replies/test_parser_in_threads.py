"""Threads that parse at the same time: old versions of Python raise SystemError then, which is no answer."""

import ast
from concurrent.futures import ThreadPoolExecutor

import pytest

from rlm_adapters.dspy.echo import with_echo
from rlm_adapters.graph.approval import called_functions
from rlm_adapters.replies import read_reply
from rlm_adapters.replies.syntax import undisturbed
from rlm_adapters.values.type_names import type_named

REPLIES = ["```python\nx = [1, 2]\nprint(f(x))\n```", "FINAL('an answer')", "FINAL([1, 2])"]


def disturbed(function, times):
    """The function, which fails as often before each success."""
    left = times

    def parse(*args, **kwargs):
        nonlocal left
        if left:
            left -= 1
            raise SystemError("AST constructor recursion depth mismatch (before=39, after=33)")
        left = times
        return function(*args, **kwargs)

    return parse


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_is_read_as_ever(reply, monkeypatch):
    expected = read_reply(reply)
    monkeypatch.setattr(ast, "parse", disturbed(ast.parse, 3))
    assert read_reply(reply) == expected


def test_functions_that_need_approval_are_found_as_ever(monkeypatch):
    monkeypatch.setattr(ast, "parse", disturbed(ast.parse, 3))
    assert called_functions("f(1)\ng(2)", frozenset({"g"})) == (("g", 2),)


def test_what_else_cells_write_is_read_as_ever(monkeypatch):
    code, named = with_echo("x = 1\nx"), type_named("list[int]")
    monkeypatch.setattr(ast, "parse", disturbed(ast.parse, 3))
    assert (with_echo("x = 1\nx"), type_named("list[int]")) == (code, named)


def test_a_parser_that_always_fails_is_not_called_forever():
    with pytest.raises(SystemError):
        undisturbed(disturbed(ast.parse, 10_000), "x")


def test_many_threads_read_at_once():
    cell = "\n".join(f"x{n} = [f(a, {n}) for a in range({n})] if g({n}) else {{'k': (1, 2, [3])}}" for n in range(60))
    with ThreadPoolExecutor(8) as pool:
        readings = list(pool.map(lambda _: read_reply(f"```python\n{cell}\n```"), range(300)))
    assert {reading.code for reading in readings} == {(cell,)}
