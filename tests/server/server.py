"""The HTTP server: an aiohttp application in a thread of its own, so that sync and async tests can use it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from tests.server import protocol
from tests.server.replies import Reply
from tests.server.scripts import Message, ModelRequest, Script, ScriptError, play, turn_of

_MOST_HELD = 60.0  # seconds
_ENDING = 2  # events of a streamed answer after its text, at least


@dataclass(slots=True)
class RequestRecord:
    """One request that the server received, and what became of it."""

    index: int
    time: float
    """Seconds on the monotonic clock."""
    body: dict[str, Any]
    headers: dict[str, str]
    prompt: str
    """All text of the messages."""
    attempt: int = 0
    peer: Any = None
    """Address of the connection's other end: requests over one connection have the same."""
    status: int | None = None
    """None: not answered yet, or never."""
    seconds: float | None = None
    completion_tokens: int = 0

    @property
    def model(self) -> str:
        return str(self.body.get("model"))

    @property
    def messages(self) -> list[Message]:
        return self.body.get("messages") or []


@dataclass(frozen=True, slots=True)
class ScriptedModel:
    """A model that the server plays."""

    name: str
    script: Script
    context_length: int | None = None
    """Tokens; a longer prompt is refused as OpenAI refuses it."""
    latency: float | None = None
    turn: Callable[[list[Message]], int] = turn_of


@dataclass(slots=True)
class Gauge:
    """How many requests are in flight now, and how many there were at most."""

    now: int = 0
    highest: int = 0

    def __enter__(self) -> None:
        self.now += 1
        self.highest = max(self.highest, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


@dataclass(slots=True)
class _Running:
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    stop: asyncio.Event
    port: int = 0


@dataclass
class ModelServer:
    """Plays scripted models under OpenAI's HTTP interface on a free port of the loopback device.

    Leaving the ``with`` block raises what a script function raised, so that a broken script fails its test.
    """

    latency: float = 0.0
    """Seconds that each answer takes, where the model or the reply says nothing else."""
    api_key: str | None = None
    """Refuse requests with another key; None: take any."""
    requests: list[RequestRecord] = field(default_factory=list)
    """Every chat completion that was asked for, in order of arrival."""
    models: dict[str, ScriptedModel] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)
    """What script functions raised."""
    _gauge: Gauge = field(default_factory=Gauge)
    _gauges: dict[str, Gauge] = field(default_factory=dict)
    _attempts: Counter[bytes] = field(default_factory=Counter)
    _running: _Running | None = None

    def script(
        self,
        model: str,
        script: Script,
        *,
        context_length: int | None = None,
        latency: float | None = None,
        turn: Callable[[list[Message]], int] = turn_of,
    ) -> None:
        """Let the model of this name play a script (see :mod:`tests.server.scripts`)."""
        self.models[model] = ScriptedModel(model, script, context_length, latency, turn)

    @property
    def url(self) -> str:
        """Base URL for OpenAI clients."""
        if self._running is None:
            raise RuntimeError("the server runs inside its `with` block only")
        return f"http://127.0.0.1:{self._running.port}/v1"

    @property
    def in_flight(self) -> int:
        return self._gauge.now

    @property
    def max_in_flight(self) -> int:
        """The highest number of requests that were in flight together."""
        return self._gauge.highest

    def requests_of(self, model: str) -> list[RequestRecord]:
        return [record for record in self.requests if record.model == model]

    def reset(self) -> None:
        """Forget the requests and the highest gauges; keep the scripts."""
        self.requests.clear()
        self._attempts.clear()
        for gauge in (self._gauge, *self._gauges.values()):
            gauge.highest = gauge.now

    def stats(self) -> dict[str, Any]:
        """What ``GET /stats`` tells: counts over all requests, and for each model."""
        return {
            "requests": len(self.requests),
            "in_flight": self._gauge.now,
            "max_in_flight": self._gauge.highest,
            "models": {name: self._stats_of(name) for name in self.models},
        }

    def _stats_of(self, model: str) -> dict[str, Any]:
        records = self.requests_of(model)
        return {
            "requests": len(records),
            "statuses": dict(Counter(str(record.status) for record in records)),
            "prompt_tokens": sum(protocol.tokens(record.prompt) for record in records),
            "completion_tokens": sum(record.completion_tokens for record in records),
            "largest_prompt_bytes": max((len(record.prompt.encode()) for record in records), default=0),
            "max_in_flight": self._gauges[model].highest if model in self._gauges else 0,
        }

    # The thread

    def __enter__(self) -> Self:
        ready: threading.Event = threading.Event()
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, args=(loop, ready), name="model-server", daemon=True)
        self._running = _Running(loop, thread, asyncio.Event())
        thread.start()
        ready.wait()
        if not self._running.port:
            raise RuntimeError("the server did not start; its thread printed why")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        running = self._running
        assert running is not None
        running.loop.call_soon_threadsafe(running.stop.set)
        running.thread.join()
        self._running = None
        if self.failures and kind is None:
            raise self.failures[0]

    def _run(self, loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._serve(ready))
        finally:
            ready.set()
            loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        running = self._running
        assert running is not None
        application = web.Application(client_max_size=1 << 30)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_get("/v1/models", self._list_models)
        application.router.add_get("/stats", self._get_stats)
        # Hardly any grace at the end: scripts that never answer must not hold up the test. 0 would wait for ever.
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.05, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)  # a burst of 1,000 connections overruns 128
        await site.start()
        running.port = runner.addresses[0][1]
        ready.set()
        try:
            await running.stop.wait()
        finally:
            await runner.cleanup()

    # The handlers

    async def _get_stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _list_models(self, _: web.Request) -> web.Response:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "tests"} for name in self.models]
        return web.json_response({"object": "list", "data": models})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        try:
            body = json.loads(data)
        except ValueError:
            body = None
        fault = protocol.fault_of(body)
        if fault is not None:
            return _error(fault, status=400, code=None)
        if self.api_key is not None and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return _error("Incorrect API key provided.", status=401, code="invalid_api_key")
        record = self._record(data, body, request)
        gauge = self._gauges.setdefault(record.model, Gauge())
        try:
            with self._gauge, gauge:
                return await self._answer(record, request)
        finally:
            record.seconds = time.monotonic() - record.time

    def _record(self, data: bytes, body: dict[str, Any], request: web.Request) -> RequestRecord:
        digest = hashlib.sha256(data).digest()
        record = RequestRecord(
            index=len(self.requests),
            time=time.monotonic(),
            body=body,
            headers=dict(request.headers),
            prompt=protocol.prompt_text(body["messages"]),
            attempt=self._attempts[digest],
            peer=request.transport.get_extra_info("peername") if request.transport else None,
        )
        self._attempts[digest] += 1
        self.requests.append(record)
        return record

    async def _answer(self, record: RequestRecord, request: web.Request) -> web.StreamResponse:
        model = self.models.get(record.model)
        if model is None:
            record.status = 404
            message = f"The model `{record.model}` does not exist or you do not have access to it."
            return _error(message, status=404, code="model_not_found")
        count = protocol.tokens(record.prompt)
        if model.context_length is not None and count > model.context_length:
            record.status = 400
            return web.json_response(protocol.too_long(model.context_length, count), status=400)
        reply = self._play(model, record)
        delays = (reply.latency, model.latency, self.latency)
        await asyncio.sleep(next(delay for delay in delays if delay is not None))
        if reply.tokens_per_second and not record.body.get("stream"):
            await asyncio.sleep(len(reply.text or "") / protocol.CHARS_PER_TOKEN / reply.tokens_per_second)
        if reply.fault == "hang":
            await asyncio.Event().wait()
        record.status = reply.status
        if reply.status >= 400:
            return _error(reply.text or "", status=reply.status, code=reply.error_code, headers=dict(reply.headers))
        if reply.raw_body is not None:
            headers = {"Content-Type": "application/json", **reply.headers}
            return web.Response(body=reply.raw_body.encode(), headers=headers)
        text, _ = protocol.shaped(reply, record.body)
        record.completion_tokens = protocol.usage_of("", reply, text)["completion_tokens"]
        if record.body.get("stream"):
            return await _stream(reply, record, request)
        if reply.fault == "drop":
            return _drop(request)
        completion = protocol.completion(reply, record.body, record.prompt, record.index)
        return web.json_response(completion, headers=dict(reply.headers))

    def _play(self, model: ScriptedModel, record: RequestRecord) -> Reply:
        asked = ModelRequest(record.model, record.body, record.headers, record.attempt, record.index)
        try:
            return play(model.script, record.messages, asked, model.turn)
        except ScriptError as error:
            return Reply(str(error), status=400, error_code="script_error")
        except Exception as error:
            self.failures.append(error)
            return Reply(traceback.format_exc(), status=400, error_code="script_failed")


def _error(message: str, *, status: int, code: str | None, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(protocol.error_body(message, status=status, code=code), status=status, headers=headers)


def _drop(request: web.Request) -> web.Response:
    """Close the connection under the request; the response that is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _held(response: web.StreamResponse, events: list[bytes], reply: Reply) -> None:
    """Send a part, wait for what the test waits for, send the rest."""
    text, waits_for = reply.text or "", reply.waits_for
    assert waits_for is not None
    end = text.index(reply.waits_at) + len(reply.waits_at)
    first = 1 + -(-end // protocol.CHUNK_CHARS)
    await response.write(b"".join(events[:first]))
    deadline = time.monotonic() + _MOST_HELD
    while not waits_for() and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    await response.write(b"".join(events[first:]))


async def _paced(response: web.StreamResponse, events: list[bytes], seconds: float, most: float) -> None:
    """Send chunks of text, one in so many seconds: a late one does not delay the others.

    The last, which can be shorter, is sent when the whole text is written: when a reply without streaming is.
    """
    first, *texts = events[:-_ENDING]
    start = time.monotonic()
    await response.write(first)
    for number, event in enumerate(texts, 1):
        await asyncio.sleep(max(0.0, start + min(number * seconds, most) - time.monotonic()))
        await response.write(event)
    await response.write(b"".join(events[-_ENDING:]))


async def _stream(reply: Reply, record: RequestRecord, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **reply.headers})
    await response.prepare(request)
    events = list(protocol.chunks(reply, record.body, record.prompt, record.index))
    if reply.fault == "drop":
        await response.write(b"".join(events[: len(events) // 2]))
        if request.transport is not None:
            request.transport.close()  # after what was written: abort() would lose it
        return response
    if reply.waits_for is not None:
        await _held(response, events, reply)
    elif reply.tokens_per_second:
        seconds = 1 / protocol.CHARS_PER_TOKEN / reply.tokens_per_second
        await _paced(response, events, protocol.CHUNK_CHARS * seconds, len(reply.text or "") * seconds)
    elif reply.chunk_latency:
        for event in events:
            await response.write(event)
            await asyncio.sleep(reply.chunk_latency)
    else:
        await response.write(b"".join(events))
    await response.write_eof()
    return response
