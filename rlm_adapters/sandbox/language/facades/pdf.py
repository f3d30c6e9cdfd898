"""PDF files, with the names of pypdf and PyPDF2. A cell never gets an object of pypdf itself."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rlm_adapters.sandbox.language.facades.environment import Builder, Environment
from rlm_adapters.sandbox.runtime.quiet import quiet_logger

_ERRORS: Final = ("PdfReadError", "PdfStreamError", "EmptyFileError", "FileNotDecryptedError", "WrongPasswordError")


@functools.cache
def load_pypdf() -> Any:
    """Load the real pypdf. A confined process can use it only if this was called before the process was confined.

    Raises:
        ImportError: it is not installed, or it can no longer be loaded.
    """
    try:
        pypdf = importlib.import_module("pypdf")
        # It imports some of its modules inside functions.
        for module in pkgutil.walk_packages(pypdf.__path__, "pypdf."):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    except ModuleNotFoundError:
        raise ImportError("reading PDF files needs pypdf: pip install rlm-adapters[pdf]") from None
    except OSError:
        raise ImportError("PDF files can be read here only if one is among the inputs of the session") from None
    return pypdf


def is_pdf(data: object) -> bool:
    """Whether these are the bytes of a PDF file."""
    return isinstance(data, bytes) and b"%PDF-" in data[:1024]


class Metadata(dict[str, str]):
    """The document's information: by key (``/Title``) and by attribute (``title``)."""

    @property
    def title(self) -> str | None:
        """The title."""
        return _entry(self, "/Title")

    @property
    def author(self) -> str | None:
        """The author."""
        return _entry(self, "/Author")

    @property
    def subject(self) -> str | None:
        """The subject."""
        return _entry(self, "/Subject")

    @property
    def creator(self) -> str | None:
        """The program that made the original."""
        return _entry(self, "/Creator")

    @property
    def producer(self) -> str | None:
        """The program that made the PDF."""
        return _entry(self, "/Producer")


def _entry(metadata: Metadata, key: str) -> str | None:
    return dict.get(metadata, key) if isinstance(metadata, Metadata) else None


class Page:
    """One page."""

    __slots__ = ("_page", "page_number")

    def __init__(self, page: Any, number: int) -> None:
        self._page = page
        self.page_number = number

    def extract_text(self, *_args: object, extraction_mode: str = "plain", **_kwargs: object) -> str:
        """The text of the page."""
        mode = "layout" if extraction_mode == "layout" else "plain"
        with quiet_logger("pypdf"):
            return str(_hidden(self, Page, "_page").extract_text(extraction_mode=mode))

    def extractText(self) -> str:  # noqa: N802 - the name in old versions of PyPDF2
        """The text of the page."""
        return Page.extract_text(self)


class Pages:
    """The pages, as a sequence."""

    __slots__ = ("_pages",)

    def __init__(self, pages: Any) -> None:
        self._pages = pages

    def __len__(self) -> int:
        return len(_hidden(self, Pages, "_pages"))

    def __getitem__(self, index: Any) -> Any:
        pages = _hidden(self, Pages, "_pages")
        if isinstance(index, slice):
            return [Page(pages[i], i) for i in range(*index.indices(len(pages)))]
        if not isinstance(index, int):
            raise TypeError("page numbers must be integers")
        number = int(index)
        count = len(pages)
        if not -count <= number < count:
            raise IndexError(f"page index {number} out of range: the document has {count} pages")
        return Page(pages[number], number % count)

    def __iter__(self) -> Iterator[Page]:
        for number in range(len(self)):
            yield self[number]


class PdfReader:
    """A PDF file.

    Args:
        stream: a file object, or the path of a file of the workspace.
        strict: accepted as pypdf does.
        password: of an encrypted document.
    """

    __slots__ = ("_reader",)

    def __init__(self, environment: Environment, stream: Any, *, strict: bool, password: Any) -> None:
        if hasattr(stream, "read"):
            data = stream.read()
        else:
            with environment.files.open(stream, "rb") as file:
                data = file.read()
        if not isinstance(data, bytes):
            raise TypeError("PdfReader needs a file opened in binary mode: open(path, 'rb')")
        with quiet_logger("pypdf"):
            self._reader = load_pypdf().PdfReader(io.BytesIO(data), strict=bool(strict), password=password)

    @property
    def pages(self) -> Pages:
        """The pages."""
        return Pages(_hidden(self, PdfReader, "_reader").pages)

    @property
    def metadata(self) -> Metadata:
        """The document's information."""
        found = _hidden(self, PdfReader, "_reader").metadata or {}
        return Metadata({str(key): str(value) for key, value in found.items()})

    @property
    def is_encrypted(self) -> bool:
        """Whether it needs a password."""
        return bool(_hidden(self, PdfReader, "_reader").is_encrypted)

    def decrypt(self, password: str) -> int:
        """Unlock the document."""
        return int(_hidden(self, PdfReader, "_reader").decrypt(str(password)))

    # Names of old versions of PyPDF2.

    @property
    def numPages(self) -> int:  # noqa: N802
        """How many pages there are."""
        return len(_hidden(self, PdfReader, "_reader").pages)

    def getNumPages(self) -> int:  # noqa: N802
        """How many pages there are."""
        return len(_hidden(self, PdfReader, "_reader").pages)

    def getPage(self, number: int) -> Page:  # noqa: N802
        """One page, by its index from 0."""
        return Pages(_hidden(self, PdfReader, "_reader").pages)[number]  # type: ignore[no-any-return]


def _hidden(owner: Any, cls: type, name: str) -> Any:
    """Read a private attribute of an object above. ``owner`` can be anything: methods can be called unbound."""
    if type(owner) is not cls:
        raise TypeError(f"expected a {cls.__name__} object, not {type(owner).__name__!r}")
    return object.__getattribute__(owner, name)


def _pypdf(environment: Environment) -> Mapping[str, object]:
    version = load_pypdf().__version__

    def make_reader(stream: Any, strict: bool = False, password: Any = None, **_: object) -> PdfReader:
        """Open a PDF file of the workspace."""
        return PdfReader(environment, stream, strict=strict, password=password)

    return {"PdfReader": make_reader, "PdfFileReader": make_reader, "__version__": version, **_errors(environment)}


def _errors(_: Environment) -> Mapping[str, object]:
    """The exceptions that reading a broken file raises."""
    errors = load_pypdf().errors
    return {name: getattr(errors, name) for name in _ERRORS if hasattr(errors, name)}


MODULES: Final[dict[str, Builder]] = {
    "pypdf": _pypdf,
    "PyPDF2": _pypdf,
    "pypdf.errors": _errors,
    "PyPDF2.errors": _errors,
}
