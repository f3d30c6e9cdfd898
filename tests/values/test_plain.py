"""Objects that people have as the plain values of an input."""

import datetime as dt
import decimal
import json
import uuid
from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel

from rlm_adapters.errors import InputError
from rlm_adapters.values.content import ContentStore
from rlm_adapters.values.frames import plain_table
from rlm_adapters.values.plain import path_hint, plain_input, plain_items

WHEN = dt.datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001 - as tables have them


def test_a_pandas_table_keeps_its_values_and_tells_its_types():
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [1.5, float("nan")],
            "s": ["a", None],
            "when": [WHEN, pd.NaT],
            "k": pd.Categorical(["u", "v"]),
            "i": pd.array([1, None], dtype="Int64"),
            "d": [decimal.Decimal("1.5"), None],
            "l": [[1, 2], {"deep": np.int64(3)}],
        }
    )
    records, note = plain_table(frame)
    assert records == [
        {"n": 1, "x": 1.5, "s": "a", "when": "2026-01-02T03:04:00", "k": "u", "i": 1, "d": 1.5, "l": [1, 2]},
        {"n": 2, "x": None, "s": None, "when": None, "k": "v", "i": None, "d": None, "l": {"deep": 3}},
    ]
    json.dumps(records, allow_nan=False)
    assert note.startswith("2 rows of a pandas DataFrame with the columns n: int64, x: float64")
    assert "k: category, i: Int64" in note


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (pd.DataFrame({"a": [1]}, index=["r"]), [{"index": "r", "a": 1}]),
        (pd.DataFrame({"a": [1]}, index=pd.Index(["r"], name="id")), [{"id": "r", "a": 1}]),
        (pd.DataFrame({"a": [1, 2], "b": [3, 4]}).set_index(["a", "b"]), [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
        (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])), [{"index_0": 1, "index_1": 2, "a": 1}]),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), [{"x": 1, "x_2": 2}]),
        (pd.DataFrame({("a", "b"): [1], ("c", ""): [2]}), [{"a.b": 1, "c": 2}]),
        (pd.DataFrame(), []),
        (pd.DataFrame({"a": [True, False]})["a"], [True, False]),
        (pd.Series({"q": 1}, name="v"), [{"index": "q", "v": 1}]),
        (pd.Series([1.0, None]), [1.0, None]),
        (pd.Index([1, 2]), [1, 2]),
        (
            pl.DataFrame({"a": [1, None], "d": [WHEN, None]}),
            [{"a": 1, "d": "2026-01-02T03:04:00"}, {"a": None, "d": None}],
        ),
        (pl.Series("z", [1.0, float("nan")]), [1.0, None]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.0, np.nan]), [1.0, None]),
        (np.array([(1, "a")], dtype=[("i", int), ("s", "U1")]), [{"i": 1, "s": "a"}]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.array(["2026-01-02"], dtype="datetime64[D]"), ["2026-01-02"]),
        (np.float64("nan"), None),
        (np.int64(3), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tables_columns_and_arrays(value, plain):
    converted, note = plain_table(value)
    assert converted == plain
    assert note
    ContentStore().of("run-" + "0" * 32).pack(converted)


def test_an_arrow_table():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [1], "b": [WHEN]})
    assert plain_table(table) == (
        [{"a": 1, "b": "2026-01-02T03:04:00"}],
        "1 rows of a PyArrow table with the columns a: int64, b: timestamp[us]",
    )


def test_a_subclass_of_a_table_is_one():
    class Own(pd.DataFrame):
        pass

    assert plain_table(Own({"a": [1]}))[0] == [{"a": 1}]


def test_other_values_are_none_of_it():
    for value in ([1], {"a": 1}, "text", None, object(), pd.DataFrame):
        assert plain_table(value) is None


class Model(BaseModel):
    when: dt.date


@dataclass
class Record:
    n: int


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Document("x", metadata={"n": 1}), [{"page_content": "x", "metadata": {"n": 1}}]),
        ([Document("x")], [{"page_content": "x", "metadata": {}}]),
        (HumanMessage("hi"), {"role": "user", "content": "hi"}),
        (
            [
                AIMessage("", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "1"}]),
                ToolMessage("r", tool_call_id="1"),
            ],
            [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"type": "function", "id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}],
                },
                {"role": "tool", "content": "r", "tool_call_id": "1"},
            ],
        ),
        (Model(when=dt.date(2026, 1, 2)), {"when": "2026-01-02"}),
        (Record(3), {"n": 3}),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (decimal.Decimal("1.5"), 1.5),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ((1, 2), [1, 2]),
        (range(2), [0, 1]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_of_other_kinds(value, plain):
    assert plain_input(value)[0] == plain


def test_what_is_plain_already_is_not_copied():
    for value in ("text", b"bytes", [1, "a"], {"a": [1]}, 5, None, object):
        assert plain_input(value)[0] is value


def test_objects_inside_of_containers():
    value = {"t": pd.DataFrame({"a": [1]}), "l": [Record(3), dt.date(2026, 1, 2)], 5: {"deep": np.int64(1)}}
    plain, note = plain_items(value)
    assert plain == {"t": [{"a": 1}], "l": [{"n": 3}, "2026-01-02"], "5": {"deep": 1}}
    assert "'t': 1 rows of a pandas DataFrame with the columns a: int64" in note


def test_a_generator_is_refused():
    with pytest.raises(InputError, match=r"a generator can be read only once: give list\(\.\.\.\)"):
        plain_input(x for x in "abc")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("a.txt", "pathlib.Path('a.txt')"),
        ("my report.PDF", "pathlib.Path('my report.PDF')"),
        ("/tmp/x", "pathlib.Path('/tmp/x')"),
        ("~/x", "pathlib.Path('~/x')"),
        ("C:\\a", "pathlib.Path('C:\\\\a')"),
        ("https://x.org/a b", ""),
        ("https://x.org/a", "rlm_adapters.URL('https://x.org/a')"),
        ("a.txt\nb", ""),
        ("word", ""),
        ("x" * 400 + ".txt", ""),
        ("Is it 3.5?", ""),
        (5, ""),
    ],
)
def test_the_hint_for_a_text_that_looks_like_a_path(text, remedy):
    hint = path_hint("context", text)
    assert remedy in hint
    assert bool(hint) == bool(remedy)
