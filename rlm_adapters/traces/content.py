"""Store the long texts of a trace by their SHA-256.

A line of the trace has ``{"$text": {"head": ..., "chars": ..., "sha256": ...}}`` instead of the text. A value of a cell
or a model that looks like this is written as ``{"$literal": ...}``, so only the writer can make a reference.

The texts are in a folder, in one file for each writer: ``<sha256> <bytes>``, a line break, the text, a line break. (A
file for each text takes 2 ms on some file systems, more than the rest of a sub-call.)
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

INLINE_CHARS: Final = 1_000
"""Texts up to this length are in the line itself."""

MESSAGES_BEFORE: Final = "messages_before"
"""Key next to ``messages``: the number of messages of the previous call that come before them."""

_TEXT, _LITERAL = "$text", "$literal"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FILE: Final = re.compile(r"[0-9a-f]{16}\.texts")
_HEADER: Final = re.compile(rb"([0-9a-f]{64}) (\d{1,15})\n")
_HEADER_BYTES: Final = 64 + 1 + 15 + 1
_MOST_KNOWN: Final = 100_000
"""Digests that a writer remembers. If a text occurs again after this many others, it is written again."""


def folder_of(trace: Path) -> Path:
    """Where the long texts of a trace are."""
    return trace.with_name(f"{trace.name}.content")


def remove_texts(folder: Path) -> None:
    """Remove the texts of a trace, but no other files."""
    if folder.is_dir():
        for path in folder.iterdir():
            if _FILE.fullmatch(path.name):
                path.unlink(missing_ok=True)


class ContentWriter:
    """Writes long texts into the folder of a trace; used by one thread.

    Args:
        folder: created at the first text, readable only by its owner.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{secrets.token_hex(8)}.texts"
        self._file: int | None = None
        self._known: set[bytes] = set()
        self._waiting: list[bytes] = []

    def add(self, digest: str, data: bytes) -> None:
        """Add a text that `digested` has encoded."""
        key = bytes.fromhex(digest)
        if key in self._known:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(key)
        self._waiting += (f"{digest} {len(data)}\n".encode(), data, b"\n")

    def flush(self) -> None:
        """Write the added texts."""
        if not self._waiting:
            return
        if self._file is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        data, self._waiting = b"".join(self._waiting), []
        write_all(self._file, data)

    def close(self) -> None:
        """Close the file until the next text."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class ContentReader:
    """Finds the texts in the folder of a trace.

    Args:
        folder: of the trace. Only its files of texts are read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._places: dict[str, tuple[str, int, int]] = {}
        self._read: dict[str, int] = {}

    def get(self, digest: str) -> str | None:
        """The text of a digest; None if it is missing or does not match the digest."""
        with self._lock:
            if digest not in self._places:
                self._look()
            place = self._places.get(digest)
        if place is None:
            return None
        name, offset, size = place
        with _opened(self._folder / name) as file:
            file.seek(offset)
            data = file.read(size)
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return data.decode("utf-8", "replace")

    def _look(self) -> None:
        """Find the texts that were written since the last call."""
        try:
            names = sorted(path.name for path in self._folder.iterdir() if _FILE.fullmatch(path.name))
        except OSError:
            return
        for name in names:
            try:
                with _opened(self._folder / name) as file:
                    self._read[name] = self._note(name, file, self._read.get(name, 0))
            except OSError:
                continue

    def _note(self, name: str, file: BinaryIO, offset: int) -> int:
        """Find the texts of a file from an offset on. Returns the end of the last complete text."""
        end = os.fstat(file.fileno()).st_size
        while True:
            file.seek(offset)
            header = _HEADER.match(file.read(_HEADER_BYTES))
            if header is None:
                return offset
            start, size = offset + header.end(), int(header[2])
            if start + size + 1 > end:
                return offset
            self._places.setdefault(header[1].decode(), (name, start, size))
            offset = start + size + 1


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a trace. The whole text is read only when you ask for it.

    Attributes:
        head: the beginning of the text.
        chars: length of the whole text.
        sha256: hash of the whole text; empty if only the head was kept.
        content: reads the whole text.
    """

    head: str
    chars: int
    sha256: str = ""
    content: ContentReader | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, text: str) -> Text:
        """A `Text` with the whole text in memory."""
        return cls(text, len(text))

    def read(self) -> str:
        """The whole text. If the rest is lost or was not kept: the head, and a note."""
        if len(self.head) >= self.chars:
            return self.head
        text = None
        if self.content is not None and self.sha256:
            text = self.content.get(self.sha256)
        if text is None:
            return f"{self.head}... [{self.chars - len(self.head):,} more characters, which were not kept]"
        return text

    def __str__(self) -> str:
        return self.read()


def digested(text: str) -> tuple[str, bytes]:
    """The SHA-256 of a text, and its bytes."""
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest(), data


def write_all(file: int, data: bytes) -> None:
    """Write all of some bytes to a file descriptor."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def pack(value: Any, text: Callable[[str], Any], inline: int = INLINE_CHARS) -> Any:
    """A value for a line of the trace.

    Args:
        value: JSON.
        text: makes the reference of a long text.
        inline: length of the longest text that stays in the line.
    """
    if isinstance(value, str):
        return value if len(value) <= inline else {_TEXT: text(value)}
    if isinstance(value, dict):
        packed = {str(key): pack(part, text, inline) for key, part in value.items()}
        return {_LITERAL: packed} if len(packed) == 1 and next(iter(packed)) in (_TEXT, _LITERAL) else packed
    if isinstance(value, list | tuple):
        return [pack(part, text, inline) for part in value]
    return value


def reference(head: str, chars: int, digest: str = "") -> dict[str, Any]:
    """The JSON in a line that replaces a long text; without a digest only the head was kept."""
    return {"head": head, "chars": chars, **({"sha256": digest} if digest else {})}


def unpack(value: Any, content: ContentReader) -> Any:
    """The value that `pack` was given, with a `Text` instead of each long text.

    Raises:
        ValueError: a reference is not valid.
    """
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, part),) = value.items()
            if key == _TEXT:
                return _text(part, content)
            if key == _LITERAL and isinstance(part, dict):
                return {inner: unpack(one, content) for inner, one in part.items()}
        return {key: unpack(part, content) for key, part in value.items()}
    if isinstance(value, list):
        return [unpack(part, content) for part in value]
    return value


def _text(given: Any, content: ContentReader) -> Text:
    known = given if isinstance(given, dict) else {}
    head, chars, digest = known.get("head"), known.get("chars"), known.get("sha256", "")
    if not (isinstance(head, str) and isinstance(chars, int) and isinstance(digest, str)) or (
        digest and not _DIGEST.fullmatch(digest)
    ):
        raise ValueError(f"a reference to a text that is none: {str(given)[:80]!r}")
    return Text(head, max(chars, len(head)), digest, content if digest else None)


def _opened(path: Path) -> BinaryIO:
    """Open a file to read.

    Raises:
        OSError: it cannot be opened, or it is not a regular file: opening a named pipe would block.
    """
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{path} is no file")
    return os.fdopen(file, "rb")
