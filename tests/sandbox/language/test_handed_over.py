"""What a cell hands over, as its answer or as an argument: data arrives as data, and the rest is refused with a way out."""

from __future__ import annotations

import pytest

from tests.sandbox.language.cell_repl import ScriptedHost, make_repl, printed, run

DATA = [
    ("(x * x for x in range(4))", [0, 1, 4, 9]),
    ("range(3)", [0, 1, 2]),
    ("map(str, [1, 2])", ["1", "2"]),
    ("zip('ab', [1, 2])", [["a", 1], ["b", 2]]),
    ("filter(None, [0, 1])", [1]),
    ("enumerate('ab')", [[0, "a"], [1, "b"]]),
    ("reversed([1, 2])", [2, 1]),
    ("iter([1])", [1]),
    ("{'a': 1, 'b': 2}.keys()", ["a", "b"]),
    ("{'a': 1}.values()", [1]),
    ("{'a': 1}.items()", [["a", 1]]),
    ("{3, 1, 2}", [1, 2, 3]),
    ("frozenset('a')", ["a"]),
    ("collections.deque([1])", [1]),
    ("collections.Counter('aab')", {"a": 2, "b": 1}),
    ("collections.OrderedDict(a=1)", {"a": 1}),
    ("itertools.islice(itertools.count(), 3)", [0, 1, 2]),
    ("re.finditer('a', 'aa') and (m.group() for m in re.finditer('a', 'aa'))", ["a", "a"]),
    ("{'nested': (x for x in 'ab'), 'more': [range(2)]}", {"nested": ["a", "b"], "more": [[0, 1]]}),
    ("{(1, 'a'): 2}", {"(1, 'a')": 2}),
    ("datetime.date(2024, 2, 29)", "2024-02-29"),
    ("{datetime.date(2024, 2, 29): 1}", {"2024-02-29": 1}),
    ("decimal.Decimal('1.50')", "1.50"),
    ("pathlib.Path('a/b')", "a/b"),
    ("ValueError('no such page')", "no such page"),
    ("1 + 2j", "(1+2j)"),
    ("Point(1, 2)", {"x": 1, "y": 2}),
    ("Named()", "by name"),
    ("Colour.RED", "red"),
    ("float('inf')", "inf"),
]
NO_DATA = [
    ("len", "builtin_function_or_method", "call it"),
    ("(lambda: 1)", "function", "call it"),
    ("Named", "type", "call it"),
    ("llm_query", "function", "call it"),
    ("object()", "object", "a dict of its fields"),
    ("Nameless()", "Nameless", "a dict of its fields"),
    ("[1, Nameless()]", "Nameless", "a dict of its fields"),
    ("{'a': {'b': Nameless()}}", "Nameless", "a dict of its fields"),
    ("{Nameless(): 1}", "Nameless", "a dict of its fields"),
    ("re.match('a', 'a')", "Match", "made with str()"),
    ("io.StringIO('a')", "StringIO", "read it first"),
    ("later()", "coroutine", "await it first"),
]
PRELUDE = """
import collections, dataclasses, datetime, decimal, enum, io, itertools, pathlib, re
@dataclasses.dataclass
class Point:
    x: int
    y: int
class Named:
    def __str__(self): return "by name"
class Nameless: pass
class Colour(enum.Enum):
    RED = "red"
async def later(): return 1
"""
WAYS_TO_ANSWER = [
    "SUBMIT({})",
    "FINAL({})",
    "value = {}\nFINAL_VAR('value')",
    "answer = {{'content': {}, 'ready': True}}",
]


@pytest.mark.parametrize("way", WAYS_TO_ANSWER)
@pytest.mark.parametrize(("expression", "expected"), DATA)
def test_data_becomes_json(expression, expected, way):
    outcome = run(PRELUDE + way.format(expression))
    assert outcome.error is None, outcome.error
    assert outcome.final is not None
    assert outcome.final.value == expected


@pytest.mark.parametrize(("expression", "expected"), DATA)
def test_an_argument_follows_the_same_rule(expression, expected):
    host = ScriptedHost(lambda call: "ok")
    printed(f"{PRELUDE}\nlookup({expression}, by_name={expression})", make_repl(host))
    ((call,),) = host.batches
    assert call.args == [expected]
    assert call.kwargs == {"by_name": expected}


@pytest.mark.filterwarnings("ignore:coroutine 'later' was never awaited")
@pytest.mark.parametrize("way", [*WAYS_TO_ANSWER, "lookup({})", "llm_query({})", "llm_query_batched([{}])"])
@pytest.mark.parametrize(("expression", "type_name", "remedy"), NO_DATA)
def test_what_is_not_data_is_refused_with_the_way_out(expression, type_name, remedy, way):
    host = ScriptedHost()
    outcome = run(PRELUDE + way.format(expression), make_repl(host))
    assert outcome.final is None
    assert host.batches == []
    assert outcome.error is not None
    assert outcome.error.type == "TypeError"
    assert f"'{type_name}' is not data and cannot be handed over" in outcome.error.message
    assert remedy in outcome.error.message


@pytest.mark.parametrize("code", ["SUBMIT(itertools.count())", "lookup([itertools.repeat('a')])"])
def test_what_does_not_end_is_refused(code):
    outcome = run(PRELUDE + code)
    assert outcome.final is None
    assert outcome.error is not None
    assert "more than 5,000,000 items" in outcome.error.message


def test_a_generator_that_asks_sub_lms_is_an_answer():
    host = ScriptedHost()
    outcome = run("SUBMIT(llm_query(p) for p in 'ab')", make_repl(host))
    assert outcome.final is not None
    assert outcome.final.value == ["A(a)", "A(b)"]
    outcome = run("answer = {'content': (llm_query(p) for p in 'ab'), 'ready': True}", make_repl(host))
    assert outcome.final is not None
    assert outcome.final.value == ["A(a)", "A(b)"]


def test_an_error_inside_a_generator_is_the_cells_error():
    outcome = run("SUBMIT(1 / x for x in (1, 0))")
    assert outcome.final is None
    assert outcome.error is not None
    assert outcome.error.type == "ZeroDivisionError"


@pytest.mark.parametrize("models", ["(m for m in 'mn')", "itertools.cycle('mn')", "{'m': 1, 'n': 1}.keys()"])
def test_a_further_argument_of_a_batch_is_taken_apart_whatever_its_kind(models):
    host = ScriptedHost()
    run(f"import itertools\nllm_query_batched((p for p in 'ab'), model={models})", make_repl(host))
    assert [call.args for call in host.batches[0]] == [["a", "m"], ["b", "n"]]
