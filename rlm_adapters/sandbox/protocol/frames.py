"""Frames: length-prefixed JSON between the host and a worker.

The host never trusts a frame: it may have been sent by a cell that broke out of the language policy. So a frame
is data and nothing else (JSON, never a pickle), has a size cap and a cap on how much memory its parsing can take,
and carries no descriptor, path, pid or code that the host would act upon. In the worker frames are built only from
values of exact types by an encoder that was captured before any cell ran: replacing ``json.JSONEncoder.encode`` (or
a ``__str__``, or an ``items``) does not change what is sent.

``bytes`` travel as ``{"$bytes": base64}``. A dict of the caller that happens to look like that is wrapped as
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
"""A decoded frame: a JSON object with the key ``t`` naming its type."""

HEADER: Final = struct.Struct(">I")
"""A frame is this length, then that many bytes of UTF-8 JSON."""

MAX_DEPTH: Final = 256
"""Deepest nesting of a value that crosses the border."""

MAX_ITEMS: Final = 4_000_000
"""Most items in a frame from a worker. ``[],`` becomes an object of 56 bytes: this caps what parsing can take at
some 400 MB, while one long string may fill the whole frame."""

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A JSON string. One that never ends takes all the rest: failing there would start again at each of its quotes."""
_TAGS: Final = ("$bytes", "$escaped")


class ProtocolError(Exception):
    """The other side sent something that is not a frame, or not one that was expected."""


def _refuse(value: object) -> None:
    raise TypeError(f"cannot send a value of type {type(value).__name__}")


# The C encoder called directly: it asks exact str, int, float, list and dict nothing that Python code could answer.
_chunks = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, True)


def dumps(value: object) -> str:
    """JSON text of a value that `to_wire` returned."""
    return "".join(_chunks(value, 0))


def encode_body(message: Message, *, errors: Literal["replace", "surrogatepass"] = "surrogatepass") -> bytes:
    """The body of a frame.

    Args:
        message: made of what `to_wire` returns.
        errors: ``replace`` in a worker: lone surrogates become ``?``. The host hands over what it was given.
    """
    return dumps(message).encode("utf-8", errors)


def has_too_many_items(body: bytes | bytearray) -> bool:
    """Whether parsing this JSON text would take more memory than a frame may."""
    if len(body) <= MAX_ITEMS or _count_items(body) <= MAX_ITEMS:
        return False  # nearly always decided by the first count, which takes commas in strings for items
    return _count_items(_STRING.sub(b"", body)) > MAX_ITEMS


def _count_items(body: bytes | bytearray) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def decode_frame(body: bytes | bytearray) -> Message:
    """The message in the body of a frame that a hostile worker may have made.

    Raises:
        ProtocolError: It is not UTF-8, not JSON, nested too deeply, would take too much memory, or is no object.
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
    """The message in the body of a frame from the host, lone surrogates kept."""
    message: Message = json.loads(body.decode("utf-8", "surrogatepass"))
    return message


def to_wire(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A value of exact JSON types and bytes, as JSON types alone.

    Raises:
        TypeError: A value is of another type, subclasses included, or a key is no ``str``.
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
    """What `to_wire` was given.

    Args:
        value: parsed JSON.
        depth: deepest nesting.
        trusted: it comes from the host. Otherwise lone surrogates (JSON can hold them as escapes) become ``?``.

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
    """A value of the host with subclasses and tuples turned into the exact types that may cross.

    Raises:
        TypeError: There is no such type for a value in it.
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
    """A key as ``json.dumps`` would write it."""
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
