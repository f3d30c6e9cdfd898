"""What is read of a trace: all that is sound, and no file but the texts that belong to it."""

import hashlib
import json
import os
import threading

import pytest

from rlm_adapters import InputError
from rlm_adapters.events import Event
from rlm_adapters.traces.content import Text
from rlm_adapters.traces.reader import TraceReader, read_events
from rlm_adapters.traces.writer import TraceWriter


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def line(version=2, **data):
    return json.dumps({"version": version, "type": "call_started", "run_id": "r", "time": 1.0, "data": data}) + "\n"


def reference(text, head="", digest=None):
    return {"$text": {"head": head, "chars": len(text), "sha256": digest or hashlib.sha256(text.encode()).hexdigest()}}


def keep(path, digest, data):
    """Put bytes where the text of a digest is looked for."""
    folder = path.parent / "run.jsonl.content"
    folder.mkdir()
    (folder / f"{'b' * 16}.texts").write_bytes(f"{digest} {len(data)}\n".encode() + data + b"\n")


@pytest.mark.parametrize("header", [b"x", b"9" * 64 + b" 99999999999999\nshort\n", b"", b"\n" * 90])
def test_a_file_of_texts_that_is_none_is_passed_over(path, header):
    folder = path.parent / "run.jsonl.content"
    folder.mkdir()
    (folder / f"{'a' * 16}.texts").write_bytes(header)
    text = "w" * 5_000
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / f"{'b' * 16}.texts").write_bytes(f"{digest} 5000\n{text}\n".encode())
    path.write_text(line(prompt=reference(text)) + line(prompt=reference("z" * 9, digest="9" * 64)))
    first, second = read_events(path)
    assert first.data["prompt"] == text
    assert "not kept" in second.data["prompt"]


@pytest.mark.parametrize("digest", ["../secret", "a" * 63, "A" * 64, "a" * 64 + "/", "../" + "a" * 61, "a" * 64 + "\n"])
def test_a_reference_that_is_no_digest_is_no_event(path, digest):
    (path.parent / "secret").write_text("secret")
    path.write_text(line(prompt=reference("secret", digest=digest)) + line())
    reader = TraceReader(path)
    assert [event.data for event in reader] == [{}]
    assert reader.damaged == 1


@pytest.mark.parametrize("given", ["x", None, [], {"head": 3, "chars": 1}, {"head": "x", "chars": "1"}, {"chars": 1}])
def test_a_reference_of_another_shape_is_no_event(path, given):
    path.write_text(line(prompt={"$text": given}) + line())
    reader = TraceReader(path)
    assert [event.data for event in reader] == [{}]
    assert reader.damaged == 1


def test_a_text_that_is_lost_or_another_one_is_told_by_its_head(path):
    text = "w" * 5_000
    path.write_text(line(prompt=reference(text, head="www")) * 2)
    told = "www... [4,997 more characters, which were not kept]"
    assert {event.data["prompt"] for event in read_events(path)} == {told}
    keep(path, hashlib.sha256(text.encode()).hexdigest(), b"another text")
    assert {event.data["prompt"] for event in read_events(path)} == {told}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_text_that_is_no_file_does_not_stop_the_reader(path):
    folder = path.parent / "run.jsonl.content"
    folder.mkdir()
    os.mkfifo(folder / f"{'a' * 16}.texts")
    path.write_text(line(prompt=reference("x" * 9, digest="a" * 64)))
    (event,) = read_events(path)
    assert "not kept" in event.data["prompt"]


def test_bytes_that_are_no_text_are_read_all_the_same(path):
    data = b"\xff\xfe bytes " * 100
    digest = hashlib.sha256(data).hexdigest()
    keep(path, digest, data)
    path.write_text(line(prompt=reference("x" * 1_000, digest=digest)))
    (event,) = read_events(path)
    assert "bytes" in event.data["prompt"]


def test_lines_that_are_no_events_are_counted(path):
    deep = '{"version": 2, "type": "final", "run_id": "r", "time": 1, "data": {"x": ' + "[" * 50_000 + "}\n"
    rest = '{"version": 2, "type": "nonsense", "run_id": "r", "time": 1}\n[1]\nhello\n\n\xff\n'
    path.write_text(line() + deep + rest + line())
    reader = TraceReader(path)
    assert len(list(reader)) == 2
    assert reader.damaged == 6


def test_a_trace_of_version_1_is_read_as_it_was_written(path):
    data = {"answer": {"$text": "a value of that time"}}
    path.write_text(line(version=1, **data))
    assert [event.data for event in read_events(path)] == [data]


def test_lazy_texts_are_read_when_asked(path):
    writer = TraceWriter(path)
    writer(Event(type="call_started", run_id="r", data={"prompt": "x" * 5_000, "function": "f"}))
    writer.settle()
    (event,) = TraceReader(path, texts="lazy")
    text = event.data["prompt"]
    assert isinstance(text, Text)
    assert (text.head, text.chars, text.read()) == ("x" * 300, 5_000, "x" * 5_000)
    assert event.data["function"] == "f"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), ("", "it is empty"), ("hello\n", "not JSON"), ("{}\n", "not a serialised event")],
)
def test_what_is_no_trace_is_refused_with_the_reason(path, content, message):
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        list(read_events(path))


def test_a_run_is_followed_while_it_is_written(path):
    writer = TraceWriter(path)
    writer(Event(type="run_started", run_id="r"))
    writer.settle()
    more = threading.Event()
    found = []
    for event in TraceReader(path).follow(lambda: len(found) == 3, 0.01):
        if event is None and not more.is_set():
            more.set()
            with path.open("a") as file:  # a line in two halves, as another process may write it
                file.write(line(prompt="a")[:20])
            threading.Timer(0.05, _append, (path, line(prompt="a")[20:] + line(prompt="b"))).start()
        elif event is not None:
            found.append(event)
    assert [event.data.get("prompt") for event in found] == [None, "a", "b"]


def _append(path, text):
    with path.open("a") as file:
        file.write(text)
