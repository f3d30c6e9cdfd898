"""Validation of answers."""

from typing import Literal

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from rlm_adapters import InputError
from rlm_adapters.values.answers import InvalidAnswerError, OutputSpec


class Person(BaseModel):
    name: str
    age: int | None = None


class Point(TypedDict):
    x: int
    y: int


SCHEMA = {"type": "object", "properties": {"ids": {"type": "array", "items": {"type": "integer"}}}, "required": ["ids"]}


@pytest.mark.parametrize(
    ("output", "given", "expected"),
    [
        (None, {"any": [1]}, {"any": [1]}),
        (int, 5, 5),
        (int, "5", 5),
        (str, "text", "text"),
        (list[str], '["a", "b"]', ["a", "b"]),
        (Person, {"name": "Ann"}, {"name": "Ann", "age": None}),
        (Person, '```json\n{"name": "Ann", "age": 3}\n```', {"name": "Ann", "age": 3}),
        (Point, {"x": 1, "y": 2}, {"x": 1, "y": 2}),
        (Literal["yes", "no"], "yes", "yes"),
        (SCHEMA, {"ids": [1, 2]}, {"ids": [1, 2]}),
        (SCHEMA, [1, 2], {"ids": [1, 2]}),
        ({"type": "string"}, 7, "7"),
    ],
)
def test_answers_that_fit_are_taken(output, given, expected):
    spec = OutputSpec.of(output)
    assert spec.to_json(spec.validate(given)) == expected


@pytest.mark.parametrize(
    ("output", "given", "message"),
    [
        (int, "many", "valid integer"),
        (Person, {"age": 3}, "name: Field required"),
        (SCHEMA, {"ids": ["a"]}, "ids.0: 'a' is not of type 'integer'"),
        (Literal["yes", "no"], "maybe", "'yes' or 'no'"),
    ],
)
def test_others_are_refused_with_place_and_reason(output, given, message):
    with pytest.raises(InvalidAnswerError, match=message):
        OutputSpec.of(output).validate(given)


def test_what_is_asked_for_is_said_in_the_words_of_python():
    assert OutputSpec.of(list[str]).describe() == "SUBMIT(value) with value: list of str"
    words = OutputSpec.of(Person).describe()
    assert words == "SUBMIT(name=..., age=...) with name: str; age: int or None (optional)"


@pytest.mark.parametrize("output", [{"type": "nonsense"}, 5, object()])
def test_an_unusable_output_type_is_refused(output):
    with pytest.raises(InputError, match="output_type"):
        OutputSpec.of(output)
