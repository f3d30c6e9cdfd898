"""What crosses the border, and what the host does with frames that no honest worker sends."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm_adapters.sandbox.host.channel import Channel, ChannelClosedError, ChannelTimeoutError
from rlm_adapters.sandbox.host.messages import parse_calls, parse_done, parse_failure, parse_file_piece
from rlm_adapters.sandbox.protocol.frames import (
    HEADER,
    MAX_DEPTH,
    MAX_ITEMS,
    ProtocolError,
    decode_frame,
    encode_body,
    from_wire,
    to_plain,
    to_wire,
)

text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(text | st.sampled_from(["$bytes", "$escaped"]), inner, max_size=2),
    max_leaves=20,
)
DONE = {
    "t": "done",
    "stdout": "",
    "stdout_chars": 0,
    "error": None,
    "final": None,
    "variables": [],
    "cpu": 0.0,
}


def over_the_wire(value):
    return from_wire(decode_frame(encode_body({"t": "x", "v": to_wire(value)}, errors="replace"))["v"])


@given(json_values)
def test_json_values_and_bytes_survive_the_wire(value):
    assert over_the_wire(value) == value


@pytest.mark.parametrize(
    "value",
    [{"$bytes": "no"}, {"$bytes": b"yes"}, {"$escaped": {"$bytes": 1}}, {"$escaped": 1}, [{"$bytes": None}]],
)
def test_a_dict_that_looks_like_a_tag_stays_a_dict(value):
    assert over_the_wire(value) == value


def test_lone_surrogates_from_a_worker_become_question_marks():
    assert over_the_wire("a\ud800b") == "a?b"
    assert from_wire(decode_frame(b'{"t":"x","v":"\\ud800 \\u00e9"}')["v"]) == "? é"
    assert from_wire(decode_frame(b'{"t":"x","v":{"\\udfff":1}}')["v"]) == {"?": 1}


def test_lone_surrogates_from_the_host_are_kept():
    assert from_wire(to_wire(["\ud800"]), trusted=True) == ["\ud800"]


def test_not_a_number_and_infinities_survive():
    values = over_the_wire([math.inf, -math.inf, math.nan])
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "code of the caller"


class Items(dict):
    def items(self):
        raise AssertionError("asked")


@pytest.mark.parametrize("value", [Text("x"), Items(), (1,), {1: 2}, {Text("k"): 1}, [object()], bytearray(b"x"), 1j])
def test_only_exact_types_are_sent_by_a_worker(value):
    with pytest.raises(TypeError):
        to_wire(value)


def test_replacing_the_methods_of_the_json_module_does_not_change_what_is_sent(monkeypatch):
    forged = '{"t":"call"}'
    monkeypatch.setattr(json.JSONEncoder, "encode", lambda *_: forged)
    monkeypatch.setattr(json.JSONEncoder, "iterencode", lambda *_, **__: [forged])
    monkeypatch.setattr(json, "dumps", lambda *_, **__: forged)
    monkeypatch.setattr(json.encoder, "encode_basestring", lambda _: forged)
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    assert encode_body({"t": "x", "v": "y"}) == b'{"t":"x","v":"y"}'


def test_the_host_turns_subclasses_and_tuples_into_exact_types():
    import enum

    class Level(enum.IntEnum):
        HIGH = 3

    plain = to_plain({"a": (Text("x"), Level.HIGH, True), 1: bytearray(b"b"), None: 2})
    assert plain == {"a": ["x", 3, True], "1": b"b", "null": 2}
    assert [type(item) for item in plain["a"]] == [str, int, bool]


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, {1, 2}])
def test_the_host_names_the_type_that_cannot_enter(value):
    with pytest.raises(TypeError, match="cannot enter the sandbox"):
        to_plain(value)


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)
    for convert in (to_wire, to_plain):
        with pytest.raises(ValueError, match="nested"):
            convert(loop)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"done"',
        b"{}",
        b'{"t":1}',
        b'{"t":null}',
        b'{"t":"x"',
        b'{"t":"x"}{"t":"x"}',
        b"\xff\xfe{\x00}\x00",
        b'{"t":"\xed\xa0\x80"}',
        b'{"t":"x","n":' + b"9" * 5_000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"t":' * 100_000,
    ],
)
def test_what_is_no_frame_is_a_protocol_error(body):
    with pytest.raises(ProtocolError):
        decode_frame(body)


def test_a_value_nested_deeper_than_allowed_is_a_protocol_error():
    deep: object = 1
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(ProtocolError, match="deep"):
        from_wire(deep)


def test_a_frame_whose_parsing_would_need_gigabytes_is_refused_unparsed():
    with pytest.raises(ProtocolError, match="items"):
        decode_frame(b'{"t":"x","v":[' + b"[]," * MAX_ITEMS + b"[]]}")


def test_commas_in_a_long_text_do_not_count_as_items():
    prompt = ",[{" * (MAX_ITEMS // 3 + 1) + '"\\'
    assert decode_frame(encode_body({"t": "x", "v": prompt}))["v"] == prompt


@pytest.mark.parametrize(
    "message",
    [
        {"t": "call"},
        {"t": "call", "calls": None},
        {"t": "call", "calls": []},
        {"t": "call", "calls": {"f": "ask"}},
        {"t": "call", "calls": [1]},
        {"t": "call", "calls": [{"f": "ask", "a": []}]},
        {"t": "call", "calls": [{"f": "ask", "a": {}, "k": {}}]},
        {"t": "call", "calls": [{"f": "ask", "a": [], "k": []}]},
        {"t": "call", "calls": [{"f": "ask", "a": [], "k": {"$bytes": "AAAA"}}]},
        {"t": "call", "calls": [{"f": "ask", "a": [{"$bytes": 1}], "k": {}}]},
        {"t": "call", "calls": [{"f": "ask", "a": [{"$bytes": "?"}], "k": {}}]},
        {"t": "call", "calls": [{"f": "ask", "a": [{"$escaped": 1}], "k": {}}]},
        {"t": "call", "calls": [{"f": ["ask"], "a": [], "k": {}}]},
        {"t": "call", "calls": [{"f": "secret_tool", "a": [], "k": {}}]},
    ],
)
def test_a_malformed_call_or_one_of_a_function_not_offered_is_a_protocol_error(message):
    with pytest.raises(ProtocolError):
        parse_calls(message, {"ask"})


@pytest.mark.parametrize(
    "change",
    [
        {"stdout": None},
        {"stdout": 1},
        {"stdout": "x" * 10_000},
        {"stdout_chars": -1},
        {"stdout_chars": True},
        {"stdout_chars": 1 << 70},
        {"error": "boom"},
        {"error": []},
        {"error": ["wall", "T", "m", 1, ""]},
        {"error": [["cpu"], "T", "m", 1, ""]},
        {"error": ["cpu", "T", "m", "1", ""]},
        {"error": ["cpu", "T", None, 1, ""]},
        {"final": ["os.system", "x", False]},
        {"final": ["FINAL", "x", 1]},
        {"final": [{}, "x", False]},
        {"final": ["FINAL", {"$bytes": []}, False]},
        {"variables": {}},
        {"variables": [["x", "int"]]},
        {"variables": [["x", "int", -1]]},
        {"variables": [[1, "int", None]]},
        {"variables": [["x", "int", None]] * 20_000},
        {"cpu": 1},
        {"cpu": math.nan},
        {"cpu": math.inf},
    ],
)
def test_a_malformed_report_is_a_protocol_error(change):
    parse_done(DONE, output_chars=1_000)
    with pytest.raises(ProtocolError):
        parse_done(DONE | change, output_chars=1_000)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["cpu", "FINAL", "ask"]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["$bytes", "f", "a", "k"]), inner),
    max_leaves=12,
)


@given(st.sampled_from(sorted(DONE)), anything)
def test_fuzz_no_report_makes_the_host_fail_otherwise(key, value):
    with contextlib.suppress(ProtocolError):
        parse_done(DONE | {key: value}, output_chars=1_000)


@given(anything)
def test_fuzz_no_calls_files_or_failure_make_the_host_fail_otherwise(value):
    for parse in (lambda m: parse_calls(m, {"ask"}), parse_file_piece, parse_failure):
        with contextlib.suppress(ProtocolError):
            parse({"t": "file", "calls": value, "path": value, "data": value, "message": value})


@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_fuzz_no_bytes_make_the_decoder_fail_otherwise(body):
    with contextlib.suppress(ProtocolError):
        decode_frame(body)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    channel = Channel(ours, max_frame_bytes=1_000)
    yield channel, theirs
    channel.close()
    theirs.close()


def soon():
    return time.monotonic() + 10


def test_a_header_that_announces_too_much_is_refused_unread(pair):
    channel, worker = pair
    worker.sendall(HEADER.pack(1_001))
    with pytest.raises(ProtocolError, match="larger"):
        channel.receive(deadline=soon())


@pytest.mark.parametrize("sent", [b"", b"\0\0", HEADER.pack(10), HEADER.pack(10) + b"12345"])
def test_a_socket_closed_within_a_frame_is_noticed_at_once(pair, sent):
    channel, worker = pair
    worker.sendall(sent)
    worker.close()
    with pytest.raises(ChannelClosedError):
        channel.receive(deadline=soon())


@pytest.mark.parametrize("sent", [b"", b"\0\0", HEADER.pack(10) + b"12345"])
def test_a_frame_that_does_not_end_is_given_up_at_the_deadline(pair, sent):
    channel, worker = pair
    worker.sendall(sent)
    with pytest.raises(ChannelTimeoutError):
        channel.receive(deadline=time.monotonic() + 0.05)


def test_a_frame_that_drips_is_given_up_at_the_deadline_of_the_whole(pair):
    channel, worker = pair
    stop = threading.Event()

    def drip():
        worker.sendall(HEADER.pack(1_000))
        while not stop.wait(0.01):
            worker.sendall(b" ")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises(ChannelTimeoutError):
            channel.receive(deadline=time.monotonic() + 0.2)
    finally:
        stop.set()
        thread.join()


def test_a_worker_that_does_not_read_does_not_hold_up_the_host(pair):
    channel, _ = pair
    with pytest.raises(ChannelTimeoutError):
        channel.send({"t": "x", "v": "y" * 10_000_000}, deadline=time.monotonic() + 0.05)


def test_descriptors_that_a_worker_attaches_are_dropped(pair):
    channel, worker = pair
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    body = b'{"t":"x"}'
    socket.send_fds(worker, [HEADER.pack(len(body)) + body], [0] * 100)
    assert channel.receive(deadline=soon()) == {"t": "x"}
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.binary(max_size=50) | anything.map(lambda v: (b := json.dumps(v).encode()) and struct.pack(">I", len(b)) + b)
    )
)
def test_fuzz_no_stream_of_bytes_makes_the_channel_fail_otherwise_or_hang(pieces):
    ours, theirs = socket.socketpair()
    channel = Channel(ours, max_frame_bytes=10_000)
    theirs.sendall(b"".join(pieces))
    theirs.close()
    try:
        while True:
            channel.receive(deadline=soon())
    except (ChannelClosedError, ProtocolError):
        pass
    finally:
        channel.close()
