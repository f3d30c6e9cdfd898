import dataclasses
import json
import re

import pytest

from rlm_adapters.events import EVENT_TYPES, HEAD_CHARS, SCHEMA_VERSION, Event


@pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))
def test_an_event_of_every_type_survives_json(event_type):
    event = Event(
        type=event_type,
        run_id="r",
        parent_run_id="p",
        depth=2,
        iteration=3,
        id="lm-3",
        parent="r",
        data={"x": ["é\n", None, {"y": 1.5}]},
    )
    line = event.to_json()
    assert "\n" not in line
    assert Event.from_json(line) == event
    assert json.loads(line)["version"] == SCHEMA_VERSION


def test_an_event_cannot_be_changed():
    event = Event(type="final", run_id="r")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.run_id = "other"


def test_a_value_that_json_does_not_know_is_written_as_its_repr():
    event = Event(
        type="final",
        run_id="r",
        data={
            "answer": {
                1,
            }
        },
    )
    assert json.loads(event.to_json())["data"] == {"answer": "{1}"}


def test_a_reader_ignores_keys_of_a_later_writer():
    record = json.loads(Event(type="final", run_id="r").to_json()) | {"added_later": 1}
    assert Event.from_json(json.dumps(record)).type == "final"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "event schema 99 is not known here"),
        ({"type": "nonsense"}, "unknown event type 'nonsense'"),
        ({"version": None}, "event schema None"),
    ],
)
def test_a_foreign_record_is_refused_with_the_reason(change, message):
    record = json.loads(Event(type="final", run_id="r").to_json()) | change
    with pytest.raises(ValueError, match=re.escape(message)):
        Event.from_json(json.dumps(record))


@pytest.mark.parametrize("text", ["[1]", "{}", '{"version": 1, "type": "final"}', '"x"'])
def test_what_is_no_event_is_refused(text):
    with pytest.raises(ValueError, match="serialised event"):
        Event.from_json(text)


def test_an_event_of_version_1_is_read():
    line = '{"version": 1, "type": "code", "run_id": "r", "time": 1.5, "iteration": 2, "data": {"code": "x"}}'
    assert Event.from_json(line) == Event(type="code", run_id="r", time=1.5, iteration=2, data={"code": "x"})


@pytest.mark.parametrize(
    "change", [{"run_id": 3}, {"run_id": None}, {"time": "now"}, {"time": 10**400}, {"time": -1}, {"time": True}]
)
def test_an_event_whose_run_or_time_is_none_is_refused(change):
    record = json.loads(Event(type="final", run_id="r").to_json()) | change
    with pytest.raises(ValueError, match="wrong run_id or time"):
        Event.from_json(json.dumps(record))


def test_an_event_with_heads_has_no_long_texts_and_no_messages():
    data = {"prompt": "x" * 1_000, "prompt_chars": 1_000, "function": "f" * 1_000, "messages": [1]}
    assert Event(type="call_started", run_id="r", data=data).with_heads().data == {
        "prompt": "x" * HEAD_CHARS, "prompt_chars": 1_000, "function": "f" * 1_000
    }  # fmt: skip
    event = Event(type="cell_output", run_id="r", data={"stdout": "x" * 1_000, "stdout_chars": 1_000})
    assert event.with_heads() is event


def test_every_type_is_documented_with_its_keys():
    from pathlib import Path

    import rlm_adapters.events as module

    text = Path(module.__file__).read_text(encoding="utf-8")
    for event_type in EVENT_TYPES:
        assert re.search(rf"^``{event_type}``$", text, re.MULTILINE), event_type
