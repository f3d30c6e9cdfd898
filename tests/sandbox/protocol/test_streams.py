"""Big values of one kind of byte are sent through the socket, and arrive as they were."""

import io
import os
import socket
import threading
import time

import pytest

from rlm_adapters.sandbox.host.channel import Channel
from rlm_adapters.sandbox.protocol.encoding import as_stream
from rlm_adapters.sandbox.worker import receiving
from rlm_adapters.sandbox.worker.channel import WorkerChannel
from rlm_adapters.sandbox.worker.receiving import receive_value

VALUES = ["", "plain", "x" * 700_001, b"", b"\x00\xff" * 300_000]


class Text(str):
    __slots__ = ()


def filler(data):
    stream = io.BytesIO(data)

    def fill(view):
        if stream.readinto(view) != len(view):
            raise EOFError

    return stream, fill


@pytest.mark.parametrize("value", VALUES, ids=lambda one: f"{type(one).__name__} {len(one)}")
def test_a_value_arrives_as_it_was(value):
    kind, size, pieces = as_stream(value)
    data = b"".join(bytes(piece) for piece in pieces)
    assert len(data) == size
    stream, fill = filler(data)
    got = receive_value(kind, size, fill)
    assert (type(got), got, stream.read()) == (type(value), value, b"")
    assert (got.isascii(), hash(got), got + got, got[:1]) == (value.isascii(), hash(value), value + value, value[:1])


@pytest.mark.parametrize(
    "value", ["ä", "\ud800", ["a"], {"a": 1}, bytearray(b"x"), memoryview(b"x"), 7, None, Text("a")]
)
def test_other_values_are_not_sent_like_this(value):
    assert as_stream(value) is None


def test_without_memory_for_it_the_stream_is_read_nevertheless(monkeypatch):
    def little_memory(*_):
        raise MemoryError

    monkeypatch.setattr(receiving, "blank_text", little_memory)
    stream, fill = filler(b"x" * 3_000_000 + b"next")
    with pytest.raises(MemoryError):
        receive_value("text", 3_000_000, fill)
    assert stream.read() == b"next"


@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_python_says_if_there_is_not_enough_memory(kind):
    _, fill = filler(b"")
    with pytest.raises(EOFError) as caught:
        receive_value(kind, 1 << 62, fill)
    assert isinstance(caught.value.__context__, MemoryError)


def test_the_frame_after_a_stream_is_read_as_one():
    ours, theirs = socket.socketpair()
    host, worker = Channel(ours, max_frame_bytes=1000), WorkerChannel(theirs.detach())
    data = os.urandom(3_000_000)
    got = []

    def read():
        message, fds = worker.receive_fds()
        content = bytearray(message["size"])
        worker.fill(memoryview(content))
        got.extend([bytes(content) == data, fds, worker.receive_fds()[0]])

    thread = threading.Thread(target=read)
    thread.start()
    deadline = time.monotonic() + 60
    host.send({"t": "load", "size": len(data)}, deadline=deadline)
    host.send_bytes(data, deadline=deadline)
    host.send({"t": "fork"}, deadline=deadline)
    thread.join()
    host.close()
    os.close(worker.fd)
    assert got == [True, [], {"t": "fork"}]


def test_a_stream_that_ends_too_early_is_an_end_of_the_channel():
    _, fill = filler(b"x" * 10)
    with pytest.raises(EOFError):
        receive_value("text", 11, fill)
