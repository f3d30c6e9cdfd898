"""Reading rows, and what each of them is asked."""

import json
import tracemalloc

import pytest

from rlm_adapters.datasets.question import RowQuestion
from rlm_adapters.datasets.rows import Row, read_rows
from rlm_adapters.errors import InputError


def rows_of(data, field=None):
    return list(read_rows(data, field))


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"a": "1", "b": "x"}\n\n{"a": "2", "b": "y\\n"}\n'),
        ("rows.jsonl", '\ufeff{"a": "1", "b": "x"}\r\n{"a": "2", "b": "y\\n"}'),
        ("rows.json", ' [{"a": "1", "b": "x"}, {"a": "2", "b": "y\\n"}]'),
        ("rows.json", '{"a": "1", "b": "x"}\n{"a": "2", "b": "y\\n"}\n'),
        ("rows.csv", 'a,b\n1,x\n2,"y\n"\n'),
        ("rows.tsv", "\ufeffa\tb\n1\tx\n2\t'y\n'\n".replace("'", '"')),
    ],
)
def test_all_forms_of_a_data_set_give_the_same_rows(tmp_path, name, content):
    found = rows_of(written(tmp_path, name, content))
    assert [dict(row.values) for row in found] == [{"a": "1", "b": "x"}, {"a": "2", "b": "y\n"}]
    assert [row.id for row in found] == [row.id for row in rows_of([dict(row.values) for row in found])]


def test_a_row_that_has_changed_has_another_id_and_the_others_keep_theirs(tmp_path):
    before = rows_of([{"a": 1}, {"a": 2}])
    after = rows_of({"a": value} for value in (1, 3))
    assert before[0].id == after[0].id
    assert before[1].id != after[1].id
    assert rows_of([{"a": 1, "b": 2}])[0].id == rows_of([{"b": 2, "a": 1}])[0].id


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("rows.jsonl", '{"a": 1}\n[1]\n', "line 2 is a list"),
        ("rows.jsonl", b'{"a": "\xff"}\n', "line 1 is not UTF-8"),
        ("rows.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("rows.json", '[{"a": 1},', "rows.json is not JSON"),
        ("rows.json", "[1]", "entry 1 is a int"),
        ("rows.csv", "a,b\n1,2\n1\n", "line 3 has more or fewer values than the 2 columns"),
        ("rows.csv", "a,b\n1,2,3\n", "line 2 has more or fewer values"),
        ("rows.csv", "a,a\n1,2\n", "two columns 'a'"),
        ("rows.csv", b"a,b\n1,\xff\n", "not UTF-8"),
        ("rows.csv", f"a\n{'x' * 140_000}\n", "csv.field_size_limit"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, name, content, says):
    with pytest.raises(InputError, match=says):
        rows_of(written(tmp_path, name, content))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (["text"], "row 1 is a str"),
        ({"a": 1}, "give a path, or an iterable of dicts"),
        (7, "give a path, or an iterable of dicts"),
    ],
)
def test_data_that_is_no_rows_is_refused(data, says):
    with pytest.raises(InputError, match=says):
        rows_of(data)


@pytest.mark.parametrize("value", [None, True, 1.5, "", ["a"], {}])
def test_an_id_is_text_or_a_whole_number(value):
    with pytest.raises(InputError, match="row 1: the id key="):
        rows_of([{"key": value}], "key")
    with pytest.raises(InputError, match="row 2 has no 'key'"):
        rows_of([{"key": "a"}, {"other": 1}], "key")
    assert [row.id for row in rows_of([{"key": 1}, {"key": "1"}], "key")] == [1, "1"]


def test_lines_are_read_one_by_one(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for number in range(5_000):
            file.write(json.dumps({"number": number, "text": "x" * 500}) + "\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path, None)) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 500_000  # of 2.5 MB
    finally:
        tracemalloc.stop()


# The question


def asked(question, values, fields=None):
    return RowQuestion(question, fields).of(Row("1", values, "row 1"))


def test_a_question_takes_values_of_the_row_and_the_rest_is_the_context():
    row = {"name": "{text} {0.__class__}", "text": "long", "n": 3, "tags": ["ä"]}
    assert asked("Who is {name}?", row)[0] == "Who is {text} {0.__class__}?"
    assert asked("Who is {name}?", row)[1] == {"text": "long", "n": 3, "tags": ["ä"]}
    assert asked("{n} {tags} {{n}}", row)[0] == '3 ["ä"] {n}'
    assert asked("Who?", row, ["text"]) == ("Who?", "long")
    assert asked("Who?", row, ["text", "n"]) == ("Who?", {"text": "long", "n": 3})
    assert asked("{name}", {"name": "a"}) == ("a", None)
    assert asked("{a.b} {c[0]}", {"a.b": 1, "c[0]": 2})[0] == "1 2"


@pytest.mark.parametrize("question", ["", "  ", "{", "}", "{}", "{a!r}", "{a:>3}", 'Give {"a": 1}', None])
def test_a_question_that_is_no_template_is_refused(question):
    with pytest.raises(InputError, match="question="):
        RowQuestion(question)


def test_a_column_that_is_missing_is_named_with_those_that_are_there():
    with pytest.raises(InputError, match="row 1 has no 'title': it has 'text'"):
        asked("{title}", {"text": "a"})
    with pytest.raises(InputError, match="row 1 has no 'body'"):
        asked("Who?", {"text": "a"}, ["body"])
    with pytest.raises(InputError, match="the question is empty"):
        asked("{title}", {"title": " "})
