"""Encode inputs: small ones inside a frame, big ones as a descriptor or as a stream.

The host sends a read-only descriptor of a file, or of an anonymous memory file into which it encodes piece by piece.
The worker maps it and decodes from the mapping. So the host has no second copy, and the worker has one. As a JSON
frame, 100 MB of text took 650 ms and three times its size at the peak; this way it takes 200 ms. A holder of inputs
reads ASCII text and bytes from its socket into their memory, in about half the time.
"""

from __future__ import annotations

import binascii
import codecs
import json
import mmap
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import IO, Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.protocol.frames import from_wire, to_plain, to_wire
from rlm_adapters.sandbox.protocol.memory import characters

_INLINE_BYTES: Final = 1 << 16
_PIECE: Final = 1 << 20
_MAX_ITEMS: Final = 10_000


def encode(name: str, value: object, stack: ExitStack) -> tuple[str, str | int]:
    """The kind of a value, and its content: base64 if it is small, else a descriptor that ``stack`` closes.

    Kinds are ``text``, ``bytes``, ``json``, and ``wire`` for JSON with bytes (see `frames.to_wire`).

    Raises:
        InputError: Its type is not allowed in the sandbox.
    """
    if isinstance(value, str):
        return "text", _store(_text_pieces(value), stack)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes", _store([value], stack)
    try:
        return "json", _store(_json_pieces(value, _as_it_is), stack)
    except (TypeError, ValueError, RecursionError):
        pass  # it has bytes, or types that are not allowed: the slow conversion below will tell
    try:
        return "wire", _store(_json_pieces(value, _with_bytes), stack)
    except (TypeError, ValueError) as error:
        raise InputError(f"the variable {name!r} cannot be handed over: {error}") from None


def as_stream(value: object) -> tuple[str, int, Iterable[bytes | memoryview]] | None:
    """The kind of a value, its size in bytes and its pieces, to be sent through a socket; None: not this value.

    A piece can be used until the next one. The bytes pass through a small buffer. For a memory file the kernel must
    first find as many pages as for the value.
    """
    if type(value) is bytes:
        return "bytes", len(value), [value]
    if type(value) is str and value.isascii():
        return "text", len(value), characters(value)
    return None


def sealed_memory(data: bytes | bytearray | memoryview) -> IO[bytes]:
    """A memory file with this content, which cannot be changed. It exists until it is closed."""
    memory = _memory_file()
    try:
        _write(memory, data)
        if hasattr(os, "memfd_create"):
            _seal(memory.fileno())
    except BaseException:
        memory.close()
        raise
    return memory


def load_value(item: Mapping[str, Any], fds: Sequence[int]) -> Any:
    """In the worker: the value of an item with a kind and a content.

    Raises:
        ValueError: The content does not fit the kind.
    """
    if "inline" in item:
        return _decode(item["kind"], binascii.a2b_base64(item["inline"]))
    fd = fds[item["fd"]]
    size = os.fstat(fd).st_size
    if not size:
        return _decode(item["kind"], b"")
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as mapping:
        return _decode(item["kind"], mapping)


def _decode(kind: str, data: mmap.mmap | bytes) -> Any:
    if kind == "bytes":
        return bytes(data)
    # Without a bytes object in between, so there is only one copy.
    text = codecs.utf_8_decode(data, "surrogatepass", True)[0]  # type: ignore[arg-type,unused-ignore]
    if kind == "text":
        return text
    value = json.loads(text)
    return from_wire(value, trusted=True) if kind == "wire" else value


def _store(pieces: Iterable[bytes | bytearray | memoryview], stack: ExitStack) -> str | int:
    """Store the pieces: in a str if they are small, else in a memory file."""
    head = bytearray()
    memory: IO[bytes] | None = None
    for piece in pieces:
        if memory is None and len(head) + len(piece) <= _INLINE_BYTES:
            head += piece
            continue
        if memory is None:
            memory = stack.enter_context(_memory_file())
            _write(memory, head)
        _write(memory, piece)
    if memory is None:
        return binascii.b2a_base64(head, newline=False).decode("ascii")
    _seal(memory.fileno())
    return memory.fileno()


def _text_pieces(text: str) -> Iterator[bytes]:
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE].encode("utf-8", "surrogatepass")


def _json_pieces(value: object, convert: Callable[[Any], Any]) -> Iterator[bytes]:
    """The JSON text of a value in pieces, each part converted first."""
    count = _items_per_piece(value)
    if isinstance(value, (list, tuple)) and len(value) > count:
        opening = "["
        for group in _groups(value, count):
            yield _piece(opening, [convert(item) for item in group])
            opening = ","
        yield b"]"
    elif isinstance(value, dict) and len(value) > count:
        opening = "{"
        for group in _groups(value.items(), count):
            yield _piece(opening, {key: convert(item) for key, item in group})
            opening = ","
        yield b"}"
    else:
        yield _json(convert(value))


def _items_per_piece(value: object) -> int:
    """Number of items of a list or dict in a piece, if all have about the same size."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    try:
        size = sum(map(len, items))
    except TypeError:
        size = 0
    return max(1, min(_MAX_ITEMS, _PIECE * len(items) // (size or 1)))


def _groups(items: Iterable[Any], count: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while group := list(islice(rest, count)):
        yield group


def _piece(opening: str, group: list[Any] | dict[Any, Any]) -> bytes:
    return opening.encode() + _json(group)[1:-1]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _as_it_is(value: Any) -> Any:
    return value


def _with_bytes(value: Any) -> Any:
    return to_wire(to_plain(value))


def _memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("rlm-input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _write(memory: IO[bytes], piece: bytes | bytearray | memoryview) -> None:
    left = memoryview(piece)
    while left:  # a single write takes 2 GB at most
        left = left[memory.write(left) :]


def _seal(fd: int) -> None:
    """Make the content read-only, also for the worker."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every platform

        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
