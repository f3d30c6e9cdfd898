"""Receive big values from the host as a stream, in a holder of inputs.

The bytes are read into the memory of the value itself. If they were read into a buffer and decoded, 100 MB would take
about twice the time and, for a moment, twice the memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rlm_adapters.sandbox.protocol.memory import blank_bytes, blank_text

_SCRATCH: Final = 1 << 18


def receive_value(kind: str, size: int, fill: Callable[[memoryview], None]) -> str | bytes:
    """A value of `protocol.encoding.as_stream`. The host is trusted: of a ``text`` it sends only ASCII.

    Args:
        kind: ``text`` or ``bytes``.
        size: in bytes.
        fill: reads from the stream until the view is full.

    Raises:
        MemoryError: there is not enough memory. The stream has been read nevertheless.
    """
    if not size:
        return "" if kind == "text" else b""
    try:
        value, view = blank_text(size) if kind == "text" else blank_bytes(size)
    except MemoryError:
        _drop(size, fill)
        raise
    with view:
        fill(view)
    return value


def _drop(size: int, fill: Callable[[memoryview], None]) -> None:
    scratch = memoryview(bytearray(_SCRATCH))
    while size:
        size -= len(part := scratch[: min(size, _SCRATCH)])
        fill(part)
