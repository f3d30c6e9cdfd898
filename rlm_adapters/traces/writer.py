"""Write a trace: each event of a run as a line of JSON, and long texts into a folder."""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.events import HEAD_CHARS, Event
from rlm_adapters.forking import forget_in_children
from rlm_adapters.traces.content import (
    INLINE_CHARS,
    MESSAGES_BEFORE,
    ContentWriter,
    digested,
    folder_of,
    pack,
    reference,
    remove_texts,
    write_all,
)

MAX_BYTES: Final = 1_000_000_000

_IDLE_SECONDS: Final = 1.0
"""The thread of a writer ends after this time without events."""
_SETTLE_SECONDS: Final = 30.0
"""Longest wait for the disk."""
_GATHER_SECONDS: Final = 0.005
"""Events are collected for this time, because waking the thread takes longer than writing one event."""
_BATCH: Final = 1_000
_REFERENCE_BYTES: Final = 80  # digest and length, in addition to the text

_MOST_RUNS: Final = 1_000  # whose messages are remembered
_INLINE_MESSAGE: Final = 200
"""Longest message to the root LM that is in the line, in characters. Later runs have many of the same messages."""

_WORDS: Final = frozenset({"function", "kind", "finish_reason", "reason", "limit", "role", "type"})
"""Keys whose values are words of this package. They are not redacted."""
_OURS: Final = frozenset({"messages", "inputs", "retry"})
"""Keys whose values this package makes, so their inner keys are known, too."""

_JSON: Final = json.JSONEncoder(ensure_ascii=False, default=repr)
_LOG = logging.getLogger("rlm_adapters")
_writers: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


class TraceWriter:
    """Writes the events of runs into a file. Give it as ``trace`` or ``on_event``.

    A separate thread writes, so no run and no event loop waits for the disk. If the process is killed, at most the
    events of its last milliseconds are lost. Several runs can write into one file, at the same time or one after the
    other. Lines are appended to an existing file.

    Args:
        path: of the file. Texts of more than 1,000 characters are in the folder ``<path>.content``.
        redact: gets each text that a cell, a model, a tool or a caller wrote, and returns the text to keep. It is
            called in the writer's thread. If it raises, the text is left out.
        max_bytes: limit for lines and texts together, with those that are already in the file. When it is reached, a
            warning says so, and from then on only the ends of runs are written.

    Raises:
        InputError: an argument is wrong. When a run begins: the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        redact: Callable[[str], str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise InputError(f"trace={path!r}: give the path of a file, or a TraceWriter")
        if redact is not None and not callable(redact):
            raise InputError(f"redact={redact!r}: give a function that takes and returns a text")
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise InputError(f"max_bytes={max_bytes!r}: give a positive number of bytes")
        self.path = Path(path)
        self.redact = redact
        self.max_bytes = max_bytes
        self.forget_parent()
        forget_in_children(self)
        _writers.add(self)

    def __repr__(self) -> str:
        return f"TraceWriter({str(self.path)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (self.path, self.redact, self.max_bytes)

    def __copy__(self) -> TraceWriter:
        return self

    def __deepcopy__(self, memo: Any) -> TraceWriter:
        return self

    def __call__(self, event: Event) -> None:
        """Add an event. Never blocks."""
        with self._lock:
            self._queue.put(event)
            self._wake()

    def begin(self) -> None:
        """Check that the file can be written.

        Raises:
            InputError: it cannot be written.
        """
        try:
            os.close(_opened(self.path))
        except OSError as error:
            raise InputError(f"trace {self.path}: {error.strerror}; give a file that can be written") from error

    def settle(self) -> None:
        """Wait until all events so far are written. Called when a run has ended."""
        done = threading.Event()
        with self._lock:
            if self._thread is None and self._queue.empty():
                return
            self._queue.put(done)
            self._hurry.set()
            self._wake()
        done.wait(_SETTLE_SECONDS)

    def forget_parent(self) -> Any:
        """Start again in a forked child: it has no thread, and the queue belongs to the parent."""
        inherited = vars(self).copy()
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Event | threading.Event] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._file: _File | None = None
        self._failed = False
        return inherited

    # -- in the thread

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="rlm-trace", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if not self._queue.empty():
                        continue
                    if self._file is not None:
                        self._file.close()
                    self._thread = None
                return
            self._hurry.wait(_GATHER_SECONDS)
            self._hurry.clear()
            batch = [first, *self._waiting()]
            events = [one for one in batch if isinstance(one, Event)]
            try:
                if events:
                    self._write(events)
            except Exception as error:  # noqa: BLE001 - a full disk ends no run
                # Log only once: it would fail for each event.
                _LOG.log(logging.DEBUG if self._failed else logging.WARNING, "trace %s: %s", self.path, error)
                self._failed = True
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()

    def _waiting(self) -> Iterator[Event | threading.Event]:
        for _ in range(_BATCH):
            try:
                yield self._queue.get_nowait()
            except queue.Empty:
                return

    def _write(self, events: list[Event]) -> None:
        if self._file is None:
            self._file = _File(self.path, self.redact, self.max_bytes)
        self._file.write(events)


@atexit.register
def _settle_all() -> None:
    """Write the rest at the end of the process, because the process does not wait for the threads of writers."""
    for writer in list(_writers):
        writer.settle()


def begin_anew(path: Path) -> None:
    """Empty a trace, and remove its texts.

    Raises:
        OSError: the file cannot be written.
    """
    path.open("wb").close()
    remove_texts(folder_of(path))


def trace_writer(trace: Any) -> TraceWriter:
    """The writer for the argument ``trace``: a path, or a `TraceWriter`.

    Raises:
        InputError: it is neither.
    """
    return trace if isinstance(trace, TraceWriter) else TraceWriter(trace)


def _made(path: Path, redact: Callable[[str], str] | None, max_bytes: int) -> TraceWriter:
    return TraceWriter(path, redact=redact, max_bytes=max_bytes)


class _File:
    """The lines and texts of a trace. Used by one thread."""

    def __init__(self, path: Path, redact: Callable[[str], str] | None, max_bytes: int) -> None:
        self._path = path
        self._redact = redact
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._full = False
        self._content = ContentWriter(folder_of(path))
        self._sent: dict[str, list[Any]] = {}
        """The messages of each run's last call."""
        self._file: int | None = None
        self._counted = False

    def write(self, events: list[Event]) -> None:
        """Write events; all their lines with one call."""
        if self._file is None:
            self._open()
        assert self._file is not None
        lines: list[bytes] = []
        for event in events:
            lines += self._lines(event)
        self._content.flush()  # before the lines, so that no line refers to a missing text
        write_all(self._file, b"".join(lines))

    def close(self) -> None:
        """Close the files until the next event."""
        self._content.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        self._file = _opened(self._path)
        size = os.fstat(self._file).st_size
        if not self._counted:
            self._counted = True
            self._left -= size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")  # a process was killed in the middle of a line

    def _lines(self, event: Event) -> list[bytes]:
        """The lines for an event. When the limit is reached: one warning, then nothing."""
        if not self._full:
            texts: list[tuple[str, bytes]] = []
            line = self._line(event, texts)
            size = len(line) + sum(len(data) + _REFERENCE_BYTES for _, data in texts)
            if size <= self._left:
                self._left -= size
                for digest, data in texts:
                    self._content.add(digest, data)
                return [line]
            self._full = True
            return [self._line(self._warning(event), None), *self._lines(event)]
        return [self._line(event, None)] if event.type == "run_finished" else []

    def _with_new_messages(self, event: Event) -> Mapping[str, Any]:
        """An event's data with only those messages that were not in the run's previous call.

        A conversation grows at its end. With all messages in each line, the size of a trace would be quadratic.
        """
        if event.type == "run_finished":
            self._sent.pop(event.run_id, None)
        messages = event.data.get("messages")
        if not isinstance(messages, list):
            return event.data
        before = self._sent.get(event.run_id, [])
        same = next(
            (place for place, (old, new) in enumerate(zip(before, messages, strict=False)) if old != new),
            min(len(before), len(messages)),
        )
        if len(self._sent) >= _MOST_RUNS:
            self._sent.clear()
        self._sent[event.run_id] = messages
        return {**event.data, "messages": messages[same:], MESSAGES_BEFORE: same}

    def _warning(self, event: Event) -> Event:
        message = (
            f"the trace has reached its bound of {self._max_bytes:,} bytes: from here on it holds only the ends of "
            "runs (TraceWriter(..., max_bytes=...) raises it)"
        )
        return replace(event, type="warning", id=None, parent=None, data={"message": message, "trace_full": True})

    def _line(self, event: Event, texts: list[tuple[str, bytes]] | None) -> bytes:
        """An event as a line.

        Args:
            event: the event to write.
            texts: the digests and bytes of its long texts are added to this list. None: only their heads are kept.
        """

        def refer(text: str) -> dict[str, Any]:
            if texts is None:
                return reference(text[:HEAD_CHARS], len(text))
            digest, data = digested(text)
            texts.append((digest, data))
            return reference(text[:HEAD_CHARS], len(text), digest)

        record = event.to_dict()
        try:
            data: Mapping[str, Any] = self._with_new_messages(event)
            if self._redact is not None:
                data = _redacted(data, self._redact)
            record["data"] = {
                key: pack(value, refer, _INLINE_MESSAGE if key == "messages" else INLINE_CHARS)
                for key, value in data.items()
            }
            return _encoded(record)
        except (TypeError, ValueError, RecursionError) as error:  # a value that contains itself
            record["data"] = {"message": f"this event could not be written: {type(error).__name__}: {error}"}
            return _encoded(record)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)


def _encoded(record: Mapping[str, Any]) -> bytes:
    try:
        return f"{_JSON.encode(record)}\n".encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return f"{json.dumps(record, default=repr)}\n".encode()


def _redacted(data: Mapping[str, Any], redact: Callable[[str], str]) -> dict[str, Any]:
    """The data of an event with every text redacted and its lengths corrected."""

    def one(text: str) -> str:
        try:
            kept = redact(text)
        except Exception as error:  # noqa: BLE001 - what cannot be redacted is not kept
            return f"[redact failed: {type(error).__name__}]"
        return kept if isinstance(kept, str) else f"[redact gave a {type(kept).__name__}]"

    def walk(value: Any, words: frozenset[str] = frozenset()) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return one(value)
        if isinstance(value, Mapping):
            return {
                (key if words else one(str(key))): part if key in words else walk(part) for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            return [walk(part, words) for part in value]
        return one(repr(value))

    kept = {
        key: value if key in _WORDS else walk(value, _WORDS if key in _OURS else frozenset())
        for key, value in data.items()
    }
    for key, value in kept.items():
        if isinstance(value, str) and f"{key}_chars" in kept and key != "stdout":
            kept[f"{key}_chars"] = len(value)
    return kept
