"""Frames: length-prefixed JSON between the host and a worker.

The host never trusts a frame, because a cell that has bypassed the language policy may have sent it. So a frame is only
data (JSON, never a pickle). Its size is limited, and so is the memory for parsing it. It has no descriptor, path, pid
or code that the host would use. In the worker, frames are made only from values of exact types, by an encoder that was
saved before any cell ran. So replacing ``json.JSONEncoder.encode`` (or a ``__str__``, or an ``items``) has no effect.

``bytes`` are sent as ``{"$bytes": base64}``. A dict of the caller that looks like this is wrapped as
``{"$escaped": dict}``.
"""

from __future__ import annotations

import binascii
import json
import re
import struct
from _json import encode_basestring, make_encoder
from typing import Any, Final, Literal

Message = dict[str, Any]
"""A decoded frame: a JSON object with its type in the key ``t``."""

HEADER: Final = struct.Struct(">I")
"""A frame is this length, then as many bytes of UTF-8 JSON."""

MAX_DEPTH: Final = 256
"""Deepest nesting of a value in a frame."""

MAX_ITEMS: Final = 4_000_000
"""Most items in a frame from a worker. ``[],`` becomes an object of 56 bytes, so parsing can take about 400 MB at most.
One long string may fill the whole frame."""

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON string. A string without an end matches all the rest; a failure would be retried at each of its quotes."""
_TAGS: Final = ("$bytes", "$escaped")


class ProtocolError(Exception):
    """The other side sent something that is not a frame, or not the expected frame."""


def _refuse(value: object) -> None:
    raise TypeError(f"cannot send a value of type {type(value).__name__}")


# The C encoder is called directly. For exact str, int, float, list and dict it calls no Python code.
_chunks = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, True)


def dumps(value: object) -> str:
    """JSON text of a value that `to_wire` returned."""
    return "".join(_chunks(value, 0))


def encode_body(message: Message, *, errors: Literal["replace", "surrogatepass"] = "surrogatepass") -> bytes:
    """The body of a frame.

    Args:
        message: made of results of `to_wire`.
        errors: ``replace`` in a worker: lone surrogates become ``?``. The host does not change them.
    """
    return dumps(message).encode("utf-8", errors)


def has_too_many_items(body: bytes | bytearray) -> bool:
    """Whether parsing this JSON text would take more memory than a frame may."""
    if len(body) <= MAX_ITEMS or _count_items(body) <= MAX_ITEMS:
        return False  # nearly always decided by the first count, which also counts commas in strings
    return _count_items(_STRING.sub(b"", body)) > MAX_ITEMS


def _count_items(body: bytes | bytearray) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def decode_frame(body: bytes | bytearray) -> Message:
    """The message in the body of an untrusted frame.

    Raises:
        ProtocolError: It is not UTF-8, not JSON, nested too deeply, would take too much memory, or is not an object.
    """
    if has_too_many_items(body):
        raise ProtocolError("a frame has too many items")
    try:
        message = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError, MemoryError) as error:
        raise ProtocolError(f"a frame is not JSON: {type(error).__name__}") from None
    if type(message) is not dict or type(message.get("t")) is not str:
        raise ProtocolError("a frame is not an object with a type")
    return message


def decode_trusted(body: bytes | bytearray) -> Message:
    """The message in the body of a frame from the host, with lone surrogates."""
    message: Message = json.loads(body.decode("utf-8", "surrogatepass"))
    return message


def to_wire(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Convert a value of exact JSON types and bytes to JSON types.

    Raises:
        TypeError: A value has another type (also a subclass), or a key is not a ``str``.
        ValueError: It is nested too deeply.
    """
    kind = type(value)
    if kind is str or value is None or kind is int or kind is float or kind is bool:
        return value
    if kind is bytes:
        return {"$bytes": binascii.b2a_base64(value, newline=False).decode("ascii")}
    if not depth:
        raise ValueError(f"a value is nested more than {MAX_DEPTH} levels deep")
    if kind is list:
        return [to_wire(item, depth - 1) for item in value]
    if kind is not dict:
        raise TypeError(f"cannot send a value of type {kind.__name__}")
    wire = {}
    for key, item in value.items():
        if type(key) is not str:
            raise TypeError(f"cannot send a dict with a key of type {type(key).__name__}")
        wire[key] = to_wire(item, depth - 1)
    return {"$escaped": wire} if _looks_tagged(wire) else wire


def from_wire(value: Any, depth: int = MAX_DEPTH, *, trusted: bool = False) -> Any:
    """The reverse of `to_wire`.

    Args:
        value: parsed JSON.
        depth: deepest nesting.
        trusted: it comes from the host. Otherwise lone surrogates (JSON can have them as escapes) become ``?``.

    Raises:
        ProtocolError: It is nested too deeply, or a tag is wrong.
    """
    kind = type(value)
    if kind is str:
        return value if trusted else _valid_text(value)
    if kind is not list and kind is not dict:
        return value
    if not depth:
        raise ProtocolError("a value is nested too deeply")
    if kind is list:
        return [from_wire(item, depth - 1, trusted=trusted) for item in value]
    if _looks_tagged(value):
        tag, content = next(iter(value.items()))
        if tag == "$bytes":
            return _bytes(content)
        if type(content) is not dict:
            raise ProtocolError("an escaped value is no object")
        value = content
    return {
        key if trusted else _valid_text(key): from_wire(item, depth - 1, trusted=trusted) for key, item in value.items()
    }


def to_plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Convert subclasses and tuples in a value of the host to the exact types that are allowed in frames.

    Raises:
        TypeError: A value in it cannot be converted.
        ValueError: It is nested too deeply, or contains itself.
    """
    if type(value) in (str, int, float, bool, bytes, type(None)):
        return value
    for base in (str, int, float, bytes):  # str subclasses of frameworks, IntEnum, ...
        if isinstance(value, base):
            return base.__str__(value) if base is str else base.__call__(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if not depth:
        raise ValueError(f"a value is nested more than {MAX_DEPTH} levels deep, or contains itself")
    if isinstance(value, (list, tuple)):
        return [to_plain(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {_key(key): to_plain(item, depth - 1) for key, item in value.items()}
    raise TypeError(
        f"a value of type {type(value).__name__} cannot enter the sandbox: give str, bytes, numbers, bool, None, "
        "lists and dicts of them"
    )


def _key(key: object) -> str:
    """A key as ``json.dumps`` writes it."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (bool, int, float)):
        return json.dumps(key)
    raise TypeError(f"a dict with a key of type {type(key).__name__} cannot enter the sandbox: use str keys")


def _looks_tagged(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)) in _TAGS


def _bytes(content: object) -> bytes:
    if type(content) is not str:
        raise ProtocolError("a bytes value is no text")
    try:
        return binascii.a2b_base64(content, strict_mode=True)
    except ValueError:
        raise ProtocolError("a bytes value is not base64") from None


def _valid_text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text
