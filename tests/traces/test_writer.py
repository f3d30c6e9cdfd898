"""A trace holds what was told, within its bound, redacted, whatever the texts hold and whatever ends the process."""

import copy
import hashlib
import json
import os
import pickle
import stat
import threading

import pytest

from rlm_adapters import InputError
from rlm_adapters.events import Event
from rlm_adapters.traces.reader import TraceReader, read_events
from rlm_adapters.traces.writer import TraceWriter, begin_anew


def event(number=0, kind="call_started", **data):
    return Event(type=kind, run_id="r", id=str(number), data=data)


def written(path, *events, **options):
    writer = TraceWriter(path, **options)
    for one in events:
        writer(one)
    writer.settle()
    return list(read_events(path))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def test_events_come_back_as_they_were(path):
    data = {"prompt": "p" * 5_000, "prompt_chars": 5_000, "inner": [{"answer": "é" * 3_000}], "none": None, "n": 1.5}
    events = [event(0, **data), event(1, prompt="short")]
    assert written(path, *events) == events


@pytest.mark.parametrize("text", ["\ud800 half a pair " * 200, "\x00\x1b[31m" * 500, "\u2028" * 2_000, "漢" * 2_000])
def test_any_text_comes_back(path, text):
    assert written(path, event(prompt=text, head=text[:10]))[0].data == {"prompt": text, "head": text[:10]}


def test_long_texts_are_beside_the_lines_once(path):
    text = "w" * 5_000
    written(path, *(event(number, prompt=text) for number in range(10)))
    (file,) = (path.parent / "run.jsonl.content").iterdir()
    assert file.read_text() == f"{hashlib.sha256(text.encode()).hexdigest()} 5000\n{text}\n"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(path.read_bytes()) < 10 * 1_000
    assert lines[0]["data"]["prompt"]["$text"]["head"] == text[:300]
    assert lines[0]["data"]["prompt"]["$text"]["chars"] == 5_000


def messages(*texts):
    return [{"role": "user", "text": text} for text in texts]


def test_a_message_that_was_sent_before_is_not_written_again_and_is_read_again(path):
    told = [
        Event(type="iteration_started", run_id=run, id=str(number), data={"messages": messages(*sent)})
        for number, (run, sent) in enumerate([
            ("a", ["one" * 90, "two"]), ("b", ["other"]), ("a", ["one" * 90, "two", "three"]), ("a", ["one" * 90, "fold"]),
            ("a", ["one" * 90, "fold", "four"]), ("b", []), ("b", ["other"]), ("a", ["new"]),
        ])
    ]  # fmt: skip
    assert written(path, *told) == told
    lines = [json.loads(line)["data"] for line in path.read_text().splitlines()]
    assert [len(line["messages"]) for line in lines] == [2, 1, 1, 1, 1, 0, 1, 1]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[2:]))
    assert next(read_events(path)).data["messages"] == messages("three"), "what was cut off is missing"


@pytest.mark.parametrize("before", [None, "x", -1, 1e9, 10**9, [], True])
def test_a_wrong_count_of_messages_breaks_nothing(path, before):
    written(path, Event(type="iteration_started", run_id="r", data={"messages": messages("one")}))
    path.write_text(path.read_text().replace('"messages_before": 0', f'"messages_before": {json.dumps(before)}'))
    assert next(read_events(path)).data == {"messages": messages("one")}


@pytest.mark.parametrize(
    "value",
    [
        {"$text": {"head": "", "chars": 9, "sha256": "0" * 64}},
        {"$text": {"head": "", "chars": 9, "sha256": "../../etc/passwd"}},
        {"$text": "x"},
        {"$literal": {"$text": {"sha256": "0" * 64}}},
        {"$literal": 1},
        [{"$text": [{"$literal": {}}]}],
    ],
)
def test_what_looks_like_a_reference_is_a_value(path, value):
    assert written(path, event(answer=value))[0].data == {"answer": value}


def test_only_the_owner_can_read_it(path):
    written(path, event(prompt="x" * 5_000))
    folder = path.parent / "run.jsonl.content"
    (text,) = folder.iterdir()
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, folder, text)]
    assert modes == [0o600, 0o700, 0o600]


def test_every_text_is_redacted_wherever_it_stands(path):
    def redact(text):
        return text.replace("4111-1111", "[card]")

    secret = "pay with 4111-1111 " * 100
    data = {
        "prompt": secret, "prompt_chars": len(secret), "answer": {"type": secret, secret: [secret]}, "code": secret,
        "function": "llm_query", "messages": [{"role": "user", "text": secret}], "odd": {secret},
    }  # fmt: skip
    (back,) = written(path, event(**data), redact=redact)
    assert back.data["function"] == "llm_query"
    assert back.data["messages"] == [{"role": "user", "text": redact(secret)}]
    assert back.data["prompt_chars"] == len(redact(secret))
    stored = path.read_bytes() + b"".join(file.read_bytes() for file in path.parent.glob("*.content/*"))
    assert b"4111" not in stored
    assert b"[card]" in stored


@pytest.mark.parametrize("redact", [lambda text: 1 / 0, lambda text: None, lambda text: b"x"])
def test_what_cannot_be_redacted_is_left_out(path, redact):
    written(path, event(prompt="secret" * 1_000, code="secret"), redact=redact)
    assert b"secret" not in path.read_bytes()
    assert not list(path.parent.glob("*.content/*"))


def test_a_trace_has_a_bound_says_so_and_still_tells_how_runs_end(path):
    events = [event(number, prompt=str(number) * 5_000) for number in range(100)]
    end = event("r", kind="run_finished", finish_reason="submitted", answer="a" * 5_000)
    back = written(path, *events, end, max_bytes=100_000)
    assert 15 < len(back) < 20
    assert [one.type for one in back[-2:]] == ["warning", "run_finished"]
    assert "100,000 bytes" in back[-2].data["message"]
    assert back[-1].data["answer"].startswith("a" * 300)
    size = path.stat().st_size + sum(file.stat().st_size for file in path.parent.glob("*.content/*"))
    assert size < 102_000


def test_a_file_that_is_there_is_continued_behind_a_torn_line(path):
    written(path, event(0))
    with path.open("ab") as file:
        file.write(b'{"version": 2, "type": "call_sta')
    reader = TraceReader(path)
    assert [one.id for one in reader] == ["0"]
    assert reader.damaged == 1
    assert [one.id for one in written(path, event(1))] == ["0", "1"]


def test_texts_that_a_killed_process_left_half_do_not_hide_the_others(path):
    written(path, event(prompt="x" * 5_000), event(prompt="y" * 5_000))
    (texts,) = path.parent.glob("*.content/*")
    os.truncate(texts, 7_000)
    first, second = read_events(path)
    assert first.data["prompt"] == "x" * 5_000
    assert "which were not kept" in second.data["prompt"]
    assert written(path, event(prompt="y" * 5_000))[-1].data["prompt"] == "y" * 5_000


def test_a_trace_that_begins_anew_has_no_texts_of_the_old_one(path):
    written(path, event(prompt="x" * 5_000))
    (path.parent / "run.jsonl.content" / "notes.txt").write_text("of somebody else")
    begin_anew(path)
    assert [file.name for file in path.parent.glob("*.content/*")] == ["notes.txt"]
    assert len(written(path, event(prompt="y" * 5_000))) == 1


def test_events_of_many_threads_and_writers_are_whole_lines(path):
    writers = [TraceWriter(path) for _ in range(3)]

    def tell(writer, start):
        for number in range(start, start + 200):
            writer(event(number, prompt=str(number) * 400))

    threads = [threading.Thread(target=tell, args=(writers[one % 3], 1_000 * one)) for one in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.settle()
    back = list(read_events(path))
    assert sorted(int(one.id) for one in back) == sorted(1_000 * one + n for one in range(6) for n in range(200))
    assert all(one.data["prompt"] == one.id * 400 for one in back)


def test_an_event_that_cannot_be_written_does_not_hide_the_others(path):
    endless = []
    endless.append(endless)
    back = written(path, event(0, answer=endless), event(1))
    assert "could not be written" in back[0].data["message"]
    assert back[1].id == "1"


def test_a_disk_that_fails_is_told_once_and_ends_nothing(tmp_path, caplog):
    writer = TraceWriter(tmp_path / "gone" / "run.jsonl")
    for number in range(3):
        writer(event(number))
        writer.settle()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    with pytest.raises(InputError, match="No such file or directory; give a file that can be written"):
        writer.begin()


def test_a_thread_that_has_nothing_to_do_ends_and_comes_back(path, monkeypatch):
    monkeypatch.setattr("rlm_adapters.traces.writer._IDLE_SECONDS", 0.01)
    writer = TraceWriter(path)
    for number in range(3):
        writer(event(number))
        writer.settle()
        thread = writer._thread
        if thread is not None:
            thread.join(5)
        assert writer._thread is None
    assert [one.id for one in read_events(path)] == ["0", "1", "2"]


def test_copies_are_the_writer_itself_and_a_pickled_one_writes_into_the_same_file(path):
    writer = TraceWriter(path, max_bytes=10**6)
    assert copy.deepcopy(writer) is copy.copy(writer) is writer
    other = pickle.loads(pickle.dumps(writer))
    assert (other.path, other.max_bytes) == (path, 10**6)
    other(event(7))
    other.settle()
    assert [one.id for one in read_events(path)] == ["7"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_too(path):
    writer = TraceWriter(path)
    writer(event(0))
    writer.settle()
    if (child := os.fork()) == 0:
        writer(event(1))
        writer.settle()
        os._exit(0)
    os.waitpid(child, 0)
    assert [one.id for one in read_events(path)] == ["0", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 3}, "trace=3: give the path of a file"),
        ({"path": ""}, "trace='': give the path of a file"),
        ({"path": "x", "redact": "y"}, "redact='y': give a function"),
        ({"path": "x", "max_bytes": 0}, "max_bytes=0: give a positive number"),
        ({"path": "x", "max_bytes": "1 GB"}, "max_bytes='1 GB': give a positive number"),
    ],
)
def test_unusable_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        TraceWriter(**arguments)
