"""Convert Office documents, e-books and web pages to Markdown.

They are untrusted, and their formats are complex: ZIP archives, XML with entities, links to other files. So they are
converted in a separate process (`rlm_adapters.values.converter`), which is confined like the workers of cells. It opens
no file and no connection, and its memory, time and output are limited.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import PurePath
from types import TracebackType
from typing import IO, Any, Final, Self

from rlm_adapters.errors import InputError, MissingExtraError

DOCUMENT_BYTES: Final = 256 << 20
"""Largest document that is converted."""

TEXT_BYTES: Final = 256 << 20
"""Longest text that a conversion may return."""

SECONDS: Final = 120.0
"""Time limit for the conversion of one document."""

_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_TYPES: Final = {
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".epub": "application/epub+zip",
    ".rtf": "application/rtf",
    ".eml": "message/rfc822",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
}
_ZIP: Final = b"PK\x03\x04"
_MARKS: Final = {".rtf": b"{\\rtf", **dict.fromkeys((".docx", ".xlsx", ".pptx", ".odt", ".ods", ".epub"), _ZIP)}
_READABLE: Final = frozenset({"text/html", "message/rfc822"})
"""Types that are readable text. Without the extra they are not converted."""

_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""Environment variables of the process. None of them has secrets."""


def document_type(name: str, data: bytes) -> str | None:
    """The media type of a document that can be converted; None for any other file.

    Args:
        name: file name; its suffix decides.
        data: content; its first bytes must match the suffix.
    """
    suffix = PurePath(name).suffix.lower()
    mark = _MARKS.get(suffix, b"")
    return _TYPES.get(suffix) if data.startswith(mark) else None


def is_readable(media_type: str) -> bool:
    """Whether a document of this type is readable text, such as HTML."""
    return media_type in _READABLE


def can_convert() -> bool:
    """Whether the extra ``documents`` is installed."""
    return importlib.util.find_spec("kreuzberg") is not None


class Converter:
    """A process that converts documents, one after the other. It starts at the first document and ends with the block.

    Args:
        seconds: time limit for one document.
    """

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def markdown(self, name: str, data: bytes, media_type: str) -> str:
        """The text of a document.

        Args:
            name: for errors.
            data: the document.
            media_type: from `document_type`.

        Raises:
            InputError: it is broken, encrypted, empty, too large, or takes too long.
            MissingExtraError: the converter is not installed.
        """
        if not can_convert():
            raise MissingExtraError(f"{name}: such documents need a converter: pip install 'rlm-adapters[documents]'")
        if len(data) > DOCUMENT_BYTES:
            raise InputError(f"{name}: {len(data) >> 20:,} MB, more than {DOCUMENT_BYTES >> 20} MB: give a part of it")
        process = self._running()
        late = threading.Timer(self._seconds, process.kill)
        late.start()
        try:
            kind, text = self._exchange(process, data, media_type)
        except (OSError, EOFError, ValueError) as error:
            self.close()
            why = str(error) if isinstance(error, ValueError) else "it is too large, or made to do harm"
            if not late.is_alive():
                why = f"it took longer than {self._seconds:g} seconds"
            raise InputError(f"{name} cannot be converted: {why}; export it as text or PDF") from error
        finally:
            late.cancel()
        if kind != b"T":
            raise InputError(f"{name} cannot be converted: {text}; export it as text or PDF")
        return text

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # unread data is lost
                    _pipe(pipe).close()

    # -- parts

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rlm_adapters.values.converter"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
            )
        return self._process

    @staticmethod
    def _exchange(process: subprocess.Popen[bytes], data: bytes, media_type: str) -> tuple[bytes, str]:
        """Send a document and read its text. The answer is untrusted text."""
        to, back = _pipe(process.stdin), _pipe(process.stdout)
        to.write(f"{media_type} {len(data)}\n".encode() + data)
        to.flush()
        head = back.readline(64)
        if not head.endswith(b"\n"):
            raise EOFError
        kind, _, digits = head.strip().partition(b" ")
        if not digits.isdigit() or int(digits) > TEXT_BYTES:
            raise ValueError(f"its text is longer than {TEXT_BYTES >> 20} MB")
        text = back.read(int(digits))
        if len(text) != int(digits):
            raise EOFError
        return kind, text.decode("utf-8", "replace")


def _pipe(stream: IO[bytes] | None) -> Any:
    assert stream is not None
    return stream
