# ruff: noqa: PLR0917 - the signatures and names of open() and os
"""The files of a session, in memory: read-only files of the user, and files of cells up to a quota."""

from __future__ import annotations

import errno
import io
import operator
import os
import posixpath
import stat
from collections.abc import Iterator
from typing import IO, Any, Final

from rlm_adapters.sandbox.runtime.formatting import exact_str

ROOT: Final = "/workspace"
"""The working directory of the cells."""

_ENTRY_BYTES: Final = 256
"""Bytes of the quota for an entry in addition to its content, so that a million empty files reach the limit, too."""


class FileSystem:
    """A tree of files that exists only in this process.

    Args:
        quota: bytes that cells may write.
    """

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._used = 0
        self._given: dict[str, bytes] = {}
        self._written: dict[str, bytearray] = {}
        self._directories: set[str] = {"/", ROOT}

    # The host's side

    def limit(self, quota: int) -> None:
        """Let cells write so many bytes."""
        self._quota = quota

    def add(self, path: str, data: bytes) -> None:
        """Add a file that cells can read but not write."""
        full = _normal(path)
        if (written := self._written.pop(full, None)) is not None:  # a cell wrote it before
            self._used -= len(written) + _ENTRY_BYTES + len(full)
        self._given[full] = data
        self._add_parents(full)

    def written(self) -> dict[str, bytes]:
        """The files that cells have written, by path relative to the working directory."""
        return {_relative(path): bytes(data) for path, data in sorted(self._written.items())}

    # The cells' side

    def open(
        self,
        file: object,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,  # noqa: ARG002 - part of the signature of open()
        opener: None = None,
    ) -> IO[Any]:
        """``open`` of the cells."""
        mode = exact_str(mode, "open")
        if opener is not None or isinstance(file, int):
            raise TypeError("open() takes the path of a file here")
        path = self.full_path(file)
        letters = set(mode)
        action = letters & set("rwax")
        if letters - set("rwaxbt+") or len(mode) > len(letters) or len(action) != 1 or {"b", "t"} <= letters:
            raise ValueError(f"invalid mode: {mode!r}")
        binary = "b" in letters
        if binary and (encoding is not None or newline is not None):
            raise ValueError("binary mode doesn't take an encoding or newline argument")
        raw = self._open_raw(path, str(os.fspath(file)), action.pop(), update="+" in letters)  # type: ignore[call-overload]
        if binary and buffering == 0:
            return raw  # type: ignore[return-value]
        buffered: Any
        if raw.readable() and raw.writable():
            buffered = io.BufferedRandom(raw)
        else:
            buffered = io.BufferedReader(raw) if raw.readable() else io.BufferedWriter(raw)
        if binary:
            return buffered  # type: ignore[no-any-return]
        text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)
        text.mode = mode  # type: ignore[misc]
        return text

    def _open_raw(self, path: str, name: str, action: str, *, update: bool) -> MemoryFile:
        exists = path in self._written or path in self._given
        if path in self._directories:
            raise IsADirectoryError(errno.EISDIR, "Is a directory", name)
        if action == "r" and not update:
            return MemoryFile(self, path, name, self.read(path, name), readable=True)
        if path in self._given:
            raise PermissionError(errno.EACCES, "Permission denied (input files are read-only)", name)
        if action == "x" and exists:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        if action == "r" and not exists:
            raise self.not_found(name)
        if posixpath.dirname(path) not in self._directories:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        data = self._written.get(path)
        if data is None:
            self.charge(_ENTRY_BYTES + len(path))
            data = self._written[path] = bytearray()
        elif action == "w":
            self.charge(-len(data))
            data.clear()
        readable = action == "r" or update
        return MemoryFile(self, path, name, data, readable=readable, writable=True, append=action == "a")

    def read(self, path: str, name: str) -> bytes | bytearray:
        """The content of a file.

        Raises:
            FileNotFoundError: it does not exist. The message lists the existing files.
        """
        data = self._written.get(path)
        if data is None:
            data = self._given.get(path)  # type: ignore[assignment]
        if data is None:
            raise self.not_found(name)
        return data

    def not_found(self, name: str) -> FileNotFoundError:
        """The error for a missing file."""
        names = [_relative(path) for path in sorted({*self._given, *self._written})]
        listing = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        hint = f"the files here: {listing}" if names else "there are no files here; the input is in variables"
        return FileNotFoundError(errno.ENOENT, f"No such file or directory ({hint})", name)

    def charge(self, count: int) -> None:
        """Take ``count`` bytes from the quota, or return them.

        Raises:
            OSError: the quota is used.
        """
        if count > 0 and self._used + count > self._quota:
            raise OSError(errno.ENOSPC, f"No space left: cells can write {self._quota:,} bytes")
        self._used += count

    # Paths and directories

    def full_path(self, path: object) -> str:
        """The absolute form of a path from a cell."""
        if not isinstance(path, str):
            path = os.fspath(path)  # type: ignore[call-overload]
        text = exact_str(path, "open")
        if "\0" in text:
            raise ValueError("embedded null byte")
        return _normal(text)

    def is_file(self, path: object) -> bool:
        """``os.path.isfile``."""
        full = self.full_path(path)
        return full in self._written or full in self._given

    def is_dir(self, path: object) -> bool:
        """``os.path.isdir``."""
        return self.full_path(path) in self._directories

    def exists(self, path: object) -> bool:
        """``os.path.exists``."""
        return self.is_file(path) or self.is_dir(path)

    def size(self, path: object) -> int:
        """``os.path.getsize``."""
        return len(self.read(self.full_path(path), str(path))) if not self.is_dir(path) else 0

    def stat(self, path: object) -> os.stat_result:
        """``os.stat``."""
        full = self.full_path(path)
        mode = stat.S_IFDIR | 0o755 if self.is_dir(path) else stat.S_IFREG | (0o444 if full in self._given else 0o644)
        return os.stat_result((mode, 0, 0, 1, 0, 0, self.size(path), 0, 0, 0))

    def listdir(self, path: object = ".") -> list[str]:
        """``os.listdir``, sorted."""
        full = self.full_path(path)
        if self.is_file(full):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
        if full not in self._directories:
            raise self.not_found(str(path))
        prefix = full.rstrip("/") + "/"
        inside = {p[len(prefix) :].split("/")[0] for p in self._all_paths() if p.startswith(prefix) and p != prefix}
        return sorted(inside)

    def walk(self, top: object = ".") -> Iterator[tuple[str, list[str], list[str]]]:
        """``os.walk``."""
        top = exact_str(os.fspath(top), "walk")  # type: ignore[call-overload]
        if not self.is_dir(top):
            return
        names = self.listdir(top)
        directories = [name for name in names if self.is_dir(posixpath.join(top, name))]
        yield top, directories, [name for name in names if name not in directories]
        for name in directories:
            yield from self.walk(posixpath.join(top, name))

    def make_directory(self, path: object, *, parents: bool, exist_ok: bool) -> None:
        """``os.mkdir`` and ``os.makedirs``."""
        full = self.full_path(path)
        if full in self._directories and exist_ok:
            return
        if self.exists(full):
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        if any(self.is_file(parent) for parent in _parents(full)):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
        if posixpath.dirname(full) not in self._directories:
            if not parents:
                raise self.not_found(str(path))
            self._add_parents(full)
        self.charge(_ENTRY_BYTES + len(full))
        self._directories.add(full)

    def remove(self, path: object) -> None:
        """``os.remove``."""
        full = self.full_path(path)
        if full in self._given:
            raise PermissionError(errno.EACCES, "Permission denied (input files are read-only)", str(path))
        if full not in self._written:
            raise self.not_found(str(path))
        self.charge(-len(self._written.pop(full)) - _ENTRY_BYTES - len(full))

    def remove_directory(self, path: object) -> None:
        """``os.rmdir``."""
        full = self.full_path(path)
        if full in ("/", ROOT) or self.listdir(path):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        self._directories.discard(full)

    def rename(self, source: object, target: object) -> None:
        """``os.rename``."""
        if self.is_dir(source):
            raise IsADirectoryError(errno.EISDIR, "directories cannot be renamed here", str(source))
        if self.full_path(source) in self._given:
            raise PermissionError(errno.EACCES, "Permission denied (input files are read-only)", str(source))
        data = bytes(self.read(self.full_path(source), str(source)))
        if self.full_path(source) == self.full_path(target):
            return
        with self.open(target, "wb") as file:
            file.write(data)
        self.remove(source)

    def _all_paths(self) -> set[str]:
        return {*self._given, *self._written, *self._directories}

    def _add_parents(self, full: str) -> None:
        self._directories.update(_parents(full))


class MemoryFile(io.RawIOBase):
    """One open file: the raw layer below Python's buffering and text layers."""

    def __init__(
        self,
        system: FileSystem,
        path: str,
        name: str,
        data: bytes | bytearray,
        *,
        readable: bool = False,
        writable: bool = False,
        append: bool = False,
    ) -> None:
        self._system = system
        self._path = path
        self._data = data
        self._readable = readable
        self._writable = writable
        self._append = append
        self._position = 0
        self.name = name
        self.mode = "rb+" if readable and writable else "rb" if readable else "wb"

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self._readable

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._writable

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer`` from the current position."""
        self._check(self._readable, "not readable")
        if not isinstance(buffer, (memoryview, bytearray)):
            raise TypeError(f"readinto() takes a bytearray, not {type(buffer).__name__!r}")
        chunk = bytes(self._data[self._position : self._position + len(buffer)])
        memoryview(buffer)[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def readall(self) -> bytes:
        """Everything from the current position on."""
        self._check(self._readable, "not readable")
        whole = self._position == 0 and type(self._data) is bytes
        chunk = self._data if whole else bytes(self._data[self._position :])
        self._position += len(chunk)
        return chunk  # type: ignore[return-value]

    def write(self, data: Any, /) -> int:
        """Write at the current position, or at the end when appending."""
        self._check(self._writable, "not writable")
        assert isinstance(self._data, bytearray)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}")
        chunk = bytes(data)
        start = len(self._data) if self._append else self._position
        self._system.charge(max(0, start + len(chunk) - len(self._data)))
        if start > len(self._data):
            self._data.extend(bytes(start - len(self._data)))
        self._data[start : start + len(chunk)] = chunk
        self._position = start + len(chunk)
        return len(chunk)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move the position."""
        self._check(not self.closed, "closed")
        start = (0, self._position, len(self._data))[operator.index(whence)]
        self._position = max(0, start + _integer(offset))
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file, or extend it with zeros."""
        self._check(self._writable, "not writable")
        assert isinstance(self._data, bytearray)
        size = self._position if size is None else _integer(size)
        if size < 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        grow = size - len(self._data)
        self._system.charge(grow)
        if grow > 0:
            self._data.extend(bytes(grow))
        else:
            del self._data[size:]
        return size

    def _check(self, condition: bool, problem: str) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if not condition:
            raise io.UnsupportedOperation(problem)


def _integer(value: Any) -> int:
    """An exact integer, because arithmetic of other objects must not affect the quota."""
    return int.__pos__(operator.index(value))


def _normal(path: str) -> str:
    return posixpath.normpath(posixpath.join(ROOT, path)).replace("//", "/")


def _parents(path: str) -> Iterator[str]:
    while path != "/":
        path = posixpath.dirname(path)
        yield path


def _relative(path: str) -> str:
    return path[len(ROOT) + 1 :] if path.startswith(ROOT + "/") else path
