"""A hostile worker at the other end of the socket: whatever it sends, the host neither crashes nor hangs.

The worker here is a thread that plays a script over a real socket, behind a real `Session`: no policy and no
operating system stands between the garbage and the host.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlm_adapters.errors import SandboxError
from rlm_adapters.sandbox.host.channel import Channel, ChannelClosedError, ChannelTimeoutError
from rlm_adapters.sandbox.host.forkserver import WorkerProcess
from rlm_adapters.sandbox.host.inputs import Inputs
from rlm_adapters.sandbox.host.messages import parse_calls, parse_done, parse_failure, parse_file_piece
from rlm_adapters.sandbox.host.runahead import AheadAccount
from rlm_adapters.sandbox.host.session import Session
from rlm_adapters.sandbox.host.spec import SessionSpec
from rlm_adapters.sandbox.protocol.frames import HEADER, MAX_DEPTH, Message, ProtocolError, decode_frame, from_wire
from rlm_adapters.sandbox.protocol.journal import call_hash
from rlm_adapters.sandbox.protocol.types import Done, HostFunction, Pending, SandboxLimits, Value

MANY = int(os.environ.get("FUZZ") or 300)
FUNCTIONS = (
    HostFunction(name="llm_query", effects=False),
    HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query"),
)
LIMITS = SandboxLimits(cpu_seconds=0.2, wall_seconds=0.4, frame_bytes=1 << 20, output_chars=1_000)
DONE: Message = {
    "t": "done",
    "stdout": "fine\n",
    "stdout_chars": 5,
    "error": None,
    "final": None,
    "variables": [["x", "int", None]],
    "cpu": 0.01,
    "taken": [],
}
CALL: Message = {"t": "call", "place": 0, "taken": [], "calls": [{"f": "llm_query", "a": ["p"], "k": {}}]}

Script = Callable[[socket.socket], None]


def frame(message: object) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return HEADER.pack(len(body)) + body


class FakeForkServer:
    """Stands for the process that made the worker: it has nobody to kill."""

    def end(self, pid: int, *, wait: bool) -> int | None:
        assert pid == -77, "a pid that no fork server has told"
        return -9 if wait else None

    def abandon(self, pid: int) -> None:
        assert pid == -77


class HostileSource:
    """Gives a session workers that play a script when they have read the frame with the cell."""

    def __init__(self, spec: SessionSpec, *scripts: Script) -> None:
        self.spec = spec
        self.scripts = list(scripts)
        self.threads: list[threading.Thread] = []
        self.pool = ThreadPoolExecutor(2)

    def start(self) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        thread = threading.Thread(target=self._play, args=(script, theirs), daemon=True)
        self.threads.append(thread)
        thread.start()
        return WorkerProcess(FakeForkServer(), -77, ours, self.spec.limits.frame_bytes)  # type: ignore[arg-type]

    def _play(self, script: Script, sock: socket.socket) -> None:
        with sock:
            sock.settimeout(20)
            try:
                sock.recv(1 << 16)
                script(sock)
            except OSError:
                pass  # the host has closed the connection on us

    def close(self) -> None:
        pass

    def thread_pool(self) -> ThreadPoolExecutor:
        return self.pool

    def join(self) -> None:
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        self.pool.shutdown()


def session_with(
    *scripts: Script, limits: SandboxLimits = LIMITS, ahead: bool = False
) -> tuple[Session, HostileSource]:
    spec = SessionSpec(
        inputs=Inputs({}, {}),
        functions=FUNCTIONS,
        limits=limits,
        output_fields=None,
        seed=0,
        epoch=0.0,
        allow_modules=(),
        layers=(),
    )
    source = HostileSource(spec, *scripts)
    account = AheadAccount(enabled=ahead)
    return Session(source, source.thread_pool, {"llm_query": lambda prompt: "ok"}, ahead=account), source


def send(*messages: object) -> Script:
    """A script that sends these frames and waits to be closed."""

    def script(sock: socket.socket) -> None:
        for message in messages:
            sock.sendall(frame(message))
        while sock.recv(1 << 16):
            pass

    return script


def send_raw(data: bytes, *, close: bool) -> Script:
    def script(sock: socket.socket) -> None:
        sock.sendall(data)
        while not close and sock.recv(1 << 16):
            pass

    return script


def drip(data: bytes, pause: float) -> Script:
    def script(sock: socket.socket) -> None:
        for byte in data:
            sock.sendall(bytes([byte]))
            time.sleep(pause)

    return script


def flood(data: bytes) -> Script:
    def script(sock: socket.socket) -> None:
        while True:
            sock.sendall(data)

    return script


def never_reads(sock: socket.socket) -> None:
    sock.sendall(frame(CALL))
    time.sleep(1)


def descriptors(count: int, data: bytes) -> Script:
    def script(sock: socket.socket) -> None:
        with open(os.devnull) as null:  # noqa: PTH123 - a descriptor is what it is about
            socket.send_fds(sock, [data], [null.fileno()] * count)
            socket.send_fds(sock, [data], [null.fileno()] * count)
        while sock.recv(1 << 16):
            pass

    return script


def wrong(**changes: object) -> Script:
    return send({**DONE, **changes})


def calls(*records: object) -> Script:
    return send({**CALL, "calls": list(records)})


NESTED = b'{"t":"done","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DEEP: Any = [1]
for _ in range(MAX_DEPTH * 2):
    DEEP = [DEEP]

SCRIPTS: dict[str, Script] = {
    "closes at once": send_raw(b"", close=True),
    "sends part of a header and closes": send_raw(b"\x00\x00", close=True),
    "sends part of a header and stays": send_raw(b"\x00\x00\x00", close=False),
    "sends a header and closes": send_raw(HEADER.pack(100), close=True),
    "sends a header and stays": send_raw(HEADER.pack(100), close=False),
    "sends half a frame and closes": send_raw(frame(DONE)[:-5], close=True),
    "sends half a frame and stays": send_raw(frame(DONE)[:-5], close=False),
    "announces 4 GB": send_raw(b"\xff\xff\xff\xff" + b"x" * 1000, close=False),
    "announces a little more than the cap": send_raw(HEADER.pack((1 << 20) + 1), close=False),
    "announces the cap and sends nothing": send_raw(HEADER.pack(1 << 20), close=False),
    "sends an empty frame": send_raw(HEADER.pack(0), close=False),
    "drips byte by byte": drip(frame(DONE) * 50, 0.01),
    "drips after a huge header": drip(HEADER.pack(1 << 20) + b"x" * 500, 0.005),
    "floods with zeros": flood(b"\x00" * 65536),
    "floods with noise": flood(bytes(range(256)) * 256),
    "floods with the same call": flood(frame(CALL)),
    "floods with unknown frames": flood(frame({"t": "nothing"})),
    "never reads the answers": never_reads,
    "attaches descriptors": descriptors(50, frame(DONE)),
    "attaches descriptors to half a header": descriptors(200, b"\x00"),
    "nests deeply": send_raw(HEADER.pack(len(NESTED)) + NESTED, close=False),
    "nests a value in a submission": wrong(final=["SUBMIT", DEEP, False]),
    "nests the arguments": calls({"f": "llm_query", "a": [DEEP], "k": {}}),
    "is no UTF-8": send(b"\xff\xfe{}"),
    "is no JSON": send(b"{'t': 'done'}"),
    "is JSON twice": send(b'{"t":"done"}{"t":"done"}'),
    "is a list": send(b"[1, 2]"),
    "is null": send(b"null"),
    "has no type": send(b"{}"),
    "has a type that is no text": send({"t": ["done"]}),
    "is of an unknown type": send({"t": "exec", "code": "import os"}),
    "is a ready frame": send({"t": "ready", "layers": []}),
    "is a file": send({"t": "file", "path": "x", "data": {"$bytes": ""}}),
    "is a failure without a message": send({"t": "failed"}),
    "is a failure with a wrong message": send({"t": "failed", "message": {"a": 1}}),
    "is an empty report": send({"t": "done"}),
    "has a huge number": send(b'{"t":"done","stdout":"","cpu":' + b"9" * 10_000 + b"}"),
    "has a float that overflows": send(b'{"t":"done","stdout":"","variables":[],"cpu":1e999}'),
    "has not a number": wrong(cpu=float("nan")),
    "has a negative time": wrong(cpu=-1e300),
    "has a time that is true": wrong(cpu=True),
    "has no text as output": wrong(stdout=[1]),
    "has too much output": wrong(stdout="x" * 100_000),
    "has lone surrogates": send(json.dumps(DONE).replace("fine", "\\ud800").encode()),
    "has a negative size": wrong(stdout_chars=-1),
    "has a gigantic size": wrong(stdout_chars=1 << 80),
    "has a size that is true": wrong(stdout_chars=True),
    "has too many variables": wrong(variables=[["x", "int", None]] * 20_000),
    "has a variable of the wrong shape": wrong(variables=[{"name": "x"}]),
    "has a variable without a name": wrong(variables=[[None, "int", 1]]),
    "has variables that are an object": wrong(variables={"x": 1}),
    "has an error of an unknown kind": wrong(error=["root", "E", "m", 1, ""]),
    "has an error with a wrong line": wrong(error=["exception", "E", "m", "1", ""]),
    "has an error that is short": wrong(error=["exception"]),
    "has an error that is a text": wrong(error="exception"),
    "has an unhashable kind of error": wrong(error=[["exception"], "E", "m", 1, ""]),
    "submits by an unknown function": wrong(final=["exec", "x", False]),
    "submits by an unhashable function": wrong(final=[{}, "x", False]),
    "submits wrong bytes": wrong(final=["SUBMIT", {"$bytes": "***"}, False]),
    "submits bytes that are no text": wrong(final=["SUBMIT", {"$bytes": 5}, False]),
    "submits an escape that is none": wrong(final=["SUBMIT", {"$escaped": 5}, False]),
    "submits nested escapes": wrong(final=["SUBMIT", {"$escaped": {"$escaped": {"$bytes": 1}}}, False]),
    "calls nothing": calls(),
    "calls what is no list": send({**CALL, "calls": {"f": "llm_query"}}),
    "calls what was not offered": calls({"f": "os.system", "a": ["true"], "k": {}}),
    "calls a dunder": calls({"f": "__class__", "a": [], "k": {}}),
    "calls an unhashable function": calls({"f": ["llm_query"], "a": [], "k": {}}),
    "calls without arguments": calls({"f": "llm_query"}),
    "calls with arguments that are an object": calls({"f": "llm_query", "a": {"0": "x"}, "k": {}}),
    "calls with keywords that are a list": calls({"f": "llm_query", "a": [], "k": ["x"]}),
    "calls with a tagged object as keywords": calls({"f": "llm_query", "a": [], "k": {"$bytes": "eA=="}}),
    "calls with an id of its own": calls({"f": "llm_query", "a": ["x"], "k": {}, "id": "0:forged:0"}),
    "calls too often": send({**CALL, "calls": [{"f": "llm_query", "a": [], "k": {}}] * 30_000}),
    "calls with a list as the name of a keyword": send(
        b'{"t":"call","place":0,"taken":[],"calls":[{"f":"llm_query","a":[],"k":{"":1}}]}'
    ),
    "repeats a key": send(b'{"t":"failed","t":"done","t":"call","calls":[]}'),
    "reports twice": send(DONE, DONE, DONE),
    "calls and reports in one go": send(CALL, DONE),
    "finds calls that nobody asked it to find": send({"t": "found", "more": True, "calls": []}),
    "calls from nowhere": send({**CALL, "place": None}),
    "calls from a place that is no number": send({**CALL, "place": "<cell 1>:1"}),
    "calls from a place below the first": send({**CALL, "place": -1}),
    "calls from too far away": send({**CALL, "place": 1 << 70}),
    "takes nothing that is a list": wrong(taken="x:0"),
    "takes what is no text": wrong(taken=[["x:0"]]),
    "takes an answer that nobody gave": wrong(taken=["0123456789abcdef:0"]),
    "takes an answer before its call": send({**CALL, "taken": ["0123456789abcdef:0"]}),
    "answers itself": send({"t": "answers", "answers": [{"value": 1}]}),
}


def take(session: Session, code: str) -> Done | Pending:
    step = session.start(code)
    for _ in range(50):
        if isinstance(step, Done):
            return step
        step = session.resume({call.id: Value("ok") for call in step.calls})
    return step


@pytest.fixture
def open_descriptors() -> Callable[[], int]:
    return lambda: len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0  # noqa: PTH208 - as cheap as can be


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_worker_that(script, open_descriptors):
    before = open_descriptors()
    session, source = session_with(script)
    with session:
        step = take(session, "x = 1")
        if isinstance(step, Done):
            assert step.error is None or step.error.kind in {"wall", "crash", "memory", "cpu"}, step
            assert all(isinstance(text, str) for text in (step.stdout, *(v.name for v in step.variables)))
            step.stdout.encode("utf-8")
        # Whatever has happened, the session can go on, with a new worker where the old one was refused.
        source.scripts = [send(DONE)]
        session.kill()
        session._records.clear()  # what the hostile worker "printed" need not be rebuilt
        assert isinstance(go_on(session, step), Done)
    source.join()
    assert open_descriptors() <= before


def go_on(session: Session, step: Done | Pending) -> Done | Pending:
    """The cell that still waits (for calls that it will never stop making), or a new one."""
    if isinstance(step, Pending):
        return session.resume({call.id: Value("ok") for call in step.calls})
    return take(session, "y = 2")


KEY = call_hash("llm_query", ["p"], {})


@pytest.mark.parametrize(
    "taken",
    [[f"{KEY}:0", f"{KEY}:0"], [f"{KEY}:1", f"{KEY}:0"], [f"{KEY}:2"], [f"0:{KEY}:0"], [KEY], [f"{KEY}:00"], [""]],
    ids=["twice", "in another order", "that was not given", "by its id", "without a number", "misspelt", "unnamed"],
)
def test_a_worker_cannot_take_an_answer(taken):
    """Each answer that lies in the worker may be taken once, in the order in which the cell can have asked."""
    session, source = session_with(wrong(taken=taken))
    with session:
        done = session.start("x = 1", answers={f"0:{KEY}:0": Value("first"), f"0:{KEY}:1": Value("second")})
        assert isinstance(done, Done)
        assert done.error is not None
        assert done.error.kind == "crash"
        assert not session.journal[-1].answers or session.journal[-1].failed
    source.join()


def test_what_a_worker_takes_stands_in_the_journal():
    session, source = session_with(wrong(taken=[f"{KEY}:0", f"{KEY}:1"]))
    with session:
        answers = {f"0:{KEY}:{n}": Value(f"{n}") for n in range(3)}
        done = session.start("x = 1", answers=answers)
        assert isinstance(done, Done)
        assert done.error is None
        assert list(session.journal[-1].answers) == [f"0:{KEY}:0", f"0:{KEY}:1"]
    source.join()


@pytest.mark.parametrize("name", ["closes at once", "sends half a frame and stays", "is no JSON", "nests deeply"])
async def test_a_hostile_worker_does_not_crash_the_asynchronous_methods(name):
    session, source = session_with(SCRIPTS[name])
    with session:
        done = await session.arun("x = 1")
        assert done.error is not None
    source.join()


@pytest.mark.parametrize("function", ["llm_query", "llm_query_batched"])
@pytest.mark.parametrize("keywords", [{}, {"self": 1, "no such": 2}, {"prompt": "twice"}])
async def test_a_forged_call_is_answered_or_refused_but_never_raised(function, keywords):
    forged = {"t": "call", "calls": [{"f": function, "a": ["x"], "k": keywords}]}

    def script(sock: socket.socket) -> None:
        sock.sendall(frame(forged))
        sock.recv(1 << 16)
        sock.sendall(frame(DONE))

    for run in (lambda session: session.arun("x"), None):
        session, source = session_with(script)
        with session:
            done = await run(session) if run else session.run("x")
            assert isinstance(done, Done)
        source.join()


def test_files_that_a_hostile_worker_names_stay_inside_the_workspace():
    names = ["../../etc/cron.d/x", "/etc/passwd", "a/../../b", "nul\x00", "", ".", "ok.txt", "a" * 100_000]
    data = {"$bytes": base64.b64encode(b"x").decode()}
    session, source = session_with(
        send(DONE, *({"t": "file", "path": name, "data": data} for name in names), {"t": "end"})
    )
    with session:
        take(session, "x = 1")
        try:
            files = session.files_written()
        except SandboxError:
            files = {}
    source.join()
    for name in files:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert "\x00" not in name
        assert name not in ("", ".")
        assert len(name) < 5_000


FOUND: Message = {"t": "found", "more": True, "calls": [{"f": "llm_query", "a": ["q"], "k": {}, "n": 0}]}
LOOKS: dict[str, Script] = {
    "finds what is no list": send(CALL, {**FOUND, "calls": {"f": "llm_query"}}),
    "finds what is no call": send(CALL, {**FOUND, "calls": [1, "x", None, []]}),
    "finds what was not offered": send(CALL, {**FOUND, "calls": [{"f": "tool", "a": [], "k": {}, "n": 0}]}),
    "finds a call without a number": send(CALL, {**FOUND, "calls": [{"f": "llm_query", "a": [], "k": {}}]}),
    "finds a negative number": send(CALL, {**FOUND, "calls": [{"f": "llm_query", "a": [], "k": {}, "n": -1}]}),
    "finds a gigantic number": send(CALL, {**FOUND, "calls": [{"f": "llm_query", "a": [], "k": {}, "n": 1 << 90}]}),
    "finds too much": send(CALL, {**FOUND, "calls": FOUND["calls"] * 5_000}),
    "says maybe": send(CALL, {**FOUND, "more": "yes"}),
    "finds nested arguments": send(CALL, {**FOUND, "calls": [{"f": "llm_query", "a": [DEEP], "k": {}, "n": 0}]}),
    "finds the call that waits": send(CALL, {**FOUND, "calls": [{"f": "llm_query", "a": ["p"], "k": {}, "n": 0}]}),
    "calls again when asked to look": send(CALL, CALL),
    "reports when asked to look": send(CALL, DONE),
    "closes when asked to look": send_raw(frame(CALL), close=True),
    "sends half a look": send_raw(frame(CALL) + frame(FOUND)[:-4], close=True),
}


@pytest.mark.parametrize("script", LOOKS.values(), ids=LOOKS)
def test_a_worker_that_is_asked_to_look_ahead_and(script):
    session, source = session_with(script, ahead=True)
    with session:
        step = session.start("x = 1")
        assert isinstance(step, Pending)
        assert {call.function for call in step.calls} == {"llm_query"}
        assert len(step.calls) < 1_000
        source.scripts = [send(CALL, DONE)]
        assert isinstance(session.resume({call.id: Value("ok") for call in step.calls}), (Done, Pending))
        session.kill()
    source.join()


HOSTILE_BODIES = {
    "escaped quotes without an end": "b',' * 4_000_001 + b'\"' + b'\\\\\\\"' * 300_000",
    "quotes without an end": "b',' * 4_000_001 + b'\"' * 300_001",
    "backslashes": "b',' * 4_000_001 + b'\"' + b'\\\\' * 3_000_001",
    "brackets": "b'[' * 5_000_000",
    "commas in many texts": "b'[' + b'\",\",' * 3_000_000 + b'1]'",
    "a long number": "b'[' + b'9' * 2_000_000 + b']'",
    "a long exponent": "b'[1e' + b'9' * 2_000_000 + b']'",
    "escapes": "b'[\"' + b'\\\\u0041' * 2_000_000 + b'\"]'",
    "white space": "b'{' + b' ' * 20_000_000 + b'}'",
    "keys that are equal": "b'{' + b'\"a\":1,' * 1_000_000 + b'\"t\":\"x\"}'",
}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
def test_no_body_keeps_the_parser_busy(body):
    """In a process of its own: a pattern or a parser that is not linear would hang the host with the GIL held."""
    code = f"""
from rlm_adapters.sandbox.protocol.frames import ProtocolError, decode_frame
try:
    decode_frame({body})
except ProtocolError:
    pass
"""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=root)


CODES = {
    "a long column": "'x = [' + chr(10) + ('a,' + chr(10)) * 20_000 + ']'",
    "names and spaces": "('a' + ' ' * 500 + chr(10)) * 500",
    "one long name": "'a' * 500_000",
    "commas": "'a,' * 100_000",
    "many assignments": "('x' + ' = 1' + chr(10)) * 50_000",
    "spaces": "'a' + ' ' * 200_000 + ', b'",
    "lines": "chr(10) * 300_000",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_no_cell_keeps_the_host_busy_when_its_worker_was_lost(code):
    program = f"from rlm_adapters.sandbox.host.loss import describe_loss; describe_loss({code}, ())"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=root)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["done", "call", "failed", "files", "llm_query", "SUBMIT", "exception", "$bytes", "eA=="]),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(
            st.sampled_from(["t", "calls", "f", "a", "k", "stdout", "error", "final", "$bytes", "$escaped", "cpu"])
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)
messages = st.dictionaries(st.sampled_from([*DONE, "calls", "files", "message"]), json_values).map(
    lambda fields: {**fields, "t": fields.get("t") if isinstance(fields.get("t"), str) else "done"}
) | st.builds(lambda key, value: {**DONE, key: value}, st.sampled_from(list(DONE)[1:]), json_values)


@settings(max_examples=MANY, deadline=None)
@given(message=messages)
def test_a_message_is_understood_or_refused(message):
    for parse in (
        lambda: parse_done(message, output_chars=1_000),
        lambda: parse_calls(message, {"llm_query"}),
        lambda: parse_file_piece(message),
        lambda: parse_failure(message),
        lambda: from_wire(message),
    ):
        with contextlib.suppress(ProtocolError):
            parse()


@settings(max_examples=MANY, deadline=None)
@given(record=st.dictionaries(st.sampled_from(["f", "a", "k", "id"]), json_values))
def test_a_call_is_understood_or_refused(record):
    try:
        (call,) = parse_calls({"t": "call", "calls": [record]}, {"llm_query"})
    except ProtocolError:
        return
    assert call.function == "llm_query"
    assert type(call.args) is list
    assert all(type(name) is str for name in call.kwargs)


@st.composite
def mutated_frames(draw: st.DrawFn) -> bytes:
    """A valid conversation with bytes flipped, cut out, doubled or put in."""
    data = bytearray(b"".join(frame(m) for m in draw(st.lists(st.sampled_from([DONE, CALL]), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 6))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["flip", "cut", "double", "put"])):
            case "flip":
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 20))]
            case "double":
                data[at:at] = data[at : at + 20]
            case _:
                data[at:at] = draw(st.binary(max_size=10))
    return bytes(data)


@settings(max_examples=MANY, deadline=None)
@given(data=mutated_frames() | st.binary(max_size=200))
def test_a_stream_of_noise_ends_in_one_of_three_errors(data):
    ours, theirs = socket.socketpair()
    channel = Channel(ours, max_frame_bytes=1 << 16)
    with theirs:
        theirs.sendall(data)
    try:
        while True:
            message = channel.receive(deadline=time.monotonic() + 10)
            assert isinstance(message["t"], str)
    except (ChannelClosedError, ProtocolError):
        pass
    except ChannelTimeoutError:
        pytest.fail("the other side had closed: there was nothing to wait for")
    finally:
        channel.close()


@settings(max_examples=max(MANY // 6, 30), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=mutated_frames())
def test_a_session_survives_a_noisy_worker(data):
    session, source = session_with(send_raw(data, close=True))
    with session:
        assert isinstance(take(session, "x = 1"), (Done, Pending))
    source.join()


@settings(max_examples=MANY, deadline=None)
@given(body=st.binary(max_size=400) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_message_or_refused(body):
    try:
        message = decode_frame(body)
    except ProtocolError:
        return
    assert type(message) is dict
