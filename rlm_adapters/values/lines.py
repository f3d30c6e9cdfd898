"""A file of lines that grows at its end: whole lines, whatever ends the process or the disk."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

from rlm_adapters.errors import InputError, OutputError

_SYNC_SECONDS: Final = 1.0
"""Lines of the last second may be lost with the machine's power; a killed process loses none."""
_TAIL: Final = 64 * 1024


class BusyFileError(InputError):
    """Another process writes the file."""


class LinesFile:
    """A regular file that this process alone writes, as long as it is open.

    All methods may block, and may be called in any thread.

    Args:
        file: descriptor, locked.
        path: of the file.
    """

    def __init__(self, file: int, path: Path) -> None:
        self.path = path
        self._file = file
        self._guard = threading.Lock()
        self._size = os.fstat(file).st_size
        self._synced = time.monotonic()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file, or begin it.

        Raises:
            InputError: it cannot be written; a `BusyFileError` if another process writes it.
        """
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}; give a file that can be written") from error
        try:
            _lock(file, path)
            return cls(file, path)
        except BaseException:
            os.close(file)
            raise

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._size

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines that are there, each with its number from 1; empty ones are left out."""
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line

    def repair(self, read: Callable[[bytes, str], object]) -> None:
        """End the last line if it lacks only its end, or remove it: the process that wrote it was killed.

        Args:
            read: raises `InputError` for bytes that are no whole line but for its end; is given their place too.

        Raises:
            OSError: the file cannot be changed.
        """
        tail, length = b"", 0
        while length < self._size and b"\n" not in tail:
            length = min(self._size, max(_TAIL, 2 * length))
            tail = os.pread(self._file, length, self._size - length)
        last = tail[tail.rfind(b"\n") + 1 :]
        if not last:
            return
        try:
            read(last, str(self.path))
        except InputError:
            os.ftruncate(self._file, self._size - len(last))
            self._size -= len(last)
        else:
            write_all(self._file, b"\n")
            self._size += 1

    def append(self, line: bytes) -> None:
        """Add a line, with its end: whole, or not at all.

        Raises:
            OutputError: it cannot be written; those before are there.
        """
        with self._guard:
            try:
                write_all(self._file, line)
                self._size += len(line)
                if time.monotonic() - self._synced >= _SYNC_SECONDS:
                    self._sync()
            except OSError as error:
                self._cut()
                raise OutputError(
                    f"{self.path}: {error.strerror}; the lines before are kept: make room, and start again to go on"
                ) from error

    def close(self) -> None:
        """Bring all to the disk, and give the file free.

        Raises:
            OutputError: that failed.
        """
        with self._guard:
            try:
                self._sync()
            except OSError as error:
                raise OutputError(f"{self.path}: {error.strerror}; the last lines may be lost") from error
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


def json_object(line: bytes, place: str, *, what: str, remedy: str) -> dict[str, Any]:
    """A line as the JSON object that it was written as; whoever has edited it since may have made anything of it.

    Args:
        line: of a file.
        place: where it stands, for messages.
        what: it ought to be.
        remedy: what to do if it is not.

    Raises:
        InputError: it is no object.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{place} is not JSON: {remedy}") from None
    if not isinstance(record, dict):
        raise InputError(f"{place} is no {what}: {remedy}")
    return record


def write_all(file: int, data: bytes) -> None:
    """Write all of it to a descriptor.

    Raises:
        OSError: a part of it could not be written.
    """
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
        raise BusyFileError(
            f"{path} is being written by another process: wait until it has ended, or give another file"
        ) from None
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}:
            raise
