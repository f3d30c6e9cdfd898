"""Inputs of a session on their way into a worker: small values inside a frame, big ones by descriptor.

The host gives a read-only descriptor of a file, or of an anonymous memory file; the worker maps it and decodes
straight from the mapping, so that it holds the text once. Sent as a JSON frame, 100 MB of text took 650 ms and
three times its size at the peak; this way 230 ms and once its size.
"""

from __future__ import annotations

import codecs
import json
import mmap
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any, Final, Literal, TypeAlias

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.frames import dumps, from_wire, to_plain, to_wire

Target: TypeAlias = Literal["variable", "file"]

_INLINE_CHARS: Final = 1 << 16
"""Larger text and bytes go by descriptor."""
_INLINE_ITEMS: Final = 1_000
_CHUNK: Final = 1 << 20
_BATCH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVariable:
    """A variable whose value is the content of a file, handed to the worker without passing through the host.

    Attributes:
        path: the file, or an open descriptor of it (not closed, not moved).
        kind: ``text`` (UTF-8), ``bytes`` or ``json``.
        chars: number of characters or bytes, for whoever describes the variable; the sandbox does not need it.
    """

    path: str | os.PathLike[str] | int
    kind: Literal["text", "bytes", "json"] = "text"
    chars: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One step of the hand-over: a few items and the descriptors that they refer to by index."""

    items: Sequence[dict[str, Any]]
    fds: Sequence[int]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a session is opened with: variables by name and workspace files by path, checked."""

    variables: Mapping[str, object]
    files: Mapping[str, bytes | str | os.PathLike[str]]

    def __post_init__(self) -> None:
        for name in self.variables:
            if type(name) is not str or not name.isidentifier():
                raise InputError(f"the variable name {name!r} is not a Python identifier: choose another")
        for path in self.files:
            if type(path) is not str or not path.strip():
                raise InputError(f"the file name {path!r} is not a path: give a non-empty str")

    def loads(self) -> Iterator[Load]:
        """The steps of the hand-over; descriptors of a step are closed when the next one is asked for.

        Raises:
            InputError: A value is of a type that cannot enter the sandbox, or a file cannot be read.
        """
        pending = [("variable", name, value) for name, value in self.variables.items()]
        pending += [("file", path, data) for path, data in self.files.items()]
        for start in range(0, len(pending), _BATCH):
            with ExitStack() as stack:
                fds: list[int] = []
                items = [
                    _item(target, name, value, fds, stack) for target, name, value in pending[start : start + _BATCH]
                ]
                yield Load(items, fds)


def _item(target: str, name: str, value: object, fds: list[int], stack: ExitStack) -> dict[str, Any]:
    """Describe one value for the worker, adding its descriptor to ``fds`` when it goes by one."""
    head = {"target": target, "name": name}
    if target == "file" and isinstance(value, (str, os.PathLike)):
        value = FileVariable(path=value, kind="bytes")
    if isinstance(value, FileVariable):
        fds.append(_open(name, value, stack))
        return {**head, "kind": value.kind, "fd": len(fds) - 1}
    kind, data = _classify(name, value)
    if kind == "inline":
        return {**head, "kind": kind, "value": data}
    memory = stack.enter_context(_memory_file())
    for chunk in _chunks(kind, data):
        left = memoryview(chunk)
        while left:  # a single write takes 2 GB at most
            left = left[memory.write(left) :]
    _seal(memory.fileno())
    fds.append(memory.fileno())
    return {**head, "kind": kind, "fd": len(fds) - 1}


def _classify(name: str, value: object) -> tuple[str, Any]:
    """How a value that the host holds travels, and the value in exact types."""
    if type(value) is str or type(value) is bytes:
        if len(value) > _INLINE_CHARS:
            return ("text" if type(value) is str else "bytes"), value
        return "inline", to_wire(value)
    try:
        wire = to_wire(to_plain(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"the variable {name!r} cannot be handed over: {error}") from None
    if isinstance(wire, (list, dict)) and (len(wire) > _INLINE_ITEMS or len(dumps(wire)) > _INLINE_CHARS):
        return "wire", wire
    if type(wire) is str and len(wire) > _INLINE_CHARS:
        return "text", wire
    return "inline", wire


def _chunks(kind: str, data: Any) -> Iterator[bytes]:
    """The encoded value piece by piece, so that the host never holds a second copy of it."""
    if kind == "bytes":
        yield data
    elif kind == "text":
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK].encode("utf-8", "surrogatepass")
    else:
        opening, closing = "[]" if type(data) is list else "{}"
        entries = data if type(data) is list else list(data.items())
        yield opening.encode()
        for start in range(0, len(entries), _INLINE_ITEMS):
            part = entries[start : start + _INLINE_ITEMS]
            text = dumps(part if type(data) is list else dict(part))[1:-1]
            yield (("," if start else "") + text).encode("utf-8", "surrogatepass")
        yield closing.encode()


def _open(name: str, variable: FileVariable, stack: ExitStack) -> int:
    if variable.kind not in ("text", "bytes", "json"):
        raise InputError(f"the kind {variable.kind!r} of {name!r} is unknown: use text, bytes or json")
    if isinstance(variable.path, int):
        return variable.path
    try:
        return stack.enter_context(open(variable.path, "rb", buffering=0)).fileno()  # noqa: PTH123 - str or PathLike
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{name!r} cannot be read from {os.fspath(variable.path)!r}: {reason}") from None


def _memory_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("rlm-input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _seal(fd: int) -> None:
    """Nobody changes the content any more, the worker included."""
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every platform

        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)


def load_value(item: Mapping[str, Any], fds: Sequence[int]) -> Any:
    """In the worker: the value that an item describes.

    Raises:
        ValueError: The content is not what its kind says.
    """
    if item["kind"] == "inline":
        return from_wire(item["value"], trusted=True)
    fd = fds[item["fd"]]
    size = os.fstat(fd).st_size
    if not size:
        return _decode(item["kind"], b"")
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as mapping:
        return _decode(item["kind"], mapping)


def _decode(kind: str, data: mmap.mmap | bytes) -> Any:
    if kind == "bytes":
        return bytes(data)
    # No bytes object in between: one copy, the text itself.
    text = codecs.utf_8_decode(data, "surrogatepass", True)[0]  # type: ignore[arg-type,unused-ignore]
    if kind == "text":
        return text
    value = json.loads(text)
    return from_wire(value, trusted=True) if kind == "wire" else value
