"""Read a trace. It may be finished, still being written, or left by a process that was killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.events import Event
from rlm_adapters.traces.content import MESSAGES_BEFORE, ContentReader, Text, folder_of, unpack

_POLL_SECONDS: Final = 0.1
_TEXT_CHARS: Final = 60  # of an unreadable line, in the error message about it


class TraceReader:
    """The events of a trace.

    Args:
        path: of the file, as it was given to ``trace``.
        texts: ``whole``: long texts are read from the folder of the trace. ``lazy``: they are `Text` objects, which
            read the text when you ask for it.

    Attributes:
        damaged: number of lines that could not be read. This is usually the last line of a killed process.

    Raises:
        InputError: the file does not exist, or it has no event (raised when it is read).
    """

    def __init__(self, path: str | os.PathLike[str], *, texts: str = "whole") -> None:
        self.path = Path(path)
        self.damaged = 0
        self._whole = texts == "whole"
        self._content = ContentReader(folder_of(self.path))
        self._sent: dict[str, list[Any]] = {}

    def __iter__(self) -> Iterator[Event]:
        """The events that are in the file now."""
        found = 0
        problem = "it is empty"
        with self._opened() as file:
            for line in file:
                try:
                    event = self._event(line)
                except ValueError as error:
                    self.damaged += 1
                    problem = str(error)
                    continue
                found += 1
                yield event
        if not found:
            raise InputError(f"{self.path} has no event of a run ({problem}): give a file that trace=... wrote")

    def follow(self, stop: Callable[[], bool], seconds: float = _POLL_SECONDS) -> Iterator[Event | None]:
        """The events that are in the file, and then new ones.

        Args:
            stop: called when there is no new event; True ends the iteration.
            seconds: time between two checks.

        Yields:
            Events; None when there is no new event.
        """
        with self._opened() as file:
            rest = b""
            while True:
                line = file.readline()
                rest += line
                if line.endswith(b"\n"):
                    try:
                        yield self._event(rest)
                    except ValueError:
                        self.damaged += 1
                    rest = b""
                elif not line:
                    if stop():
                        return
                    yield None
                    time.sleep(seconds)

    # -- parts

    def _opened(self) -> Any:
        try:
            if not self.path.is_file():
                raise InputError(f"{self.path}: there is no such file; give a file that trace=... wrote")
            return self.path.open("rb")
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}; give a trace that can be read") from error

    def _event(self, line: bytes) -> Event:
        """Read a line.

        Raises:
            ValueError: it is not an event.
        """
        try:
            record = json.loads(line.decode("utf-8", "surrogatepass"))
            if isinstance(record, dict) and isinstance(record.get("data"), dict) and record.get("version") != 1:
                data = {key: unpack(value, self._content) for key, value in record["data"].items()}
                if MESSAGES_BEFORE in data:
                    self._join_messages(str(record.get("run_id")), data)
                record["data"] = _whole(data) if self._whole else data
            return Event.from_dict(record)
        except RecursionError:
            raise ValueError("a line that is nested too deeply") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"a line that is not JSON: {line[:_TEXT_CHARS]!r}") from error

    def _join_messages(self, run_id: str, data: dict[str, Any]) -> None:
        """Add the messages that were also in the previous call before the messages of a line."""
        before, new = data.pop(MESSAGES_BEFORE), data.get("messages")
        if not isinstance(new, list):
            return
        kept = self._sent.get(run_id, [])[:before] if isinstance(before, int) and before > 0 else []
        data["messages"] = self._sent[run_id] = [*kept, *new]


def read_events(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of a trace, with all texts.

    Args:
        path: of the file, as it was given to ``trace``.

    Raises:
        InputError: the file is not a trace.
    """
    return iter(TraceReader(path))


def _whole(value: Any) -> Any:
    if isinstance(value, Text):
        return value.read()
    if isinstance(value, dict):
        return {key: _whole(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return value
