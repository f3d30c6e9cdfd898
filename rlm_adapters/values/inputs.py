"""Read inputs (files, directories, standard input, Documents) as values for an RLM.

All errors in inputs are found here, before a model is called.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO, TypeAlias

from rlm_adapters.errors import InputError, MissingExtraError
from rlm_adapters.values.documents import Converter, can_convert, document_type, is_readable
from rlm_adapters.values.gitignore import visible_files
from rlm_adapters.values.images import image_block
from rlm_adapters.values.urls import URL, fetch

STDIN: Final = "-"
"""The path that means standard input."""

WORKSPACE_BYTES: Final = 16 << 20
"""Largest text file that cells can also open as a file. Its text is always a variable."""

UNPACKED_BYTES: Final = 1 << 30
"""Largest unpacked size of a compressed file: a few kB of gzip can contain gigabytes."""

_JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})

_BYTE_ORDER_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

_KNOWN_BINARIES: Final = (
    (b"PK\x03\x04", "a ZIP archive; unpack it"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "an executable"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV or JSON"),
    (b"PAR1", "a Parquet file; export it as CSV or JSON"),
    (b"\xd0\xcf\x11\xe0", "an old Office document; export it as text or PDF"),
)

_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\f\x1b")

Value: TypeAlias = Any
"""``str`` for text and documents (as Markdown), ``list[str]`` for the pages of a PDF, JSON values for JSON, a content
block for an image."""


@dataclass(frozen=True, slots=True)
class LoadedInputs:
    """The inputs that were read.

    Attributes:
        context: the value of the variable ``context``. One text file is a ``str``, an Office document, e-book or HTML
            page its Markdown, one PDF the ``list[str]`` of its pages, one JSON or JSON Lines file its value, an image a
            content block for ``llm_query``. Several files or a directory are a ``dict`` of these by name.
        files: the raw files that cells can ``open`` under these names in their workspace.
        notes: messages for the user about guessed encodings and skipped files.
    """

    context: Value
    files: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class BinaryInputError(InputError):
    """A file that is not text and cannot be converted."""


def load_paths(
    paths: Sequence[str | os.PathLike[str] | URL], *, stdin: BinaryIO | TextIO | None = None, allow_empty: bool = False
) -> LoadedInputs:
    """Read files, directories, addresses of the web, and standard input (``-``).

    Directories are read with everything below them except hidden and binary files, and what ``.gitignore`` excludes.
    ``.gz`` files are unpacked.

    Args:
        paths: paths to read; several become a dict. A str is a path, never an address.
        stdin: source for ``-``; None: the standard input of this process.
        allow_empty: accept files without text.

    Raises:
        InputError: an input is missing, unreadable, binary, broken or empty. The message says which, and what to do.
        MissingExtraError: an input is an Office document or e-book, and the extra ``documents`` is not installed.
    """
    if not paths:
        raise InputError("no input: name at least one file or directory, or - for standard input")
    addresses = {path.address: path for path in paths if isinstance(path, URL)}
    given = [path.address if isinstance(path, URL) else os.fspath(path) for path in paths]
    broken = next((source for source in given if not source or "\0" in source), None)
    if broken is not None:
        raise InputError(f"{broken!r} is not a path; name a file or directory, or - for standard input")
    sources = _unique(given)
    names = _names(sources)
    with Converter() as converter:
        reader = _Reader(stdin, converter, allow_empty=allow_empty)
        return _loaded(sources, names, addresses, reader)


def _loaded(sources: Sequence[str], names: list[str], addresses: Mapping[str, URL], reader: _Reader) -> LoadedInputs:
    values: dict[str, Value] = {}
    files: dict[str, Path] = {}
    for position, source in enumerate(sources):
        name = names[position]
        if source in addresses:
            fetched = fetch(addresses[source])
            others = {*names[:position], *names[position + 1 :]}
            names[position] = name = source if fetched.name in others else fetched.name
            values[name] = reader.value_of(fetched.data, fetched.name)
            continue
        if _is_directory(source):
            prefix = f"{name}/" if len(sources) > 1 else ""
            values.update({prefix + key: value for key, value in reader.directory(Path(source)).items()})
            continue
        data = reader.bytes_of(source)
        values[name] = reader.value_of(data, name)
        if source != STDIN and (_is_pdf(data) or len(data) <= WORKSPACE_BYTES):
            files[name] = Path(source)
    alone = len(sources) == 1 and (sources[0] in addresses or not _is_directory(sources[0]))
    context = values[names[0]] if alone else values
    if not reader.allow_empty and _is_blank(context):
        raise InputError(f"empty context: {', '.join(sources)} has no text; give an input with text")
    return LoadedInputs(context, files, tuple(reader.notes))


def documents_to_records(documents: Iterable[object]) -> list[dict[str, Any]]:
    """Convert LangChain ``Document`` objects to plain records ``{"page_content": ..., "metadata": {...}}``.

    Any object with these two attributes is accepted. Metadata that is not JSON (dates, paths, ids) becomes text.

    Raises:
        InputError: an object is not a Document.
    """
    records = []
    for position, document in enumerate(documents):
        if not is_document(document):
            raise InputError(
                f"item {position} is a {type(document).__name__}, not a Document; "
                "give all Documents, or a list of str or JSON values"
            )
        text, metadata = document.page_content, document.metadata  # type: ignore[attr-defined]
        records.append({"page_content": text, "metadata": json.loads(json.dumps(metadata or {}, default=str))})
    return records


def is_document(value: object) -> bool:
    """Whether a value is like a LangChain ``Document``, with a text ``page_content`` and a dict ``metadata``."""
    return isinstance(getattr(value, "page_content", None), str) and isinstance(
        getattr(value, "metadata", None), Mapping
    )


class _Reader:
    """Reads one set of paths and collects notes."""

    def __init__(self, stdin: BinaryIO | TextIO | None, converter: Converter, *, allow_empty: bool) -> None:
        self._stdin = stdin
        self._converter = converter
        self.allow_empty = allow_empty
        self.notes: list[str] = []

    def bytes_of(self, source: str) -> bytes:
        try:
            if source == STDIN:
                stream = self._stdin if self._stdin is not None else sys.stdin
                data = getattr(stream, "buffer", stream).read()
                data = data.encode() if isinstance(data, str) else data
            else:
                data = Path(source).read_bytes()
        except FileNotFoundError:
            raise InputError(f"{source}: no such file or directory; check the path") from None
        except PermissionError:
            raise InputError(f"{source}: permission denied; make it readable for this user") from None
        except OSError as error:
            raise InputError(f"{source}: cannot be read: {error.strerror or error}") from error
        if not data and not self.allow_empty:
            name = "standard input" if source == STDIN else source
            raise InputError(f"{name} is empty; give an input to ask about")
        return _unpacked(data, source) if data and source.lower().endswith(".gz") else data

    def value_of(self, data: bytes, name: str) -> Value:
        special = self._special(data, name)
        if special is not None:
            return special
        text = self._text(data, name)
        return self._parsed(text, name) if text.strip() and _suffix(name) in _JSON_SUFFIXES else text

    def _special(self, data: bytes, name: str, *, whole: bool = True) -> Value | None:
        """The value of a file that is not plain text, else None.

        Args:
            data: its content.
            name: file name; its suffix tells the type.
            whole: whether the user named the file. In a directory, HTML stays text, and images are left out.
        """
        if _is_pdf(data):
            return self._pages(data, name)
        image = image_block(data, name) if whole else None
        if image is not None:
            return image
        media_type = document_type(name.lower().removesuffix(".gz"), data)
        if media_type is None or (is_readable(media_type) and not whole):
            return None
        if is_readable(media_type) and not can_convert():
            self.notes.append(f"{name}: not converted; with pip install 'rlm-adapters[documents]' it becomes Markdown")
            return None
        return self._converter.markdown(name, data, media_type)

    def directory(self, root: Path) -> dict[str, Value]:
        """All text files below a directory. JSON and HTML stay text, as in source code."""
        values: dict[str, Value] = {}
        skipped: list[str] = []
        for path in visible_files(root, self.notes.append):
            name = path.relative_to(root).as_posix()
            try:
                data = path.read_bytes()
                special = self._special(data, name, whole=False)
                values[name] = self._text(data, name) if special is None else special
            except (OSError, InputError, MissingExtraError) as error:
                skipped.append(name)
                if not isinstance(error, BinaryInputError):
                    self.notes.append(f"skipped: {error}")
        if skipped:
            shown = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
            self.notes.append(f"{root}: skipped {len(skipped)} binary or unreadable files ({shown})")
        if not values and not self.allow_empty:
            raise InputError(
                f"{root}: no files with text in this directory; hidden, ignored and binary ones are not read"
            )
        return values

    def _text(self, data: bytes, name: str) -> str:
        encoding = next((encoding for mark, encoding in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
        if encoding.startswith("utf-8") and b"\0" in data:
            raise BinaryInputError(f"{name} is {_binary_kind(data)}, not text")
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            if _control_share(data) > 0.02:
                raise BinaryInputError(f"{name} is {_binary_kind(data)}, not text") from None
            self.notes.append(f"{name}: not {encoding} (byte {error.start:,}); read as latin-1")
            text = data.decode("latin-1")
        # As in Python's text files, so that a cell that splits at "\n" finds no "\r".
        return text.replace("\r\n", "\n") if "\r\n" in text else text

    def _parsed(self, text: str, name: str) -> Value:
        try:
            if _suffix(name) == ".json":
                value = json.loads(text)
            else:
                value = [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError) as error:
            self.notes.append(f"{name}: not valid JSON ({error}); given as text")
            return text
        return value if isinstance(value, list | dict) else text

    def _pages(self, data: bytes, name: str) -> list[str]:
        import pypdf  # noqa: PLC0415 - large

        try:
            document = pypdf.PdfReader(io.BytesIO(data))
            locked = document.is_encrypted and not document.decrypt("")
            pages = [] if locked else list(document.pages)
        except pypdf.errors.DependencyError:  # the cipher needs the package cryptography
            locked, pages = True, []
        except Exception as error:
            raise InputError(
                f"{name}: broken PDF ({_first_line(error)}); save it again, or convert it to text"
            ) from error
        if locked:
            raise InputError(f"{name}: the PDF is encrypted; remove the encryption first (qpdf --decrypt)")
        texts = [self._page_text(page, number, name) for number, page in enumerate(pages, 1)]
        if not any(text.strip() for text in texts):
            raise InputError(f"{name}: the PDF has no text on its {len(texts)} pages (scanned?); run OCR on it first")
        return texts

    def _page_text(self, page: Any, number: int, name: str) -> str:
        try:
            return str(page.extract_text())
        except Exception as error:  # noqa: BLE001 - pypdf raises anything on odd pages; the others are still good
            self.notes.append(f"{name}: page {number} is unreadable ({_first_line(error)})")
            return ""


def _unique(sources: list[str]) -> list[str]:
    """Each source once, in order. Two forms of the same path count as one."""
    return list({source if source == STDIN else os.path.normpath(source): source for source in sources}.values())


def _names(sources: Sequence[str]) -> list[str]:
    """A name for each source: its last part if that is unique, else the given path."""
    short = [_last_part(source) for source in sources]
    return [
        name if short.count(name) == 1 else Path(source).as_posix() for source, name in zip(sources, short, strict=True)
    ]


def _last_part(source: str) -> str:
    if source == STDIN:
        return "stdin"
    path = Path(source)
    return path.resolve().name if path.name in {"", ".."} else path.name


def _is_directory(source: str) -> bool:
    try:
        return source != STDIN and Path(source).is_dir()
    except OSError:  # reading it will report the problem
        return False


def _suffix(name: str) -> str:
    return Path(name.lower().removesuffix(".gz")).suffix


def _unpacked(data: bytes, source: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{source}: broken gzip file ({error}); compress it again") from error
    if len(unpacked) > UNPACKED_BYTES:
        raise InputError(f"{source}: unpacks to more than {UNPACKED_BYTES >> 20:,} MB; give a part of it")
    return unpacked


def _is_pdf(data: bytes) -> bool:
    return b"%PDF-" in data[:1024]


def _control_share(data: bytes) -> float:
    """Share of control characters in the first 64 kB. Text has none of them."""
    head = data[: 1 << 16]
    return (len(head) - len(head.translate(None, _CONTROLS))) / max(1, len(head))


def _binary_kind(data: bytes) -> str:
    known = next((kind for mark, kind in _KNOWN_BINARIES if data.startswith(mark)), None)
    return known or "a binary file; convert it to text first"


def _is_blank(value: Value) -> bool:
    """Whether a value is empty: only white space, or no JSON value."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, dict):
        return all(_is_blank(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_blank(item) for item in value)
    return False


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
