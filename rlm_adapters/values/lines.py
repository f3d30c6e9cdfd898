"""`LinesFile`: a file to which whole lines are appended, also if the process is killed or the disk is full."""

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
"""A power failure may lose the lines of this time. A killed process loses none."""
_TAIL: Final = 64 * 1024


class BusyFileError(InputError):
    """Another process writes the file."""


class LinesFile:
    """A regular file that only this process writes while it is open.

    All methods may block, and can be called from any thread.

    Args:
        file: locked file descriptor.
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
        """Open or create a file.

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
        """Whether the file is empty."""
        return not self._size

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines, each with its number from 1, without empty ones."""
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line

    def repair(self, read: Callable[[bytes, str], object]) -> None:
        """Repair the last line after the process that wrote it was killed: add a missing line end, or remove the line.

        Args:
            read: gets the bytes of a line and its place. Raises `InputError` if the line is incomplete.

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
        """Add a line with its line end, completely or not at all.

        Raises:
            OutputError: it cannot be written. Earlier lines are kept.
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
                    f"{self.path}: {error.strerror}; earlier lines are kept: free some space, and start again"
                ) from error

    def close(self) -> None:
        """Write everything to the disk, and release the file.

        Raises:
            OutputError: this failed.
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
        """Remove an incomplete line. If this fails, the next start does it."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError:
            return


def json_object(line: bytes, place: str, *, what: str, remedy: str) -> dict[str, Any]:
    """Parse a line as a JSON object. Somebody may have edited it.

    Args:
        line: of a file.
        place: place of the line, for messages.
        what: expected kind of object, for messages.
        remedy: what to do if it is wrong.

    Raises:
        InputError: it is not a JSON object.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{place} is not JSON: {remedy}") from None
    if not isinstance(record, dict):
        raise InputError(f"{place} is not a valid {what}: {remedy}")
    return record


def write_all(file: int, data: bytes) -> None:
    """Write all bytes to a file descriptor.

    Raises:
        OSError: some of them could not be written.
    """
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _lock(file: int, path: Path) -> None:
    """Lock the file for this process while it is open. The system releases the lock when the process dies.

    Systems other than Linux and macOS, and some network file systems, have no such locks.
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
