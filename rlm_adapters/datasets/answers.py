"""The file of answers: a line for each finished row, added at its end."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from rlm_adapters.datasets.asked import check_asked, write_asked
from rlm_adapters.errors import InputError, OutputError
from rlm_adapters.models.usage import Usage, check_usage

STDOUT: Final = "-"

_SYNC_SECONDS: Final = 1.0
"""Lines of the last second may be lost with the machine's power; a killed process loses none."""
_TAIL: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a row.

    Attributes:
        id: of the row.
        answer: submitted, or the best one so far where a limit ended the run; None: there is none.
        error: ``kind`` and ``message`` of a row that failed; None: it is answered.
        finish_reason: as in the graph's output.
        usage: of the row.
        seconds: that it took.
        run_id: of its run, as in traces.
    """

    id: str | int
    answer: Any = None
    error: Mapping[str, str] | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=dict)
    seconds: float = 0.0
    run_id: str = ""

    def line(self) -> bytes:
        """As a line of JSON."""
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
    """Where answers go. All methods may block; one thread at a time uses it."""

    def read(self) -> Iterator[Answer]:
        """The answers that are there."""
        ...

    def write(self, answer: Answer) -> None:
        """Add one.

        Raises:
            OutputError: it cannot be written; those before are there.
        """
        ...

    def close(self) -> None:
        """Give the file free."""
        ...


def open_answers(output: str | Path, asked: Mapping[str, Any]) -> Answers:
    """Open a file for answers, the only one to do so; a line that a killed process had half written is removed.

    Args:
        output: path of the file; ``"-"``: standard output, which keeps nothing for a second start.
        asked: what the rows are asked.

    Raises:
        InputError: it cannot be written, another process writes it, or it was begun with something else.
    """
    if str(output) == STDOUT:
        try:
            return StreamOfAnswers(os.dup(sys.stdout.fileno()), "standard output")
        except OSError:
            raise InputError("standard output is no file here: give the path of one for the answers") from None
    path = Path(output)
    try:
        if path.exists() and not path.is_file():
            return StreamOfAnswers(os.open(path, os.O_WRONLY), str(path))  # of a pipe: waits for its reader
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give a file that can be written") from error
    try:
        _lock(file, path)
        try:
            if os.fstat(file).st_size:
                check_asked(path, asked)
                _repair(file)
            else:
                write_asked(path, asked)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; give a file that can be written") from error
        return FileOfAnswers(file, path)
    except BaseException:
        os.close(file)
        raise


class StreamOfAnswers:
    """A pipe, a terminal or a device: it cannot be read again.

    Args:
        file: descriptor, closed at the end.
        name: for messages.
    """

    def __init__(self, file: int, name: str) -> None:
        self._file = file
        self._name = name

    def read(self) -> Iterator[Answer]:
        """None."""
        return iter(())

    def write(self, answer: Answer) -> None:
        """Add one."""
        try:
            _write(self._file, answer.line())
        except OSError as error:
            raise OutputError(f"{self._name}: {error.strerror}; the last row's answer is lost") from error

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._file)


class FileOfAnswers:
    """A regular file, locked.

    Args:
        file: descriptor.
        path: for messages.
    """

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = os.fstat(file).st_size
        self._synced = time.monotonic()

    def read(self) -> Iterator[Answer]:
        """The answers that are there; of several of a row the last one counts."""
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _read(line, f"{self._path}, line {number}")

    def write(self, answer: Answer) -> None:
        """Add a line, whole or not at all."""
        line = answer.line()
        try:
            _write(self._file, line)
            self._size += len(line)
            if time.monotonic() - self._synced >= _SYNC_SECONDS:
                self._sync()
        except OSError as error:
            self._cut()
            raise OutputError(
                f"{self._path}: {error.strerror}; the rows before are kept: make room, and start again to go on"
            ) from error

    def close(self) -> None:
        """Bring all to the disk, and give the file free."""
        try:
            self._sync()
        except OSError as error:
            raise OutputError(f"{self._path}: {error.strerror}; the last rows may be lost") from error
        finally:
            os.close(self._file)

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = time.monotonic()

    def _cut(self) -> None:
        """Remove a line of which only a part was written; if that fails too, the next start does it."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            return


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _lock(file: int, path: Path) -> None:
    """Keep other processes out, as long as the file is open; the system gives it free when this process dies.

    Where there are no such locks (not on Linux or macOS, and on some network file systems) nothing keeps them out.
    """
    try:
        import fcntl  # noqa: PLC0415 - not on every platform
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{path} is being written by another process: wait until it has ended, or give another file"
        ) from None
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}:
            raise


def _repair(file: int) -> None:
    """End the last line if it lacks only its end, or remove it: the process that wrote it was killed."""
    size = os.fstat(file).st_size
    tail, length = b"", 0
    while length < size and b"\n" not in tail:
        length = min(size, max(_TAIL, 2 * length))
        tail = os.pread(file, length, size - length)
    last = tail[tail.rfind(b"\n") + 1 :]
    if not last:
        return
    try:
        _read(last, "")
    except InputError:
        os.ftruncate(file, size - len(last))
    else:
        _write(file, b"\n")


def _read(line: bytes, place: str) -> Answer:
    """An answer that was written before; whoever has edited it since may have made anything of it."""
    remedy = "remove this line, and its row is asked again"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{place} is not JSON: {remedy}") from None
    if (
        not isinstance(record, dict)
        or isinstance(record.get("id"), bool)
        or not isinstance(record.get("id"), str | int)
    ):
        raise InputError(f"{place} is no answer of rlm map: {remedy}")
    error, usage = record.get("error"), record.get("usage") or {}
    if error is not None and not (isinstance(error, dict) and isinstance(error.get("kind"), str)):
        raise InputError(f"{place}: 'error' is no object with a 'kind': {remedy}")
    if not isinstance(usage, dict):
        raise InputError(f"{place}: 'usage' is no object: {remedy}")
    try:
        check_usage(usage)
    except InputError as wrong:
        raise InputError(f"{place}: {wrong}") from None
    return Answer(id=record["id"], error=error, usage=usage)
