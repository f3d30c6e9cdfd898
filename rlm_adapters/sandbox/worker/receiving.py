"""Receive big values from the host as a stream, in a holder of inputs.

The bytes are read into the memory of the value itself. If they were read into a buffer and decoded, 100 MB would take
twice the time and, for a moment, twice the memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

_SCRATCH: Final = 1 << 18
_ASCII: Final = 127
_WRITABLE: Final = 0x200  # PyBUF_WRITE

_new_text = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_ssize_t, ctypes.c_uint32)(("PyUnicode_New", ctypes.pythonapi))
_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
_address_of_text = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
    ("PyUnicode_AsUTF8AndSize", ctypes.pythonapi)  # of ASCII text it is the text itself
)
_address_of_bytes = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyBytes_AsString", ctypes.pythonapi))
_view_of = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)


def receive_value(kind: str, size: int, fill: Callable[[memoryview], None]) -> str | bytes:
    """A value of `protocol.encoding.as_stream`. The host is trusted: of a ``text`` it sends only ASCII.

    Args:
        kind: ``text`` or ``bytes``.
        size: in bytes.
        fill: reads from the stream until the view is full.

    Raises:
        MemoryError: there is not enough memory. The stream has been read nevertheless.
    """
    if not size:  # Python has only one empty str
        return "" if kind == "text" else b""
    try:
        value: str | bytes = _new_text(size, _ASCII) if kind == "text" else _new_bytes(None, size)
    except MemoryError:
        _drop(size, fill)
        raise
    address = _address_of_text(value, None) if kind == "text" else _address_of_bytes(value)
    view: Any = _view_of(address, size, _WRITABLE)
    with view:
        fill(view)
    return value


def _drop(size: int, fill: Callable[[memoryview], None]) -> None:
    scratch = memoryview(bytearray(_SCRATCH))
    while size:
        size -= len(part := scratch[: min(size, _SCRATCH)])
        fill(part)
