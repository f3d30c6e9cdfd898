"""The file of answers: a line is appended for each finished row."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from rlm_adapters.datasets.asked import check_asked, write_asked
from rlm_adapters.errors import InputError, OutputError
from rlm_adapters.models.usage import Usage, check_usage
from rlm_adapters.values.lines import LinesFile, json_object, write_all

STDOUT: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of a row.

    Attributes:
        id: id of the row.
        answer: the submitted answer, or the best one so far if a limit ended the run; None: there is none.
        error: ``kind`` and ``message`` of a failed row; None: it is answered.
        finish_reason: as in the graph's output.
        usage: usage of the row.
        seconds: time for the row.
        run_id: id of its run, as in traces.
    """

    id: str | int
    answer: Any = None
    error: Mapping[str, str] | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=dict)
    seconds: float = 0.0
    run_id: str = ""

    def line(self) -> bytes:
        """The answer as a line of JSON."""
        record = {
            "id": self.id,
            "answer": self.answer,
            "error": None if self.error is None else dict(self.error),
            "finish_reason": self.finish_reason,
            "usage": dict(self.usage),
            "seconds": round(self.seconds, 3),
            "run_id": self.run_id,
        }
        try:
            return json.dumps(record, ensure_ascii=False, default=str).encode() + b"\n"
        except UnicodeEncodeError:  # half of a surrogate pair
            return json.dumps(record, default=str).encode() + b"\n"


class Answers(Protocol):
    """Where answers are written. All methods may block. Used by one thread at a time."""

    def read(self) -> Iterator[Answer]:
        """The existing answers."""
        ...

    def write(self, answer: Answer) -> None:
        """Add an answer.

        Raises:
            OutputError: it cannot be written. Earlier answers are kept.
        """
        ...

    def close(self) -> None:
        """Release the file."""
        ...


def open_answers(output: str | Path, asked: Mapping[str, Any]) -> Answers:
    """Open a file for answers, and lock it. An incomplete line of a killed process is removed.

    Args:
        output: path of the file; ``"-"``: standard output, which a second start cannot continue.
        asked: the question and settings.

    Raises:
        InputError: it cannot be written, another process writes it, or it has answers to another question.
    """
    if str(output) == STDOUT:
        try:
            return StreamOfAnswers(os.dup(sys.stdout.fileno()), "standard output")
        except OSError:
            raise InputError("standard output is not a file here: give the path of a file for the answers") from None
    path = Path(output)
    try:
        if path.exists() and not path.is_file():
            return StreamOfAnswers(os.open(path, os.O_WRONLY), str(path))  # of a pipe: waits for its reader
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a file that can be written") from error
    file = LinesFile.open(path)
    try:
        if file.is_empty:
            write_asked(path, asked)
        else:
            check_asked(path, asked)
            file.repair(_read)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise InputError(f"{path}: {error.strerror}; give a file that can be written") from error
        raise
    return FileOfAnswers(file)


class StreamOfAnswers:
    """A pipe, a terminal or a device. It cannot be read again.

    Args:
        file: descriptor, closed at the end.
        name: for messages.
    """

    def __init__(self, file: int, name: str) -> None:
        self._file = file
        self._name = name

    def read(self) -> Iterator[Answer]:
        """No answers."""
        return iter(())

    def write(self, answer: Answer) -> None:
        """Add an answer."""
        try:
            write_all(self._file, answer.line())
        except OSError as error:
            raise OutputError(f"{self._name}: {error.strerror}; the last row's answer is lost") from error

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._file)


class FileOfAnswers:
    """A regular file.

    Args:
        file: closed at the end.
    """

    def __init__(self, file: LinesFile) -> None:
        self._file = file

    def read(self) -> Iterator[Answer]:
        """The existing answers. If a row has several, the last one counts."""
        for number, line in self._file.lines():
            yield _read(line, f"{self._file.path}, line {number}")

    def write(self, answer: Answer) -> None:
        """Add a line, completely or not at all."""
        self._file.append(answer.line())

    def close(self) -> None:
        """Write everything to the disk, and release the file."""
        self._file.close()


def _read(line: bytes, place: str) -> Answer:
    """Read an answer from a line."""
    remedy = "remove this line, and its row is asked again"
    record = json_object(line, place, what="answer of rlm map", remedy=remedy)
    if isinstance(record.get("id"), bool) or not isinstance(record.get("id"), str | int):
        raise InputError(f"{place} is not an answer of rlm map: {remedy}")
    error, usage = record.get("error"), record.get("usage") or {}
    if error is not None and not (isinstance(error, dict) and isinstance(error.get("kind"), str)):
        raise InputError(f"{place}: 'error' is not an object with a 'kind': {remedy}")
    if not isinstance(usage, dict):
        raise InputError(f"{place}: 'usage' is not an object: {remedy}")
    try:
        check_usage(usage)
    except InputError as wrong:
        raise InputError(f"{place}: {wrong}") from None
    reason, run_id = record.get("finish_reason"), record.get("run_id")
    return Answer(
        id=record["id"],
        answer=record.get("answer"),
        error=error,
        finish_reason=reason if isinstance(reason, str) else None,
        usage=usage,
        run_id=run_id if isinstance(run_id, str) else "",
    )
