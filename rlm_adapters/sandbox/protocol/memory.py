"""The memory of big values: sent from where they are, and received where they will be, without a copy in between."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Final

_ASCII: Final = 127
_READ_ONLY: Final = 0x100  # PyBUF_READ
_WRITABLE: Final = 0x200  # PyBUF_WRITE

_api = ctypes.pythonapi
_new_text = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_ssize_t, ctypes.c_uint32)(("PyUnicode_New", _api))
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(("PyBytes_FromStringAndSize", _api))
_address_of_text = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
    ("PyUnicode_AsUTF8AndSize", _api)  # of ASCII text this is the text itself
)
_address_of_bytes = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", _api))
_view = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", _api)
)


def characters(text: str) -> Iterator[memoryview]:
    """The characters of an ASCII text, as one piece, which can be used until the next step of the iterator."""
    with _view(_address_of_text(text, None), len(text), _READ_ONLY) as view:
        yield view


def blank_text(size: int) -> tuple[str, memoryview]:
    """A text without content, and its memory. Nobody else may have the text until ASCII characters fill the memory.

    Args:
        size: in characters, at least 1: Python has only one empty str.

    Raises:
        MemoryError: there is not enough memory.
    """
    text: str = _new_text(size, _ASCII)
    return text, _view(_address_of_text(text, None), size, _WRITABLE)


def blank_bytes(size: int) -> tuple[bytes, memoryview]:
    """The same for bytes."""
    content: bytes = _new_bytes(None, size)
    return content, _view(_address_of_bytes(content), size, _WRITABLE)
