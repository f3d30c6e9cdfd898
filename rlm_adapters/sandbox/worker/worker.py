"""The worker process: the confined namespace of one session, controlled by frames from the host.

A worker is forked from the zygote (or from a holder of its inputs). It reads its inputs, applies the hardening, and
then reads and writes only one descriptor. The security of the host does not depend on code here: the host checks all
messages of a worker again (see ``messages``).
"""

from __future__ import annotations

import gc
import os
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

from rlm_adapters.sandbox.hardening.confinement import Confinement, address_space, confine
from rlm_adapters.sandbox.protocol.encoding import load_value
from rlm_adapters.sandbox.protocol.exits import EXIT_FAILED, EXIT_HOST_GONE, EXIT_MEMORY
from rlm_adapters.sandbox.protocol.frames import (
    Message,
    encode_body,
    has_too_many_items,
    to_wire,
)
from rlm_adapters.sandbox.protocol.journal import answer_from_json
from rlm_adapters.sandbox.protocol.types import Answer, CellError, HostFunction
from rlm_adapters.sandbox.repl.repl import CellOutcome, Repl
from rlm_adapters.sandbox.runahead.worker import FOUND_NOTHING, Ahead
from rlm_adapters.sandbox.runtime.control import ControlFlow
from rlm_adapters.sandbox.runtime.hostcalls import WireCall
from rlm_adapters.sandbox.runtime.stock import Stock
from rlm_adapters.sandbox.worker.channel import WorkerChannel
from rlm_adapters.sandbox.worker.receiving import receive_value
from rlm_adapters.sandbox.worker.timer import CpuTimer

_FILE_PIECE: Final = 1 << 20
_MAX_LINES: Final = 20


class Interpreter(Protocol):
    """Runs the cells: `repl.Repl`, or plain Python in the test mode."""

    def expect(self, values: Sequence[object]) -> None:
        """Load modules that later inputs need, while the process can still import."""

    def advance_to(self, epoch: float) -> None:
        """Set the clock to a later time, in seconds since 1970."""

    def set_variable(self, name: str, value: object) -> None:
        """Set the variable of an input."""

    def add_file(self, path: str, data: bytes) -> None:
        """Add a read-only file to the workspace."""

    def run(self, code: str) -> CellOutcome:
        """Run a cell to its end."""

    def files_written(self) -> dict[str, bytes]:
        """The files that cells have written."""


@dataclass(slots=True)
class Loaded:
    """Decoded inputs in this process.

    Attributes:
        inputs: inputs of the session by round: variables by name, files of the workspace by path.
        held: values that a holder keeps for its workers, by key.
        growth: bytes by which decoding has increased the address space.
    """

    inputs: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    growth: int = 0

    def take(self, items: Sequence[dict[str, Any]], fds: Sequence[int], fill: Callable[[memoryview], None]) -> None:
        """Decode the items of a load frame and close its descriptors.

        Args:
            items: of the frame.
            fds: of the frame.
            fill: reads what follows the frame, if an item has a ``size``.

        Raises:
            ValueError: The content of an item does not fit its kind.
        """
        before = address_space()
        for item in items:
            try:
                if item["kind"] == "held":
                    value = self.held[item["key"]]
                else:
                    streamed = "size" in item
                    value = receive_value(item["kind"], item["size"], fill) if streamed else load_value(item, fds)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"the content of {item['name']!r} is not valid {item['kind']}: {error}") from None
            if item["target"] == "held":
                self.held[item["key"]] = value
            else:
                given = self.inputs.setdefault(item["round"], {"variable": {}, "file": {}})
                given[item["target"]][item["name"]] = value
        for fd in fds:
            os.close(fd)
        self.growth += max(0, address_space() - before)


class Worker:
    """Serves one session until the host closes the channel.

    Args:
        channel: to the host.
        loaded: inputs that the process holds.
        prepared: a namespace that was made before the fork, for sessions without ``allow_modules``.
    """

    def __init__(self, channel: WorkerChannel, loaded: Loaded, prepared: Repl) -> None:
        self._channel = channel
        self._loaded = loaded
        self._prepared = prepared
        self._timer = CpuTimer()
        self._frame_bytes = 0
        self._ahead: Ahead | None = None
        self._stock = Stock({})
        self._later: dict[int, dict[str, dict[str, Any]]] = {}
        self._epochs: list[float | None] = []
        self._round = 0
        self._interpreter: Interpreter

    def serve(self) -> None:
        """Read the inputs, confine this process, then execute the requests of the host."""
        self._begin(self._take_inputs())
        while True:
            message = self._channel.receive()
            if message["t"] == "run":
                self._channel.send_body(self._run(message))
            elif message["t"] == "rehearse":
                self._channel.send_body(self._rehearse(message))
            else:
                self._send_files()

    def _send_files(self) -> None:
        """Send all written files in pieces, because together they may be larger than a frame."""
        size = min(_FILE_PIECE, self._frame_bytes // 4)
        for path, data in self._interpreter.files_written().items():
            for start in range(0, len(data) or 1, size):
                self._channel.send({"t": "file", "path": path, "data": to_wire(data[start : start + size])})
        self._channel.send({"t": "end"})

    def _take_inputs(self) -> Message:
        """Decode load frames until the frame that starts the session."""
        while True:
            message, fds = self._channel.receive_fds()
            if message["t"] == "begin":
                return message
            try:
                self._loaded.take(message["items"], fds, self._channel.fill)
            except ValueError as error:
                self._channel.send({"t": "refused", "message": str(error)})
                os._exit(EXIT_FAILED)

    def _begin(self, settings: Message) -> None:
        self._frame_bytes = settings["frame_bytes"]
        self._interpreter = self._make_interpreter(settings)
        self._later, self._epochs = self._loaded.inputs, settings["epochs"]
        for given in self._later.values():
            self._interpreter.expect([*given["variable"].values(), *given["file"].values()])
        self._take_round(0)
        memory = settings["memory_bytes"]
        self._loaded = Loaded(growth=self._loaded.growth)
        gc.collect()
        gc.freeze()  # the collector never checks the current objects again
        held = confine(
            Confinement(
                memory_bytes=memory,
                input_bytes=self._loaded.growth,
                layers=frozenset(settings["layers"]),
                allow_fork=settings["ahead"],
            )
        )
        self._channel.send({"t": "ready", "layers": sorted(held)})

    def _take_round(self, number: int) -> None:
        """Set the inputs of a round."""
        given = self._later.pop(number, {"variable": {}, "file": {}})
        for name, value in given["variable"].items():
            self._interpreter.set_variable(name, value)
        for path, data in given["file"].items():
            self._interpreter.add_file(path, data)

    def _make_interpreter(self, settings: Message) -> Interpreter:
        functions = [
            HostFunction(**{**function, "parameters": function["parameters"] and tuple(function["parameters"])})
            for function in settings["functions"]
        ]
        if settings["plain"]:
            from rlm_adapters.sandbox.repl.plain import PlainRepl  # noqa: PLC0415 - only the tests' mode needs it

            return PlainRepl(call_host=self._call_host, functions=functions)
        allowed = settings["allow_modules"]
        repl = Repl(allow_modules=allowed) if allowed else self._prepared
        repl.begin(
            call_host=self._call_host,
            functions=functions,
            output_chars=settings["output_chars"],
            file_bytes=settings["file_bytes"],
            output_fields=settings["output_fields"],
            seed=settings["seed"],
            epoch=settings["epoch"],
        )
        if settings["ahead"]:
            self._ahead = Ahead(self._channel.fd, repl, functions)
        return repl

    def _call_host(self, calls: Sequence[WireCall]) -> list[Answer]:
        """Let the host answer all calls. The cell waits here."""
        if self._ahead is not None and self._ahead.answer is not None:
            return self._ahead.answer(calls)
        answers = self._stock.take(calls)
        if answers is not None:
            return answers
        wire = [{"f": call.function, "a": to_wire(list(call.args)), "k": to_wire(dict(call.kwargs))} for call in calls]
        body = encode_body(
            {"t": "call", "place": _place(), "taken": self._stock.taken(), "calls": wire}, errors="replace"
        )
        if len(body) > self._frame_bytes or has_too_many_items(body):
            raise ValueError("the arguments of this call are too large to be handed to the host")
        with self._timer:
            self._channel.send_body(body)
            message = self._channel.receive()
            while self._ahead is not None and message["t"] == "look":
                self._channel.send_body(self._ahead.look(message))
                message = self._channel.receive()
        self._stock.add(message["stock"])
        return [answer_from_json(answer) for answer in message["answers"]]

    def _run(self, message: Message) -> bytes:
        """Run a cell. Returns the body of the frame with its report."""
        code, cpu_seconds = message["code"], message["cpu"]
        self._take_rounds(message["round"])
        self._stock = Stock(message["stock"])
        if self._ahead is not None:
            self._ahead.begin(code, cpu_seconds, wanted=message["ahead"])
        before = time.process_time()
        try:
            self._timer.start(cpu_seconds)
            outcome = self._interpreter.run(code)
        except ControlFlow:  # at the last bytecode, after the code that catches it
            outcome = _without_output(CellError("cpu", "TimeoutError", "the cell used too much CPU time"))
        finally:
            self._timer.stop()
            if self._ahead is not None:
                self._ahead.end()
        return self._report(outcome, time.process_time() - before)

    def _rehearse(self, message: Message) -> bytes:
        """Run the beginning of the next cell ahead. Returns the body of the frame with the found calls."""
        self._take_rounds(message["round"])
        if self._ahead is None:
            return FOUND_NOTHING
        return self._ahead.rehearse(message)

    def _take_rounds(self, last: int) -> None:
        """Set the inputs of all rounds up to this one that were added after the previous cell."""
        while self._round < last:
            epoch = self._epochs[self._round]
            self._round += 1
            self._take_round(self._round)
            if epoch is not None:
                self._interpreter.advance_to(epoch)

    def _report(self, outcome: CellOutcome, cpu_seconds: float) -> bytes:
        """The frame of a finished cell. A value that cannot be sent becomes the cell's error."""
        taken = self._stock.taken()
        try:
            body = _encode_outcome(outcome, cpu_seconds, taken)
            if len(body) <= self._frame_bytes and not has_too_many_items(body):
                return body
            reason = "it is too large"
        except (TypeError, ValueError, RecursionError) as refused:
            reason = str(refused)
        error = CellError("exception", "ValueError", f"what this cell submitted cannot be handed over: {reason}")
        return _encode_outcome(_without_output(error, outcome), cpu_seconds, taken)


def _place() -> int:
    """A number for the lines of the cell in the call stack of a host call."""
    lines: list[str] = []
    frame = sys._getframe(2)  # noqa: SLF001 - the stack itself is what is asked for
    while frame is not None and len(lines) < _MAX_LINES:
        if frame.f_code.co_filename.startswith("<cell "):
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return zlib.crc32("\n".join(lines).encode())


def _without_output(error: CellError, outcome: CellOutcome | None = None) -> CellOutcome:
    return CellOutcome(
        stdout=outcome.stdout if outcome else "",
        stdout_chars=outcome.stdout_chars if outcome else 0,
        error=error,
        final=None,
        variables=outcome.variables if outcome else (),
    )


def _encode_outcome(outcome: CellOutcome, cpu_seconds: float, taken: list[str]) -> bytes:
    error, final = outcome.error, outcome.final
    message = {
        "t": "done",
        "stdout": outcome.stdout,
        "stdout_chars": outcome.stdout_chars,
        "error": error and [error.kind, error.type, error.message, error.line, error.traceback],
        "final": final and [final.function, final.value, final.fields],
        "variables": [[variable.name, variable.type, variable.size] for variable in outcome.variables],
        "cpu": cpu_seconds,
        "taken": taken,
    }
    return encode_body({key: to_wire(value) for key, value in message.items()}, errors="replace")


def main(fd: int, loaded: Loaded, prepared: Repl) -> NoReturn:
    """Run as a worker on this descriptor. Does not return. See `Worker`."""
    channel = WorkerChannel(fd)
    status = EXIT_FAILED
    try:
        Worker(channel, loaded, prepared).serve()
    except (EOFError, ConnectionError):
        status = EXIT_HOST_GONE
    except MemoryError:
        status = EXIT_MEMORY
    except BaseException as error:  # noqa: BLE001 - whatever it is, the host should hear of it
        try:
            channel.send({"t": "failed", "message": f"{type(error).__name__}: {error}"})
        except OSError:
            status = EXIT_HOST_GONE
    os._exit(status)
